"""A filter on a router of a Lab, in a process of its own there, as a test drives it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from towpath.kernel import system
from towpath.testing import Lab

__all__ = ["HostFilterProcess", "on_node", "until"]

_PROGRAM = str(Path(__file__).with_name("host_filter_program.py"))
_PATIENCE = 60.0


def on_node(lab: Lab, node: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """A command on a node, as its administrator; routers are nodes without being hosts."""
    handle = lab.world.handle(node)
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: system.hosts.enter(handle, administrator=True),
        **options,
    )


def until(happened: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Looks again and again, for what no event tells of."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s: {what}"
        time.sleep(0.01)


class HostFilterProcess:
    """`order` gives a number whose outcome `outcome` waits for; `do` is both. `said` is what filters said so far."""

    def __init__(self, lab: Lab, node: str, filters: Sequence[str], on_failure: str = "pass", **settings: Any) -> None:
        self._lab = lab
        self._node = node
        words = json.dumps({"filters": list(filters), "on_failure": on_failure, **settings})
        self.process = on_node(lab, node, [sys.executable, "-u", _PROGRAM, words], stdin=subprocess.PIPE)
        self.lines: list[str] = []
        self._orders = 0
        self._outcomes: dict[int, queue.Queue[dict[str, Any]]] = {}
        self.outcomes = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            fact = json.loads(line)
            if "said" in fact:
                self.lines.append(fact["said"])
            else:
                self.outcomes += 1
                self._outcomes[fact["number"]].put(fact)

    def order(self, do: str, **more: str) -> int:
        self._orders += 1
        self._outcomes[self._orders] = queue.Queue()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"number": self._orders, "do": do, **more}) + "\n")
        self.process.stdin.flush()
        return self._orders

    def outcome(self, number: int) -> dict[str, Any]:
        try:
            return self._outcomes[number].get(timeout=_PATIENCE)
        except queue.Empty:
            assert self.process.stderr is not None
            self.process.kill()
            raise AssertionError(f"no outcome; {self.lines} {self.process.stderr.read()}") from None

    def do(self, do: str, **more: str) -> float:
        """Gives the seconds it took; fails when it did not succeed."""
        found = self.outcome(self.order(do, **more))
        assert found["error"] is None, f"{found['error']} {self.lines}"
        return float(found["seconds"])

    @property
    def said(self) -> list[dict[str, Any]]:
        """What filters have said through `say` until now, in order."""
        if self.process.poll() is None:
            self.outcome(self.order("mark"))
        return [json.loads(line.partition("said ")[2]) for line in self.lines if "said {" in line]

    def until_said(self, enough: Callable[[list[dict[str, Any]]], bool], what: str) -> list[dict[str, Any]]:
        until(lambda: enough(self.said), f"{what}; said: {self.lines}")
        return self.said

    def tables(self) -> str:
        """`nft list ruleset` on the node."""
        with on_node(self._lab, self._node, ["nft", "list", "ruleset"]) as listing:
            return listing.communicate()[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def pids(self) -> list[int]:
        """The filter's process, its zygote and its workers, as this process sees them."""
        found, shadow = [], self.process.pid
        waiting = [shadow]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                        waiting += [int(word) for word in children.read().split()]
            except FileNotFoundError:
                continue
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> HostFilterProcess:
        self.do("start")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for end in (self.process.stdin, self.process.stdout, self.process.stderr):
            if end is not None:
                try:
                    end.close()
                except BrokenPipeError:
                    pass
