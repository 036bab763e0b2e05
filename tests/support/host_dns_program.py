"""Holds a `HostDns` where it is started, until its standard input ends: says "ready", then what it has to say."""

from __future__ import annotations

import sys

from towpath.errors import Misuse
from towpath.hosting.bundle import find_bundle
from towpath.hosting.host_dns import HostDns


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    bundle = find_bundle(sys.argv[1], "--dns", "dns-proxy")
    with HostDns(bundle, say=lambda level, text: tell(f"{level}: {text}"), resolv_conf=sys.argv[2]) as host_dns:
        tell("ready")
        for line in sys.stdin:
            if line == "sleep\n":
                host_dns.sleep()
            elif line == "wake\n":
                host_dns.wake()
            elif line == "rates\n":
                rates = host_dns.rates().result()
                tell(f"{rates['hits']} hits, {rates['misses']} misses")
            elif line.startswith("flush"):
                try:
                    tell(f"{host_dns.flush(*line.split()[1:]).result()} flushed")
                except Misuse as error:
                    tell(str(error))
    tell("closed")


main()
