"""`towpath trust`: exit codes, what is printed, files and hosts, STARTTLS, batches."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from tests.unit.trust.tls_server import Talk, scripted, server_context, serving

from towpath.cli import main
from towpath.testing.pki import Pki, Recipe
from towpath.testing.pki_broken import BROKEN
from towpath.trust import load

HOST = "www.example.com"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    assert main(["trust", "lab", str(folder)]) == 0
    return folder


def trust(lab: Path, *words: str) -> int:
    return main(["trust", *words, "--anchors", str(lab / "root.pem"), "--name", HOST])


def test_the_lab_holds_a_root_a_good_server_and_every_broken_one(lab: Path) -> None:
    names = {path.stem for path in lab.glob("*.pem")}
    assert names == {"root", "good", *BROKEN}
    assert (lab / "good.key").stat().st_mode & 0o777 == 0o600


def test_an_accepted_chain_is_shown_as_a_tree_and_ends_with_0(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trust(lab, str(lab / "good.pem")) == 0
    printed = capsys.readouterr().out
    assert "accepted under apple" in printed
    assert "0 www.example.com" in printed
    assert "  └─ 1 Towpath test intermediate" in printed
    assert "    └─ 2 Towpath test root" in printed
    assert "refused from" in printed
    assert "\x1b" not in printed, "colours on something that is no terminal"


@pytest.mark.parametrize("name", ["expired", "wrong-name", "no-use", "900-days", "missing-intermediate", "self-signed"])
def test_a_refused_chain_ends_with_1_and_says_what_to_do(
    lab: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trust(lab, str(lab / f"{name}.pem")) == 1
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert "required:" in printed
    assert "hint:" in printed


def test_the_date_decides(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trust(lab, str(lab / "good.pem"), "--at", "2035-01-01") == 1
    assert "at 2035-01-01 00:00:00 UTC" in capsys.readouterr().out


def test_the_policy_decides(lab: Path) -> None:
    assert trust(lab, str(lab / "no-use.pem"), "--policy", "rfc5280") == 0
    assert trust(lab, str(lab / "no-use.pem"), "--policy", "web") == 1


def test_json_is_one_object(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust(lab, str(lab / "good.pem"), "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["accepted"] is True
    assert document["until"]["rule"] == "x509.validity"


def test_every_rule_is_shown_on_request(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust(lab, str(lab / "good.pem"), "--all")
    assert "pass x509.path-length" in capsys.readouterr().out


def test_the_path_is_exported_from_leaf_to_anchor(lab: Path, tmp_path: Path) -> None:
    trust(lab, str(lab / "good.pem"), "--export", str(tmp_path / "chain.pem"))
    exported = (tmp_path / "chain.pem").read_bytes()
    assert exported == (lab / "good.pem").read_bytes() + (lab / "root.pem").read_bytes()


def test_a_revocation_list_is_read_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pki = Pki()
    pki.write(tmp_path)
    identity = pki.good(HOST)
    identity.write(tmp_path, "revoked-now")
    (tmp_path / "ca.crl").write_bytes(pki.intermediate.crl(identity.certificate.serial_number))
    assert trust(tmp_path, str(tmp_path / "revoked-now.pem"), "--crl", str(tmp_path / "ca.crl")) == 1
    assert "x509.revocation-lists" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["/nonexistent/chain.pem"],
        ["no such host."],
        ["host:port"],
        ["good.pem", "--at", "yesterday"],
        ["good.pem", "--anchors", "/nonexistent"],
        ["good.pem", "--logs", "/nonexistent"],
        ["batch"],
        ["batch", "/nonexistent"],
    ],
)
def test_what_cannot_be_asked_ends_with_2_and_one_line(
    lab: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab)
    assert trust(lab, *words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("towpath: ")
    assert "Traceback" not in printed.err


def test_names_in_certificates_do_not_steer_the_terminal(
    pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pki.write(tmp_path)
    pki.intermediate.issue(Recipe(names=(HOST,), common_name="\x1b[2Jevil\nline")).write(tmp_path, "evil")
    trust(tmp_path, str(tmp_path / "evil.pem"))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "evil\nline" not in printed


@pytest.fixture
def folder(pki: Pki, tmp_path: Path) -> Path:
    pki.write(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("no-use", 1), ("rsa-1024", 1), ("self-signed", 1)])
def test_a_host_is_asked_over_tls(pki: Pki, folder: Path, name: str, code: int) -> None:
    identity = pki.good() if name == "good" else pki.broken(name).identity
    with serving(server_context(identity, folder / "served")) as port:
        assert trust(folder, f"127.0.0.1:{port}") == code


LDAP_REQUEST = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
TALKS: dict[str, Talk] = {
    "smtp": scripted(
        (b"", b"220-mail\r\n220 ready\r\n"),
        (b"EHLO towpath.invalid\r\n", b"250-mail\r\n250 STARTTLS\r\n"),
        (b"STARTTLS\r\n", b"220 go\r\n"),
    ),
    "imap": scripted((b"", b"* OK ready\r\n"), (b"t1 STARTTLS\r\n", b"* CAPABILITY IMAP4\r\nt1 OK go\r\n")),
    "ldap": scripted((LDAP_REQUEST, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")),
    "postgres": scripted((b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S")),
}
REFUSALS: dict[str, Talk] = {
    "smtp": scripted((b"", b"554 no\r\n")),
    "imap": scripted((b"", b"* OK ready\r\n"), (b"t1 STARTTLS\r\n", b"t1 BAD what\r\n")),
    "ldap": scripted((LDAP_REQUEST, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00")),
    "postgres": scripted((b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"N")),
}


@pytest.mark.parametrize("protocol", list(TALKS))
def test_starttls_is_talked_before_the_handshake(pki: Pki, folder: Path, protocol: str) -> None:
    with serving(server_context(pki.good(), folder / "served"), TALKS[protocol]) as port:
        assert trust(folder, f"127.0.0.1:{port}", "--starttls", protocol) == 0


@pytest.mark.parametrize("protocol", list(REFUSALS))
def test_a_server_that_refuses_starttls_could_not_be_asked(
    pki: Pki, folder: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(None, REFUSALS[protocol]) as port:
        assert trust(folder, f"127.0.0.1:{port}", "--starttls", protocol) == 2
    assert "starttls" in capsys.readouterr().err


@pytest.mark.parametrize("flood", [b"220-x" + b"x" * 10_000, b"220-x\r\n" * 1000])
def test_a_server_that_never_ends_its_answer_is_left(folder: Path, flood: bytes) -> None:
    with serving(None, scripted((b"", flood))) as port:
        assert trust(folder, f"127.0.0.1:{port}", "--starttls", "smtp") == 2


def test_a_silent_server_is_left_after_the_time_limit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert trust(folder, f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.2") == 2
    assert "took longer than 0.2 s" in capsys.readouterr().err


def test_a_batch_gives_one_line_a_target_and_goes_on_where_it_was_left(
    pki: Pki, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder / "answers.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    with serving(server_context(pki.good(), folder / "served")) as port:
        targets = [f"127.0.0.1:{port}", str(folder / "good.pem"), str(folder / "no-use.pem"), f"127.0.0.1:{closed}"]
        (folder / "targets").write_text("# hosts\n" + "\n".join(targets) + "\n\n" + targets[0] + "\n")
        words = ("batch", str(folder / "targets"), "--output", str(output))
        assert trust(folder, *words) == 1
        answers = {answer["target"]: answer for answer in map(json.loads, output.read_text().splitlines())}
        assert set(answers) == set(targets)
        assert [answers[target]["accepted"] for target in targets] == [True, True, False, False]
        assert "connecting" in answers[targets[3]]["error"]

        whole = output.read_text().splitlines(keepends=True)
        output.write_text("".join(whole[:2]) + whole[2][:20])
        trust(folder, *words)
        again = [json.loads(line)["target"] for line in output.read_text().splitlines()]
        assert sorted(again) == sorted(targets)
        assert again[:2] == [json.loads(line)["target"] for line in whole[:2]]


def test_a_batch_where_all_is_well_ends_with_0_and_writes_to_the_standard_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "targets").write_text(str(folder / "good.pem") + "\n")
    assert trust(folder, "batch", str(folder / "targets")) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] is True


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1),
        ('[domains."www.example.com"]\nforward_secrecy = false\n', 0),
        ("arbitrary_loads = true\n", 0),
        ('[domains."www.example.com"]\nforward_secrecy = false\nminimum_tls = "1.3"\n', 0),
        ('[pins."www.example.com"]\nleaves = ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]\narbitrary_loads = 1', 2),
    ],
)
def test_a_transport_policy_decides_for_the_host(pki: Pki, folder: Path, text: str, code: int) -> None:
    (folder / "transport.toml").write_text(text)
    with serving(server_context(pki.broken("rsa-1024").identity, folder / "served")) as port:
        assert trust(folder, f"127.0.0.1:{port}", "--transport", str(folder / "transport.toml")) == code


def test_a_handshake_below_the_transport_policy_could_not_be_asked(pki: Pki, folder: Path) -> None:
    (folder / "transport.toml").write_text('[domains."www.example.com"]\nminimum_tls = "1.3"\n')
    context = server_context(pki.good(), folder / "served")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(context) as port:
        assert trust(folder, f"127.0.0.1:{port}", "--transport", str(folder / "transport.toml")) == 2
        assert trust(folder, f"127.0.0.1:{port}") == 0


def serving_octets(body: bytes) -> Talk:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    return scripted((b"\r\n\r\n", head + body))


def test_issuers_and_revocation_lists_are_fetched_when_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pki = Pki()
    pki.write(folder)
    issuer = load(pki.intermediate.certificate)
    with (
        serving(None, serving_octets(issuer.der)) as issuers,
        serving(None, serving_octets(pki.intermediate.crl(0x4711))) as lists,
    ):
        place = x509.UniformResourceIdentifier(f"http://127.0.0.1:{issuers}/ca.der")
        access = x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.CA_ISSUERS, place)
        where = x509.UniformResourceIdentifier(f"http://127.0.0.1:{lists}/ca.crl")
        point = x509.DistributionPoint([where], None, None, None)
        extra = ((x509.AuthorityInformationAccess([access]), False), (x509.CRLDistributionPoints([point]), False))
        identity = pki.intermediate.issue(Recipe(names=(HOST,), serial=0x4711, extra=extra))
        replace(identity, above=()).write(folder, "alone")
        file = str(folder / "alone.pem")
        assert trust(folder, file) == 1
        assert "x509.anchor" in capsys.readouterr().out
        assert trust(folder, file, "--fetch-issuers") == 0
        assert trust(folder, file, "--fetch-issuers", "--fetch-crls") == 1
        assert "FAIL x509.revocation-lists" in capsys.readouterr().out


def test_revocation_can_be_demanded_from_the_command_line(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trust(lab, str(lab / "good.pem"), "--require-revocation") == 1
    assert "no revocation list is at hand" in capsys.readouterr().out


def test_one_host_that_cannot_be_asked_does_not_hide_the_others(
    pki: Pki, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    with serving(server_context(pki.good(), folder / "served")) as port:
        assert trust(folder, f"127.0.0.1:{closed}", f"127.0.0.1:{port}") == 2
    printed = capsys.readouterr()
    assert "accepted" in printed.out
    assert "connecting to" in printed.err


def test_the_rules_of_a_policy_are_listed_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "rules", "--policy", "web"]) == 0
    printed = capsys.readouterr().out
    assert "  web.common-name: a common name repeats an alternative name (BR 7.1.4.3)" in printed
    assert "apple.usage" not in printed
    assert main(["trust", "rules", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"id", "title", "level", "source", "required"} == set(listed[0])
    assert "apple.usage" in {rule["id"] for rule in listed}
