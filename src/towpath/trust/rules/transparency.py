"""Certificate Transparency: enough logs have seen a public certificate (Apple 103214, 103703)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from towpath.errors import PeerViolation
from towpath.trust import lifetimes, transparency
from towpath.trust.policy import Family, Purpose
from towpath.trust.result import Level
from towpath.trust.rules.table import Answer, Context, Fault, Passed, Skipped, Table, Unchecked
from towpath.trust.transparency import Log, LogList, Timestamp

TABLE = Table()
_BEFORE_2021 = datetime(2021, 4, 21, tzinfo=UTC)
_HINT = "use an authority that submits its certificates to logs and embeds the timestamps; all public ones can"


@TABLE.rule(
    "apple.transparency",
    "enough logs vouch for a public certificate",
    level=Level.POLICY,
    families={Family.APPLE},
    source="Apple 103214, 103703; RFC 6962",
    required="2 timestamps of distinct logs up to 180 days, 3 beyond; one log approved now; one of RFC 6962",
    hint=_HINT,
)
def certificate_transparency(context: Context) -> Answer:
    if not context.public or context.policy.purpose is not Purpose.SERVER:
        return Skipped("only for servers with a public authority")
    logs = context.evidence.logs
    if logs is None:
        return Unchecked("no log list was given", "give a log list: --logs log_list.json")
    if len(context.path) < 2:
        return Skipped("the leaf is an anchor")
    try:
        inside = transparency.embedded(context.leaf)
        beside = transparency.parse_list(context.evidence.scts) if context.evidence.scts else ()
    except PeerViolation as error:
        return [Fault(0, str(error), hint="the authority must issue the certificate anew: its timestamps are broken")]
    if context.evidence.staple:
        beside += transparency.from_ocsp(context.evidence.staple)
    inside_valid, problems = _genuine(context, logs, inside, precertificate=True)
    beside_valid, more = _genuine(context, logs, beside, precertificate=False)
    missing = _embedded_shortage(context, inside_valid)
    if not missing:
        return Passed(f"{len(inside_valid)} embedded timestamps", 0)
    if not _delivered_shortage(context, beside_valid):
        return Passed(f"{len(beside_valid)} timestamps beside the certificate", 0)
    return [Fault(0, "; ".join([missing, *problems[:3], *more[:3]]))]


def _genuine(
    context: Context, logs: LogList, stamps: Iterable[Timestamp], *, precertificate: bool
) -> tuple[list[tuple[Timestamp, Log]], list[str]]:
    good: dict[bytes, tuple[Timestamp, Log]] = {}
    problems: list[str] = []
    for stamp in stamps:
        log = logs.logs.get(stamp.log_id)
        if log is None:
            problems.append(f"a timestamp of a log that is not listed ({stamp.log_id.hex()[:16]})")
            continue
        fault = transparency.timestamp_fault(stamp, log, context.leaf, context.path[1], precertificate=precertificate)
        if not fault and stamp.at > context.at:
            fault = "it lies in the future"
        if fault:
            problems.append(f"timestamp of {log.description!r}: {fault}")
        else:
            good.setdefault(log.id, (stamp, log))
    return list(good.values()), problems


def _embedded_shortage(context: Context, stamps: list[tuple[Timestamp, Log]]) -> str:
    needed, per_operator = _demand(context)
    counted = [(stamp, log) for stamp, log in stamps if log.once_approved(stamp)]
    operators = Counter(log.operator for _, log in counted)
    count = sum(min(per_operator, found) for found in operators.values())
    if count < needed:
        return f"{count} of {needed} embedded timestamps count (at most {per_operator} for each operator)"
    if not any(log.approved_at(context.at) for _, log in counted):
        return "no embedded timestamp is from a log that is approved now"
    if all(log.tiled for _, log in counted):
        return "no embedded timestamp is from an RFC 6962 log"
    return ""


def _demand(context: Context) -> tuple[int, int]:
    lifetime = context.leaf.lifetime
    if context.leaf.not_before < _BEFORE_2021:
        months = lifetime / (30.4375 * lifetimes.DAY)
        return (2 if months < 15 else 3 if months <= 27 else 4 if months <= 39 else 5), 5
    return (2, 1) if lifetimes.days(lifetime) <= 180 else (3, 2)


def _delivered_shortage(context: Context, stamps: list[tuple[Timestamp, Log]]) -> bool:
    counted = [log for _, log in stamps if log.approved_at(context.at)]
    return len(counted) < 2 or all(log.tiled for log in counted)
