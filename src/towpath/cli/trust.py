"""`towpath trust`: is this certificate good, for this name, on this date, under this policy; if not, why."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from towpath.errors import ConfigInvalid, PeerViolation, TowpathError
from towpath.trust.anchors import Anchors
from towpath.trust.certificate import Certificate, load_many
from towpath.trust.evaluation import evaluate
from towpath.trust.evidence import Evidence, Fetch
from towpath.trust.lists import fetch_lists
from towpath.trust.policy import NAMED, Policy
from towpath.trust.reference import Reference
from towpath.trust.result import TrustResult
from towpath.trust.suffixes import DEBIAN_LIST, PublicSuffixes
from towpath.trust.transparency import LogList
from towpath.trust.transport import TransportPolicy

__all__ = ["ACCEPTED", "COULD_NOT_ASK", "REFUSED", "Question", "add", "question"]

ACCEPTED, REFUSED, COULD_NOT_ASK = 0, 1, 2

_EXAMPLES = """
verbs:
  towpath trust HOST[:PORT]...              connect, and judge what the server presents
  towpath trust FILE.pem...                 judge files: the first holds the leaf
  towpath trust diagnose URL                which transport security exception a server needs, and its cure
  towpath trust batch FILE                  one host or file a line, many at once, as JSON lines
  towpath trust rules                       list the rules of a policy, each with its source
  towpath trust lab DIR                     write a root, a good server and every broken one

exit codes: 0 accepted, 1 refused, 2 could not ask

examples:
  towpath trust www.example.com
  towpath trust mail.example.com --starttls smtp
  towpath trust server.pem --anchors ca.pem --name www.example.com --at 2027-03-15
"""


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `towpath trust`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("target", nargs="+", metavar="TARGET", help="HOST[:PORT], FILE.pem, or a verb, see below")
    asking = parser.add_argument_group("the question")
    asking.add_argument("--name", help="the name to ask for (default: the host; for files, none)")
    asking.add_argument("--at", metavar="DATE", help="judge as of this moment: 2027-03-15, or with a time (UTC)")
    asking.add_argument("--policy", choices=sorted(NAMED), default="apple", help="the rules (default: %(default)s)")
    asking.add_argument("--transport", metavar="FILE", help="a transport policy in TOML, which decides for each host")
    asking.add_argument(
        "--anchors",
        action="append",
        metavar="STORE",
        help="system (default), certifi, or a PEM file or folder of your own; again for several",
    )
    asking.add_argument("--crl", action="append", metavar="FILE", default=[], help="a revocation list, DER or PEM")
    asking.add_argument("--staple", metavar="FILE", help="the OCSP response that the server stapled, DER")
    asking.add_argument("--logs", metavar="FILE", help="the list of transparency logs that count (log_list.json)")
    asking.add_argument("--fetch-issuers", action="store_true", help="fetch missing issuers over http (default: no)")
    asking.add_argument("--fetch-crls", action="store_true", help="fetch revocation lists over http (default: no)")
    asking.add_argument("--require-revocation", action="store_true", help="refuse what no list or staple calls good")
    asking.add_argument("--starttls", choices=("smtp", "imap", "ldap", "postgres"), help="talk this before TLS")
    asking.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds (default: %(default)g)")
    telling = parser.add_argument_group("the answer")
    telling.add_argument("--json", action="store_true", help="print one JSON object")
    telling.add_argument("--all", action="store_true", help="show every rule, not only failures")
    telling.add_argument("--export", metavar="FILE", type=Path, help="write the path that was judged, as PEM")
    batch = parser.add_argument_group("for batch")
    batch.add_argument("--output", metavar="FILE", type=Path, help="append JSON lines here; what is there is skipped")
    batch.add_argument("--workers", type=int, default=64, metavar="N", help="at once (default: %(default)s)")
    lab = parser.add_argument_group("for lab")
    lab.add_argument(
        "--serve", metavar="ADDRESS[:PORT]", help="serve each certificate, from this port upwards (default: free ones)"
    )
    parser.set_defaults(call=_call)


@dataclass(frozen=True)
class Question:
    """What is asked of every target."""

    policy: Policy
    at: datetime | None
    """A fixed moment, or `None` for the moment of each judgement."""
    anchors: Anchors
    evidence: Evidence
    name: str | None
    starttls: str | None
    timeout: float
    transport: TransportPolicy | None = None
    fetch_lists: Fetch | None = None
    """How revocation lists are fetched; `None`: they are not."""

    def moment(self) -> datetime:
        return self.at or datetime.now(UTC)

    @property
    def _fetches(self) -> bool:
        """Judging may wait for the network, so it must not be done in the event loop."""
        return self.fetch_lists is not None or self.evidence.fetch is not None

    async def ask(self, target: str) -> TrustResult:
        """Judges a host or a file; raises `TowpathError` where that cannot be."""
        if is_file(target):
            return await asyncio.to_thread(self.judge, [target]) if self._fetches else self.judge([target])
        from towpath.cli.trust_dial import STARTTLS, Target, dial, meeting_context
        from towpath.trust.handshake import judge

        place = Target.parse(target, STARTTLS[self.starttls][0] if self.starttls else 443)
        name = Reference.parse(self.name or place.host)
        policy, context = self.policy, None
        if self.transport is not None:
            needed = self.transport.for_host(self.name or place.host)
            policy, context = needed.policy, meeting_context(needed)
        peer = await dial(place, name=name.value, starttls=self.starttls, seconds=self.timeout, context=context)

        def judged(evidence: Evidence) -> TrustResult:
            return judge(peer.presented, name, policy, self.anchors, evidence=evidence, now=self.moment)

        if self._fetches:
            return await asyncio.to_thread(self._with_lists, judged, self.evidence)
        return judged(self.evidence)

    def judge(self, files: list[str]) -> TrustResult:
        """Judges one chain, spread over files or not."""
        chain = [certificate for file in files for certificate in read_chain(Path(file))]
        policy = self.transport.for_host(self.name).policy if self.transport and self.name else self.policy

        def judged(evidence: Evidence) -> TrustResult:
            return evaluate(chain, self.name, policy, self.moment(), self.anchors, evidence=evidence)

        return self._with_lists(judged, replace(self.evidence, asked_for_staple=False))

    def _with_lists(self, judged: Callable[[Evidence], TrustResult], evidence: Evidence) -> TrustResult:
        result = judged(evidence)
        if self.fetch_lists is None:
            return result
        lists = fetch_lists(result.path, self.fetch_lists)
        return judged(replace(evidence, crls=(*evidence.crls, *lists))) if lists else result


def is_file(target: str) -> bool:
    """Whether a target means a file: it is there, or it looks like a path."""
    return Path(target).is_file() or "/" in target or target.endswith((".pem", ".crt", ".cer", ".der"))


def read_chain(path: Path) -> list[Certificate]:
    """The certificates of a file; raises `ConfigInvalid` with its name."""
    try:
        return load_many(path.read_bytes())
    except OSError as error:
        raise ConfigInvalid(
            str(path), error.strerror or str(error), "give a PEM or DER file, or HOST[:PORT]"
        ) from error
    except PeerViolation as error:
        raise ConfigInvalid(str(path), str(error), "a chain is a PEM file with the leaf first") from error


def question(options: argparse.Namespace) -> Question:
    """The question that the options ask; raises `ConfigInvalid`."""
    policy = Policy.named(options.policy)
    if options.policy == "web" and DEBIAN_LIST.exists():
        policy = replace(policy, public_suffix=PublicSuffixes.read(DEBIAN_LIST))
    return Question(
        replace(policy, require_revocation=options.require_revocation),
        _moment(options.at) if options.at else None,
        _anchors(options.anchors or ["system"]),
        Evidence(
            staple=_read(options.staple) if options.staple else None,
            crls=tuple(_read(file) for file in options.crl),
            logs=LogList.parse(_read(options.logs), options.logs) if options.logs else None,
            fetch=_fetch(options.timeout) if options.fetch_issuers else None,
        ),
        options.name,
        options.starttls,
        options.timeout,
        TransportPolicy.parse(_read(options.transport).decode(errors="replace"), options.transport)
        if options.transport
        else None,
        _fetch(options.timeout) if options.fetch_crls else None,
    )


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigInvalid("--at", f"{text!r} is no date", "2027-03-15 or 2027-03-15T12:00:00+00:00") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _anchors(stores: list[str]) -> Anchors:
    found = Anchors()
    for store in stores:
        named = {"system": Anchors.system, "certifi": Anchors.certifi}.get(store)
        found |= named() if named is not None else Anchors.pem(store)
    return found


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigInvalid(file, error.strerror or str(error)) from error


def _fetch(timeout: float) -> Fetch:
    from towpath.cli.trust_fetch import fetcher

    return fetcher(timeout)


def _call(options: argparse.Namespace) -> int:
    verb, *rest = options.target
    try:
        if verb == "batch":
            from towpath.cli.trust_batch import run

            return run(_one(verb, rest), question(options), options.output, options.workers)
        if verb == "diagnose":
            from towpath.cli import trust_diagnose

            return trust_diagnose.run(_one(verb, rest), question(options), as_json=options.json)
        if verb == "rules" and not rest:
            from towpath.cli.trust_show import rules

            return rules(Policy.named(options.policy), as_json=options.json)
        if verb == "lab":
            from towpath.cli.trust_lab import run as lab
            from towpath.testing.pki import Pki

            return lab(Path(_one(verb, rest)), Pki(_moment(options.at) if options.at else None), options.serve)
        return _judge(options)
    except TowpathError as error:
        _complain(error)
        return COULD_NOT_ASK


def _one(verb: str, rest: list[str]) -> str:
    if len(rest) != 1:
        raise ConfigInvalid(f"trust {verb}", f"takes one argument, not {len(rest)}", "towpath trust --help")
    return rest[0]


def _judge(options: argparse.Namespace) -> int:
    asked = question(options)
    targets: list[str] = options.target
    if all(is_file(target) for target in targets):
        return _tell(" ".join(targets), asked.judge(targets), options)
    return max(_ask(target, asked, options) for target in targets)


def _ask(target: str, asked: Question, options: argparse.Namespace) -> int:
    """One host of several: what cannot be asked must not hide the others' answers."""
    try:
        return _tell(target, asyncio.run(asked.ask(target)), options)
    except TowpathError as error:
        _complain(error)
        unreadable = isinstance(error, PeerViolation) and error.fault == "certificate"
        return REFUSED if unreadable else COULD_NOT_ASK


def _complain(error: TowpathError) -> None:
    print(f"towpath: {error}", file=sys.stderr)
    if error.hint:
        print(f"towpath: hint: {error.hint}", file=sys.stderr)


def _tell(title: str, result: TrustResult, options: argparse.Namespace) -> int:
    if options.export is not None:
        options.export.write_text("".join(certificate.pem() for certificate in result.path), encoding="ascii")
    if options.json:
        print(json.dumps({"target": title, **result.as_dict()}))
    else:
        from towpath.cli.trust_show import Paint, lines

        for line in lines(title, result, Paint(), every_rule=options.all):
            print(line)
    return ACCEPTED if result.accepted else REFUSED
