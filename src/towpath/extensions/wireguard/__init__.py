"""WireGuard, after "WireGuard: Next Generation Kernel Network Tunnel" (Donenfeld, NDSS 2017) and the Noise framework.

The protocol does no I/O and is told the time: `device` joins `noise` (handshakes), `cookies` (answers under load),
`keypair` (transport keys, replay window), `timers` and `allowed_ips`. `config` reads wg-quick(8) files, `provider` is
the tunnel that Towpath runs.
"""
