"""What stands in the way of a flow while a party works: nothing, connection tracking, our filter, OpenSnitch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import program
from benchmarks.rounds import Absent
from benchmarks.world import Arena
from towpath.kernel import system

__all__ = ["conntrack_only", "nothing", "open_snitch", "our_filter"]

_PROGRAMS = Path(__file__).with_name("programs")
_PATIENCE = 20.0
_TRACKING = """
table inet tracking {{
    chain judge {{
        type filter hook {hook} priority 10; policy accept;
        ct state established,related accept
        ct state new accept
    }}
}}
"""


def _popen(place: Arena, node: str, command: Sequence[str]) -> subprocess.Popen[str]:
    handle = place.lab.world.handle(node)
    return subprocess.Popen(
        command,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: system.hosts.enter(handle, administrator=True),
    )


def _nft(place: Arena, node: str, text: str) -> None:
    with _popen(place, node, [program("nft", "nftables"), "-f", "-"]) as process:
        _, errors = process.communicate(text)
        if process.returncode:
            raise Absent(f"nft: {errors.strip()[-200:]}")


@contextmanager
def nothing(_place: Arena, _node: str, _hook: str) -> Iterator[None]:
    """Packets are routed and no more."""
    yield


@contextmanager
def conntrack_only(place: Arena, node: str, hook: str) -> Iterator[None]:
    """Two rules that need connection tracking, which any filter that decides once per flow needs."""
    _nft(place, node, _TRACKING.format(hook=hook))
    try:
        yield
    finally:
        _nft(place, node, "delete table inet tracking")


@contextmanager
def our_filter(place: Arena, node: str, hook: str) -> Iterator[None]:
    """A provider in its isolated worker that allows every flow."""
    command = [sys.executable, str(_PROGRAMS / "host_filter.py"), hook, str(_PROGRAMS / "allowing_filter.py")]
    with _popen(place, node, command) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            _, errors = process.communicate()
            raise Absent(f"the filter did not start: {errors.strip()[-200:]}")
        yield
        process.communicate()


@contextmanager
def open_snitch(place: Arena, node: str, _hook: str) -> Iterator[None]:
    """OpenSnitch's daemon without its window: allow by default, processes found in /proc. It filters output only."""
    folder = Path(place.folder, "opensnitch")
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    configuration = {
        "Server": {"Address": f"unix://{folder}/absent.sock", "LogFile": str(folder / "log")},
        "DefaultAction": "allow", "DefaultDuration": "once", "InterceptUnknown": False, "ProcMonitorMethod": "proc",
        "LogLevel": 4, "Firewall": "iptables", "Stats": {"MaxEvents": 10, "MaxStats": 10},
    }  # fmt: skip
    (folder / "default-config.json").write_text(json.dumps(configuration))
    daemon = program("opensnitchd", "opensnitch")
    options = f"-rules-path {folder}/rules -process-monitor-method proc -log-file {folder}/log"
    # It reads its settings from one place only; a file system of its own puts ours there.
    script = f"mount --bind {folder} /etc/opensnitchd && exec {daemon} {options}"
    with _popen(place, node, ["unshare", "-m", "sh", "-c", script]) as process:
        try:
            _await_queue(place, node, process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_queue(place: Arena, node: str, daemon: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise Absent(f"opensnitchd ended: {''.join(daemon.communicate())[-200:]}")
        with _popen(place, node, [program("nft", "nftables"), "list", "ruleset"]) as listing:
            if "queue" in listing.communicate()[0].lower():
                return
        time.sleep(0.1)
    raise Absent("opensnitchd made no rule that queues packets")
