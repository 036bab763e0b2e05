"""The life of a worker: an author's provider, asked over one socket. It runs confined; see `towpath.hosting.zygote`.

A provider whose hooks are all plain functions is served by a bare loop: asyncio would cost each question more than
most hooks take. One with coroutines gets an event loop.
"""

from __future__ import annotations

import errno
import heapq
import inspect
import itertools
import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from importlib.machinery import BuiltinImporter, FileFinder, FrozenImporter, PathFinder
from typing import TYPE_CHECKING, Any

from towpath.errors import ConfigInvalid, HostFault, Misuse, TowpathError
from towpath.hosting import messages
from towpath.hosting.load import load_provider, read_config
from towpath.kernel import system
from towpath.providers.content_filter import ContentFilterProvider
from towpath.providers.dns import Answer, DNSProxySettings, Forward, Refuse
from towpath.providers.dns_proxy import DNSProxyProvider
from towpath.providers.flow import Flow, Question
from towpath.providers.packet_tunnel import PacketTunnelProvider
from towpath.providers.provider import LogLevel, Prompt, Provider, Reply
from towpath.providers.reasons import StopReason
from towpath.providers.verdict import Allow, Drop, FlowVerdict, NameVerdict, Pause, Peek

if TYPE_CHECKING:
    import asyncio

__all__ = ["live"]

_LARGEST = 1 << 18
_HOOKS = (
    "start", "stop", "handle_name", "handle_new_flow", "handle_outbound_data", "handle_inbound_data", "data_complete",
    "flow_closed", "rules_changed",
)  # fmt: skip
_DNS_HOOKS = ("start", "stop", "handle_query", "system_dns_settings_changed", "sleep", "wake", "rules_changed")
_VERDICTS = {"handle_name": (Allow, Drop), "handle_query": (Answer, Forward, Refuse, Drop)}
_CONFINED = "a content filter reads its own bundle and the files that its configuration names, and nothing else"


def live(channel: int) -> None:
    """Serves until the manager says stop or goes away."""
    with socket.socket(fileno=channel) as line:
        line.setblocking(True)
        packet = line.recv(_LARGEST)
        if packet:
            begin = messages.from_manager(packet)[0]
            if isinstance(begin, messages.Begin):
                _serve(line, begin)


def _serve(line: socket.socket, begin: messages.Begin) -> None:
    _open_imports(begin.path)
    if begin.kind == "packet-tunnel" and "listen" not in begin.capabilities:
        system.confinement.send_to_connected_only()
    if begin.kind == "packet-tunnel":
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of numpy, if the author's code has it: nothing is to be shared out
    try:
        provider = load_provider(begin.file, begin.class_name, begin.config, begin.config_where)
    except TowpathError as error:
        where = error.where if isinstance(error, ConfigInvalid) else begin.file
        reason = error.reason if isinstance(error, ConfigInvalid) else str(error)
        _send(line, [messages.Broken(where, reason, error.hint)])
        return
    if isinstance(provider, PacketTunnelProvider) is not (begin.kind == "packet-tunnel"):
        reason = f"{type(provider).__name__} is another kind of provider, and the manifest says {begin.kind}"
        _send(line, [messages.Broken(begin.file, reason, None)])
    elif isinstance(provider, PacketTunnelProvider):
        from towpath.hosting import tunnel_worker  # with what only it needs: an event loop

        tunnel_worker.serve(line, provider, begin)
    else:
        _Worker(line, provider, begin).run()


def _open_imports(path: tuple[str, ...]) -> None:
    """The zygote closed importing, as the manager did; here the kernel says what may be read."""
    sys.path[:] = path
    sys.path_hooks[:] = [FileFinder.path_hook(*_loaders())]
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
    sys.dont_write_bytecode = True


def _loaders() -> list[tuple[Any, list[str]]]:
    from importlib import machinery

    return [
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
        (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    ]


def _send(line: socket.socket, batch: list[messages.FromWorker]) -> None:
    for packet in messages.batches(batch):
        line.send(packet)


class _Worker:
    """Implements `towpath.providers.provider.ProviderContext` for the provider it serves."""

    def __init__(self, line: socket.socket, provider: Provider[Any], begin: messages.Begin) -> None:
        self._line = line
        self._provider: Any = provider
        self._base: type[Provider[Any]] = ContentFilterProvider
        self._hooks: tuple[str, ...] = _HOOKS
        if isinstance(provider, DNSProxyProvider):
            self._base, self._hooks = DNSProxyProvider, _DNS_HOOKS
            provider.system_dns_settings = begin.system_dns
        self._begin = begin
        self._out: list[messages.FromWorker] = []
        self._numbers = itertools.count(1)
        self._prompts: dict[int, asyncio.Future[Reply]] = {}
        self._outputs: dict[int, int | OSError] = {}
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._main = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._ending: list[asyncio.Task[None]] = []
        self._paused: set[int] = set()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        provider.attach(self)

    # What the provider may ask for.

    def resume(self, flow: int, verdict: FlowVerdict) -> None:
        if flow not in self._paused:
            raise Misuse(f"flow {flow} is not paused: only a flow that was answered with Pause() can be resumed, once")
        self._note(flow, verdict)
        self._tell(messages.Resume(flow, verdict))

    def update(self, flow: int, verdict: NameVerdict) -> None:
        self._tell(messages.Update(flow, verdict))

    def flush(self, names: tuple[str, ...]) -> None:
        self._tell(messages.Flush(names))

    def log(self, level: LogLevel, text: str) -> None:
        self._tell(messages.Said(level, text))

    def path(self, path: str) -> str:
        return os.path.join(self._begin.home, path)

    def now(self) -> float:
        return time.time()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, call)
        else:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), call))
            os.eventfd_write(self._wake, 1)

    async def prompt(self, question: Prompt) -> Reply:
        if "prompt" not in self._begin.capabilities:
            raise Misuse('this filter asks a person, but its manifest does not claim the capability "prompt"')
        assert self._loop is not None
        number = next(self._numbers)
        future = self._prompts[number] = self._loop.create_future()
        self._tell(messages.PromptAsked(number, question))
        try:
            reply: Reply = await future
            return reply
        finally:
            del self._prompts[number]

    def output(self, path: str) -> int:
        """Only while the provider starts or its rules change: it waits for the manager's answer."""
        if "output" not in self._begin.capabilities:
            raise Misuse('this filter writes a file, but its manifest does not claim the capability "output"')
        number = next(self._numbers)
        self._flush()
        _send(self._line, [messages.OutputWanted(number, path)])
        while number not in self._outputs:
            self._receive()
        found = self._outputs.pop(number)
        if isinstance(found, OSError):
            raise HostFault("open an output", found.errno or 0, f"{path}: {found.strerror}")
        return found

    # Serving.

    def run(self) -> None:
        if any(inspect.iscoroutinefunction(getattr(self._provider, name)) for name in self._hooks):
            self._run_with_event_loop()
        else:
            self._run_bare()

    def _run_bare(self) -> None:
        self._start(self._call("start", self._provider.start))
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopped:
            wait = max(0.0, self._timers[0][0] - time.monotonic()) * 1000 if self._timers else None
            for descriptor, _events in poll.poll(wait):
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    self._receive()
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._call("later", heapq.heappop(self._timers)[2])
            self._flush()

    def _run_with_event_loop(self) -> None:
        import asyncio

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            started = self._call("start", self._provider.start)
            self._start(await self._finish("start", started) if inspect.isawaitable(started) else started)
            stopped = self._loop.create_future()

            def readable() -> None:
                self._receive()
                if self._stopped and not stopped.done():
                    stopped.set_result(None)

            self._loop.add_reader(self._line, readable)
            await stopped
            self._loop.remove_reader(self._line)
            await asyncio.gather(*self._ending, return_exceptions=True)
            self._flush()

        asyncio.run(serve())

    def _start(self, settings: Any) -> None:
        if isinstance(settings, messages.Broken):
            self._tell(settings)
            self._flush()
            os._exit(0)
        own = type(self._provider)
        hooks = tuple(name for name in self._hooks if getattr(own, name) is not getattr(self._base, name))
        if self._base is DNSProxyProvider:
            known = settings if isinstance(settings, DNSProxySettings) else None
            self._tell(messages.Ready(None, hooks, known))
        else:
            self._tell(messages.Ready(settings, hooks))
        self._flush()

    def _call(self, hook: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a hook that answers no question; what it raises is logged, or ends a start."""
        try:
            return function(*arguments)
        except Exception as error:
            return self._broken(hook, error)

    async def _finish(self, hook: str, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except Exception as error:
            return self._broken(hook, error)

    def _broken(self, hook: str, error: Exception) -> Any:
        if hook == "start":
            return messages.Broken(self._line_of(error), _reason(hook, error, where=""), None)
        self._tell(messages.Said("error", _reason(hook, error, self._line_of(error))))
        return None

    def _tell(self, message: messages.FromWorker) -> None:
        """From any thread. In the serving thread messages wait for the end of the batch."""
        if threading.get_ident() != self._main:
            _send(self._line, [message])
            return
        self._out.append(message)
        if self._loop is not None and len(self._out) == 1:
            self._loop.call_soon(self._flush)

    def _note(self, flow: int, verdict: object) -> None:
        if isinstance(verdict, Pause):
            self._paused.add(flow)
        else:
            self._paused.discard(flow)

    def _flush(self) -> None:
        if self._out:
            batch, self._out = self._out, []
            _send(self._line, batch)

    def _receive(self) -> None:
        data, descriptors, _flags, _address = socket.recv_fds(self._line, _LARGEST, 1)
        if not data:
            os._exit(0)  # the manager has gone
        for message in messages.from_manager(data):
            self._take(message, descriptors)

    def _take(self, message: messages.FromManager, descriptors: list[int]) -> None:
        provider = self._provider
        if isinstance(message, messages.NewFlow):
            self._question(message.ask, "handle_new_flow", provider.handle_new_flow, message.flow)
        elif isinstance(message, messages.NewName):
            self._question(message.ask, "handle_name", provider.handle_name, message.question)
        elif isinstance(message, messages.NewQuery):
            self._question(message.ask, "handle_query", provider.handle_query, message.query)
        elif isinstance(message, messages.SystemDNS):
            provider.system_dns_settings = message.settings
            self._notice("system_dns_settings_changed", provider.system_dns_settings_changed)
        elif isinstance(message, messages.Power):
            name = "sleep" if message.asleep else "wake"
            self._notice(name, getattr(provider, name))
        elif isinstance(message, messages.Data):
            out = message.direction == "outbound"
            hook = provider.handle_outbound_data if out else provider.handle_inbound_data
            name = "handle_outbound_data" if out else "handle_inbound_data"
            self._question(message.ask, name, hook, message.flow, message.offset, message.data)
        elif isinstance(message, messages.End):
            self._question(message.ask, "data_complete", provider.data_complete, message.flow, message.direction)
        elif isinstance(message, messages.Closed):
            self._paused.discard(message.report.flow.number)
            self._notice("flow_closed", provider.flow_closed, message.report)
        elif isinstance(message, messages.RulesChanged):
            self._change_rules(message)
        elif isinstance(message, messages.Answered):
            future = self._prompts.get(message.number)
            if future is not None and not future.done():
                future.set_result(message.reply)
        elif isinstance(message, messages.OutputOpened):
            link = "it is a symbolic link: name the file that it leads to"
            refused = OSError(message.errno, link if message.errno == errno.ELOOP else os.strerror(message.errno))
            self._outputs[message.number] = descriptors[0] if descriptors else refused
        elif isinstance(message, messages.Stop):
            self._stop(message.reason)

    def _question(self, ask: int, name: str, hook: Callable[..., Any], *arguments: Any) -> None:
        try:
            verdict = hook(*arguments)
            if inspect.isawaitable(verdict):
                self._in_background(self._answer(ask, name, verdict, arguments[0]))
                return
            self._tell(self._verdict(ask, name, verdict, arguments[0]))
        except Exception as error:
            self._tell(messages.Failed(ask, _reason(name, error, self._line_of(error))))

    async def _answer(self, ask: int, name: str, result: Awaitable[Any], about: Flow | Question) -> None:
        try:
            self._tell(self._verdict(ask, name, await result, about))
        except Exception as error:
            self._tell(messages.Failed(ask, _reason(name, error, self._line_of(error))))

    def _verdict(self, ask: int, name: str, verdict: Any, about: Flow | Question) -> messages.FromWorker:
        if not isinstance(verdict, _VERDICTS.get(name, (Allow, Drop, Peek, Pause))):
            return messages.Failed(ask, f"{name} gave {verdict!r}, which is no verdict it may give")
        if name not in _VERDICTS:
            self._note(about.number, verdict)
        given: Any = verdict
        return messages.Verdict(ask, given)

    def _notice(self, name: str, hook: Callable[..., Any], *arguments: Any) -> None:
        result = self._call(name, hook, *arguments)
        if inspect.isawaitable(result):
            self._in_background(self._finish(name, result))

    def _in_background(self, work: Any) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._ending.append(task)
        task.add_done_callback(self._ending.remove)

    def _change_rules(self, message: messages.RulesChanged) -> None:
        try:
            begin = self._begin
            made = read_config(type(self._provider), message.config, begin.config_where, begin.file)
            self._provider.config = made
        except ConfigInvalid as error:
            self._tell(messages.Said("error", f"{error}; the old configuration stays"))
            return
        self._notice("rules_changed", self._provider.rules_changed)

    def _stop(self, reason: int) -> None:
        self._notice("stop", self._provider.stop, StopReason(reason))
        if self._loop is None:
            self._tell(messages.Ended())
        else:
            self._in_background(self._say_ended([*self._ending]))
        self._stopped = True

    async def _say_ended(self, before: list[asyncio.Task[None]]) -> None:
        import asyncio

        await asyncio.wait(before, timeout=5) if before else None
        self._tell(messages.Ended())

    def _line_of(self, error: BaseException) -> str:
        """`file.py:12`, the innermost line of the author's own file."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == self._begin.file]
        name = os.path.basename(self._begin.file)
        return f"{name}:{own[-1].lineno}" if own else name


def _reason(hook: str, error: BaseException, where: str) -> str:
    text = f"{hook} raised {type(error).__name__}: {error}" + (f" ({where})" if where else "")
    if isinstance(error, OSError) and error.errno in (errno.EPERM, errno.EACCES):
        text += f": {_CONFINED}"
    return text.replace("\n", " ")
