"""A run as others may watch it: its flows as lines of JSON over a socket, and rules that come back (`towpath top`).

The manager draws nothing. A viewer is another process of the same user, which the command cannot be: the socket is in
the network namespace outside of the run. Without a viewer nothing is looked up, remembered or sent.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from towpath.errors import ConfigInvalid, Misuse
from towpath.hosting.loop import IN, OUT, Loop
from towpath.kernel.system import run_sockets
from towpath.policy.rule import Rule, parse_rule, readable_slots
from towpath.sandbox.report import as_record

if TYPE_CHECKING:
    from towpath.sandbox.flows import Flow
    from towpath.sandbox.report import Ledger
    from towpath.sandbox.services import Services

__all__ = ["Watched"]

_TICK = 0.5
_MOST_VIEWERS = 8
_MOST_WAITING = 4 << 20
"""Bytes that a viewer may leave unread before it is let go."""
_LONGEST_LINE = 4096
_LAST_PATIENCE = 0.2
_MOST_EARLY = 4096
"""Lines that are kept for the first viewer."""
_SIGNALS = {"interrupt": 2}


class _Viewer:
    __slots__ = ("heard", "names", "socket", "unsent")

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.heard = b""
        self.names = False
        self.unsent = b""


class Watched:
    """Serves viewers of one run. An observer of the ledger once the first has come, or from the `start`."""

    def __init__(self, loop: Loop, ledger: Ledger, services: Services, command: list[str], *, quic: bool) -> None:
        self._loop = loop
        self._ledger = ledger
        self._services = services
        self._quic = quic
        self._command = command
        self._started = time.time()
        self._viewers: dict[int, _Viewer] = {}
        self._observing = False
        self._early: deque[bytes] = deque(maxlen=_MOST_EARLY)
        self._ticking = False
        self.followed: Callable[[], None] = lambda: None
        """Called whenever a viewer begins to follow."""
        self.send_signal: Callable[[int], None] = lambda _number: None
        try:
            self._listener: socket.socket | None = run_sockets.listen()
        except OSError as error:
            self._listener = None
            ledger.say("info", f"this run cannot be watched: {error.strerror}")
            return
        loop.watch(self._listener.fileno(), IN, lambda _events: self._accept(self._listener))

    @property
    def has_viewers(self) -> bool:
        """Whether somebody follows."""
        return self._ticking

    def start(self) -> None:
        """Remembers flows from now on: a viewer is coming."""
        if not self._observing:
            self._observing = True
            self._ledger.observe(self)

    def _accept(self, listener: socket.socket | None) -> None:
        made = run_sockets.accept(listener) if listener is not None else None
        if made is None:
            return
        if len(self._viewers) >= _MOST_VIEWERS:
            made.close()
            return
        viewer = self._viewers[made.fileno()] = _Viewer(made)
        self._loop.watch(made.fileno(), IN, lambda events: self._ready(viewer, events))
        self._send(viewer, self._hello())

    def _hello(self) -> dict[str, Any]:
        policy = self._services.policy
        return {
            "type": "hello",
            "pid": os.getpid(),
            "command": self._command,
            "started": self._started,
            "rules": [rule.shown for rule in policy.rules],
            "default": policy.default,
        }

    def _follow(self, viewer: _Viewer) -> None:
        """Tells of what is under way; of all else from now on. The first viewer is told of what it missed."""
        self.start()
        while self._early:
            self._push(viewer, self._early.popleft())
        for flow, sent, received, _rtt in self._services.under_way():
            self._ledger.find_owner(flow)
            self._send(viewer, _record(flow) | {"sent": sent, "received": received})
        if not self._ticking:
            self._ticking = True
            self._loop.later(_TICK, self._tick)
        self.followed()

    def _follow_names(self, viewer: _Viewer) -> None:
        """Counts the names that are asked for as long as somebody follows them."""
        if not any(one.names for one in self._viewers.values()):
            self._services.watch_names(True)
            self._loop.later(_TICK, self._tick_names)
        viewer.names = True

    def _tick_names(self) -> None:
        following = [viewer for viewer in self._viewers.values() if viewer.names]
        if not following:
            self._services.watch_names(False)
            return
        message = {"type": "names", "time": time.time(), **self._services.names()}
        for viewer in following:
            self._send(viewer, message)
        self._loop.later(_TICK, self._tick_names)

    # What the ledger tells.

    def opened(self, flow: Flow) -> None:
        self._tell(flow)

    def changed(self, flow: Flow) -> None:
        self._tell(flow)

    def closed(self, flow: Flow) -> None:
        self._tell(flow)

    def _tell(self, flow: Flow) -> None:
        if self._viewers:
            self._send_all(_record(flow))
        else:
            self._early.append(_line(_record(flow)))

    def _tick(self) -> None:
        self._ticking = bool(self._viewers)
        if not self._viewers:
            return
        flows = [[flow.number, sent, received, rtt] for flow, sent, received, rtt in self._services.under_way()]
        self._send_all({"type": "traffic", "time": time.time(), "flows": flows})
        self._loop.later(_TICK, self._tick)

    # Viewers.

    def _send_all(self, message: dict[str, Any]) -> None:
        data = _line(message)
        for viewer in list(self._viewers.values()):
            self._push(viewer, data)

    def _send(self, viewer: _Viewer, message: dict[str, Any]) -> None:
        self._push(viewer, _line(message))

    def _push(self, viewer: _Viewer, data: bytes) -> None:
        if viewer.unsent:
            viewer.unsent += data
            if len(viewer.unsent) > _MOST_WAITING:
                self._drop(viewer)
            return
        viewer.unsent = data
        self._flush(viewer)
        if viewer.unsent:
            self._loop.rewatch(viewer.socket.fileno(), IN | OUT)

    def _flush(self, viewer: _Viewer) -> None:
        try:
            viewer.unsent = viewer.unsent[viewer.socket.send(viewer.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            viewer.unsent = b""
            self._drop(viewer)

    def _ready(self, viewer: _Viewer, events: int) -> None:
        if events & OUT and viewer.unsent:
            self._flush(viewer)
            if not viewer.unsent and viewer.socket.fileno() in self._viewers:
                self._loop.rewatch(viewer.socket.fileno(), IN)
        if not events & ~OUT or viewer.socket.fileno() not in self._viewers:
            return
        try:
            data = viewer.socket.recv(_LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        viewer.heard += data
        *lines, viewer.heard = viewer.heard.split(b"\n")
        if not data or len(viewer.heard) > _LONGEST_LINE:
            self._drop(viewer)
            return
        for line in lines:
            answer = self._do(viewer, line)
            if answer is not None and viewer.socket.fileno() in self._viewers:
                self._send(viewer, {"type": "answer", **answer})

    def _drop(self, viewer: _Viewer) -> None:
        if self._viewers.pop(viewer.socket.fileno(), None) is not None:
            self._loop.forget(viewer.socket.fileno())
            viewer.socket.close()

    # What viewers ask for.

    def _do(self, viewer: _Viewer, line: bytes) -> dict[str, Any] | None:
        try:
            asked = json.loads(line)
            what = asked["do"]
            if what == "follow":
                self._follow(viewer)
                return None
            if what == "names":
                self._follow_names(viewer)
                return None
            if what == "flush":
                return {"flushed": self._services.flush_names(_names(asked.get("names", [])))}
            if what in _SIGNALS:
                self.send_signal(_SIGNALS[what])
                return {"text": f"sent {what}"}
            if what in ("allow", "deny"):
                return {"text": self._add(parse_rule(str(asked["rule"]), what, "the live view"))}
        except Misuse as error:
            return {"error": str(error)}
        except ConfigInvalid as error:
            return {"error": f"{error.reason}" + (f" ({error.hint})" if error.hint else "")}
        except ImportError:
            return {"error": "a name with other letters than ASCII is written as xn--... while the command runs"}
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        return {"error": "not understood"}

    def _add(self, rule: Rule) -> str:
        """A rule that is asked before all others from now on; a deny ends what is under way."""
        if not self._quic and any(slot[0] == "udp" for slot in readable_slots(rule)):
            # The code that reads QUIC was not loaded, and nothing is loaded while the command runs.
            if rule.schemes is not None:
                raise ConfigInvalid("the live view", "this run was started without a rule that reads QUIC")
            rule = rule._replace(schemes=frozenset(("tls",)))
        self._services.replace_policy(self._services.policy.before(rule))
        self._ledger.say("info", f"from the live view: {rule.action} {rule.text}")
        ended = self._services.cut_denied(rule)
        self._send_all(self._hello() | {"type": "rules"})
        return f"{rule.action} {rule.text}" + (f"; {ended} flows ended" if ended else "")

    def end(self, code: int, signal: int | None) -> None:
        """The command has ended: says so, gives viewers a moment to read, and is over."""
        self._send_all({"type": "end", "code": code, "signal": signal, "time": time.time()})
        for viewer in list(self._viewers.values()):
            viewer.socket.settimeout(_LAST_PATIENCE)
            try:
                viewer.socket.sendall(viewer.unsent)
            except OSError:
                pass  # it does not read any more
            self._drop(viewer)
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _names(given: object) -> list[str]:
    if not isinstance(given, list):
        raise TypeError(given)
    return [str(name) for name in given]


def _record(flow: Flow) -> dict[str, Any]:
    record = as_record(flow)
    verdict = record["verdict"]
    if flow.decision is not None and flow.decision.verdict == "look":
        verdict = "looking"
    ancestors = [list(parent) for parent in flow.owner.parents] if flow.owner else []
    return record | {"verdict": verdict, "ancestors": ancestors, "ended": flow.ended, "source_port": flow.source_port}
