"""`towpath explain-flow`: one line of a report, in sentences."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from towpath.cli.table import one_line
from towpath.errors import ConfigInvalid

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath run --report-file flows.jsonl -- ./agent
  towpath explain-flow flows.jsonl 17
  tail -1 flows.jsonl | towpath explain-flow -
"""
_LEARNT = {
    "dns": "a DNS answer of the run led from that name to this address",
    "sni": "the ClientHello asked for that name, and a DNS answer tied it to this address",
    "host": "the HTTP request asked for that host",
    "quic sni": "the QUIC connection asked for that name",
    "question": "the DNS question asked for it",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "Say what a line of a report means: who, where to, how the name was learnt, who decided, why."
    parser.epilog = _EXAMPLES
    parser.add_argument("report", metavar="FLOWS.jsonl", help="a report of towpath run, or - for standard input")
    parser.add_argument("id", type=int, nargs="?", help="the flow's id (default: the last line)")
    parser.set_defaults(call=_call)


def _call(options: argparse.Namespace) -> int:
    from towpath.cli.policy_reports import read_records

    found: dict[str, Any] | None = None
    for record in read_records(options.report):
        if record.get("type") in ("flow", "dns") and options.id in (None, record.get("id")):
            found = record
    if found is None:
        what = "no flow in it" if options.id is None else f"no flow with id {options.id}"
        raise ConfigInvalid(options.report, what)
    print("\n".join(map(one_line, _sentences(found))))
    return 0


def _sentences(record: dict[str, Any]) -> Iterator[str]:
    """Lines that are still to be cleaned: the words of a report are a stranger's, and so may the report be."""
    who = "not known: its process had ended, or hides its descriptors"
    if record.get("program"):
        who = f"{record['program']} (process {record.get('pid')}, {record.get('executable') or 'its file unknown'})"
    yield f"Who      {who}"
    if command := _list(record, "command"):
        yield f"         {' '.join(command)}"
    where = record.get("name") or record.get("address")
    if record["type"] == "dns":
        yield f"What     the DNS question for {where}, type {record.get('question')}"
    else:
        port = f" port {record['port']}" if record.get("port") else ""
        address = f" at {record['address']}" if record.get("name") and record.get("address") else ""
        yield f"What     {record.get('transport')} to {where}{address}{port}"
        learnt = _LEARNT.get(str(record.get("name_from")))
        yield f"Name     {learnt}" if learnt else "Name     none: no DNS answer of the run gave this address"
    for request in _list(record, "requests"):
        yield f"Asked    {request}"
    yield f"Verdict  {record.get('verdict')}: {record.get('reason') or 'no reason was recorded'}"
    if record.get("rule"):
        yield f"Rule     {record['rule']} ({record.get('where')})"
    if record.get("hint"):
        yield f"Change   {record['hint']}"
    if record["type"] == "flow" and record.get("verdict") == "allowed":
        seconds = record.get("seconds")
        lasted = f" in {seconds:.3f} s" if isinstance(seconds, int | float) else ""
        yield f"Bytes    {record.get('sent')} sent, {record.get('received')} received{lasted}"
        if record.get("error"):
            yield f"Ended    with {record['error']}"


def _list(record: dict[str, Any], name: str) -> list[str]:
    found = record.get(name)
    return [str(one) for one in found] if isinstance(found, list) else []
