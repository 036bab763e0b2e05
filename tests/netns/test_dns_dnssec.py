"""DNSSEC for one command: what its zone signed resolves, what it did not says why, and what nobody signs passes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.encrypted_dns import use_resolver
from tests.support.filters import Author, said
from tests.support.peers import need
from tests.support.running import TOWPATH, Runner
from tests.support.signed_world import SignedWorld, make_world

from towpath.testing import Lab, LabPlan
from towpath.testing.plan import Dns

ADDRESS, DEAF = "198.51.100.53", "198.51.100.54"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> SignedWorld:
    need("named", "unbound", "dnssec-signzone", "dig")
    return make_world(tmp_path_factory.mktemp("signed"), ADDRESS)


@pytest.fixture(scope="module")
def world(signed: SignedWorld) -> Iterator[Lab]:
    plan = (
        LabPlan()
        .host("client")
        .host("resolver", ipv4=ADDRESS, serves=[signed.serve(ADDRESS)])
        .host("deaf", ipv4=DEAF, serves=[Dns()])  # knows nothing of signatures
        .record("www.test", "A", "192.0.2.10")
    )
    with Lab(plan) as lab:
        use_resolver(lab["client"], ADDRESS)
        yield lab


@pytest.fixture
def run(world: Lab, tmp_path: Path) -> Runner:
    return Runner(world, "client", tmp_path)


def config(folder: Path, signed: SignedWorld, *lines: str) -> str:
    file = folder / "secure_dns.toml"
    anchors = json.dumps([signed.anchor])
    file.write_text("\n".join(("requires_dnssec = true", f"trust_anchors = {anchors}", *lines)) + "\n")
    return f"secure_dns:{file}"


def parts(text: str) -> dict[str, str]:
    """What dig said, by its command line."""
    found = re.split(r"^; <<>> DiG \S+ <<>> (.*)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def flags(text: str) -> set[str]:
    found = re.search(r"^;; flags: ([^;]*);", text, re.MULTILINE)
    assert found, text
    return set(found[1].split())


def test_what_is_signed_is_authentic_and_what_is_not_signed_passes(
    run: Runner, signed: SignedWorld, tmp_path: Path
) -> None:
    asked = (
        "www.test",
        "nothing.nsec3.test",
        "+tcp long.test TXT",
        "www.unsigned.test",
        "alias.test",
        "www.rsa.test",
        "www.edwards.test",
        "www.moved.test",
        "+noad www.test",
    )
    done = run("--dns", config(tmp_path, signed), command="; ".join(f"dig {words}" for words in asked))
    said = parts(done.out)
    for words in ("www.test", "+tcp long.test TXT", "alias.test", "www.rsa.test", "www.edwards.test", "www.moved.test"):
        assert "status: NOERROR" in said.get(words, ""), (done.out, done.err)
        assert "ad" in flags(said[words])
    assert "192.0.2.10" in said["www.test"]
    assert "192.0.2.20" in said["alias.test"]
    assert "status: NXDOMAIN" in said["nothing.nsec3.test"]
    assert "ad" in flags(said["nothing.nsec3.test"])
    assert "192.0.2.60" in said["www.unsigned.test"]
    assert "ad" not in flags(said["www.unsigned.test"])
    assert "ad" not in flags(said["+noad www.test"])  # who does not ask is not told (RFC 6840 section 5.7)
    assert done.flows == []


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("www.tampered.test", "6 (DNSSEC Bogus)", "the signature of A of www.tampered.test is wrong"),
        ("astray.test", "6 (DNSSEC Bogus)", "the signature of A of www.tampered.test is wrong"),
        ("www.expired.test", "7 (Signature Expired)", "the signature of DNSKEY of expired.test expired on 2020-02-01"),
        ("www.early.test", "8 (Signature Not Yet Valid)", "holds from 2090-01-01 on"),
        ("www.stranger.test", "9 (DNSKEY Missing)", "no key of stranger.test"),
        ("www.stripped.test", "10 (RRSIGs Missing)", "A of www.stripped.test is not signed"),
    ],
)
def test_what_its_zone_did_not_sign_so_is_not_resolved_and_says_why(
    run: Runner, signed: SignedWorld, tmp_path: Path, name: str, code: str, words: str
) -> None:
    command = f"dig {name}; dig +tcp {name}; {TOWPATH} dns query {name} --type A; getent ahostsv4 {name} || echo none"
    done = run("--dns", config(tmp_path, signed), command=command)
    for text in parts(done.out).values():
        assert "status: SERVFAIL" in text
        assert "192.0.2" not in text.partition("SERVER:")[0]
    assert done.out.count(f"EDE: {code}") == 2, done.out
    assert words in done.out.rpartition("MSG SIZE")[2]  # towpath dns query names the reason
    assert done.out.endswith("none\n")
    refused = {flow["reason"] for flow in done.flows}
    assert len(refused) == 1
    assert refused.pop().startswith("the DNS proxy secure-dns: DNSSEC: ")
    assert words in done.err
    assert {flow["rule"] for flow in done.flows} == {"DNS proxy secure-dns"}


def test_the_bits_of_a_question_are_honoured(run: Runner, signed: SignedWorld, tmp_path: Path) -> None:
    asked = ("+cd www.tampered.test", "+dnssec www.test", "www.test", "+dnssec nothing.test", "nothing.test",
             "+dnssec +cd www.expired.test", "nsec3.test DS", "www.test RRSIG", "www.tampered.test")  # fmt: skip
    done = run("--dns", config(tmp_path, signed), command="; ".join(f"dig {words}" for words in asked))
    said = parts(done.out)
    assert "192.0.2.99" in said["+cd www.tampered.test"]  # who checks for itself gets it as it came
    assert "ad" not in flags(said["+cd www.tampered.test"])
    assert "RRSIG\tA 13" in said["+dnssec www.test"]
    assert "ad" in flags(said["+dnssec www.test"])
    assert "RRSIG" not in said["www.test"]
    assert "NSEC" in said["+dnssec nothing.test"]
    assert "NSEC" not in said["nothing.test"]
    assert "SOA" in said["nothing.test"]
    assert "RRSIG" in said["+dnssec +cd www.expired.test"]
    assert "\tDS\t" in said["nsec3.test DS"]
    assert "RRSIG" in said["www.test RRSIG"]
    assert "status: SERVFAIL" in said["www.tampered.test"]  # what +cd brought is not given to others


def test_a_domain_may_be_left_out_and_another_server_may_be_better(
    run: Runner, signed: SignedWorld, tmp_path: Path
) -> None:
    given = config(tmp_path, signed, '[[domains]]\nmatch = ["tampered.test"]')
    done = run("--dns", given, command="dig +short www.tampered.test")
    assert done.out == "192.0.2.99\n", done.err
    given = config(tmp_path, signed, f'servers = ["{DEAF}"]')
    done = run("--dns", given, command="dig www.test")
    assert "status: SERVFAIL" in done.out
    assert "DNSKEY Missing" in done.out
    assert ". has no keys" in done.out
    given = config(tmp_path, signed, f'servers = ["{DEAF}", "{ADDRESS}"]')
    done = run("--dns", given, command="dig www.test; dig www.tampered.test")
    assert "192.0.2.10" in done.out
    assert "DNSSEC Bogus" in done.out


def test_an_alias_of_the_proxys_own_leads_to_what_is_signed(run: Runner, signed: SignedWorld, tmp_path: Path) -> None:
    mine = Author(tmp_path)(
        f"""
        def start(self):
            return DNSProxySettings((DNSSettings(requires_dnssec=True, trust_anchors=({signed.anchor!r},)),))

        def handle_query(self, query):
            say(name=query.name)
            return Answer(alias=query.name.removesuffix(".own.test") + ".test") if "own" in query.name else Forward()
        """,
        base="DNSProxyProvider",
    )
    command = "dig www.own.test; dig www.tampered.own.test; for i in 1 2 3; do dig +short www.nsec3.test; done"
    done = run("--dns", mine, command=command)
    answers = parts(done.out)
    assert "192.0.2.10" in answers["www.own.test"]
    assert "ad" not in flags(answers["www.own.test"])  # the alias is nobody's
    assert "status: SERVFAIL" in answers["www.tampered.own.test"]
    assert [fact["name"] for fact in said(done.err)].count("www.nsec3.test") == 1
    assert done.out.endswith("192.0.2.20\n" * 3)


def test_keys_and_answers_are_asked_for_once(run: Runner, world: Lab, signed: SignedWorld, tmp_path: Path) -> None:
    def questions() -> str:
        return (signed.folder / "unbound-53.log").read_text()

    before = len(questions())
    names = ("www.nsec3.test", "nothing.nsec3.test", "www.nsec3.test", "www.tampered.test", "www.tampered.test")
    run("--dns", config(tmp_path, signed), command="; ".join(f"dig {name}" for name in names))
    asked = re.findall(r"info: \S+ (\S+ \S+) IN$", questions()[before:], re.MULTILINE)
    assert sorted(asked) == sorted({*asked})
    assert {". DNSKEY", "test. DS", "test. DNSKEY", "nsec3.test. DS", "nsec3.test. DNSKEY"} < {*asked}


def test_who_watches_sees_the_reason(run: Runner, signed: SignedWorld, tmp_path: Path) -> None:
    script = "echo started; read line; dig www.expired.test; read line"
    with run.popen("--dns", config(tmp_path, signed), command=script, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        words = [TOWPATH, "dns", "top", "--json"]
        with run.host.popen(words, stdout=subprocess.PIPE, text=True) as top:
            assert top.stdout is not None
            top.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            reasons = (one for line in top.stdout for one in json.loads(line)["names"])
            found = next(one for one in reasons if one["refused"])
            top.terminate()
    assert found["name"] == "www.expired.test"
    assert "expired on 2020-02-01" in found["reason"]


def test_the_command_validates_by_itself(world: Lab, signed: SignedWorld) -> None:
    def query(*words: str) -> tuple[int, str, str]:
        done = world["client"].run([TOWPATH, "dns", "query", "--type", "A", "--trust-anchor", signed.anchor, *words])
        return done.returncode, done.stdout, done.stderr

    code, out, _ = query("www.nsec3.test")
    assert code == 0
    assert "A: secure: signed by its zone" in out
    code, out, _ = query("www.unsigned.test")
    assert code == 0
    assert "A: insecure: nobody signs it" in out
    code, out, err = query("www.expired.test")
    assert code == 2
    assert "Signature Expired: the signature of DNSKEY of expired.test expired on 2020-02-01" in out
    assert "192.0.2" not in out.replace(ADDRESS, "")
    assert "Traceback" not in err
    code, out, _ = query("nothing.test", "--json")
    answer = json.loads(out)["answers"][0]
    assert (code, answer["status"], answer["validated"]) == (1, "unknown", "secure")
    code, out, _ = query("www.tampered.test", "--json")
    assert json.loads(out)["answers"][0]["extended_errors"][0]["code"] == 6
    done = world["client"].run([TOWPATH, "resolve", "www.test", "--trust-anchor", "nonsense"])
    assert done.returncode == 125
    assert "'nonsense' is no trust anchor" in done.stderr
    both = query("www.nsec3.test", "--compare", "--server", ADDRESS, "--server", DEAF)
    assert "DNSKEY Missing" in both[1]


def test_without_an_anchor_that_fits_a_root_of_ones_own_is_bogus(world: Lab) -> None:
    done = world["client"].run([TOWPATH, "resolve", "www.test", "--type", "A", "--dnssec"])
    assert done.returncode == 2
    assert "no key of . is the one that the zone above it, or an anchor, names" in done.stdout
