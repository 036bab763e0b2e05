"""The data of SVCB and HTTPS records (RFC 9460), and its ECH parameter (RFC 9848)."""

from __future__ import annotations

from typing import NamedTuple

from towpath.errors import PeerViolation
from towpath.wire.address import unpack

__all__ = ["Binding"]

MANDATORY, IPV4HINT, ECH, IPV6HINT = 0, 4, 5, 6
_WIDTHS = {IPV4HINT: 4, IPV6HINT: 16}


class Binding(NamedTuple):
    """`head` is priority and target name as they came; `parameters` maps key to value in the order of the keys."""

    head: bytes
    parameters: dict[int, bytes]

    @classmethod
    def parse(cls, rdata: bytes) -> Binding:
        """Raises `PeerViolation` for lengths that lie, keys out of order, and hints that are not addresses."""
        at = 2
        while at < len(rdata) and 0 < rdata[at] < 64:
            at += 1 + rdata[at]
        # The target is never compressed (section 2.2), so anything but the root label here is broken.
        if at >= len(rdata) or rdata[at] or at + 1 - 2 > 255:
            raise PeerViolation("dns-svcb", "target name")
        at += 1
        head = rdata[:at]
        parameters: dict[int, bytes] = {}
        last = -1
        while at < len(rdata):
            if at + 4 > len(rdata):
                raise PeerViolation("dns-svcb", "half a parameter")
            key = rdata[at] << 8 | rdata[at + 1]
            end = at + 4 + (rdata[at + 2] << 8 | rdata[at + 3])
            if key <= last or end > len(rdata):
                raise PeerViolation("dns-svcb", f"parameter {key}")
            value = rdata[at + 4 : end]
            width = _WIDTHS.get(key)
            if width and (not value or len(value) % width):
                raise PeerViolation("dns-svcb", f"{len(value)} bytes of address hints")
            if key == MANDATORY and (not value or len(value) % 2):
                raise PeerViolation("dns-svcb", f"{len(value)} bytes of mandatory keys")
            parameters[key] = value
            last, at = key, end
        return cls(head, parameters)

    def hints(self) -> list[tuple[int, str]]:
        """Each address hint with the key it came under."""
        found = []
        for key, width in _WIDTHS.items():
            value = self.parameters.get(key, b"")
            found += [(key, unpack(value[at : at + width])) for at in range(0, len(value), width)]
        return found

    def has_ech(self) -> bool:
        return ECH in self.parameters

    def without(self, refused: set[str]) -> Binding:
        """The same without the refused addresses and without ECH; what is gone is no longer mandatory either."""
        kept = dict(self.parameters)
        kept.pop(ECH, None)
        for key, width in _WIDTHS.items():
            if key not in kept:
                continue
            value = kept.pop(key)
            pieces = [value[at : at + width] for at in range(0, len(value), width)]
            value = b"".join(piece for piece in pieces if unpack(piece) not in refused)
            if value:
                kept[key] = value
        mandatory = kept.pop(MANDATORY, b"")
        keys = [mandatory[at : at + 2] for at in range(0, len(mandatory), 2)]
        mandatory = b"".join(key for key in keys if int.from_bytes(key, "big") in kept)
        if mandatory:
            kept[MANDATORY] = mandatory
        return Binding(self.head, dict(sorted(kept.items())))

    def pack(self) -> bytes:
        return self.head + b"".join(
            key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in self.parameters.items()
        )
