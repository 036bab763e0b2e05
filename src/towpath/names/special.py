"""Names that are not asked for like others (RFC 6761, RFC 6762, RFC 7686), and names as they go onto the wire."""

from __future__ import annotations

from towpath.errors import Misuse
from towpath.names.reply import Record
from towpath.names.resolution import Answer, AnswerStatus, Source
from towpath.wire import dns_message
from towpath.wire.address import pack

__all__ = ["fixed_answer", "is_local", "known_answer", "normal"]

_LOOPBACK = {"A": b"\x7f\0\0\1", "AAAA": bytes(15) + b"\1"}
_NOWHERE = ("invalid", "onion")
_ADDRESSES = {4: "A", 16: "AAAA"}


def normal(name: str) -> str:
    """A name in lower case A-labels, without a final dot. Raises `Misuse` for what is no name.

    >>> normal("Bücher.Example.")
    'xn--bcher-kva.example'
    """
    if ":" in name or "%" in name:
        error = Misuse(f"not a domain name: {name[:80]!r}")
        error.hint = "an address with a zone needs no resolving: connect to it"
        raise error
    if not name.isascii():
        import idna

        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as fault:
            raise Misuse(f"not a domain name: {name[:80]!r} ({fault})") from None
    return dns_message.text(dns_message.labels_of(name))


def is_local(name: str) -> bool:
    """Whether the name belongs to the link: multicast DNS answers for it, no server does (RFC 6762 section 3).

    The reverse names of link-local addresses do too.
    """
    return name.endswith((".local", ".254.169.in-addr.arpa")) or any(
        name.endswith(f".{digit}.e.f.ip6.arpa") for digit in "89ab"
    )


def known_answer(name: str, kind: str) -> Answer | None:
    """The answer that needs no asking: of an address, of localhost, of names that lead nowhere by rule."""
    if name.rpartition(".")[2] in _NOWHERE:
        return Answer(name, kind, AnswerStatus.UNKNOWN, Source.RULE)
    if name == "localhost" or name.endswith(".localhost"):
        return fixed_answer(name, kind, [_LOOPBACK[kind]] if kind in _LOOPBACK else [], Source.RULE)
    packed = pack(name)
    if packed is not None:
        return fixed_answer(name, kind, [packed] if _ADDRESSES[len(packed)] == kind else [], Source.RULE)
    return None


def fixed_answer(name: str, kind: str, found: list[bytes], source: Source) -> Answer:
    """An answer from addresses that are known for good; they are asked for again before they are kept."""
    records = tuple(Record(name, dns_message.type_number(kind), 0, data) for data in found)
    return Answer(name, kind, AnswerStatus.FOUND if found else AnswerStatus.EMPTY, source, records)
