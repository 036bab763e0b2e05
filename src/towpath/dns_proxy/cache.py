"""Answers as the bytes in which they came, for whoever asks the same: exact in their lifetimes, bounded in memory.

An answer is kept under the name in lower case, the type, the class and the three bits that change what an answer is
(DO, CD, AD). In front of that stands a table of whole questions, as they came: programs and resolvers write the same
question with the same bytes each time, and for those an answer costs one look-up.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from towpath.wire.dns import Question
from towpath.wire.dns_scan import MOST_TTL, Scanned, aged

__all__ = ["STALE_TTL", "Entry", "Expired", "Ready", "WireCache", "key_of", "rendered"]

Expired: TypeAlias = Literal["prohibit", "allow"]
"""May an answer be given when its time has passed, while it is renewed (RFC 8767)?"""

STALE_TTL = 30
"""Seconds that a stale answer may be kept by who gets it (RFC 8767 section 4)."""
_AD, _CD, _RD, _RA, _TC, _AA = 0x20, 0x10, 0x01, 0x80, 0x02, 0x04
_MOST_STALE = 86400
_LONGEST = 86400
"""Seconds after which an answer is asked for anew, whatever its lifetime says."""
_LONGEST_NEGATIVE = 10800
"""RFC 2308 section 5."""
_OVERHEAD = 420
"""Bytes of memory for an entry besides its own, measured."""
_READY_OVERHEAD = 260
_MOST_READY = 8
_HOT = 4
"""How often an answer must be wanted to be renewed before its time has passed."""
_OPT = b"\0\0\x29\x04\xd0"
_NONE: list[bytes] = []


class Ready:
    """An answer to one way of writing a question: all but the id, with lifetimes as of `second`."""

    __slots__ = ("entry", "hits", "offsets", "second", "tail")

    def __init__(self, entry: Entry, tail: bytes, offsets: tuple[int, ...], second: int) -> None:
        self.entry = entry
        self.tail = tail
        self.offsets = offsets
        self.second = second
        self.hits = 0


class Entry:
    """What was answered: `body` as of `stored`, until `expires` (seconds of the caller's clock).

    `refusal` says why a name was refused: then nobody is answered without the caller's knowledge.
    """

    __slots__ = (
        "body", "errors", "expires", "key", "noted", "offsets", "rcode", "ready", "refusal", "renewing", "stored",
        "used",
    )  # fmt: skip

    def __init__(self, key: bytes, scanned: Scanned, stored: int, ttl: int) -> None:
        self.key = key
        self.body = scanned.body
        self.offsets = scanned.offsets
        self.rcode = scanned.rcode
        self.errors = scanned.errors
        self.stored = stored
        self.expires = stored + ttl
        self.ready: list[bytes] = _NONE
        self.refusal = ""
        self.used = 0
        self.noted = stored
        self.renewing = False

    @property
    def size(self) -> int:
        return len(self.key) + len(self.body) + len(self.errors) + _OVERHEAD


def key_of(data: bytes, question: Question) -> bytes:
    """The key of a question that is written in `data`."""
    end = question.end
    bits = question.flags & (_CD | _AD)
    if question.dnssec:
        bits |= 1
    return data[12 : end - 4].lower() + data[end - 4 : end] + bytes((bits,))


def rendered(entry: Entry, data: bytes, question: Question, second: int, limit: int) -> tuple[bytes, tuple[int, ...]]:
    """The answer to this very question without its id, at most `limit` bytes with it, and where lifetimes stand.

    The question is repeated as it was written; EDNS is answered with EDNS; what is too long is cut and says so.
    """
    end = question.end
    body = entry.body
    seconds = second - entry.stored
    stale = second >= entry.expires
    least = STALE_TTL if stale else 0
    body = aged(body, entry.offsets, seconds, least)
    high = body[0] & ~(_RD | _AA) | data[2] & _RD
    low = body[1] & 0x0F | _RA | data[3] & _CD | body[1] & _AD
    if not (question.flags & _AD or question.dnssec):
        low &= ~_AD
    option = b""
    if question.edns:
        bits = (entry.rcode >> 4).to_bytes(1, "big") + (b"\0\x80\0" if question.dnssec else b"\0\0\0")
        option = _OPT + bits + len(entry.errors).to_bytes(2, "big") + entry.errors
    head = bytes((high, low))
    if 2 + len(body) + len(option) > limit:
        counts = b"\0\1\0\0\0\0" + (b"\0\1" if option else b"\0\0")
        return bytes((high | _TC, low)) + counts + data[12:end] + option, ()
    additionals = int.from_bytes(body[8:10], "big") + (1 if option else 0)
    tail = head + body[2:8] + additionals.to_bytes(2, "big") + data[12:end] + body[end - 2 :] + option
    return tail, entry.offsets


class WireCache:
    """At most `most_bytes` of answers, the least wanted go first; `second` is a whole number of any clock.

    `to_renew` collects the keys whose answer is wanted often and ends soon, or is stale: who asks upstream takes them.
    """

    def __init__(self, most_bytes: int = 32 << 20, expired: Expired = "prohibit") -> None:
        self.most_bytes = most_bytes
        self.expired: Expired = expired
        self.ready: dict[bytes, Ready] = {}
        self.to_renew: list[tuple[bytes, bytes]] = []
        self.bytes = 0
        self.hits = self.misses = self.stale = 0
        self._entries: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def rates(self) -> dict[str, int]:
        """How many questions were answered from here since the beginning, how many of them with old answers, and not.

        >>> WireCache().rates()
        {'hits': 0, 'misses': 0, 'stale': 0}
        """
        waiting = sum(ready.hits for ready in self.ready.values())
        return {"hits": self.hits + waiting, "misses": self.misses, "stale": self.stale}

    def tail(self, ready: Ready, second: int) -> bytes | None:
        """What to send after the id in this second; `None` when its time has passed."""
        entry = ready.entry
        if second >= entry.expires:
            self._forget_ready(entry)
            return None
        if second != ready.second:
            ready.tail = aged(ready.tail, ready.offsets, second - ready.second)
            ready.second = second
            hits, ready.hits = ready.hits, 0
            self.hits += hits
            entry.used += hits
            left = entry.expires - second
            if entry.used >= _HOT and not entry.renewing and left * 10 <= entry.expires - entry.stored:
                self._renew(entry)
        return ready.tail

    def find(self, key: bytes, second: int) -> Entry | None:
        """The entry for a key: also a stale one where that is allowed, and then it is to be renewed."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        if second >= entry.expires:
            if self.expired != "allow" or second >= entry.expires + _MOST_STALE:
                self.misses += 1
                return None
            self.stale += 1
            if not entry.renewing:
                self._renew(entry)
        self.hits += 1
        entry.used += 1
        return entry

    def answer(self, entry: Entry, data: bytes, question: Question, second: int, limit: int) -> bytes:
        """The whole answer of an entry, for a question that may be written in any way."""
        return data[:2] + rendered(entry, data, question, second, limit)[0]

    def prepare(self, entry: Entry, data: bytes, question: Question, second: int, limit: int) -> bytes:
        """As `answer`, and the next question with the same bytes is answered at once."""
        tail, offsets = rendered(entry, data, question, second, limit)
        kept = self._entries.get(entry.key) is entry and second < entry.expires and not entry.refusal
        if kept and len(entry.ready) < _MOST_READY and not question.options:
            raw = data[2:]
            if raw not in self.ready:
                made = self.ready[raw] = Ready(entry, tail, offsets, second)
                entry.ready = [*entry.ready, raw]
                self.bytes += 2 * len(raw) + len(made.tail) + _READY_OVERHEAD
                self._shrink(entry)
        return data[:2] + tail

    def store(self, key: bytes, scanned: Scanned, second: int, *, own: bool = False) -> Entry:
        """Keeps an answer. One that may not be kept comes back as an entry too, and is forgotten.

        A server's failure is not kept; `own` answers are, whatever they say.
        """
        negative = scanned.rcode == 3 or scanned.body[4:6] == b"\0\0"
        ttl = min(scanned.ttl, _LONGEST_NEGATIVE if negative else _LONGEST, MOST_TTL)
        entry = Entry(key, scanned, second, ttl)
        if (
            ttl <= 0
            or (scanned.rcode not in (0, 3) and not own)
            or scanned.truncated
            or entry.size > self.most_bytes // 8
        ):
            old = self._entries.get(key)
            if old is not None:
                old.renewing = False
                if scanned.rcode in (0, 3):
                    self._drop(old)
            return entry
        old = self._entries.pop(key, None)
        if old is not None:
            self._release(old)
            entry.used = min(old.used // 2, _HOT)
        self._entries[key] = entry
        self.bytes += entry.size
        self._shrink(entry)
        return entry

    def failed(self, key: bytes) -> Entry | None:
        """Nobody could renew an answer: what is there of it, whatever its age up to a day, where that is allowed."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.renewing = False
        return entry if self.expired == "allow" else None

    def flush(self, name: bytes | None = None, *, below: bool = False) -> int:
        """Forgets everything, or what is kept of one name (in wire form, lower case), or of all `below` it.

        Gives how many answers that were.
        """
        if name is None:
            count = len(self._entries)
            self._entries.clear()
            self.ready.clear()
            self.bytes = 0
            return count
        gone = [entry for key, entry in self._entries.items() if _is(key[:-5], name, below=below)]
        for entry in gone:
            self._drop(entry)
        return len(gone)

    def _renew(self, entry: Entry) -> None:
        entry.renewing = True
        entry.used //= 2
        self.to_renew.append((entry.key[:-1], entry.key[-1:]))

    def _drop(self, entry: Entry) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        self._forget_ready(entry)
        self.bytes -= entry.size

    def _forget_ready(self, entry: Entry) -> None:
        self._count(entry)
        for raw in entry.ready:
            ready = self.ready.pop(raw)
            self.bytes -= 2 * len(raw) + len(ready.tail) + _READY_OVERHEAD
        entry.ready = _NONE

    def _count(self, entry: Entry) -> None:
        for raw in entry.ready:
            ready = self.ready[raw]
            entry.used += ready.hits
            self.hits += ready.hits
            ready.hits = 0

    def _shrink(self, kept: Entry) -> None:
        """The oldest goes, unless it was wanted since it was looked at last."""
        while self.bytes > self.most_bytes and len(self._entries) > 1:
            key, entry = next(iter(self._entries.items()))
            self._count(entry)
            if entry.used or entry is kept:
                entry.used = 0
                del self._entries[key]
                self._entries[key] = entry
                if entry is kept and len(self._entries) == 1:
                    return
            else:
                self._drop(entry)


def _is(name: bytes, wanted: bytes, *, below: bool) -> bool:
    """Whether a name is the one that is wanted, or is `below` it; both in wire form."""
    if not below:
        return name == wanted
    at = 0
    while len(name) - at > len(wanted):
        at += 1 + name[at]
        if name[at:] == wanted:
            return True
    return False
