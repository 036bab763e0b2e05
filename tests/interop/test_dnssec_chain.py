"""The validator against zones that BIND's tools signed and BIND serves: good ones, and each way to break one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from tests.support.peers import need
from tests.support.signed_world import SignedWorld, make_world

from towpath.errors import ConfigInvalid
from towpath.names.dnssec.anchors import ROOT, parse_anchors
from towpath.names.dnssec.validator import Outcome, Validator, Wanted
from towpath.wire import dns_message
from towpath.wire.dns_scan import bare_question

ADDRESS = "127.0.0.1"


class Servers:
    """The server of a signed world on this machine's loopback, and what was asked of it."""

    def __init__(self, world: SignedWorld, port: int) -> None:
        self.world = world
        self.port = port
        self.asked: list[Wanted] = []
        self.change: Callable[[bytes], bytes | str] = lambda answer: answer
        """What becomes of an answer on its way."""

    def ask(self, name: str, kind: int) -> bytes:
        question = dns_message.flat(dns_message.labels_of(name))
        kind_class = kind.to_bytes(2, "big") + b"\0\1"
        message = bare_question(question, kind_class, 7, dnssec=True, checking_disabled=True, ad=True)
        with socket.create_connection((ADDRESS, self.port), 10) as stream:
            stream.sendall(len(message).to_bytes(2, "big") + message)
            data = b""
            while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                data += stream.recv(65535)
        return data[2:]

    def judge(self, question: str) -> Outcome:
        name, kind = question.split()
        return self.validate(name, kind)

    def validate(self, name: str, kind: str = "A", validator: Validator | None = None, now: float = 0.0) -> Outcome:
        validator = validator or Validator(parse_anchors([self.world.anchor], "a test"))
        answer = self.change(self.ask(name, dns_message.type_number(kind)))
        assert isinstance(answer, bytes)
        asking = validator.validate(answer, now or time.time())
        try:
            wanted = next(asking)
            while True:
                self.asked.append(wanted)
                wanted = asking.send(self.change(self.ask(*wanted)))
        except StopIteration as ended:
            outcome: Outcome = ended.value
            return outcome


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    need("named", "unbound", "dnssec-signzone")
    world = make_world(tmp_path_factory.mktemp("signed"), ADDRESS)
    with socket.socket() as one, socket.socket() as other:
        one.bind((ADDRESS, 0))
        other.bind((ADDRESS, 0))
        port, authority = one.getsockname()[1], other.getsockname()[1]
    command = world.serve(ADDRESS, port, authority).command
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for waited in (authority, port):
            while True:
                try:
                    socket.create_connection((ADDRESS, waited), 10).close()
                    break
                except ConnectionRefusedError:
                    assert server.poll() is None, "the servers do not start"
        yield Servers(world, port)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def servers(running: Servers) -> Servers:
    return Servers(running.world, running.port)


SECURE = [
    "www.test A", "www.test AAAA", "www.test TXT", "a.ent.test A", "ent.test A", "nothing.test A", "b.ent.test A",
    "x.wild.test A", "x.y.wild.test A", "x.wild.test AAAA", "alias.test A", "alias.test CNAME", "nsec3.test DS",
    "test DNSKEY", "test SOA", ". NS", ". DS", "unsigned.test DS", "www.nsec3.test A", "nothing.nsec3.test A",
    "a.b.nothing.nsec3.test A", "www.nsec3.test TXT", "x.wild.nsec3.test A", "x.wild.nsec3.test AAAA",
    "ent.nsec3.test A", "www.moved.test A", "nothing.moved.test A", "moved.test DNAME", "www.rsa.test A",
    "www.edwards.test A", "good.tampered.test A", "www.optout.test A", "www.optout.test TXT", "long.test TXT",
    "nothing A",
]  # fmt: skip
INSECURE = {
    "www.unsigned.test A": "unsigned.test is not signed, says test",
    "nothing.unsigned.test A": "unsigned.test is not signed, says test",
    "www.unsigned.test TXT": "unsigned.test is not signed, says test",
    "alias.unsigned.test A": "unsigned.test is not signed, says test",
    "lost.test A": "unsigned.test is not signed, says test",
    "www.child.optout.test A": "child.optout.test is not signed, says optout.test",
    "nothing.optout.test A": "names are left out of the proof (opt-out)",
    "child.optout.test DS": "names are left out of the proof (opt-out)",
    "www.sub.nsec3.test A": "sub.nsec3.test is not signed, says nsec3.test",
    "www.test RRSIG": "a question for everything, or for signatures, has no signed answer",
}
BOGUS = {
    "www.tampered.test A": (6, "the signature of A of www.tampered.test is wrong"),
    "astray.test A": (6, "the signature of A of www.tampered.test is wrong"),
    "www.expired.test A": (7, "the signature of DNSKEY of expired.test expired on 2020-02-01"),
    "www.early.test A": (8, "the signature of DNSKEY of early.test holds from 2090-01-01 on"),
    "www.stranger.test A": (9, "no key of stranger.test is the one that the zone above it, or an anchor, names"),
    "www.stripped.test A": (10, "A of www.stripped.test is not signed, and"),
}


@pytest.mark.parametrize("question", SECURE)
def test_what_is_signed_well_is_secure(servers: Servers, question: str) -> None:
    outcome = servers.judge(question)
    assert outcome.status == "secure", outcome
    assert 0 < outcome.ttl <= 86400


@pytest.mark.parametrize("question", INSECURE)
def test_what_nobody_signs_is_told_from_what_lost_its_signature(servers: Servers, question: str) -> None:
    outcome = servers.judge(question)
    assert (outcome.status, outcome.reason) == ("insecure", INSECURE[question])


@pytest.mark.parametrize("question", BOGUS)
def test_what_is_signed_badly_is_bogus_and_says_why(servers: Servers, question: str) -> None:
    code, words = BOGUS[question]
    outcome = servers.judge(question)
    assert (outcome.status, outcome.code) == ("bogus", code), outcome
    assert outcome.reason.startswith(words)


OPT_OUT = ("nothing.optout.test A", "child.optout.test DS")
"""BIND calls these validated; RFC 5155 section 9.2 forbids to call them authentic."""


@pytest.mark.parametrize("question", sorted({*SECURE[::2], *INSECURE, *BOGUS} - {*OPT_OUT, "www.test RRSIG"}))
def test_binds_own_validator_says_the_same(servers: Servers, tmp_path: Path, question: str) -> None:
    need("delv")
    name, kind = question.split()
    _, _, _, tag, algorithm, digest_type, digest = servers.world.anchor.replace(" ", "\t", 6).split("\t")
    anchors = tmp_path / "anchors"
    anchors.write_text(
        f'trust-anchors {{ . static-ds {tag} {algorithm} {digest_type} "{digest.replace(" ", "")}"; }};\n'
    )
    words = ("delv", f"@{ADDRESS}", "-p", str(servers.port), "-a", str(anchors), "+root=.", name, kind)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    if "resolution failed" in said and "ncache" not in said:
        found = "bogus"
    else:
        # Of an answer that leads through several zones each set is judged by itself.
        found = "insecure" if "unsigned answer" in said else "secure" if "fully validated" in said else said
    assert found == servers.judge(question).status, said


def without(*kinds: int) -> Callable[[bytes], bytes]:
    """Takes records of these types out of answers, as a proxy does that does not know them."""

    def change(data: bytes) -> bytes:
        reader = dns_message.Reader(data)
        header = reader.header()
        question = reader.question()
        kept = [
            [one for one in (reader.record() for _ in range(count)) if one.type not in kinds] for count in header[3:]
        ]
        writer = dns_message.Writer(
            header._replace(answers=len(kept[0]), authorities=len(kept[1]), additionals=len(kept[2]))
        )
        writer.question(*question)
        for record in (record for section in kept for record in section):
            writer.record(record.owner, record.type, record.klass, record.ttl, data[record.start : record.end])
        return writer.message()

    return change


@pytest.mark.parametrize(
    ("question", "removed", "code"),
    [
        ("www.test A", (46,), 10),
        ("nothing.test A", (47,), 12),
        ("nothing.nsec3.test A", (50,), 12),
        ("x.wild.test A", (47,), 12),
        ("x.wild.nsec3.test A", (50,), 12),
        ("www.unsigned.test A", (47,), 12),
        ("www.nsec3.test A", (43,), 12),
        ("www.test A", (48,), 9),
    ],
)
def test_a_proof_that_is_missing_is_missed(
    servers: Servers, question: str, removed: tuple[int, ...], code: int
) -> None:
    servers.change = without(*removed)
    outcome = servers.judge(question)
    assert (outcome.status, outcome.code) == ("bogus", code), outcome


def test_a_denial_of_one_name_does_not_deny_another(servers: Servers) -> None:
    elsewhere = servers.ask("zzz.test", 1)

    def swap(data: bytes) -> bytes:
        """What is true of zzz.test, told of www.test, which exists."""
        return elsewhere[:12] + b"\3www" + elsewhere[16:] if data[12:16] == b"\3www" else data

    servers.change = swap
    outcome = servers.validate("www.test")
    assert (outcome.status, outcome.code) == ("bogus", 6)


def test_zones_are_asked_for_once(servers: Servers) -> None:
    validator = Validator(parse_anchors([servers.world.anchor], "a test"))
    assert servers.validate("www.nsec3.test", "A", validator).status == "secure"
    assert [(wanted.name, wanted.kind) for wanted in servers.asked] == [
        ("", 48), ("test", 43), ("test", 48), ("nsec3.test", 43), ("nsec3.test", 48),
    ]  # fmt: skip
    servers.asked.clear()
    for name in ("a.ent.nsec3.test", "nothing.nsec3.test", "www.nsec3.test"):
        assert servers.validate(name, "A", validator).status == "secure"
    assert servers.asked == []
    validator.forget()
    servers.validate("www.nsec3.test", "A", validator)
    assert len(servers.asked) == 5


def test_an_answer_lasts_no_longer_than_its_signature(servers: Servers) -> None:
    validator = Validator(parse_anchors([servers.world.anchor], "a test"))
    assert 20 < servers.validate("www.test", "A", validator).ttl <= 300  # the server keeps it too
    signed = servers.ask("www.test", 1)
    end = int(time.time()) + 40 * 86400
    assert servers.validate("www.test", "A", None, end).code == 7
    reader = dns_message.Reader(signed)
    header = reader.header()
    reader.question()
    records = [reader.record() for _ in range(header.answers)]
    expires = next(int.from_bytes(signed[one.start + 8 : one.start + 12], "big") for one in records if one.type == 46)
    assert servers.validate("www.test", "A", validator, expires - 20).ttl <= 20


def test_keys_of_another_root_are_not_believed(servers: Servers) -> None:
    outcome = servers.validate("www.test", "A", Validator(parse_anchors(ROOT, "a test")))
    assert (outcome.status, outcome.code) == ("bogus", 9)


def test_an_anchor_below_the_root_is_enough_for_what_is_below_it(servers: Servers) -> None:
    keys = (servers.world.folder / "test_.zone").read_text().splitlines()
    anchor = next(line for line in keys if line.split()[3:5] == ["DNSKEY", "257"])
    validator = Validator(parse_anchors([anchor], "a test"))
    assert servers.validate("www.nsec3.test", "A", validator).status == "secure"
    assert servers.validate("www.tampered.test", "A", validator).status == "bogus"
    assert Wanted("", 48) not in servers.asked


def test_hashes_that_cost_too_much_count_as_not_signed(servers: Servers) -> None:
    assert servers.validate("nothing.costly.test").status == "secure"
    with patch("towpath.names.dnssec.denial.MOST_ITERATIONS", 100):
        outcome = servers.validate("nothing.costly.test")
        assert (outcome.status, outcome.code) == ("insecure", 27)
        assert servers.validate("www.costly.test").status == "secure"


def test_algorithms_that_are_not_known_count_as_not_signed(servers: Servers) -> None:
    with patch("towpath.names.dnssec.signatures._ALGORITHMS", frozenset((13,))):
        outcome = servers.validate("www.edwards.test")
        assert (outcome.status, outcome.code) == ("insecure", 1)
    with patch("towpath.names.dnssec.signatures._DIGESTS", frozenset((4,))):
        anchor = next(
            line for line in (servers.world.folder / "test_.zone").read_text().splitlines() if "DNSKEY\t257" in line
        )
        validator = Validator(parse_anchors([anchor], "a test"))
        outcome = servers.validate("www.nsec3.test", "A", validator)
        assert (outcome.status, outcome.code) == ("insecure", 2)


def test_an_answer_that_wants_many_signatures_checked_is_given_up(servers: Servers) -> None:
    with (
        patch("towpath.names.dnssec.signatures._MOST_TRIES", 3),
        patch("towpath.names.dnssec.signatures.Budget.__init__.__defaults__", (3,)),
    ):
        outcome = servers.validate("www.nsec3.test")
    assert (outcome.status, outcome.code) == ("bogus", 6)
    assert "more signatures" in outcome.reason


def test_a_server_that_does_not_answer_for_keys_is_named_so(servers: Servers) -> None:
    servers.change = lambda data: "nobody answers" if data[12:19] == b"\0\0\x30\0\1\0\0" or data[12] == 0 else data
    outcome = servers.validate("www.test")
    assert (outcome.status, outcome.code) == ("bogus", 5)
    assert outcome.reason == "DNSKEY of . could not be had: nobody answers"


@pytest.mark.parametrize("text", ["", "lab.test", "lab.test. IN DS 1 2", "lab.test. IN A 192.0.2.1", "DS 1 13 2 aa"])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="no trust anchor"):
        parse_anchors([text], "settings")
