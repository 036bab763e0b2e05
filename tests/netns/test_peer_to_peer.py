"""A Bonjour service is announced, found by its name, and talked to in private: the game of turns, and its parts."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towpath.connection import Connection, Listener, Parameters
from towpath.errors import ConnectionFailed
from towpath.names import BonjourService
from towpath.protocols import Lines
from towpath.testing import Lab, LabHost, LabPlan

ROOT = Path(__file__).resolve().parents[2]
PLAN = LabPlan().switch("office").host("one", on="office").host("two", on="office")
TYPE = "_towpath-lines._tcp"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two hosts on a switch."""
    with PLAN.start() as lab:
        yield lab


def player(host: LabHost, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.turns", *words]
    return host.popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


def game(lab: Lab, keys: tuple[Path, Path], moves: tuple[str, str]) -> tuple[list[str], list[str]]:
    """What each player reads: the one who hosts, and the one who joins."""
    with player(lab["one"], "host", str(keys[0])) as hosting:
        assert hosting.stdin is not None
        assert hosting.stdout is not None
        hosting.stdin.write(moves[0])
        hosting.stdin.close()
        waiting = hosting.stdout.readline()
        assert waiting.startswith("waiting as"), waiting
        with player(lab["two"], "join", str(keys[1])) as joining:
            theirs, _ = joining.communicate(moves[1], timeout=120)
        ours = hosting.stdout.read()
        hosting.wait(60)
    return ours.splitlines(), theirs.splitlines()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "game.key"
    path.write_text(secrets.token_hex(32))
    return path


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        ("1\n2\n3\n", "4\n5\n", ("you lose", "you win")),
        ("1\n2\n2\nx\n6\n7\n9\n", "5\n3\n4\n8\n", ("a draw", "a draw")),
        ("1\n", "5\n", ("the other resigns", "you resign")),
    ],
    ids=["won", "drawn, with slips", "resigned"],
)
def test_two_machines_play_a_game_to_its_end(
    lab: Lab, key: Path, first: str, second: str, ends: tuple[str, str]
) -> None:
    ours, theirs = game(lab, (key, key), (second, first))
    assert (ours[-1], theirs[-1]) == ends
    assert "you are O" in ours
    assert "you are X" in theirs


def test_who_has_another_key_does_not_play(lab: Lab, key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_text(secrets.token_hex(32))
    ours, theirs = game(lab, (key, other), ("", ""))
    assert "shared key" in ours[-1]
    assert "shared key" in theirs[-1]


def test_a_listener_says_goodbye_and_nobody_is_found_any_more(lab: Lab) -> None:
    async def scenario() -> list[object]:
        found: list[object] = []
        parameters = Parameters.tcp(framers=[Lines()])
        async with Listener("0.0.0.0:0", parameters, advertise=BonjourService("Lines. Here", TYPE)) as listener:
            service = await listener.advertised()
            serving = asyncio.create_task(listener.serve(echo))
            async with Connection(f"bonjour:Lines\\. Here.{TYPE}.local", parameters) as connection:
                await connection.send(b"found")
                found.append((await connection.receive_message()).content)
                (resolution,) = connection.report.resolutions
                found += [resolution.source, service.name, service.port == listener.local.port]  # type: ignore[union-attr]
            listener.cancel()
            await serving
        connection = Connection(f"bonjour:Lines\\. Here.{TYPE}.local", parameters)
        try:
            await connection.ready()
        except ConnectionFailed as error:
            found.append(str(error))
        connection.cancel()
        return found

    async def echo(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    *talked, words = lab["one"].call(lambda: asyncio.run(scenario()))
    assert talked == [b"found", "mdns", "Lines. Here", True]
    assert "nobody announces it" in str(words)
