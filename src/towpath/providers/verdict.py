"""What a content filter may answer. Each verdict is a frozen value that travels between processes as a message."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from towpath.errors import Misuse

__all__ = ["MOST_PEEK", "Allow", "Drop", "FlowVerdict", "NameVerdict", "Pause", "Peek"]

MOST_PEEK = 65536
"""The most bytes of one direction that a filter can ask to see."""


class Allow(Struct, frozen=True, tag="allow"):
    """Everything passes, what is held as well, and the filter is not asked about this flow again."""


class Drop(Struct, frozen=True, tag="drop"):
    """Refused: the program sees what a refusal by policy looks like (`silent`: nothing at all), people see `reason`.

    >>> Drop("the name is an advertiser's")
    Drop(reason="the name is an advertiser's", silent=False)

    `silent` leaves packets unanswered until the program gives up by itself; a flow that has already begun is reset.
    """

    reason: str
    silent: bool = False


class Peek(Struct, frozen=True, tag="peek"):
    """All that the filter still wants to see: the first so many bytes of each direction, 0 to `MOST_PEEK`.

    Counts begin at the flow's start, not at what was shown last, and each new `Peek` replaces both counts. Outbound is
    what the filtered programs send, inbound what they receive, whoever opened the flow.

    - A direction with a count is *held*: its bytes are shown as they arrive, all that is held in one piece, and none
      of them passes before it was judged.
    - A count beyond what was shown waits for more, and nothing of that direction passes meanwhile.
    - A count of 0, or one that is not greater than what was shown or has passed already, lets the direction pass from
      here on, until a later verdict asks for more of it than has passed.
    - A `Peek` that leaves nothing to be shown in either direction is an `Allow`.

    So `Peek(inbound=1024)` as the answer to a request lets the request pass and shows the first KB of the answer.
    When a direction that is held ends, or nothing more of it arrives for a second, `data_complete` asks for its final
    verdict. For UDP a direction is the payloads of its datagrams one after the other; a datagram passes whole.

    Raises `Misuse` for a count outside of its range.
    """

    outbound: int = 0
    inbound: int = 0

    def __post_init__(self) -> None:
        for name, count in (("outbound", self.outbound), ("inbound", self.inbound)):
            if not 0 <= count <= MOST_PEEK:
                raise Misuse(f"Peek({name}={count}): a count is 0 to {MOST_PEEK} bytes from the flow's start")


class Pause(Struct, frozen=True, tag="pause"):
    """Not decided yet: both directions are held until `resume`. TCP waits for ever, UDP is dropped after 10 s."""


FlowVerdict: TypeAlias = Allow | Drop | Peek | Pause
"""What may be said of a flow."""

NameVerdict: TypeAlias = Allow | Drop
"""What may be said of a name that a program wants resolved."""
