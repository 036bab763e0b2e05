"""A content filter in memory: scripted names and flows, a clock that a test moves, no worker and no kernel."""

from __future__ import annotations

import asyncio
import inspect
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from towpath.errors import HostFault, Misuse, TimedOut
from towpath.hosting.load import configured, read_config
from towpath.hosting.manifest import Capability, inline_metadata, read_manifest
from towpath.hosting.toml_text import TomlText, read_text
from towpath.providers import (
    Address,
    Allow,
    ContentFilterProvider,
    Direction,
    Drop,
    FilterSettings,
    Flow,
    FlowVerdict,
    LogLevel,
    NameSource,
    NameVerdict,
    Owner,
    Prompt,
    Question,
    Reply,
    StopReason,
    Transport,
)
from towpath.testing.flow_run import FlowRun
from towpath.testing.virtual_clock import VirtualLoop

__all__ = ["HOOK_SECONDS", "FilterHarness", "LogLine"]

HOOK_SECONDS = 5.0
"""How long a hook may take, as in a run."""

_EPOCH = 1_700_000_000.0
_ALL: tuple[Capability, ...] = ("content-filter-provider", "prompt", "output")

P = TypeVar("P", bound=ContentFilterProvider[Any])


class LogLine(NamedTuple):
    """What a filter wrote to its log."""

    level: LogLevel
    text: str


class FilterHarness(Generic[P]):
    """Runs a filter's class as a run would, and tells a test what became of each name, flow and byte.

    >>> from towpath.providers import Allow, ContentFilterProvider, Drop, Peek
    >>> class NoTelnet(ContentFilterProvider):
    ...     def handle_new_flow(self, flow):
    ...         return Peek(outbound=2)
    ...     def handle_outbound_data(self, flow, offset, data):
    ...         return Drop("telnet") if data.startswith(b"\\xff") else Allow()
    >>> with FilterHarness(NoTelnet) as harness:
    ...     flow = harness.flow("tcp", "192.0.2.7", 23).send(b"\\xff\\xfd")
    ...     flow.dropped, flow.reason, flow.passed_out
    (True, 'telnet', b'')

    `config` is a table as in a TOML file, or a value of the filter's config type. `capabilities` are those that the
    manifest in the class's own file claims; a file without a manifest may do all.

    A call returns when the hooks that it led to have answered. The clock moves by `advance`, and while a hook waits for
    it, up to `HOOK_SECONDS`: then `TimedOut` is raised. What a hook raises is raised in the test, an answer that is
    none is `Misuse`. `logs`, `prompts` and the files in `folder` are what the filter did besides. Not for use from
    inside a running event loop.
    """

    def __init__(
        self,
        provider: type[P],
        config: object = None,
        *,
        capabilities: Iterable[Capability] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._file = _source_of(provider)
        made = configured(provider, config, "config", self._file)
        assert isinstance(made, provider)
        self.provider: P = made
        self.logs: list[LogLine] = []
        self.prompts: list[Prompt] = []
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._background_failed)
        self._temporary = tempfile.TemporaryDirectory() if folder is None else None
        self.folder = Path(self._temporary.name if self._temporary else folder or "")
        """Where `context.output` makes its files."""
        self._capabilities = frozenset(self._claimed() if capabilities is None else capabilities)
        self._settings = FilterSettings()
        self._flows: dict[int, FlowRun] = {}
        self._questions = 0
        self._deadlines: dict[object, float] = {}
        self._errors: list[BaseException] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._replies: list[Reply] = []
        self._waiting: dict[str, _Waiting] = {}
        self._written = config
        made.attach(_Context(self))

    def __enter__(self) -> FilterHarness[P]:
        try:
            settings = self._run("start", (FilterSettings, type(None)))
        except BaseException:
            self._close()
            raise
        self._settings = settings or FilterSettings()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.stop()
        finally:
            self._close()

    def question(self, name: str, type: str = "A", *, owner: Owner | None = None) -> NameVerdict:
        """A program wants a name resolved; the filter's verdict."""
        self._questions += 1
        verdict = self._run(
            "handle_name",
            (Allow, Drop),
            Question(
                number=self._questions,
                name=name.rstrip(".").lower(),
                type=type,
                transport="udp",
                server=Address("192.0.2.2", 53),
                owner=owner,
                owner_unknown=None if owner else "the test names none",
            ),
        )
        assert isinstance(verdict, Allow | Drop)
        return verdict

    def flow(
        self,
        transport: Transport,
        ip: str,
        port: int,
        *,
        name: str | None = None,
        name_from: NameSource = "dns",
        names: tuple[str, ...] | None = None,
        owner: Owner | None = None,
        direction: Direction = "outbound",
    ) -> FlowRun:
        """A flow begins. `ip` and `port` are the remote side's, `names` (or `name`) what DNS answers gave it."""
        number = len(self._flows) + 1
        run = self._flows[number] = FlowRun(
            self,
            Flow(
                number=number,
                transport=transport,
                direction=direction,
                local=Address("2001:db8:746f:7770::1" if ":" in ip else "192.0.2.1", 40000 + number % 20000),
                remote=Address(ip, port),
                started=self.now(),
                name=name,
                name_from=name_from if name else None,
                name_unknown=None if name else "the test names none",
                names=((name,) if name else ()) if names is None else names,
                owner=owner,
                owner_unknown=None if owner else "the test names none",
            ),
        )
        settled: dict[str, FlowVerdict] = {"allow": Allow(), "drop": Drop("the filter's settings drop it")}
        run.begin(settled.get(self._settings.decide(transport, direction, ip, port)))
        return run

    def reply(self, choice: str | None, reason: str = "") -> None:
        """Answers the prompt that has waited longest, or the next one where none waits."""
        reply = Reply(choice, reason)
        if self._waiting:
            self._waiting.pop(next(iter(self._waiting))).reply.set_result(reply)
            self.settle()
        else:
            self._replies.append(reply)

    def advance(self, seconds: float) -> None:
        """Lets time pass: paused UDP is dropped after 10 s, a silent direction is complete after 1 s."""
        self.loop.run(seconds, self._until)
        self._raise()

    def change_config(self, config: object) -> None:
        """The user has saved another config: `rules_changed` is called. A mistake in it raises `ConfigInvalid`."""
        self.provider.config = read_config(type(self.provider), config, "config", self._file)
        self._written = config
        self._run("rules_changed", (type(None),))

    def stop(self, reason: StopReason = StopReason.NONE) -> None:
        """Stops the filter; leaving the `with` block does so too."""
        self._run("stop", (type(None),), reason)

    def now(self) -> float:
        """Seconds since 1970 by the harness's clock."""
        return _EPOCH + self.loop.time()

    async def call(self, hook: str, kinds: tuple[type, ...], *arguments: object) -> Any:
        """Calls a hook as a worker does; for `FlowRun`."""
        key = object()
        self._deadlines[key] = self.loop.time() + HOOK_SECONDS
        deadline = asyncio.timeout(HOOK_SECONDS)
        try:
            async with deadline:
                answer = getattr(self.provider, hook)(*arguments)
                if isinstance(answer, Awaitable):
                    answer = await answer
        except TimeoutError:
            if deadline.expired():
                raise TimedOut(hook, HOOK_SECONDS) from None
            raise
        finally:
            del self._deadlines[key]
        if not isinstance(answer, kinds):
            known = ", ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
            raise Misuse(f"{type(self.provider).__name__}.{hook} answered {answer!r}; it may be one of {known}")
        return answer

    def spawn(self, work: Awaitable[None]) -> None:
        """Runs something to which no caller waits; for `FlowRun`."""
        task = asyncio.ensure_future(work, loop=self.loop)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def settle(self) -> None:
        """Runs until all is quiet at this time, and raises what went wrong; for `FlowRun`."""
        if not self.loop.is_running():
            self.loop.run(0.0, self._until)
            self._raise()

    def _run(self, hook: str, kinds: tuple[type, ...], *arguments: object) -> Any:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await self.call(hook, kinds, *arguments))

        self.spawn(ask())
        self.settle()
        if not answers:
            raise TimedOut(hook, HOOK_SECONDS)
        return answers[0]

    def _until(self) -> float:
        return max(self._deadlines.values(), default=0.0)

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    def _background_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.append(context.get("exception") or Misuse(context["message"]))

    def _raise(self) -> None:
        if self._errors:
            error = self._errors[0]
            self._errors.clear()
            raise error

    def _close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _claimed(self) -> Iterable[Capability]:
        inline = inline_metadata(read_text(self._file), self._file) if os.path.isfile(self._file) else None
        manifest = read_manifest(TomlText(inline.text, self._file, inline.line)) if inline else None
        return manifest.capabilities if manifest else _ALL

    def _needs(self, capability: Capability) -> None:
        if capability not in self._capabilities:
            raise Misuse(f"{capability}: the manifest does not claim this capability; add it to capabilities")

    def _flow(self, number: int) -> FlowRun:
        if number not in self._flows:
            raise Misuse(f"there is no flow {number}")
        return self._flows[number]


class _Waiting:
    """A prompt without an answer yet, and how many wait for it."""

    __slots__ = ("count", "reply")

    def __init__(self, reply: asyncio.Future[Reply]) -> None:
        self.reply = reply
        self.count = 0


class _Context:
    """The `ProviderContext` of a harness."""

    def __init__(self, harness: FilterHarness[Any]) -> None:
        self._harness = harness

    def resume(self, flow: int, verdict: FlowVerdict) -> None:
        self._harness._flow(flow).resume(verdict)

    def update(self, flow: int, verdict: NameVerdict) -> None:
        self._harness._flow(flow).update(verdict)

    def log(self, level: LogLevel, text: str) -> None:
        self._harness.logs.append(LogLine(level, text))

    async def prompt(self, question: Prompt) -> Reply:
        harness = self._harness
        harness._needs("prompt")
        if question.key not in harness._waiting:
            harness.prompts.append(question)
            if harness._replies:
                return harness._replies.pop(0)
            harness._waiting[question.key] = _Waiting(harness.loop.create_future())
        waiting = harness._waiting[question.key]
        waiting.count += 1
        try:
            return await asyncio.shield(waiting.reply)
        finally:
            waiting.count -= 1
            if not waiting.count and harness._waiting.get(question.key) is waiting:
                # Whoever asked has given up, so there is nothing left to answer.
                del harness._waiting[question.key]

    def output(self, path: str) -> int:
        harness = self._harness
        harness._needs("output")
        if path not in _texts(msgspec.to_builtins(harness._written)):
            raise Misuse(f"output: {path!r} does not stand in the config, where a user would have allowed it")
        try:
            return os.open(harness.folder / path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostFault(f"open {path}", error.errno or 0, error.strerror or "", None) from error

    def now(self) -> float:
        return self._harness.now()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self._harness.loop.call_later(seconds, call)


def _source_of(provider: type) -> str:
    """The file of a class, or a word for where there is none: a class may be typed at a prompt."""
    try:
        return inspect.getsourcefile(provider) or provider.__module__
    except (OSError, TypeError):
        return provider.__module__


def _texts(value: object) -> list[str]:
    """All strings in a config."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for one in inner for text in _texts(one)]
