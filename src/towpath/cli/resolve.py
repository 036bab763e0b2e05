"""`towpath resolve`: what a name leads to, who says so, and in which order it would be tried."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from towpath.errors import ConfigInvalid, Misuse, NameUnknown, ResolutionFailed

if TYPE_CHECKING:
    from towpath.names import Answer, Dial, Resolution, Server

__all__ = ["ABSENT", "FOUND", "NOT_ASKED", "add", "dial_of", "resolution_of", "servers_of"]

_EXAMPLES = """\
examples:
  towpath resolve news.example                        addresses and service bindings
  towpath resolve news.example --type MX,TXT          other records
  towpath resolve news.example --server 192.0.2.53    ask one server; 192.0.2.53#5353 for another port
  towpath resolve news.example --server tls://dns.example@192.0.2.53          over TLS; also https:// and quic://
  towpath resolve news.example --compare --server 192.0.2.53 --server https://dns.example/dns-query
  towpath resolve news.example --dnssec               is it what its zone signed, and if not, why
  towpath resolve wiki --search                       with the search domains of resolv.conf
  towpath resolve 192.0.2.1 --type PTR                the name of an address
  towpath resolve news.example --explain              why each address stands where it does, and what a race would do

The exit code is 0 when something was found, 1 when it does not exist, and 2 when nobody could be asked or a resolver
refuses.
"""

FOUND, ABSENT, NOT_ASKED = 0, 1, 2
_DEFAULT_KINDS = "HTTPS,AAAA,A"
_PORT = 443


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "Look a name up, and say of each answer where it came from."
    parser.epilog = _EXAMPLES
    parser.add_argument("name", metavar="NAME", help="a name, or an address with --type PTR")
    parser.add_argument("--type", metavar="TYPES", help=f"types of records, with commas ({_DEFAULT_KINDS})")
    parser.add_argument(
        "--server",
        metavar="SERVER",
        action="append",
        help="ask this one: IP[#PORT] or SCHEME://NAME[@IP,...][:PORT][/PATH]; may be given several times",
    )
    parser.add_argument("--compare", action="store_true", help="ask each --server, and show them side by side")
    parser.add_argument("--ca", metavar="FILE.pem", default="", help="trust these authorities, not the system's")
    parser.add_argument("--identity", metavar="FILE.pem", default="", help="show this certificate, with its key")
    parser.add_argument("--dnssec", action="store_true", help="validate what is answered (DNSSEC)")
    parser.add_argument(
        "--trust-anchor",
        metavar="RECORD",
        action="append",
        default=[],
        help='a DS or DNSKEY record to begin at, as in "lab.test. IN DS 7 13 2 0a1b..."; the root\'s are known',
    )
    parser.add_argument("--tcp", action="store_true", help="ask over TCP from the start")
    parser.add_argument("--search", action="store_true", help="try the search domains of resolv.conf too")
    parser.add_argument("--system", action="store_true", help="ask getaddrinfo(3), as most programs do")
    parser.add_argument("--explain", action="store_true", help="say why the addresses are in this order")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call=_call)


def _call(options: argparse.Namespace) -> int:
    import asyncio

    name, kinds = _question(options)
    options.dnssec = options.dnssec or bool(options.trust_anchor)
    if options.system and (options.server or options.tcp or options.search or options.compare or options.dnssec):
        raise Misuse(
            "--system asks getaddrinfo alone: it knows nothing of --server, --tcp, --search, --compare and --dnssec"
        )
    if options.compare:
        from towpath.cli.resolve_compare import compare

        return compare(options, name, kinds)
    code, error = FOUND, None
    try:
        resolution = asyncio.run(_resolve(options, name, kinds))
    except ResolutionFailed as failed:
        resolution, error = resolution_of(failed), failed
        code = ABSENT if isinstance(failed, NameUnknown) else NOT_ASKED
    if options.json:
        _print_json(resolution, error, explain=options.explain)
    else:
        _print(resolution, error)
        if options.explain and resolution.addresses:
            _print_order(resolution)
    return code


def _question(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The name and the kinds; an address whose name is wanted is turned around (RFC 1035 section 3.5)."""
    import ipaddress

    kinds = [word.strip().upper() for word in (options.type or _DEFAULT_KINDS).split(",") if word.strip()]
    if kinds == ["PTR"]:
        try:
            return ipaddress.ip_address(options.name).reverse_pointer, kinds
        except ValueError:
            pass
    return options.name, kinds


async def _resolve(options: argparse.Namespace, name: str, kinds: list[str]) -> Resolution:
    from towpath.names import Resolver, SystemResolver
    from towpath.names.resolver import Resolves

    if options.system:
        system: Resolves = SystemResolver()
        return await system.resolve(name, kinds)
    servers = None
    if options.server or options.tcp:
        servers = [one for text in options.server or _configured() for one in await servers_of(text, tcp=options.tcp)]
    async with Resolver(
        servers=servers,
        search=None if options.search else (),
        dial=dial_of(options),
        requires_dnssec=options.dnssec,
        trust_anchors=options.trust_anchor,
    ) as resolver:
        return await resolver.resolve(name, kinds)


def _configured() -> list[str]:
    from towpath.names import SystemFiles

    return [server.address for server in SystemFiles().configuration.servers]


def dial_of(options: argparse.Namespace) -> Dial:
    """What carries messages, with the files that were given. Raises `ConfigInvalid`."""
    from towpath.names.channel import dial

    if not options.ca and not options.identity:
        return dial
    from towpath.names.secure_channel import SecureDial

    try:
        return SecureDial(options.ca, options.identity)
    except OSError as error:
        given = " and ".join(path for path in (options.ca, options.identity) if path)
        raise ConfigInvalid("--ca, --identity", f"{given}: {error.strerror or error}", "PEM files are wanted") from None


async def servers_of(text: str, *, tcp: bool) -> list[Server]:
    """The servers that a text names; one that has a name alone is looked up. Raises `ConfigInvalid`, `NameUnknown`."""
    from towpath.names import Resolver, Server
    from towpath.names.upstream import parse_upstream

    upstream = parse_upstream(text, "--server")
    addresses = upstream.addresses
    if not addresses:
        async with Resolver() as resolver:
            addresses = tuple(found.address for found in (await resolver.resolve(upstream.name)).addresses)
    protocol = "tcp" if tcp and upstream.protocol == "udp" else upstream.protocol
    return [Server(address, upstream.port, protocol, upstream.name, upstream.path) for address in addresses]


def resolution_of(failed: ResolutionFailed) -> Resolution:
    """What was learnt before it failed."""
    from towpath.names import Resolution

    assert isinstance(failed.resolution, Resolution)
    return failed.resolution


def _print_json(resolution: Resolution, error: ResolutionFailed | None, *, explain: bool) -> None:
    from dataclasses import asdict

    from towpath.names.plain import plain_resolution

    found = plain_resolution(resolution)
    found["error"] = None if error is None else str(error)
    if explain:
        from towpath.connection.preference import by_preference

        order = by_preference([address.address for address in resolution.addresses])
        found["order"] = [asdict(entry) for entry in order]
        found["race"] = [{"after": after, "candidate": words} for after, words in _race(resolution)]
    print(json.dumps(found))


def _print(resolution: Resolution, error: ResolutionFailed | None) -> None:
    from towpath.cli.table import clean, print_table

    for alias in resolution.aliases:
        print(clean(f"{alias.name} is an alias of {alias.target} (for {alias.ttl} s)"))
    print_table(
        ("TYPE", "ANSWER", "TTL", "SOURCE", "SERVER", "BY", "TOOK"),
        [row for answer in resolution.answers for row in _rows(answer)],
    )
    for answer in resolution.answers:
        for extended in answer.extended:
            print(clean(f"{answer.kind}: the resolver says: {extended}"))
        for trouble in answer.troubles:
            print(clean(f"{answer.kind}: {trouble}"))
        if answer.validated in ("secure", "insecure"):
            words = "signed by its zone" if answer.validated == "secure" else "nobody signs it"
            print(f"{answer.kind}: {answer.validated}: {words}")
    if error is not None:
        print(clean(f"towpath resolve: {error}"), file=sys.stderr)
        if error.hint:
            print(f"towpath resolve: hint: {error.hint}", file=sys.stderr)


def _rows(answer: Answer) -> Iterable[tuple[str, ...]]:
    from towpath.names.plain import record_text

    facts = (
        answer.source.value,
        answer.server or "-",
        answer.protocol or "-",
        f"{answer.duration * 1000:.1f} ms" if answer.duration else "-",
    )
    for record in answer.records:
        yield (answer.kind, record_text(record), str(record.ttl), *facts)
    if not answer.records:
        ttl = "-" if answer.negative_ttl is None else str(answer.negative_ttl)
        yield (answer.kind, f"({answer.status.value})", ttl, *facts)


def _print_order(resolution: Resolution) -> None:
    from towpath.cli.table import print_table
    from towpath.connection.preference import by_preference

    order = by_preference([address.address for address in resolution.addresses])
    print()
    print_table(
        ("PLACE", "ADDRESS", "FROM", "PRECEDENCE", "BEFORE THE NEXT BY"),
        [
            (str(at), entry.address, entry.source or "no route", str(entry.precedence), entry.rule or "-")
            for at, entry in enumerate(order, 1)
        ],
    )
    print("\nA race to port 443 would begin, as long as nobody is ready and nobody has failed:")
    for after, words in _race(resolution):
        print(f"  after {after * 1000:4.0f} ms  {words}")


def _race(resolution: Resolution) -> list[tuple[float, str]]:
    """When each candidate would be begun, and which it is."""
    from towpath.connection.preference import in_order
    from towpath.connection.race_candidates import Candidate, arrange
    from towpath.connection.race_machine import RaceSettings

    found = arrange([Candidate(address.address, _PORT) for address in resolution.addresses], in_order)
    delay = RaceSettings().attempt_delay
    return [(at * delay, str(candidate)) for at, candidate in enumerate(found)]
