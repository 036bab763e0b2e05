"""Several resolvers asked the same: what each says, how long it took, and whether they agree."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from towpath.cli.resolve import ABSENT, FOUND, NOT_ASKED, dial_of, resolution_of, servers_of
from towpath.errors import Misuse, NameUnknown, ResolutionFailed

if TYPE_CHECKING:
    from towpath.names import Resolution

__all__ = ["compare"]


def compare(options: argparse.Namespace, name: str, kinds: list[str]) -> int:
    """Prints a row for each answer of each server. 0 when they agree that there is something, 1 when they do not."""
    if len(options.server or ()) < 2:
        error = Misuse("--compare needs two servers to compare")
        error.hint = "--server 192.0.2.53 --server tls://dns.example@192.0.2.53"
        raise error
    found = asyncio.run(_ask_all(options, name, kinds))
    said = {_summary(resolution) for resolution, _ in found.values()}
    agree = len(said) == 1
    if options.json:
        print(json.dumps({"name": name, "agree": agree, "servers": [_plain(*entry) for entry in found.items()]}))
    else:
        _print(found)
        words = "all say the same" if agree else "they do not say the same"
        print(f"\n{len(found)} servers: {words}", file=sys.stderr)
    if not any(resolution.answers for resolution, _ in found.values()):
        return NOT_ASKED
    return FOUND if agree and any(answer.records for one, _ in found.values() for answer in one.answers) else ABSENT


_Found = dict[str, tuple["Resolution", str]]


async def _ask_all(options: argparse.Namespace, name: str, kinds: list[str]) -> _Found:
    from towpath.names import Resolution, Resolver

    dial = dial_of(options)

    async def ask(text: str) -> tuple[Resolution, str]:
        try:
            servers = await servers_of(text, tcp=options.tcp)
        except ResolutionFailed as failed:
            return Resolution(name, name, (), 0.0), f"its own name: {failed}"
        async with Resolver(
            servers=servers,
            search=(),
            dial=dial,
            requires_dnssec=options.dnssec,
            trust_anchors=options.trust_anchor,
        ) as resolver:
            try:
                return await resolver.resolve(name, kinds), ""
            except ResolutionFailed as failed:
                return resolution_of(failed), "" if isinstance(failed, NameUnknown) else str(failed)

    asked = list(dict.fromkeys(options.server))
    return dict(zip(asked, await asyncio.gather(*map(ask, asked)), strict=True))


def _summary(resolution: Resolution) -> frozenset[tuple[str, str, frozenset[bytes]]]:
    """What two resolvers have to have in common to agree: not the order, nor how long it lasts."""
    return frozenset(
        (answer.kind, answer.status.value, frozenset(record.data for record in answer.records))
        for answer in resolution.answers
    )


def _plain(server: str, found: tuple[Resolution, str]) -> dict[str, Any]:
    from towpath.names.plain import plain_resolution

    resolution, error = found
    return {"server": server, **plain_resolution(resolution), "error": error or None}


def _print(found: _Found) -> None:
    from towpath.cli.table import clean, print_table
    from towpath.names.plain import record_text

    rows = []
    for server, (resolution, error) in found.items():
        if error and not resolution.answers:
            rows.append((server, "-", clean(error), "-", "-"))
        for answer in resolution.answers:
            took = f"{answer.duration * 1000:.1f} ms" if answer.duration else "-"
            rows += [(server, answer.kind, record_text(record), str(record.ttl), took) for record in answer.records]
            if not answer.records:
                why = "; ".join([str(one) for one in answer.extended] or answer.troubles[:1])
                rows.append((server, answer.kind, f"({answer.status.value}) {clean(why)}".strip(), "-", took))
    print_table(("SERVER", "TYPE", "ANSWER", "TTL", "TOOK"), rows)
