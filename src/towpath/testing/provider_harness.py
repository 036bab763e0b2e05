"""A provider in memory: a clock that a test moves, what it logged and asked, no worker and no kernel."""

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
    FlowVerdict,
    LogLevel,
    NameVerdict,
    Prompt,
    Provider,
    Reply,
    StopReason,
)
from towpath.testing.flow_run import FlowRun
from towpath.testing.virtual_clock import VirtualLoop

__all__ = ["HOOK_SECONDS", "LogLine", "ProviderHarness"]

HOOK_SECONDS = 5.0
"""How long a hook may take, as in a run."""

_EPOCH = 1_700_000_000.0
_ALL: tuple[Capability, ...] = ("content-filter-provider", "dns-proxy", "prompt", "output")

P = TypeVar("P", bound=Provider[Any])
Self = TypeVar("Self", bound="ProviderHarness[Any]")


class LogLine(NamedTuple):
    """What a filter wrote to its log."""

    level: LogLevel
    text: str


class ProviderHarness(Generic[P]):
    """Runs a provider's class as a run would; see `FilterHarness` and `DNSHarness`."""

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
        self.flushed: list[tuple[str, ...]] = []
        self.prompts: list[Prompt] = []
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._background_failed)
        self._temporary = tempfile.TemporaryDirectory() if folder is None else None
        self.folder = Path(self._temporary.name if self._temporary else folder or "")
        """Where `context.output` makes its files."""
        self._capabilities = frozenset(self._claimed() if capabilities is None else capabilities)
        self._questions = 0
        self._deadlines: dict[object, float] = {}
        self._errors: list[BaseException] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._replies: list[Reply] = []
        self._waiting: dict[str, _Waiting] = {}
        self._written = config
        made.attach(_Context(self))

    def __enter__(self: Self) -> Self:
        try:
            self._started(self._run("start", (*self._settings_kinds, type(None))))
        except BaseException:
            self._close()
            raise
        return self

    _settings_kinds: tuple[type, ...] = ()

    def _started(self, settings: Any) -> None:
        """Takes what `start` gave."""

    def flow_of(self, number: int) -> FlowRun:
        """A flow by its number; only a filter has any."""
        raise Misuse(f"there is no flow {number}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.stop()
        finally:
            self._close()

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


class _Waiting:
    """A prompt without an answer yet, and how many wait for it."""

    __slots__ = ("count", "reply")

    def __init__(self, reply: asyncio.Future[Reply]) -> None:
        self.reply = reply
        self.count = 0


class _Context:
    """The `ProviderContext` of a harness."""

    def __init__(self, harness: ProviderHarness[Any]) -> None:
        self._harness = harness

    def resume(self, flow: int, verdict: FlowVerdict) -> None:
        self._harness.flow_of(flow).resume(verdict)

    def update(self, flow: int, verdict: NameVerdict) -> None:
        self._harness.flow_of(flow).update(verdict)

    def flush(self, names: tuple[str, ...]) -> None:
        self._harness.flushed.append(names)

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

    def path(self, path: str) -> str:
        return str(self._harness.folder / path)

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
