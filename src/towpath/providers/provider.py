"""What every kind of provider has: a config of its own type, and the context it acts through."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeAlias, get_args, get_origin

from msgspec import Struct

from towpath.errors import Misuse
from towpath.providers.verdict import FlowVerdict, NameVerdict

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Config = TypeVar("Config", default=None)
else:
    # A default for a type variable is for type checkers alone before Python 3.13 (PEP 696).
    from typing import TypeVar

    Config = TypeVar("Config")

__all__ = ["Config", "LogLevel", "Prompt", "Provider", "ProviderContext", "Reply"]

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class Prompt(Struct, frozen=True):
    """A question to the person at the terminal. Prompts with the same `key` that wait are asked once.

    `choices` are what may be answered, the first is what is offered; `details` are facts to show, name to value.
    """

    key: str
    text: str
    choices: tuple[str, ...]
    details: dict[str, str] = {}


class Reply(Struct, frozen=True):
    """What was answered. `choice` is `None` when nobody could answer; `reason` says why (or who did)."""

    choice: str | None
    reason: str = ""


class ProviderContext(Protocol):
    """What a provider can ask of whoever runs it. Every method may be called from any thread."""

    def resume(self, flow: int, verdict: FlowVerdict) -> None:
        """Gives the verdict of a paused flow, by its number: `Allow`, `Drop` or `Peek`.

        A flow that is not paused raises `Misuse`, and so does one that has ended: `flow_closed` said so.
        """

    def update(self, flow: int, verdict: NameVerdict) -> None:
        """Changes the verdict of a flow that was decided, by its number. One that has ended is left alone."""

    def flush(self, names: tuple[str, ...]) -> None:
        """Forgets answers to questions that were kept, for DNS proxies; see `DNSProxyProvider.flush`."""

    def log(self, level: LogLevel, text: str) -> None:
        """Writes to the log of the run, below the provider's name."""

    async def prompt(self, question: Prompt) -> Reply:
        """Asks a person. Needs the capability `prompt`, else raises `Misuse`. It has no deadline of its own."""

    def output(self, path: str) -> int:
        """A descriptor of a regular file, opened for reading and appending, made if need be; the provider closes it.

        `path` must stand in the provider's own config, word for word: there the user allowed it. It is relative to the
        folder of the config file (or to where the run was started). What an earlier run has written can be read from
        the start. Needs the capability `output`. Raises `Misuse` for another path, `HostFault` when it cannot be
        opened.
        """

    def path(self, path: str) -> str:
        """Where a file is that the config names: it is relative to the folder of the config file.

        Without a config file that is where the run was started. A file that the config does not name cannot be read.
        """

    def now(self) -> float:
        """Seconds since 1970; in a harness the clock that the test moves. Use it instead of `time.time`."""

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Calls `call` once, after so many seconds of that clock, never while a plain hook runs."""


class Provider(Generic[Config]):
    """The root of everything that an author subclasses; see `ContentFilterProvider`.

    `config_type` is the type argument of the subclass (a `msgspec.Struct` or a dataclass) or `None`: then no config is
    accepted. An instance is made without arguments; `config` and `context` are there when `start` is called.
    """

    config_type: ClassVar[type[Any] | None] = None
    config: Config
    _context: ProviderContext | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Provider):
                cls.config_type = _config_type(cls.__name__, get_args(base)[0])

    def attach(self, context: ProviderContext) -> None:
        """Called once by whoever runs the provider, before `start`."""
        self._context = context

    @property
    def context(self) -> ProviderContext:
        """What this provider acts through. Before `start` there is none, which raises `Misuse`."""
        if self._context is None:
            raise Misuse(f"{type(self).__name__}.context is there from start() on, not in __init__()")
        return self._context

    def log(self, text: str, level: LogLevel = "info") -> None:
        """Writes to the log of the run."""
        self.context.log(level, text)


def _config_type(name: str, argument: Any) -> type[Any] | None:
    if argument is type(None) or isinstance(argument, TypeVar):
        return None
    if not (isinstance(argument, type) and (issubclass(argument, Struct) or hasattr(argument, "__dataclass_fields__"))):
        raise Misuse(f"{name}: the config type is a msgspec.Struct or a dataclass defined above it, not {argument!r}")
    return argument
