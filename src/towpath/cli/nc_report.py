"""The report of `towpath nc`: how a connection came to be and what went through, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from towpath.trust.result import TrustResult

if TYPE_CHECKING:
    from towpath.connection.report import EstablishmentReport, TransferReport

__all__ = ["as_json", "as_lines"]


def as_lines(report: EstablishmentReport, transfer: TransferReport | None) -> Iterator[str]:
    """Lines with times in milliseconds since the connection was begun."""
    for name in report.resolutions:
        found = ", ".join(name.endpoints) or name.error or "nothing"
        via = f" over {name.protocol}" if name.protocol else ""
        yield f"name      {name.name}: {found} ({name.source}{via}, {_ms(name.seconds)})"
    for attempt in report.attempts:
        error = f": {attempt.error}" if attempt.error else ""
        begun = f"begun at {_ms(attempt.offset)}, {_ms(attempt.seconds)}"
        yield f"attempt   {attempt.endpoint} {attempt.outcome}{error} ({begun})"
    for handshake in report.handshakes:
        yield f"handshake {handshake.protocol} {_ms(handshake.seconds)}{_about(handshake.about)}"
    if report.round_trip is not None:
        yield f"rtt       {_ms(report.round_trip)}"
    if report.seconds is not None:
        yield f"ready     after {_ms(report.seconds)}"
    if transfer is not None:
        moved = f"{transfer.bytes_sent} bytes sent, {transfer.bytes_received} received"
        yield f"transfer  {moved} in {transfer.seconds:.3f} s"
        if transfer.kernel is not None:
            kernel = transfer.kernel
            yield f"tcp       rtt {_ms(kernel.round_trip)}, {kernel.retransmits} packets sent again"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _about(details: object) -> str:
    if not is_dataclass(details) or isinstance(details, type):
        return ""
    shown = {field.name: getattr(details, field.name) for field in fields(details)}
    words = [f"{name} {value}" for name, value in shown.items() if isinstance(value, str | int) and value is not False]
    return f" ({', '.join(words)})" if words else ""


def _plain(value: object) -> Any:
    """What JSON can say of a report."""
    if isinstance(value, TrustResult):
        return value.as_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def as_json(report: EstablishmentReport, transfer: TransferReport | None) -> str:
    """One object with `establishment` and `transfer`, times in seconds."""
    return json.dumps({"establishment": _plain(report), "transfer": _plain(transfer)}, ensure_ascii=False)
