"""Every server of the test PKI, asked as the command asks, is refused by its rule and says what to do."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from towpath.cli.trust import Question
from towpath.testing.pki import Pki
from towpath.testing.pki_servers import servers
from towpath.trust import Anchors, Evidence, Policy

# What only a whole chain on disk, another anchor or a list can show.
NEEDS_MORE = {"revoked", "unusable-revocation-list", "must-staple"}


def test_every_broken_server_is_refused_by_its_own_rule_and_the_good_one_accepted(tmp_path: Path) -> None:
    pki = Pki()
    pki.write(tmp_path)

    async def ask_all() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, problem: None)
        async with servers(pki, tmp_path) as found:
            for server in found:
                broken = None if server.name == "good" else pki.broken(server.name)
                root = (broken.anchor if broken else None) or pki.root.certificate
                question = Question(
                    Policy.named(broken.policy if broken else "apple"),
                    pki.at,
                    Anchors.of(root),
                    Evidence(),
                    server.reference,
                    None,
                    10.0,
                )
                if server.name in NEEDS_MORE or (broken is not None and broken.anchor is not None):
                    continue
                result = await question.ask(f"127.0.0.1:{server.port}")
                if broken is None:
                    assert result.accepted, result.failures
                    continue
                assert result.failure is not None, server.name
                assert result.failure.id == broken.rule, server.name
                assert result.failure.hint, server.name

    asyncio.run(ask_all())


def test_the_lab_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; from towpath.cli import main; sys.exit(main())"]
    lab = subprocess.Popen(
        [*words, "trust", "lab", str(tmp_path), "--serve", "127.0.0.1"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert lab.stdout is not None
    places: dict[str, str] = {}
    for line in lab.stdout:
        if line.startswith("ask with:"):
            break
        match = re.match(r"(\S+:\d+)\t(\S+)\t", line)
        if match:
            places[match[2]] = match[1]
    ask = [*words, "trust", "--anchors", str(tmp_path / "root.pem"), "--name", "www.example.com"]
    assert subprocess.run([*ask, places["good"]], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*ask, places["expired"]], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "the server must renew it" in refused.stdout
    lab.send_signal(signal.SIGINT)
    assert lab.wait(60) == 130
    lab.stdout.close()
