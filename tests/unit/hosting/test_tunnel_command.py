"""`towpath tunnel keygen` and `check`: keys that are keys, files that are read, and mistakes shown by their lines."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from towpath.cli import main

PUBLIC = base64.b64encode(b"p" * 32).decode()
SECRET = base64.b64encode(b"s" * 32).decode()
GOOD = f"""\
[Interface]
PrivateKey = {SECRET}
Address = 10.0.0.2/32
DNS = 10.0.0.1, corp.test, ~dev.test
[Peer]
PublicKey = {PUBLIC}
AllowedIPs = 10.0.0.0/24
Endpoint = vpn.test:51820
"""


def test_a_key_pair_belongs_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "keygen", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    key = X25519PrivateKey.from_private_bytes(base64.b64decode(found["private_key"]))
    assert base64.b64encode(key.public_key().public_bytes_raw()).decode() == found["public_key"]
    assert main(["tunnel", "keygen"]) == 0
    assert capsys.readouterr().out.startswith("PrivateKey = ")


def test_preshared_keys_are_each_another(capsys: pytest.CaptureFixture[str]) -> None:
    found = set()
    for _ in range(3):
        assert main(["tunnel", "keygen", "--psk"]) == 0
        word, _, key = capsys.readouterr().out.strip().partition(" = ")
        assert word == "PresharedKey"
        assert len(base64.b64decode(key)) == 32
        found.add(key)
    assert len(found) == 3


def test_a_file_is_told_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wg0.conf").write_text(GOOD)
    assert main(["tunnel", "check", "wg0.conf"]) == 0
    shown = capsys.readouterr().out
    assert f"{PUBLIC} at vpn.test:51820 for 10.0.0.0/24" in shown
    assert main(["tunnel", "check", "wg0.conf", "--json"]) == 0
    as_json = capsys.readouterr().out
    found = json.loads(as_json)
    assert (found["valid"], found["addresses"]) == (True, ["10.0.0.2/32"])
    assert (found["dns"], found["search_domains"], found["match_domains"]) == (
        ["10.0.0.1"],
        ["corp.test"],
        ["dev.test"],
    )
    assert [line for line in shown.splitlines() if "doma" in line] == [
        "search domains corp.test",
        "match domains  dev.test",
    ]
    assert SECRET not in shown + as_json


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        (GOOD.replace("Endpoint", "EndPont"), "wg0.conf:8", "unknown key 'EndPont'"),
        (GOOD.replace(SECRET, SECRET[:20]), "wg0.conf:2", "PrivateKey is not a key in base64: it has 20 characters"),
    ],
)
def test_a_mistake_is_shown_by_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    where: str,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wg0.conf").write_text(text)
    assert main(["tunnel", "check", "wg0.conf", "--json"]) == 1
    shown = capsys.readouterr().out
    found = json.loads(shown)
    assert (found["valid"], found["where"], found["reason"]) == (False, where, reason)
    assert SECRET[:20] not in shown
    assert main(["tunnel", "check", "wg0.conf"]) == 1
    assert f"{where}: {reason}" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "check", "nowhere.conf"]) == 1
    assert "there is no file nowhere.conf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "asked", "says", "hint"),
    [
        ("home.ovpn", "home.ovpn", "home.ovpn is no file of a tunnel that is known", "OpenVPN is not spoken here"),
        ("wg0.txt", "wg0.txt", "wg0.txt is no file of a tunnel that is known", "ends in .conf"),
        ("wg0.conf", "wg0", "there is no extension 'wg0'", "is it wg0.conf?"),
    ],
)
def test_what_is_no_tunnel_s_file_is_told_from_what_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    there: str,
    asked: str,
    says: str,
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(there).write_text(GOOD)
    assert main(["tunnel", "check", asked]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert hint in said


@pytest.mark.parametrize("action", ["keygen", "check", "status", "capture"])
def test_every_action_s_help_ends_with_examples_that_are_read(
    action: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tunnel", action, "--help"])
    assert ended.value.code == 0
    examples = capsys.readouterr().out.partition("examples:\n")[2]
    words = [line.split("   ")[0].split(" | ")[0].split(" && ")[0] for line in examples.splitlines()]
    from towpath.cli.parser import build

    for line in words:
        _sudo, _, rest = line.strip().partition("towpath ")
        given = rest.split(" >> ")[0].split()
        assert build(given).parse_args(given).call


def test_a_capture_without_a_tunnel_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "capture", "-w", str(tmp_path / "x.pcapng"), "--pid", "1"]) == 125
    assert "no tunnel of this user runs here" in capsys.readouterr().err
    assert not (tmp_path / "x.pcapng").exists()
