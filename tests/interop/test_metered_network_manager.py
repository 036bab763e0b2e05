"""What is metered, as a real NetworkManager says on a bus of its own. Needs network-manager and dbus."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.tunnel_lab import eventually

from towpath.testing import Lab, LabHost, LabPlan, TcpEcho

PROGRAMS = ("NetworkManager", "nmcli", "dbus-daemon")
pytestmark = pytest.mark.skipif(
    not all(shutil.which(name) for name in PROGRAMS), reason="apt-get install network-manager dbus"
)
ROOT = Path(__file__).resolve().parents[2]
BUS = """<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""
MANAGER = """[main]
plugins=keyfile
dns=none
auth-polkit=false
no-auto-default=*
[keyfile]
path=/run/connections
"""
# A /sys that cannot be written to tells NetworkManager that no udev will ever announce the devices.
BUS_START = """set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/lib/NetworkManager
mount --rbind /sys /sys
mount -o remount,ro,bind /sys
mkdir /run/NetworkManager /run/connections
dbus-daemon --config-file={folder}/bus.conf --nofork --print-address=1 >{folder}/address 2>/dev/null &
until [ -s {folder}/address ]; do :; done
echo bus
read -r go
NetworkManager --debug --config {folder}/manager.conf >{folder}/log 2>&1 &
manager=$!
until grep -q 'startup complete' {folder}/log; do :; done
nmcli connection add type ethernet ifname eth0 con-name office autoconnect no ipv6.method ignore \\
    ipv4.method manual ipv4.addresses {address} ipv4.gateway {gateway} >/dev/null
nmcli connection up office >/dev/null
echo manager
read -r stop
kill $manager
wait $manager || true
echo gone
cat
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A host that is managed, and one that answers behind a router."""
    plan = LabPlan().host("laptop").host("server", serves=[TcpEcho(port=7)])
    with plan.start() as lab:
        yield lab


@dataclass(frozen=True)
class Managed:
    """A host with a bus, whose NetworkManager comes and goes when told to."""

    host: LabHost
    control: subprocess.Popen[str]
    environment: dict[str, str]

    def say_next(self, expected: str) -> None:
        """Starts NetworkManager, then ends it."""
        assert self.control.stdin is not None
        assert self.control.stdout is not None
        self.control.stdin.write("\n")
        self.control.stdin.flush()
        assert self.control.stdout.readline() == f"{expected}\n"

    def metered(self, word: str) -> None:
        words = ["nmcli", "device", "modify", "eth0", "connection.metered", word]
        self.host.run(words, administrator=True, env=self.environment, check=True)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return self.host.popen(
            [sys.executable, "-m", *words],
            env=self.environment,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @contextmanager
    def watching(self) -> Iterator[Iterator[tuple[bool, str]]]:
        """What is said of the path, now and at each change of whatever it is."""
        with self.popen("towpath", "path", "--watch", "--json") as process:
            assert process.stdout is not None
            try:
                yield (tuple(json.loads(line)["expensive"].values()) for line in process.stdout)
            finally:
                process.kill()


@pytest.fixture
def laptop(lab: Lab, tmp_path: Path) -> Iterator[Managed]:
    host = lab["laptop"]
    (route,) = json.loads(host.run(["ip", "-j", "-4", "route", "show", "default"]).stdout)
    (link,) = json.loads(host.run(["ip", "-j", "-4", "address", "show", "dev", "eth0"]).stdout)
    address = f"{host.address4}/{link['addr_info'][0]['prefixlen']}"
    (tmp_path / "bus.conf").write_text(BUS.format(folder=tmp_path))
    (tmp_path / "manager.conf").write_text(MANAGER)
    script = BUS_START.format(folder=tmp_path, address=address, gateway=route["gateway"])
    environment = {
        **os.environ,
        "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/bus",
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    with host.popen(
        ["timeout", "250", "unshare", "--mount", "sh", "-c", script],
        administrator=True,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as control:
        assert control.stdout is not None
        assert control.stdout.readline() == "bus\n"
        try:
            yield Managed(host, control, environment)
        finally:
            control.kill()


GUESS = (False, "NetworkManager guesses that it is not metered")
YES = (True, "NetworkManager says it is metered")
NO = (False, "NetworkManager says it is not metered")
NOBODY = (False, "there is no policy file")


def test_what_network_manager_says_is_one_change_of_the_path(laptop: Managed) -> None:
    laptop.say_next("manager")
    with laptop.watching() as said:
        # Who answers later than in two seconds is not waited for, and is a change when it does.
        assert next(one for one in said if one != NOBODY) == GUESS
        for word, expected in (("yes", YES), ("no", NO), ("yes", YES)):
            laptop.metered(word)
            assert next(said) == expected


def test_a_network_manager_that_comes_and_goes_is_heard_while_it_is_there(laptop: Managed) -> None:
    with laptop.watching() as said:
        assert next(said) == NOBODY
        laptop.say_next("manager")
        laptop.metered("yes")
        assert YES in said
        laptop.say_next("gone")
        assert NOBODY in said


def test_the_policy_file_overrules_network_manager(laptop: Managed, tmp_path: Path) -> None:
    laptop.say_next("manager")
    laptop.metered("yes")
    (tmp_path / "towpath").mkdir()
    (tmp_path / "towpath" / "paths.toml").write_text("[interfaces.eth0]\nexpensive = false\n")
    with laptop.watching() as said:
        assert next(said) == (False, f"{tmp_path}/towpath/paths.toml says so of eth0")


def test_the_interface_is_shown_as_metered(laptop: Managed) -> None:
    laptop.say_next("manager")
    laptop.metered("yes")

    def shown() -> object:
        with laptop.popen("towpath", "interfaces", "--json") as process:
            output, _ = process.communicate()
        return {found["name"]: found["metered"] for found in json.loads(output)}["eth0"]

    assert eventually(shown) == "yes", "on a busy machine its answer may come too late, and then nothing is known"


@contextmanager
def connecting(laptop: Managed, where: str) -> Iterator[Iterator[str]]:
    """The states of a connection that may not cost anything."""
    with laptop.popen("tests.support.connection_programs", "once", where, "", "cheap") as process:
        assert process.stdout is not None
        yield (line.split()[1] for line in process.stdout if line.startswith("state"))
        process.communicate()


def test_c5_a_connection_waits_while_its_path_is_metered_and_goes_on_by_itself(lab: Lab, laptop: Managed) -> None:
    laptop.say_next("manager")
    laptop.metered("yes")
    for _ in range(8):  # where NetworkManager answers too late nothing is known, and the connection is made
        with connecting(laptop, f"{lab['server'].address4}:7") as states:
            first = [next(states), next(states)]
            if first == ["preparing", "waiting"]:
                laptop.metered("no")
                assert [next(states), next(states)] == ["preparing", "ready"]
                return
    raise AssertionError(first)
