"""WireGuard's handshake is the Noise framework's, with its own prologue, label and messages."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from tests.support.plain_noise import Handshake, public_of

from towpath.errors import PeerViolation
from towpath.extensions.wireguard.cookies import CookieJar, CookieMaker, hchacha20
from towpath.extensions.wireguard.noise import Initiator, PrivateKey, hash_of, read_initiation, tai64n

VECTORS = os.environ.get("TOWPATH_NOISE_VECTORS")
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
HERE, THERE = bytes(range(1, 33)), bytes(range(33, 65))
FIRST, SECOND, PRESHARED = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32
STAMP = tai64n(1_700_000_000.25)


@pytest.mark.skipif(VECTORS is None, reason="TOWPATH_NOISE_VECTORS names no file of Noise test vectors")
def test_the_judge_passes_published_vectors() -> None:
    vectors = json.loads(Path(VECTORS or "").read_text())
    (vector,) = [one for one in vectors if one["protocol_name"] == "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]
    raw = {key: bytes.fromhex(value) for key, value in vector.items() if isinstance(value, str) and key[4] == "_"}
    psk = bytes.fromhex(vector["init_psks"][0])
    here = Handshake(
        True, raw["init_prologue"], psk, raw["init_static"], raw["init_ephemeral"], raw["init_remote_static"]
    )
    there = Handshake(False, raw["resp_prologue"], psk, raw["resp_static"], raw["resp_ephemeral"])
    first, second = vector["messages"][:2]
    sealed = here.write_first(bytes.fromhex(first["payload"]))
    assert sealed.hex() == first["ciphertext"]
    assert there.read_first(sealed).hex() == first["payload"]
    assert there.write_second(bytes.fromhex(second["payload"])).hex() == second["ciphertext"]


def test_both_messages_and_keys_are_those_of_the_framework() -> None:
    own, peer = PrivateKey(HERE), PrivateKey(THERE)
    judge = Handshake(True, IDENTIFIER, PRESHARED, HERE, FIRST, public_of(THERE))
    other = Handshake(False, IDENTIFIER, PRESHARED, THERE, SECOND)

    here = Initiator(own, peer.public, PRESHARED, 7, STAMP, PrivateKey(FIRST))
    assert here.message == struct.pack("<II", 1, 7) + judge.write_first(STAMP)

    there = read_initiation(peer, here.message + bytes(32))
    other.read_first(here.message[8:])
    assert (there.peer, there.peer_index, there.timestamp) == (own.public, 7, STAMP)
    response, send, receive = there.respond(9, PRESHARED, PrivateKey(SECOND))
    assert response == struct.pack("<III", 2, 9, 7) + other.write_second(b"")
    assert [receive, send] == other.split()
    assert here.finish(response + bytes(32)) == (9, receive, send)


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("noise-authentication", lambda m: m[:50] + bytes([m[50] ^ 1]) + m[51:]),
        ("noise-authentication", lambda m: m[:100] + bytes([m[100] ^ 1]) + m[101:]),
        ("noise-key", lambda m: m[:8] + bytes(32) + m[40:]),
        ("noise-length", lambda m: m[:-1]),
        ("noise-type", lambda m: b"\2" + m[1:]),
    ],
)
def test_an_initiation_that_was_touched_is_refused(what: str, damage: object) -> None:
    peer = PrivateKey(THERE)
    message = Initiator(PrivateKey(HERE), peer.public, PRESHARED, 7, STAMP).message + bytes(32)
    with pytest.raises(PeerViolation, match=what):
        read_initiation(peer, damage(message))  # type: ignore[operator]


def test_another_preshared_key_gives_no_session_and_a_right_answer_still_may() -> None:
    own, peer = PrivateKey(HERE), PrivateKey(THERE)
    here = Initiator(own, peer.public, PRESHARED, 7, STAMP)
    wrong = read_initiation(peer, here.message + bytes(32)).respond(9, bytes(32))[0]
    right = read_initiation(peer, here.message + bytes(32)).respond(10, PRESHARED)[0]
    with pytest.raises(PeerViolation, match="noise-authentication"):
        here.finish(wrong + bytes(32))
    assert here.finish(right + bytes(32))[0] == 10


def test_times_of_initiations_rise_with_time() -> None:
    times = [tai64n(second) for second in (0, 1, 1.000002, 1_700_000_000, 1_700_000_000.5)]
    assert times == sorted(set(times))
    assert tai64n(0).hex() == "400000000000000a00000000", "TAI was 10 s ahead in 1970"


def test_hchacha20_is_as_its_draft_has_it() -> None:
    """draft-irtf-cfrg-xchacha-03 section 2.2.1."""
    derived = hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927"))
    assert derived.hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


def test_blake2s_is_as_its_rfc_has_it() -> None:
    """RFC 7693 appendix B."""
    assert hash_of(b"a", b"bc").hex() == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"


def test_a_cookie_opens_the_door_to_its_address_for_a_while() -> None:
    server = PrivateKey(THERE)
    jar, maker = CookieJar(server.public), CookieMaker(server.public)
    message = jar.close(b"\1\0\0\0\7\0\0\0" + bytes(108), 0.0)
    assert maker.knows_us(message)
    assert not maker.knows_us(CookieJar(PrivateKey(HERE).public).close(message[:-32], 0.0))
    assert not maker.is_reachable(message, b"here", 0.0)
    jar.take(maker.reply(message, b"here", 0.0), 0.0)
    again = jar.close(message[:-32], 1.0)
    assert maker.is_reachable(again, b"here", 1.0)
    assert not maker.is_reachable(again, b"elsewhere", 1.0)
    assert not maker.is_reachable(again, b"here", 121.0), "the secret has changed"
    assert jar.close(message[:-32], 200.0)[-16:] == bytes(16), "an old cookie is not shown any more"


def test_a_cookie_that_nobody_asked_for_is_refused() -> None:
    server = PrivateKey(THERE)
    jar, maker = CookieJar(server.public), CookieMaker(server.public)
    message = jar.close(bytes(116), 0.0)
    reply = maker.reply(message, b"here", 0.0)
    with pytest.raises(PeerViolation, match="cookie-authentication"):
        jar.take(reply[:-1] + bytes([reply[-1] ^ 1]), 0.0)
    jar.take(reply, 0.0)
    with pytest.raises(PeerViolation, match="cookie-unasked"):
        jar.take(reply, 0.0)
