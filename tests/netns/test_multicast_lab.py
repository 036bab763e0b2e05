"""Multicast groups between hosts on one segment: real packets, both families."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towpath.connection import MulticastGroup, Parameters
from towpath.errors import ConnectionFailed, Misuse
from towpath.path import PathRequirements
from towpath.testing import Lab, LabHost, LabPlan

GROUPS = ["239.255.7.7:5007", "[ff02::7007]:5007"]
ROOT = Path(__file__).resolve().parents[2]
PLAN = LabPlan().switch("office").host("one", on="office").host("two", on="office")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two hosts on a switch."""
    with PLAN.start() as lab:
        yield lab


@contextlib.contextmanager
def answering(host: LabHost, group: str) -> Iterator[None]:
    """A process on the host that is a member, and replies to each message."""
    command = [sys.executable, "-m", "tests.support.multicast_member", group]
    with host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "joined\n"
        yield
        process.stdin.close()
        assert process.wait(60) == 0


async def ask(group: str) -> tuple[str, bytes]:
    async with asyncio.timeout(60), MulticastGroup(group) as member:
        while True:
            # The switch may still be learning who listens: what is lost is asked again.
            await member.send(b"who is there?")
            try:
                async with asyncio.timeout(0.5):
                    message = await member.receive()
                    while not message.content.startswith(b"me"):
                        message = await member.receive()
                    return str(message.sender.address).partition("%")[0], message.content
            except TimeoutError:
                continue


@pytest.mark.parametrize("group", GROUPS)
def test_a_message_reaches_the_members_and_each_can_reply(lab: Lab, group: str) -> None:
    with answering(lab["one"], group):
        sender, content = lab["two"].call(lambda: asyncio.run(ask(group)))
    assert content == b"me: who is there?"
    assert sender == lab["one"].address4 if "." in group else sender.startswith("fe80") or ":" in sender


def test_only_allowed_interfaces_are_joined(lab: Lab) -> None:
    async def scenario() -> tuple[tuple[str, ...], str]:
        async with MulticastGroup(GROUPS[0]) as member:
            (used,) = member.interfaces
        prohibited = Parameters.udp().but(path=PathRequirements(prohibited_interfaces=frozenset({used})))
        try:
            MulticastGroup(GROUPS[0], prohibited).start()
        except ConnectionFailed as error:
            return member.interfaces, str(error)
        return member.interfaces, ""

    joined, words = lab["two"].call(lambda: asyncio.run(scenario()))
    assert len(joined) == 1
    assert "no interface" in words


@pytest.mark.parametrize("endpoint", ["192.0.2.1:5007", "[2001:db8::1]:1", "news.example:1"])
def test_what_is_no_group_is_misuse(endpoint: str) -> None:
    with pytest.raises(Misuse, match="no multicast group"):
        MulticastGroup(endpoint)
