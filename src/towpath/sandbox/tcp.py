"""TCP out of a run. The first SYN is held until the policy has decided and the dial outside has an outcome.

So `connect()` inside never succeeds before it has succeeded outside, and its errors are the true ones.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.hosting.first_words import FirstWords
from towpath.hosting.loop import BOTH_EDGES, FAILING, IN, Loop, Patience
from towpath.kernel.scope import DROP, REPEAT
from towpath.kernel.system import pipes, sockets
from towpath.policy.policy import Decision
from towpath.policy.request import Asked
from towpath.sandbox import ruleset
from towpath.sandbox.flows import Flow
from towpath.sandbox.hello_gate import HelloGate
from towpath.sandbox.http_gate import HttpGate, farewell
from towpath.sandbox.look import PATIENCE, Look
from towpath.sandbox.naming import NamingGate
from towpath.sandbox.proxy_note import ProxyNote
from towpath.sandbox.stream import Gate, Stream
from towpath.sandbox.uplink import HostUplink, Uplink
from towpath.wire.http_request import Head
from towpath.wire.ip import Packet, text_of, version_of

if TYPE_CHECKING:
    from towpath.kernel.scope import Queue
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.report import Ledger

__all__ = ["TcpIntake"]

_ACCEPT_AT_ONCE = 64
_HANDSHAKE_PATIENCE = 20.0
_SWEEP_INTERVAL = 10.0
_DEAD_FOR = 60.0
_SPARE = 96
"""Descriptors that are left for questions, datagrams and pipes when very many connections are open."""
_HOST = HostUplink()
_MARKS = {
    errno.ECONNREFUSED: ruleset.REFUSED,
    errno.ECONNRESET: ruleset.REFUSED,
    errno.EHOSTUNREACH: ruleset.HOST_UNREACHABLE,
    errno.EHOSTDOWN: ruleset.HOST_UNREACHABLE,
    errno.ENETUNREACH: ruleset.NO_ROUTE,
    errno.EADDRNOTAVAIL: ruleset.NO_ROUTE,
    errno.EACCES: ruleset.PROHIBITED,
    errno.EPERM: ruleset.PROHIBITED,
}

Key = tuple[bytes, int, bytes, int]


class TcpIntake:
    """Takes SYNs from the queue and connections from the listeners, dials, and joins the two."""

    def __init__(
        self,
        loop: Loop,
        queue: Queue,
        judge: Judge,
        ledger: Ledger,
        pool: pipes.PipePool,
        local: frozenset[int],
        filtering: Filtering | None,
        uplink: Uplink | None = None,
    ) -> None:
        self._loop = loop
        self._queue = queue
        self._judge = judge
        self._ledger = ledger
        self._pool = pool
        self._local = local
        self._filtering = filtering
        self._uplink = uplink or _HOST
        self._dialling: dict[Key, Flow] = {}
        self._dialled: dict[Key, tuple[Flow, socket.socket, Decision, float]] = {}
        self._dead: dict[Key, float] = {}
        self._streams: dict[Stream, Flow] = {}
        self._looking = 0
        self._most = max(1, (sockets.most_descriptors() - _SPARE) // 2)
        self._sweeping = False
        self._silence = Patience(loop, PATIENCE)

    def listen(self, listener: socket.socket) -> None:
        """Accepts what arrives at one of the scope's listeners."""
        self._loop.watch(listener.fileno(), IN, lambda _events: self._accept(listener))

    def syn(self, packet_id: int, packet: Packet) -> None:
        """Decides about the first packet of a connection."""
        key = (packet.source, packet.source_port, packet.destination, packet.destination_port)
        if key in self._dialling or key in self._dead:
            # A SYN sent again while its dial is under way, or after the dial has timed out: let it time out as well.
            self._queue.verdict(packet_id, DROP)
            return
        flow = Flow("tcp", *key)
        decision = self._decide(flow)
        self._ledger.opened(flow, decision, self._judge.names.of(flow.address))
        if decision.verdict == "deny":
            self._ledger.refused(flow, decision)  # first: once it is told, the program may be gone
            self._queue.verdict(packet_id, REPEAT, ruleset.REFUSED)
            return
        if self._filtering is None:
            self._dial(packet_id, key, flow, decision)
            return
        self._dialling[key] = flow

        def decided(refusal: Decision | None, silent: bool) -> None:
            del self._dialling[key]
            if refusal is None:
                self._dial(packet_id, key, flow, decision)
            else:
                self._drop(packet_id, key, flow, refusal, silent=silent)

        self._filtering.ask(flow, decided)

    def _drop(self, packet_id: int, key: Key, flow: Flow, refusal: Decision, *, silent: bool) -> None:
        self._ledger.refused(flow, refusal)  # first: once it is told, the program may be gone
        self._ledger.closed(flow)
        if silent:
            self._let_time_out(packet_id, key)
        else:
            self._queue.verdict(packet_id, REPEAT, ruleset.REFUSED)

    def _let_time_out(self, packet_id: int, key: Key) -> None:
        self._dead[key] = time.monotonic()
        self._sweep_later()
        self._queue.verdict(packet_id, DROP)

    def _dial(self, packet_id: int, key: Key, flow: Flow, decision: Decision) -> None:
        if len(self._streams) + self._looking + len(self._dialled) + len(self._dialling) >= self._most:
            # Refused at once: a connection that could be dialled and not accepted would wait without a word.
            self._ledger.warn(f"{self._most} connections are open, and more take descriptors that this user has not")
            self._fail(packet_id, key, flow, errno.EMFILE)
            return
        version = version_of(flow.address)
        try:
            uplink = _HOST if self._is_local(flow) else self._uplink
            server, code = uplink.dial_stream(version, text_of(flow.address), flow.port)
        except OSError as error:  # out of descriptors
            self._fail(packet_id, key, flow, error.errno or errno.EMFILE)
            return
        if code in (0, errno.EINPROGRESS):
            self._dialling[key] = flow
            self._loop.watch(
                server.fileno(),
                BOTH_EDGES,
                lambda events: self._outcome(events, packet_id, key, flow, server, decision),
            )
        else:
            server.close()
            self._fail(packet_id, key, flow, code)

    def _is_local(self, flow: Flow) -> bool:
        """Whether it is for a service of the host's own loopback that the run may reach."""
        return flow.port in self._local and text_of(flow.address) in ("127.0.0.1", "::1")

    def _decide(self, flow: Flow) -> Decision:
        if self._is_local(flow):
            return Decision("allow", None, f"--allow-local {flow.port}", "address", None)
        return self._judge.flow(flow)

    def _outcome(
        self, events: int, packet_id: int, key: Key, flow: Flow, server: socket.socket, decision: Decision
    ) -> None:
        del self._dialling[key]
        code = server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & FAILING else 0
        if code == errno.ECONNRESET:
            # Connected, and reset before anything was said: a refusal would have been ECONNREFUSED.
            flow.error = errno.errorcode[code]
            code = 0
        if code:
            self._loop.leave(server.fileno())
            server.close()
            self._fail(packet_id, key, flow, code)
        else:
            self._loop.park(server.fileno(), events)
            self._connected(packet_id, key, flow, server, decision)

    def _fail(self, packet_id: int, key: Key, flow: Flow, code: int) -> None:
        mark = _MARKS.get(code)
        if code == errno.ETIMEDOUT:
            self._let_time_out(packet_id, key)
        else:
            self._queue.verdict(packet_id, REPEAT, mark or ruleset.HOST_UNREACHABLE)
        flow.error = errno.errorcode.get(code, str(code))
        self._ledger.closed(flow)

    def _connected(self, packet_id: int, key: Key, flow: Flow, server: socket.socket, decision: Decision) -> None:
        self._dialled[key] = flow, server, decision, time.monotonic()
        self._sweep_later()
        self._queue.verdict(packet_id, REPEAT, ruleset.ALLOWED)

    def _accept(self, listener: socket.socket) -> None:
        family = listener.family
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                client, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._ledger.warn("out of file descriptors: a connection waits (see `ulimit -n`)")
                    return
                raise
            client.setblocking(False)
            here = client.getsockname()
            key = (socket.inet_pton(family, peer[0]), peer[1], socket.inet_pton(family, here[0]), here[1])
            announced = self._dialled.pop(key, None)
            if announced is None:
                sockets.reset(client)  # only announced flows are served
                continue
            flow, server, decision, _since = announced
            if flow.error:
                self._loop.leave(server.fileno())
                sockets.reset(client)
                server.close()
                self._ledger.closed(flow)
                continue
            self._judge.names.hold(flow.address)
            if decision.verdict == "look":
                self._look(flow, client, server)
            else:
                learning = self._ledger.learner is not None
                gate = NamingGate(flow) if learning else ProxyNote(flow, self._ledger.warn)
                self._relay(flow, client, server, gate)

    def _relay(
        self,
        flow: Flow,
        client: socket.socket,
        server: socket.socket,
        gate: Gate | None = None,
        look: Look | None = None,
    ) -> None:
        ended = self._ender(flow)
        filtering = self._filtering
        refusal = filtering.dropped(flow) if filtering is not None else None
        if refusal is not None:
            self._ledger.refused(flow, refusal)
            self._reset(server)
            self._reset(client)
            ended(0, 0, "refused")
            return

        def done(sent: int, received: int, error: str) -> None:
            self._streams.pop(stream, None)
            flow.packets = stream.packets
            ended(sent, received, error)

        holds = filtering.holds(flow) if filtering is not None else None
        stream = Stream(self._loop, self._pool, client, server, done, gate, holds, counted=filtering is not None)
        self._streams[stream] = flow
        if flow.held is not None:
            stream.answered = partial(self._ledger.freed, flow.held)
        if filtering is not None:
            filtering.join(flow, stream, lambda refusal: self._cut(flow, stream, refusal))
        if look is None:
            stream.start()
        else:
            stream.start(look.heard, look.client_events, look.server_events)

    def _cut(self, flow: Flow, stream: Stream, refusal: Decision) -> None:
        """A filter has dropped a flow after it had begun."""
        self._ledger.refused(flow, refusal, begun=True)
        stream.cut()

    def under_way(self) -> list[tuple[Flow, int, int, int | None]]:
        """The flows that are relayed: bytes sent and received so far, and the round trip in microseconds."""
        return [(flow, *stream.moved, sockets.round_trip(stream.server)) for stream, flow in self._streams.items()]

    def cut(self, refused: Callable[[Flow], Decision | None]) -> int:
        """Ends the flows that are refused now; gives how many."""
        found = [(flow, stream, decision) for stream, flow in self._streams.items() if (decision := refused(flow))]
        for flow, stream, decision in found:
            self._cut(flow, stream, decision)
        return len(found)

    def draining(self) -> bool:
        """Whether bytes that a program sent are still on their way out."""
        return any(not stream.said_all for stream in self._streams)

    def close(self) -> None:
        for stream in list(self._streams):
            stream.leave()
        for flow in self._dialling.values():
            flow.error = "the run has ended"
            self._ledger.closed(flow)
        for flow, server, _decision, _since in self._dialled.values():
            self._loop.leave(server.fileno())
            server.close()
            self._ledger.closed(flow)

    def _ender(self, flow: Flow) -> Callable[[int, int, str], None]:
        def done(sent: int, received: int, error: str) -> None:
            flow.sent, flow.received, flow.error = sent, received, error
            self._judge.names.release(flow.address)
            self._ledger.closed(flow)

        return done

    def _look(self, flow: Flow, client: socket.socket, server: socket.socket) -> None:
        done = self._ender(flow)

        self._looking += 1

        def gone(reason: str) -> None:
            self._looking -= 1
            self._reset(client)
            self._reset(server)
            done(0, 0, reason)

        def said(look: Look, words: FirstWords) -> None:
            self._looking -= 1
            self._heard(flow, client, server, look, words)

        Look(self._loop, self._silence, client, server, said, gone)

    def _reset(self, one: socket.socket) -> None:
        self._loop.leave(one.fileno())
        sockets.reset(one)

    def _heard(self, flow: Flow, client: socket.socket, server: socket.socket, look: Look, words: FirstWords) -> None:
        if words.scheme == "http":
            self._relay(flow, client, server, self._http_gate(flow), look)
            return
        decision = self._judge.seen(flow, words.scheme, words.name)
        if words.scheme == "tls" and words.name:
            flow.note(words.name, "sni")
            if flow.screening is not None:
                flow.screening.named(words.name, "sni")
        if decision.verdict == "allow":
            self._ledger.decided(flow, decision)
            gate = self._hello_gate(flow, words.length) if words.scheme == "tls" else None
            self._relay(flow, client, server, gate, look)
            return
        if words.fault:
            decision = Decision(
                decision.verdict, decision.rule, f"{decision.reason} ({words.fault})", decision.evidence, decision.hint
            )
        self._ledger.refused(flow, decision)  # first: once it is told, the program may be gone
        self._reset(server)
        self._reset(client)
        self._ender(flow)(0, 0, "refused")

    def _hello_gate(self, flow: Flow, first: int) -> HelloGate:
        def ask(name: str | None) -> Decision:
            flow.name = name or flow.name
            return self._judge.seen(flow, "tls", name)

        def refused(decision: Decision | None, violation: PeerViolation | None) -> None:
            final = decision or Decision("deny", None, f"no second ClientHello: {violation}", "sni", None)
            self._ledger.refused(flow, final, begun=True)

        return HelloGate(first, ask, refused)

    def _http_gate(self, flow: Flow) -> HttpGate:
        def ask(head: Head) -> Decision:
            decision = self._judge.seen(flow, "http", head.host, Asked(head.method, head.path, head.override))
            flow.note(head.host, "host")
            flow.note_request(head)
            if decision.verdict == "allow" and flow.decision is not decision:
                self._ledger.decided(flow, decision)
            return decision

        def refused(decision: Decision | None, violation: PeerViolation | None) -> bytes:
            final = decision or Decision("deny", None, f"not a request that can be judged: {violation}", "host", None)
            self._ledger.refused(flow, final, begun=True)
            return farewell(final.reason, final.hint)

        return HttpGate(ask, refused)

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.later(_SWEEP_INTERVAL, self._sweep)

    def _sweep(self) -> None:
        """Dials whose program went away before the handshake, and timed-out flows that may be tried again."""
        now = time.monotonic()
        for key, (flow, server, _decision, since) in list(self._dialled.items()):
            if now - since > _HANDSHAKE_PATIENCE:
                del self._dialled[key]
                self._reset(server)
                flow.error = "given up by the program"
                self._ledger.closed(flow)
        for key, since in list(self._dead.items()):
            if now - since > _DEAD_FOR:
                del self._dead[key]
        self._sweeping = False
        if self._dialled or self._dead:
            self._sweep_later()
