"""Every hot path beside a real peer, on the same work, in one run. Started as ``python -m benchmarks NAME --json``.

Each module of this package that `NAMES` lists has `run(seconds) -> Measured`: `seconds` is for how long each party
works in all, spread over rounds in which the parties take turns.
"""

NAMES = (
    "run_overhead",
    "run_policy",
    "run_connections",
    "relay_throughput",
    "filter_connections",
    "filter_throughput",
    "udp_round_trip",
    "run_memory",
    "policy_lookup",
    "lab_start",
    "happy_eyeballs",
    "trust",
    "trust_handshakes",
    "trust_batch",
    "echo_stream",
    "echo_message",
    "connect",
    "bulk",
    "websocket",
    "dns",
    "dns_forwarded",
    "dns_encrypted",
    "dns_memory",
    "tunnel",
    "tunnel_wireguard",
    "tunnel_wire",
    "tunnel_small",
    "tunnel_ping",
    "tunnel_loss",
    "tunnel_reorder",
    "tunnel_idle",
)
