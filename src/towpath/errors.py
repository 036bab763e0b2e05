"""Everything Towpath raises on purpose.

::

    TowpathError
    ├── Misuse (ValueError)          the caller broke the rules of a function
    ├── ConfigInvalid (ValueError)   a rule, policy, lab or other text of the user's: .where .reason
    ├── PeerViolation (ValueError)   bytes from outside that break their protocol: .fault
    ├── HostFault (OSError)          the operating system said no: .operation .errno
    │   ├── PermissionMissing        ... for want of a right or a setting: .setting
    │   └── FeatureMissing           ... because this kernel cannot do it: .feature
    ├── CommandUnusable              the command of a run cannot be executed: .code is 126 or 127
    ├── ResolutionFailed (OSError)   a name gave nothing to use: .name .extended .resolution
    │   ├── NameUnknown              ... it does not exist, or has no such records
    │   ├── NameRefused              ... a resolver will not answer, by policy
    │   └── NoAnswer (TimeoutError)  ... nobody answered in time
    ├── RaceFailed (OSError)         every address was tried: .attempts (in `towpath.connection.racing`)
    ├── TrustRefused                 a certificate is not accepted: .result (in `towpath.trust.result`)
    ├── ConnectionFailed (OSError)   a connection could not be made, or was lost: .endpoint .errno .report
    │   ├── WebSocketRefused         ... the answer to the opening: .status .headers (in `towpath.protocols`)
    │   └── WebSocketClosed          ... the peer's last word: .code .reason (in `towpath.protocols`)
    ├── Cancelled                    this side cancelled what was waited for
    ├── EndOfStream (EOFError)       the peer ended before what was asked for had come: .partial
    └── TimedOut (TimeoutError)      an own deadline passed: .phase

Each carries a `hint`: what to do next, or `None`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "Cancelled",
    "CommandUnusable",
    "ConfigInvalid",
    "ConnectionFailed",
    "EndOfStream",
    "FeatureMissing",
    "HostFault",
    "Misuse",
    "NameRefused",
    "NameUnknown",
    "NoAnswer",
    "PeerViolation",
    "PermissionMissing",
    "ResolutionFailed",
    "TimedOut",
    "TowpathError",
]


class TowpathError(Exception):
    """The root of the tree. `hint` says what to do next, when there is something to do."""

    hint: str | None = None


class Misuse(TowpathError, ValueError):
    """The caller broke the rules of a function; a mistake in the program, not in its input."""


class ConfigInvalid(TowpathError, ValueError):
    """A text that a user wrote cannot be used.

    `where` is what a user would look at: ``--allow``, ``policy.toml:3:9``, ``news.toml``.
    """

    def __init__(self, where: str, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason
        self.hint = hint


class PeerViolation(TowpathError, ValueError):
    """Bytes from outside break the protocol they claim to be. `fault` is a short, stable name of how."""

    def __init__(self, fault: str, detail: str = "") -> None:
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault = fault


class HostFault(TowpathError, OSError):
    """The operating system refused an operation. `operation` names it, `errno` is the kernel's answer."""

    def __init__(self, operation: str, errno: int, detail: str, hint: str | None = None) -> None:
        OSError.__init__(self, errno, f"{operation}: {detail}")
        self.operation = operation
        self.hint = hint

    def __str__(self) -> str:
        return str(self.strerror)


class PermissionMissing(HostFault):
    """A right or a system setting is in the way; `setting` names it as the system's administrator would."""

    def __init__(self, operation: str, errno: int, detail: str, *, setting: str, hint: str | None = None) -> None:
        super().__init__(operation, errno, detail, hint)
        self.setting = setting


class FeatureMissing(HostFault):
    """This kernel has no such facility; `feature` is its configuration option or program."""

    def __init__(self, operation: str, errno: int, detail: str, *, feature: str, hint: str | None = None) -> None:
        super().__init__(operation, errno, detail, hint)
        self.feature = feature


class CommandUnusable(TowpathError):
    """The command of a run does not exist (`code` 127) or cannot be executed (`code` 126), as a shell has it."""

    def __init__(self, command: str, code: int, reason: str) -> None:
        super().__init__(f"{command}: {reason}")
        self.code = code


class ResolutionFailed(TowpathError, OSError):
    """A name could not be resolved.

    `name` is the name, `extended` what resolvers said of the reason (RFC 8914) as text, and `resolution` the whole
    `towpath.names.Resolution`, for a report.
    """

    def __init__(
        self, name: str, reason: str, *, extended: str = "", resolution: object = None, hint: str | None = None
    ) -> None:
        super().__init__(f"{name}: {reason}{f' ({extended})' if extended else ''}")
        self.name = name
        self.extended = extended
        self.resolution = resolution
        self.hint = hint


class NameUnknown(ResolutionFailed):
    """The name does not exist, or has no record of a type that was asked for."""


class NameRefused(ResolutionFailed):
    """A resolver refuses to answer for the name: blocked, censored, filtered or prohibited."""


class NoAnswer(ResolutionFailed, TimeoutError):
    """No resolver answered in time, or none could be reached."""


class TimedOut(TowpathError, TimeoutError):
    """A deadline of Towpath's own passed. `phase` says in which step."""

    def __init__(self, phase: str, seconds: float) -> None:
        super().__init__(f"{phase} took longer than {seconds:g} s")
        self.phase = phase


class ConnectionFailed(TowpathError, OSError):
    """A connection could not be made, or was lost once it was there.

    `endpoint` is the text of where it was to lead; `errno` the kernel's word, or `None` where a protocol failed;
    `report` the `towpath.connection.EstablishmentReport` with every resolution and attempt, `None` without one.
    """

    def __init__(
        self, endpoint: str, reason: str, *, errno: int | None = None, report: Any = None, hint: str | None = None
    ) -> None:
        OSError.__init__(self, errno, reason)
        self.endpoint = endpoint
        self.report = report
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.strerror}"


class Cancelled(TowpathError):
    """This side cancelled the connection or listener that was being waited for."""


class EndOfStream(TowpathError, EOFError):
    """The peer sends no more. `partial` is what had come of what was asked for."""

    def __init__(self, partial: bytes = b"") -> None:
        super().__init__("the peer ended" + (f" after {len(partial)} bytes of what was asked for" if partial else ""))
        self.partial = partial
