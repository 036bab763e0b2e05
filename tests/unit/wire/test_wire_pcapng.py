"""Capture files, judged by tshark."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from towpath.wire import pcapng

UDP = bytes.fromhex("4500001d00000000401100007f000001c0000207") + struct.pack(">HHHH", 5353, 9000, 9, 0) + b"x"


def layers(file: Path, *options: str) -> list[dict[str, Any]]:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed (make peers)")
    done = subprocess.run(
        ["tshark", "-r", str(file), "-T", "json", "--no-duplicate-keys", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def test_tshark_shows_packets_with_their_time_comments_and_names(tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    file.write_bytes(
        pcapng.section("towpath 0.1", "a run")
        + pcapng.interface(pcapng.RAW_IP, "run", "inside of the run")
        + pcapng.names({"192.0.2.7": ["good.test", "other.test"], "2001:db8::1": ["six.test"], "no address": ["x"]})
        + pcapng.packet(1_795_867_030_123_456_789, UDP, comments=("flow 1", "allow good.test"), direction="out")
        + pcapng.packet(1_795_867_031_000_000_000, UDP[:20], length=60)
    )
    first, second = layers(file, "-N", "n")
    assert first["frame"]["frame.time_epoch"] == "1795867030.123456789"
    assert first["frame"]["frame.packet_flags"] == "0x00000002"
    assert first["pkt_comment"]["frame.comment"] == ["flow 1", "allow good.test"]
    assert first["ip"]["ip.dst_host"] == "good.test"
    assert (second["frame"]["frame.len"], second["frame"]["frame.cap_len"]) == ("60", "20")


@pytest.mark.parametrize("length", range(9))
def test_blocks_are_whole_words_with_their_length_at_both_ends(length: int) -> None:
    text = "x" * length
    for block in (
        pcapng.section(text, text),
        pcapng.interface(pcapng.ETHERNET, text),
        pcapng.packet(0, text.encode(), comments=(text,)),
        pcapng.names({"192.0.2.1": [text]}),
        pcapng.tls_secrets(text.encode()),
    ):
        assert len(block) % 4 == 0
        assert struct.unpack_from("<I", block, 4)[0] == struct.unpack("<I", block[-4:])[0] == len(block)
