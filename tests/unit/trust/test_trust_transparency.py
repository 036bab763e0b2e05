"""Certificate Transparency: whose timestamps count, how many are enough, and that signatures are checked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.trust.ct_logs import OwnLog, delivered, log_list, logged, stapled

from towpath.errors import ConfigInvalid, PeerViolation
from towpath.testing.pki import Identity, Pki, Recipe
from towpath.trust import Anchors, Evidence, Finding, LogList, Policy, Verdict, evaluate, transparency

HOST = "www.example.com"
DAY = timedelta(days=1)
SHORT, LONG = 90 * DAY, 190 * DAY
LOGS = {
    "a1": OwnLog("a1", "A"),
    "a2": OwnLog("a2", "A"),
    "a3": OwnLog("a3", "A"),
    "b1": OwnLog("b1", "B"),
    "c1": OwnLog("c1", "C"),
    "tiled-b": OwnLog("tiled-b", "B", tiled=True),
    "tiled-c": OwnLog("tiled-c", "C", tiled=True),
    "retired-b": OwnLog("retired-b", "B", state="retired", since="2126-01-01T00:00:00Z"),
    "long-retired-b": OwnLog("long-retired-b", "B", state="retired", since="2020-01-01T00:00:00Z"),
    "rejected-b": OwnLog("rejected-b", "B", state="rejected"),
    "pending-b": OwnLog("pending-b", "B", state="pending"),
}
UNLISTED = OwnLog("unlisted", "U")


def judge(pki: Pki, leaf: Identity, *, scts: bytes | None = None, public: bool = True, logs: bool = True) -> Finding:
    evidence = Evidence(scts=scts, logs=LogList.parse(log_list(*LOGS.values())) if logs else None)
    anchors = Anchors.of(pki.root.certificate, public=public)
    return evaluate(leaf.chain, HOST, Policy.apple, pki.at, anchors, evidence=evidence)["apple.transparency"]


@pytest.mark.parametrize(
    ("lasts", "names", "enough"),
    [
        (SHORT, ["a1", "b1"], True),
        (SHORT, ["a1"], False),
        (SHORT, ["a1", "a2"], False),
        (SHORT, ["a1", "a1"], False),
        (SHORT, [], False),
        (180 * DAY, ["a1", "b1"], True),
        (180 * DAY + timedelta(seconds=1), ["a1", "b1"], False),
        (LONG, ["a1", "a2", "b1"], True),
        (LONG, ["a1", "a2", "a3"], False),
        (LONG, ["a1", "b1", "c1"], True),
        (LONG, ["a1", "b1"], False),
        (SHORT, ["a1", "tiled-b"], True),
        (SHORT, ["tiled-b", "tiled-c"], False),
        (SHORT, ["a1", "retired-b"], True),
        (SHORT, ["a1", "long-retired-b"], False),
        (SHORT, ["a1", "rejected-b"], False),
        (SHORT, ["a1", "pending-b"], False),
    ],
)
def test_embedded_timestamps_count_by_lifetime_operator_and_state(
    lasts: timedelta, names: list[str], enough: bool
) -> None:
    pki = Pki()
    leaf = logged(pki.intermediate, Recipe(names=(HOST,), lasts=lasts), [LOGS[name] for name in names])
    finding = judge(pki, leaf)
    assert (finding.verdict is Verdict.PASS) is enough, finding.observed


def test_a_timestamp_that_the_log_did_not_sign_does_not_count(pki: Pki) -> None:
    leaf = logged(pki.intermediate, Recipe(names=(HOST,)), [LOGS["a1"], LOGS["b1"]], forged=True)
    finding = judge(pki, leaf)
    assert finding.verdict is Verdict.FAIL
    assert "does not verify" in finding.observed


def test_timestamps_from_the_future_and_of_unknown_logs_do_not_count(pki: Pki) -> None:
    future = logged(pki.intermediate, Recipe(names=(HOST,)), [LOGS["a1"], LOGS["b1"]], after=DAY)
    assert "future" in judge(pki, future).observed
    unknown = logged(pki.intermediate, Recipe(names=(HOST,)), [LOGS["a1"], UNLISTED])
    assert "not listed" in judge(pki, unknown).observed


def test_logs_that_were_approved_when_they_signed_count_beside_one_that_is_approved_now(pki: Pki) -> None:
    retired = (pki.at - 5 * DAY).isoformat()
    then = {name: OwnLog(name, name, state="retired", since=retired) for name in ("x", "y")}
    logs = LogList.parse(log_list(*then.values(), *LOGS.values()))
    anchors = Anchors.of(pki.root.certificate, public=True)
    for names, verdict in ((["x", "y"], Verdict.FAIL), (["x", "a1"], Verdict.PASS)):
        recipe = Recipe(names=(HOST,), starts=-11 * DAY)
        leaf = logged(pki.intermediate, recipe, [{**LOGS, **then}[name] for name in names], after=-10 * DAY)
        result = evaluate(leaf.chain, HOST, Policy.apple, pki.at, anchors, evidence=Evidence(logs=logs))
        finding = result["apple.transparency"]
        assert finding.verdict is verdict
        assert (verdict is Verdict.PASS) or "approved now" in finding.observed


@pytest.mark.parametrize(("months", "needed"), [(13, 2), (16, 3), (28, 4), (40, 5)])
def test_certificates_from_before_april_2021_need_more_the_longer_they_live(months: int, needed: int) -> None:
    pki = Pki(datetime(2021, 4, 1, tzinfo=UTC))
    logs = [OwnLog(f"log {number}", f"operator {number}") for number in range(5)]
    anchors = Anchors.of(pki.root.certificate, public=True)
    evidence = Evidence(logs=LogList.parse(log_list(*logs)))
    recipe = Recipe(names=(HOST,), lasts=months * 30.5 * DAY)
    for count, verdict in ((needed - 1, Verdict.FAIL), (needed, Verdict.PASS)):
        leaf = logged(pki.intermediate, recipe, logs[:count])
        result = evaluate(leaf.chain, HOST, Policy.apple, pki.at, anchors, evidence=evidence)
        assert result["apple.transparency"].verdict is verdict


def test_two_timestamps_in_the_tls_extension_are_enough(pki: Pki) -> None:
    leaf = pki.good(HOST)
    assert judge(pki, leaf, scts=delivered(leaf, [LOGS["a1"], LOGS["b1"]], pki.at)).verdict is Verdict.PASS
    assert judge(pki, leaf, scts=delivered(leaf, [LOGS["a1"]], pki.at)).verdict is Verdict.FAIL
    other = pki.good("other.example.com")
    assert judge(pki, leaf, scts=delivered(other, [LOGS["a1"], LOGS["b1"]], pki.at)).verdict is Verdict.FAIL


def test_timestamps_in_the_stapled_response_count_like_those_of_the_extension(pki: Pki) -> None:
    leaf = pki.good(HOST)
    plain = pki.intermediate.staple(leaf.certificate)
    anchors = Anchors.of(pki.root.certificate, public=True)
    for names, verdict in ((["a1", "b1"], Verdict.PASS), (["a1"], Verdict.FAIL), (["a1", "rejected-b"], Verdict.FAIL)):
        scts = delivered(leaf, [LOGS[name] for name in names], pki.at)
        evidence = Evidence(staple=stapled(plain, pki.intermediate, scts), logs=LogList.parse(log_list(*LOGS.values())))
        result = evaluate(leaf.chain, HOST, Policy.apple, pki.at, anchors, evidence=evidence)
        assert result["x509.staple"].verdict is Verdict.PASS, result["x509.staple"].observed
        assert result["apple.transparency"].verdict is verdict, result["apple.transparency"].observed


def test_private_authorities_need_no_logs_and_public_ones_cannot_be_checked_without_a_list(pki: Pki) -> None:
    assert judge(pki, pki.good(HOST), public=False).verdict is Verdict.NOT_APPLICABLE
    assert judge(pki, pki.good(HOST), logs=False).verdict is Verdict.NOT_CHECKED


def test_a_broken_list_of_timestamps_is_a_failure(pki: Pki) -> None:
    assert judge(pki, pki.good(HOST), scts=b"\x00\x05rubbish").verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x00\x01", b"\x00\x02\x00\x00", b"\x00\x03\x00\x01\x00", b"\x00\x00\x00", b"\xff" * 70_000]
)
def test_what_is_no_list_of_timestamps_is_a_violation(data: bytes) -> None:
    with pytest.raises(PeerViolation):
        transparency.parse_list(data)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"operators": 3}',
        b'{"operators": [{"name": "A", "logs": [{}]}]}',
        log_list(OwnLog("x", "A", since="2020-01-01T00:00:00")),
        log_list(OwnLog("x", "A")).replace(b'"log_id": "', b'"log_id": "AAAA'),
    ],
)
def test_what_is_no_log_list_is_refused_with_its_place(text: bytes) -> None:
    with pytest.raises(ConfigInvalid, match=r"log_list\.json"):
        LogList.parse(text, "log_list.json")
