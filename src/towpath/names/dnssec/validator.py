"""From a trust anchor down to an answer: which zone holds a name, with which keys, and does the answer hold?"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset

from towpath.errors import PeerViolation
from towpath.names.dnssec import signatures as s
from towpath.names.dnssec.anchors import Anchor
from towpath.names.dnssec.denial import MOST_ITERATIONS, Denial
from towpath.names.dnssec.signatures import Bogus, Budget
from towpath.wire import dns_message

__all__ = ["Asking", "Outcome", "Validator", "Wanted", "rehearse"]

_MOST_QUESTIONS = 40
_MOST_CHAIN = 16
_MOST_ZONES = 4096
_MOST_DENIALS = 24
_LONGEST = 86400
_ABSENT = 3
_A_WHILE = 60
_RRSIG, _DS, _DNSKEY, _CNAME, _DNAME = (
    dns.rdatatype.RRSIG,
    dns.rdatatype.DS,
    dns.rdatatype.DNSKEY,
    dns.rdatatype.CNAME,
    dns.rdatatype.DNAME,
)
_DENIALS = (dns.rdatatype.NSEC, dns.rdatatype.NSEC3)
_META = (dns.rdatatype.ANY, _RRSIG)
_COSTLY = f"its hashes take more than {MOST_ITERATIONS} rounds (RFC 9276)", s.TOO_MANY_ITERATIONS


class Wanted(NamedTuple):
    """A question that has to be asked, with DO and CD set; `name` is as `dns_message.labels_of` reads it."""

    name: str
    kind: int


class Outcome(NamedTuple):
    """What an answer is worth, and for how many seconds at most.

    "insecure" is an answer that nobody signs: the zones above say so, or no anchor leads there. "bogus" should have
    been signed otherwise. `code` is that of an Extended DNS Error (RFC 8914).
    """

    status: Literal["secure", "insecure", "bogus"]
    reason: str
    code: int
    ttl: int


Asking: TypeAlias = Generator[Wanted, "bytes | str", Outcome]
"""Yields what it wants asked; is sent the whole answer, or the words why there is none."""


def rehearse() -> None:
    """Loads what would be imported at first use, for who cannot import later: types of records, kinds of keys."""
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]
    s.try_algorithms()


class _Zone(NamedTuple):
    """A zone with its keys; without keys nobody signs from there on, `why` says how that is known."""

    name: dns.name.Name
    keys: dns.rrset.RRset | None
    why: str
    code: int
    expires: float


_NO_ZONE = _Zone(dns.name.root, None, "", 0, 0.0)
_Steps: TypeAlias = Generator[Wanted, "bytes | str", "_Zone"]


class Validator:
    """Validates answers, and keeps the zones that it came through.

    `now` are seconds since 1970 here, for signatures hold from a date to a date.

    >>> from towpath.names.dnssec.anchors import parse_anchors
    >>> from towpath.wire.dns import answer, query
    >>> asking = Validator(parse_anchors([], "settings")).validate(
    ...     answer(query("www.example.test", "A", 7), []), 1_700_000_000.0)
    >>> next(asking)
    Wanted(name='', kind=48)
    """

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        self._anchors: dict[dns.name.Name, list[Any]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.zone, []).append(anchor.record)
        self._zones: dict[dns.name.Name, _Zone] = {}
        self._no_cuts: dict[dns.name.Name, float] = {}

    def forget(self) -> None:
        """The servers may know another world."""
        self._zones.clear()
        self._no_cuts.clear()

    def validate(self, data: bytes, now: float) -> Asking:
        """Judges an answer with code NOERROR or NXDOMAIN that was asked for with DO and CD set.

        It is an answer to the question that it repeats; whether that is the one that was asked the caller sees.
        Raises `PeerViolation` for one that does not parse.
        """
        message = s.read(data)
        if len(message.question) != 1:
            raise PeerViolation("dns-counts", f"{len(message.question)} questions")
        question = message.question[0]
        try:
            return (yield from _Task(self, message, int(question.rdtype), now).run(question.name))
        except Bogus as bogus:
            return Outcome("bogus", bogus.reason, bogus.code, 0)
        except Exception as error:
            # Records of a library that somebody outside has chosen: whatever they make it do, nothing is believed.
            return Outcome("bogus", f"it cannot be understood: {type(error).__name__}: {error}", s.BOGUS, 0)

    def anchor_of(self, name: dns.name.Name) -> tuple[dns.name.Name, list[Any]] | None:
        """The closest anchor at or above a name."""
        while True:
            if name in self._anchors:
                return name, self._anchors[name]
            if name == dns.name.root:
                return None
            name = name.parent()

    def known(self, name: dns.name.Name, now: float) -> _Zone | None:
        """A zone that begins at a name, if that is known; `_NO_ZONE` where none does."""
        zone = self._zones.get(name)
        if zone is not None and zone.expires > now:
            return zone
        return _NO_ZONE if self._no_cuts.get(name, 0.0) > now else None

    def keep(self, zone: _Zone) -> _Zone:
        if len(self._zones) >= _MOST_ZONES:
            del self._zones[next(iter(self._zones))]
        self._zones.pop(zone.name, None)
        self._zones[zone.name] = zone
        return zone

    def keep_none(self, name: dns.name.Name, expires: float) -> None:
        """No zone begins at a name."""
        if len(self._no_cuts) >= _MOST_ZONES:
            del self._no_cuts[next(iter(self._no_cuts))]
        self._no_cuts.pop(name, None)
        self._no_cuts[name] = expires


class _Task:
    """The validation of one answer."""

    def __init__(self, validator: Validator, message: dns.message.Message, kind: int, now: float) -> None:
        self._validator = validator
        self._message = message
        self._kind = kind
        self._now = now
        self._budget = Budget()
        self._questions = 0
        self._ttl = _LONGEST
        self._insecure: tuple[str, int] | None = None
        self._denials: dict[dns.name.Name, Denial] | None = None

    def run(self, name: dns.name.Name) -> Asking:
        if self._kind in _META:
            return Outcome(
                "insecure", "a question for everything, or for signatures, has no signed answer", 0, _LONGEST
            )
        answers = self._message.answer
        good: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
        for rrset in answers:
            if rrset.rdtype != _RRSIG:
                yield from self._check(rrset)
                good[rrset.name, rrset.rdtype] = rrset
        for _ in range(_MOST_CHAIN):
            if (name, self._kind) in good:
                return self._outcome()
            alias = good.get((name, _CNAME))
            if alias is None:
                break
            name = alias[0].target
        else:
            raise Bogus(s.BOGUS, "its aliases have no end")
        yield from self._absent(name)
        return self._outcome()

    def _outcome(self) -> Outcome:
        if self._insecure is not None:
            return Outcome("insecure", *self._insecure, self._ttl)
        return Outcome("secure", "", 0, self._ttl)

    def _weaken(self, why: str, code: int) -> None:
        self._insecure = self._insecure or (why, code)

    def _check(self, rrset: dns.rrset.RRset) -> Generator[Wanted, bytes | str, None]:
        """One set of records of the answer is signed, or nobody signs there. Raises `Bogus`."""
        if rrset.rdtype == _CNAME and (yield from self._follows(rrset)):
            return
        trouble: Bogus | None = None
        for signer in s.signers(self._message.answer, rrset)[:2]:
            if rrset.rdtype == _DS and signer == rrset.name != dns.name.root:
                continue  # what is above a zone says which keys it has
            zone = yield from self._zone_of(signer)
            if zone.keys is None:
                self._weaken(zone.why, zone.code)
                return
            if zone.name != signer:
                trouble = Bogus(s.DNSKEY_MISSING, f"{_text(rrset.name)} is signed by {_text(signer)}, which is no zone")
                continue
            try:
                signed = s.verify(self._message.answer, rrset, zone.name, zone.keys, self._now, self._budget)
            except Bogus as bogus:
                trouble = bogus
                continue
            yield from self._wildcard(rrset, signed, signer)
            self._ttl = min(self._ttl, signed.ttl)
            return
        owner = rrset.name.parent() if rrset.rdtype == _DS and rrset.name != dns.name.root else rrset.name
        zone = yield from self._zone_of(owner)
        if zone.keys is None:
            self._weaken(zone.why, zone.code)
            return
        what = f"{dns_message.type_name(rrset.rdtype)} of {_text(rrset.name)}"
        raise trouble or Bogus(s.RRSIGS_MISSING, f"{what} is not signed, and {_text(zone.name)} is a signed zone")

    def _follows(self, alias: dns.rrset.RRset) -> Generator[Wanted, bytes | str, bool]:
        """Whether an alias without a signature follows from a DNAME above it that has a good one (RFC 6672)."""
        if s.find(self._message.answer, alias.name, _RRSIG, _CNAME) is not None:
            return False
        for rrset in self._message.answer:
            if rrset.rdtype == _DNAME and alias.name.is_subdomain(rrset.name) and alias.name != rrset.name:
                made = alias.name.relativize(rrset.name).derelativize(rrset[0].target)
                if made == alias[0].target:
                    yield from self._check(rrset)
                    return True
        return False

    def _wildcard(
        self, rrset: dns.rrset.RRset, signed: s.Signed, signer: dns.name.Name
    ) -> Generator[Wanted, bytes | str, None]:
        """Records of a wildcard stand for a name only where nothing closer exists (RFC 4035 section 5.3.4)."""
        if signed.labels >= len(rrset.name) - 1 - (rrset.name.labels[0] == b"*"):
            return
        denial = (yield from self._proofs()).get(signer)
        if denial is not None and denial.no_closer(rrset.name, signed.labels):
            return
        if denial is not None and denial.too_costly:
            self._weaken(*_COSTLY)
            return
        raise Bogus(s.NSEC_MISSING, f"nothing proves that a wildcard stands for {_text(rrset.name)}")

    def _absent(self, name: dns.name.Name) -> Generator[Wanted, bytes | str, None]:
        """The answer says that a name, or its records of the type, do not exist. Raises `Bogus`."""
        denials = yield from self._proofs()
        absent = int(self._message.rcode()) == _ABSENT
        for denial in denials.values():
            proof = denial.no_name(name) if absent else denial.no_data(name, self._kind)
            if proof is None and absent and denial.no_data(name, self._kind):
                continue  # it says that there is no such name, and proves that there is one
            if proof == "opt-out":
                self._weaken("names are left out of the proof (opt-out)", 0)
            if proof is not None:
                yield from self._check_soa(denial.zone)
                return
        above = self._kind == _DS and name != dns.name.root
        zone = yield from self._zone_of(name.parent() if above else name)
        if zone.keys is None:
            self._weaken(zone.why, zone.code)
            return
        if zone.name in denials and denials[zone.name].too_costly:
            self._weaken(*_COSTLY)
            return
        what = "does not exist" if absent else f"has no {dns_message.type_name(self._kind)}"
        code = s.BOGUS if denials else s.NSEC_MISSING
        raise Bogus(code, f"nothing proves that {_text(name)} {what}, and {_text(zone.name)} is a signed zone")

    def _check_soa(self, zone: dns.name.Name) -> Generator[Wanted, bytes | str, None]:
        """How long an absence lasts is signed too."""
        soa = s.find(self._message.authority, zone, dns.rdatatype.SOA)
        keys = (yield from self._zone_of(zone)).keys
        if soa is not None and keys is not None:
            s.verify(self._message.authority, soa, zone, keys, self._now, self._budget)

    def _proofs(self) -> Generator[Wanted, bytes | str, dict[dns.name.Name, Denial]]:
        """The signed denials beside the answer, by their zones."""
        if self._denials is None:
            self._denials = yield from self._read_proofs(self._message)
        return self._denials

    def _read_proofs(self, message: dns.message.Message) -> Generator[Wanted, bytes | str, dict[dns.name.Name, Denial]]:
        found: dict[dns.name.Name, list[dns.rrset.RRset]] = {}
        for rrset in [rrset for rrset in message.authority if rrset.rdtype in _DENIALS][:_MOST_DENIALS]:
            for signer in s.signers(message.authority, rrset)[:1]:
                zone = yield from self._zone_of(signer)
                if zone.keys is None or zone.name != signer:
                    continue
                signed = s.verify(message.authority, rrset, signer, zone.keys, self._now, self._budget)
                if signed.labels >= len(rrset.name) - 1 - (rrset.name.labels[0] == b"*"):
                    found.setdefault(signer, []).append(rrset)
                    self._ttl = min(self._ttl, signed.ttl)
        return {name: Denial(name, rrsets) for name, rrsets in found.items()}

    def _zone_of(self, name: dns.name.Name) -> _Steps:
        """The zone that holds a name: the deepest signed one, or the one from which on nobody signs."""
        found = self._validator.anchor_of(name)
        if found is None:
            return _Zone(name, None, f"no trust anchor is at or above {_text(name)}", s.INDETERMINATE, 0.0)
        top, anchors = found
        zone = self._validator.known(top, self._now)
        if zone is None:
            zone = yield from self._enter(top, anchors, float(_LONGEST))
        for size in range(len(top) + 1, len(name) + 1):
            if zone.keys is None:
                break
            child = dns.name.Name(name.labels[-size:])
            step = self._validator.known(child, self._now)
            if step is None:
                step = yield from self._step(zone, child)
                if step is None:
                    break
            zone = zone if step is _NO_ZONE else step
        return zone

    def _step(self, zone: _Zone, child: dns.name.Name) -> Generator[Wanted, bytes | str, _Zone | None]:
        """What is at a name below a signed zone: another zone, `_NO_ZONE`, or `None` where no such name is."""
        assert zone.keys is not None
        message = yield from self._ask(child, _DS)
        found = s.find(message.answer, child, _DS)
        if found is not None:
            signed = s.verify(message.answer, found, zone.name, zone.keys, self._now, self._budget)
            if signed.labels != len(child) - 1:
                raise Bogus(s.BOGUS, f"the DS of {_text(child)} comes from a wildcard")
            anchors, trouble = s.usable(list(found))
            if trouble is not None:
                why = f"{_text(child)} cannot be checked here: {trouble.reason}"
                return self._validator.keep(_Zone(child, None, why, trouble.code, self._now + signed.ttl))
            return (yield from self._enter(child, anchors, signed.ttl))
        alias = s.find(message.answer, child, _CNAME)
        if alias is not None:
            s.verify(message.answer, alias, zone.name, zone.keys, self._now, self._budget)
            return self._no_zone(child, alias.ttl)
        denials = yield from self._read_proofs(message)
        denial = denials.get(zone.name)
        ttl = min((rrset.ttl for rrset in message.authority), default=_A_WHILE)
        if denial is not None and denial.too_costly:
            return self._validator.keep(_Zone(child, None, *_COSTLY, self._now + ttl))
        meant = denial.delegation(child) if denial is not None else None
        if meant == "unsigned":
            why = f"{_text(child)} is not signed, says {_text(zone.name)}"
            return self._validator.keep(_Zone(child, None, why, 0, self._now + ttl))
        if meant == "none":
            return self._no_zone(child, ttl)
        if meant == "absent":
            return None
        code = s.BOGUS if denials else s.NSEC_MISSING
        raise Bogus(code, f"nothing proves whether {_text(child)} is signed: {_text(zone.name)} should say so")

    def _no_zone(self, name: dns.name.Name, ttl: int) -> _Zone:
        self._validator.keep_none(name, self._now + min(ttl, _LONGEST))
        return _NO_ZONE

    def _enter(self, name: dns.name.Name, anchors: Sequence[Any], ttl: float) -> _Steps:
        """A zone with the keys that `anchors` name. Raises `Bogus`."""
        message = yield from self._ask(name, _DNSKEY)
        keys = s.find(message.answer, name, _DNSKEY)
        if keys is None:
            raise Bogus(s.DNSKEY_MISSING, f"{_text(name)} has no keys, and is to have some")
        good, trouble = s.usable(list(anchors))
        if trouble is not None:
            raise Bogus(trouble.code, f"{_text(name)} cannot be checked here: {trouble.reason}")
        named = s.vouched_for(name, keys, good, self._budget)
        signed = s.verify(message.answer, keys, name, named, self._now, self._budget)
        return self._validator.keep(_Zone(name, keys, "", 0, self._now + min(ttl, signed.ttl, _LONGEST)))

    def _ask(self, name: dns.name.Name, kind: int) -> Generator[Wanted, bytes | str, dns.message.Message]:
        self._questions += 1
        if self._questions > _MOST_QUESTIONS:
            raise Bogus(s.INDETERMINATE, "too many zones would have to be asked")
        found = yield Wanted(dns_message.text(name.labels[:-1]), int(kind))
        what = f"{dns_message.type_name(kind)} of {_text(name)}"
        if isinstance(found, str):
            raise Bogus(s.INDETERMINATE, f"{what} could not be had: {found}")
        try:
            message = s.read(found)
        except PeerViolation as violation:
            raise Bogus(s.INDETERMINATE, f"{what} could not be had: {violation}") from None
        if int(message.rcode()) not in (0, _ABSENT):
            raise Bogus(s.INDETERMINATE, f"{what} could not be had: answered with code {int(message.rcode())}")
        return message


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
