"""`towpath dns`: ask resolvers, and watch the names of a run."""

from __future__ import annotations

import argparse

__all__ = ["add"]

_EPILOG = """\
examples:
  towpath dns query news.example                              as towpath resolve
  towpath dns query news.example --compare --server 192.0.2.53 --server tls://dns.example@192.0.2.53
  towpath dns query news.example --dnssec                     is it what its zone signed, and if not, why
  towpath dns top                                             names of the run that is under way, live
  towpath dns flush news.example                              let it forget what was answered for a name
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    from towpath.cli import dns_flush, dns_top, resolve

    parser.description = "Ask resolvers over UDP, TCP, TLS, HTTPS and QUIC, or watch the names of a run."
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    kind = parser.formatter_class
    query = verbs.add_parser("query", help="look a name up; the same as towpath resolve", formatter_class=kind)
    resolve.add(query)
    top = verbs.add_parser("top", help="show the names of a run while it runs", formatter_class=kind)
    dns_top.add(top)
    flush = verbs.add_parser("flush", help="let a run forget answers", formatter_class=kind)
    dns_flush.add(flush)
    for verb in (query, top, flush):
        verb.set_defaults(parser=verb)
