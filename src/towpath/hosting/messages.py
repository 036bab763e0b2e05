"""What the manager and a worker say to each other: both sides share this module.

They speak over a socket that keeps packets apart; each packet is a batch, a msgpack array of messages. A question has a
number of its own (`ask`), and an answer names it: a question that was asked again of a new worker has a new number, so
that an old worker's late answer finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from towpath.errors import PeerViolation
from towpath.providers.dns import Answer, DNSProxySettings, Forward, Refuse, SystemDNSSettings
from towpath.providers.flow import Flow, FlowReport, Question
from towpath.providers.provider import Prompt, Reply
from towpath.providers.settings import FilterSettings
from towpath.providers.verdict import Allow, Drop, Pause, Peek

__all__ = [
    "MOST_BYTES",
    "Answered",
    "Begin",
    "Broken",
    "Closed",
    "Data",
    "End",
    "Ended",
    "Failed",
    "FromManager",
    "FromWorker",
    "NewFlow",
    "NewName",
    "NewQuery",
    "OutputOpened",
    "OutputWanted",
    "Power",
    "PromptAsked",
    "Ready",
    "Resume",
    "RulesChanged",
    "Said",
    "Stop",
    "SystemDNS",
    "Update",
    "Verdict",
    "batches",
    "from_manager",
    "from_worker",
]

MOST_BYTES = 160_000
"""Of one packet: less than what a socket's default buffer (net.core.wmem_default) takes whole."""
_MOST_IN_BATCH = 256


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Begin(_Message, frozen=True):
    """Load the provider and start it."""

    file: str
    class_name: str | None
    config: dict[str, Any]
    config_where: str
    capabilities: tuple[str, ...]
    path: tuple[str, ...]
    """`sys.path` for the author's imports."""
    system_dns: SystemDNSSettings = SystemDNSSettings()
    home: str = "/"
    """The folder that paths in the config are relative to."""
    kind: str = "content-filter"


class NewName(_Message, frozen=True):
    ask: int
    question: Question


class NewFlow(_Message, frozen=True):
    ask: int
    flow: Flow


class NewQuery(_Message, frozen=True):
    ask: int
    query: Question


class SystemDNS(_Message, frozen=True):
    """What the system would ask has changed."""

    settings: SystemDNSSettings


class Power(_Message, frozen=True):
    """The machine is about to sleep, or was asleep."""

    asleep: bool


class Data(_Message, frozen=True):
    """Held bytes of one direction, from `offset` on."""

    ask: int
    flow: Flow
    direction: str
    offset: int
    data: bytes


class End(_Message, frozen=True):
    """A direction is complete, or quiet: a final verdict is wanted."""

    ask: int
    flow: Flow
    direction: str


class Closed(_Message, frozen=True):
    report: FlowReport


class RulesChanged(_Message, frozen=True):
    config: dict[str, Any]


class Answered(_Message, frozen=True):
    """The answer to a prompt."""

    number: int
    reply: Reply


class OutputOpened(_Message, frozen=True):
    """The descriptor for a path that was wanted comes with this message, alone in its packet; or `errno`."""

    number: int
    errno: int


class Stop(_Message, frozen=True):
    reason: int


class Ready(_Message, frozen=True):
    """The provider has started, with these settings; `hooks` are those that it overrides."""

    settings: FilterSettings | None
    hooks: tuple[str, ...]
    dns: DNSProxySettings | None = None


class Broken(_Message, frozen=True):
    """The provider could not be loaded or started."""

    where: str
    reason: str
    hint: str | None


class Verdict(_Message, frozen=True):
    ask: int
    verdict: Allow | Drop | Peek | Pause | Answer | Forward | Refuse


class Failed(_Message, frozen=True):
    """A hook raised; `reason` is one line."""

    ask: int
    reason: str


class Resume(_Message, frozen=True):
    flow: int
    verdict: Allow | Drop | Peek | Pause


class Update(_Message, frozen=True):
    flow: int
    verdict: Allow | Drop | Peek | Pause


class Flush(_Message, frozen=True):
    """Answers that were kept for these names are wanted no more; () is all of them."""

    names: tuple[str, ...]


class Said(_Message, frozen=True):
    level: str
    text: str


class PromptAsked(_Message, frozen=True):
    number: int
    prompt: Prompt


class OutputWanted(_Message, frozen=True):
    number: int
    path: str


class Ended(_Message, frozen=True):
    """`stop` has returned; nothing follows."""


FromManager = (
    Begin
    | NewName
    | NewFlow
    | NewQuery
    | SystemDNS
    | Power
    | Data
    | End
    | Closed
    | RulesChanged
    | Answered
    | OutputOpened
    | Stop
)
FromWorker = Ready | Broken | Verdict | Failed | Resume | Update | Flush | Said | PromptAsked | OutputWanted | Ended

_encoder = msgspec.msgpack.Encoder()
_from_manager = msgspec.msgpack.Decoder(list[FromManager])
_from_worker = msgspec.msgpack.Decoder(list[FromWorker])


def batches(messages: Iterable[msgspec.Struct]) -> list[bytes]:
    """The packets that carry these messages, in order."""
    packets: list[bytes] = []
    batch: list[msgspec.Raw] = []
    size = 0
    for message in messages:
        encoded = _encoder.encode(message)
        if batch and (size + len(encoded) > MOST_BYTES or len(batch) == _MOST_IN_BATCH):
            packets.append(_encoder.encode(batch))
            batch, size = [], 0
        batch.append(msgspec.Raw(encoded))
        size += len(encoded)
    if batch:
        packets.append(_encoder.encode(batch))
    return packets


def from_manager(packet: bytes) -> list[FromManager]:
    """Reads a packet of the manager's. Raises `PeerViolation`."""
    try:
        return _from_manager.decode(packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PeerViolation("worker message", str(error)) from None


def from_worker(packet: bytes) -> list[FromWorker]:
    """Reads a packet of a worker's, which may be anything. Raises `PeerViolation`."""
    try:
        return _from_worker.decode(packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PeerViolation("worker message", str(error)) from None
