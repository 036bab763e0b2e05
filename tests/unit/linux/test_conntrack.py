"""What connection tracking tells: flows that ended, with what was counted, whatever the family."""

from __future__ import annotations

import pytest

from towpath.linux.conntrack import Ended, FlowKey, parse_ended
from towpath.linux.netlink import attr, message, nested


def _tuple(kind: int, family: int, protocol: int) -> bytes:
    first, size = (1, 4) if family == 4 else (3, 16)
    ends = (b"\x01" * size, b"\x02" * size) if kind == 1 else (b"\x02" * size, b"\x01" * size)
    ports = (b"\x9c\x40", b"\x00\x07") if kind == 1 else (b"\x00\x07", b"\x9c\x40")
    addresses = nested(1, attr(first, ends[0]), attr(first + 1, ends[1]))
    return nested(kind, addresses, nested(2, attr(1, bytes([protocol])), attr(2, ports[0]), attr(3, ports[1])))


def _event(family: int, protocol: int, counts: bytes = b"", kind: int = 0x102) -> bytes:
    return message(kind, 0, 0, bytes(4) + _tuple(1, family, protocol) + _tuple(2, family, protocol) + counts)


@pytest.mark.parametrize(("family", "size"), [(4, 4), (6, 16)])
@pytest.mark.parametrize("protocol", [6, 17])
def test_a_flow_that_ended_has_both_directions_and_its_counts(family: int, size: int, protocol: int) -> None:
    counts = nested(9, attr(1, bytes(7) + b"\3"), attr(2, bytes(6) + b"\1\0"))
    counts += nested(10, attr(1, bytes(7) + b"\2"), attr(2, bytes(7) + b"\x50"))
    opened = FlowKey(protocol, b"\x01" * size, 40000, b"\x02" * size, 7)
    assert parse_ended(_event(family, protocol, counts)) == [Ended(opened, opened.reversed(), 3, 256, 2, 80)]


def test_what_nobody_counted_is_zero() -> None:
    assert parse_ended(_event(4, 6))[0][2:] == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "data",
    [b"", _event(4, 1), _event(4, 6, kind=0x100), _event(4, 6)[:-3], message(0x102, 0, 0, b"\xff" * 8)],
    ids=["nothing", "a ping", "a flow that begins", "cut short", "attributes that lie"],
)
def test_what_is_no_flow_that_ended_is_left_out(data: bytes) -> None:
    assert parse_ended(data) == []
