"""Bonjour beside Avahi, each way, on one segment. Needs avahi-daemon, avahi-utils and dbus."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from towpath.names import Bonjour, BonjourService
from towpath.testing import Lab, LabHost, LabPlan

PROGRAMS = ("avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon")
pytestmark = pytest.mark.skipif(
    not all(shutil.which(name) for name in PROGRAMS), reason="apt-get install avahi-daemon avahi-utils dbus"
)
ROOT = Path(__file__).resolve().parents[2]
TYPE = "_towpath-test._tcp"
BUS = """<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""
START = """set -e
mount -t tmpfs none /run
# Avahi hands its folder to its own user, whom a Lab host's user namespace has under root's number alone.
sed 's/^avahi:x:[0-9]*:[0-9]*/avahi:x:0:0/' /etc/passwd >{folder}/passwd
sed 's/^avahi:x:[0-9]*/avahi:x:0/' /etc/group >{folder}/group
for file in passwd group; do mount --bind {folder}/$file /etc/$file; done
export DBUS_SYSTEM_BUS_ADDRESS=unix:path={folder}/bus
dbus-daemon --config-file={folder}/bus.conf --nofork --print-address=1 >{folder}/address 2>/dev/null &
until [ -s {folder}/address ]; do :; done
avahi-daemon --no-drop-root --no-chroot --no-rlimits -f {folder}/avahi.conf >/dev/null 2>{folder}/log &
until grep -q 'startup complete' {folder}/log; do :; done
exec "$@"
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two hosts on a switch."""
    with LabPlan().switch("office").host("ours", on="office").host("theirs", on="office").start() as lab:
        yield lab


def with_avahi(host: LabHost, folder: Path, *command: str) -> subprocess.Popen[str]:
    """A command on the host with a bus and an Avahi of its own; ending it ends the host's processes below it."""
    (folder / "bus.conf").write_text(BUS.format(folder=folder))
    (folder / "avahi.conf").write_text("[server]\nuse-ipv6=yes\n[publish]\npublish-workstation=no\n")
    script = START.format(folder=folder)
    return host.popen(
        ["timeout", "250", "unshare", "--mount", "sh", "-c", script, "sh", *command],
        administrator=True,
        text=True,
        stdout=subprocess.PIPE,
    )


def test_avahi_finds_what_we_announce(lab: Lab, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.support.bonjour_advertiser", "Front door", "8080"]
    with lab["ours"].popen(words, text=True, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ours:
        assert ours.stdin
        assert ours.stdout
        ours.stdout.readline()
        with with_avahi(lab["theirs"], tmp_path, "avahi-browse", "-rpt", TYPE) as theirs:
            output, _ = theirs.communicate(timeout=60)
        ours.stdin.close()
    assert f";advertiser.local;{lab['ours'].address4};8080;" in output
    assert '"path=/a"' in output


def test_we_find_what_avahi_announces(lab: Lab, tmp_path: Path) -> None:
    async def scenario() -> BonjourService:
        async with Bonjour() as bonjour, aclosing(bonjour.browse(TYPE)) as changes:
            return await anext(change.service async for change in changes if change.service.name == "Printer")

    publish = ["avahi-publish", "-s", "Printer", TYPE, "631", "rp=queue"]
    with with_avahi(lab["theirs"], tmp_path, *publish) as theirs:
        found = lab["ours"].call(lambda: asyncio.run(scenario()))
        theirs.kill()
    assert (found.name, found.port, dict(found.text)) == ("Printer", 631, {"rp": b"queue"})
    assert lab["theirs"].address4 in found.addresses
