"""Our reference protocol for tunnels, both ends: super-packets sealed whole, or in pieces where the path loses.

    towpath run --tunnel wire-tunnel:client.toml -- curl http://10.9.0.1/

**Handshake.** Noise_IKpsk2 as WireGuard has it, with cookies and timers: `Device` is used for sessions alone. It was
chosen over TLS-PSK and QUIC because one round trip gives both sides keys and identities, the server holds nothing
for who has not proved that it can be reached, and a peer that moves is followed by what it seals.

**Data.** Two keys derived from a session's are used with AES-256-GCM. A *unit* is a record of the TUN device (10 bytes
that say what is still to be done to a packet, then up to 62 KB of it), sealed whole: the far device takes it, and no
checksum is ever made. A unit travels in as many datagrams as it needs, each behind 12 bytes: the receiver's index (4),
the unit's counter (6, its number in this session), which piece this is (1), how many there are (1). Small packets that
wait together share a unit, a *bundle*: 4 bytes that no record begins with, how many they are (2), how long each is (2
each), then all of them. So twenty acknowledgements cost one seal, one call to send, one to receive.

**Loss.** A lost datagram costs its unit. Each side says four times a second how many units came whole, and which was
the last; so the sender knows how many did not, makes of it the share of lost datagrams, and then its units smaller:
62 KB on a clean path, 8 KB from 0.02 % of lost datagrams on, single packets from 0.3 % on. After 10 clean seconds they
grow again.

**Size.** A datagram holds 1440 sealed bytes, which with all heads is a packet of 1500 over IPv6. A path that swallows
these and says nothing is found by probes of that size and of 1200: while packets are sent, each side asks for both
every five seconds, and what is answered got through.

`config` is what its file says, `units` turns sealed units into datagrams and back, `sessions` seals and opens them,
`path` chooses their size, `provider` is the tunnel that Towpath runs.
"""
