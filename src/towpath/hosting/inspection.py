"""Holding a flow's bytes while a content filter looks at them: the meaning of `Peek`, without any input or output.

`Inspection` is one direction, `FlowInspection` both of one flow with the questions that its filter is asked, one at a
time. Whoever moves the bytes calls `take` for what it read and writes what is said to pass.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from towpath.errors import Misuse
from towpath.providers.flow import Direction
from towpath.providers.verdict import Drop, FlowVerdict, Pause, Peek

__all__ = ["QUIET", "UDP_PAUSE", "Complete", "FlowInspection", "Inspection", "Pass", "Show", "Step"]

QUIET = 1.0
"""Seconds after which a direction that is held and silent is complete."""

UDP_PAUSE = 10.0
"""Seconds after which a paused UDP flow is dropped."""

PROMPT_SHOWS = 64
"""How many times new bytes are shown at once, however few; afterwards when what is held has grown by an eighth.

Otherwise whoever sends 64 KB one byte at a time would have 2 GB shown.
"""


class Inspection:
    """One direction of one flow. It begins undecided: all is held and nothing shown until the first `judge`.

    >>> direction = Inspection()
    >>> direction.judge(4), direction.take(b"GET"), direction.show()
    ((), (), (0, b'GET'))
    >>> direction.judge(0), direction.take(b" /")
    ((b'GET',), (b' /',))

    Chunks pass as they were taken, so that datagrams stay datagrams. `passed` and `held` are bytes.
    """

    __slots__ = ("_chunks", "_count", "_shown", "_shows", "closed", "ended", "held", "passed")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._count: int | None = None
        self._shown = 0
        self._shows = 0
        self.passed = 0
        self.held = 0
        self.ended = False
        """Nothing will be taken any more."""
        self.closed = False
        """And the end has passed, so that nothing is left to hold."""

    @property
    def holding(self) -> bool:
        """Whether what is taken now would be held."""
        return not self.closed and (self._count is None or self._count > self.passed)

    @property
    def fresh(self) -> int:
        """How many bytes are held that were asked for and not shown."""
        if self._count is None:
            return 0
        return max(0, min(self._count, self.passed + self.held) - max(self._shown, self.passed))

    @property
    def due(self) -> bool:
        """Whether to show what is fresh now rather than wait for more of it."""
        if self._shows < PROMPT_SHOWS or self.ended or not self.room:
            return self.fresh > 0
        return self.fresh > (self._shown - self.passed) // 8

    @property
    def starved(self) -> bool:
        """Whether bytes are held and none is due: they wait for others to come."""
        return self._count is not None and self.holding and not self.due and self.held > 0

    @property
    def room(self) -> int:
        """How many more bytes would be shown; a stream need not be read further when it is 0 and `holding`."""
        return 0 if self._count is None else max(0, self._count - self.passed - self.held)

    def take(self, chunk: bytes) -> tuple[bytes, ...]:
        """What passes now that `chunk` has come: the chunk or nothing."""
        if not self.holding:
            self.passed += len(chunk)
            return (chunk,)
        self._chunks.append(chunk)
        self.held += len(chunk)
        return ()

    def show(self) -> tuple[int, bytes]:
        """What to show: where it begins, and all that is held up to the count. Raises `Misuse` if none is fresh."""
        if self._count is None or not self.fresh:
            raise Misuse("Inspection.show: nothing is fresh")
        data = b"".join(self._chunks)[: self._count - self.passed]
        self._shown = self.passed + len(data)
        self._shows += 1
        return self.passed, data

    def wants(self, count: int) -> bool:
        """Whether the first `count` bytes are more than was shown or has passed."""
        return count > max(self._shown, self.passed)

    def judge(self, count: int) -> tuple[bytes, ...]:
        """A verdict: see the first `count` bytes of the direction. What passes now, all that is held or nothing."""
        self._count = count if self.wants(count) else 0
        if self.holding:
            return ()
        chunks = tuple(self._chunks)
        self._chunks.clear()
        self.passed += self.held
        self.held = 0
        return chunks

    def pause(self) -> None:
        """Undecided again: hold all, show nothing."""
        self._count = None

    def forget(self) -> None:
        """Undecided again, and what was shown counts as not shown: whoever saw it is gone."""
        self.pause()
        self._shown = self._shows = 0


class Pass(NamedTuple):
    """Write these chunks; after them the direction's end, if it `ended`."""

    direction: Direction
    chunks: tuple[bytes, ...]
    ended: bool


class Show(NamedTuple):
    """Ask `handle_outbound_data` or `handle_inbound_data`."""

    direction: Direction
    offset: int
    data: bytes


class Complete(NamedTuple):
    """Ask `data_complete`."""

    direction: Direction


Step: TypeAlias = Pass | Show | Complete


class FlowInspection:
    """Both directions of one flow, from `handle_new_flow` (which is being asked when it is made) to a last verdict.

    >>> flow = FlowInspection()
    >>> flow.verdict(Peek(outbound=100))
    []
    >>> flow.take("outbound", b"hello")
    [Show(direction='outbound', offset=0, data=b'hello')]
    >>> flow.verdict(Peek(inbound=100))
    [Pass(direction='outbound', chunks=(b'hello',), ended=False)]

    Each call gives the steps to take, in order. There is at most one question at a time (`asked`); its answer is given
    to `verdict`, and so is what resumes a `paused` flow. `allowed` or `dropped` is the end: afterwards all passes, or
    nothing.
    """

    def __init__(self) -> None:
        self.asked = True
        self.paused = False
        self.allowed = False
        self.dropped: Drop | None = None
        self._final: Direction | None = None
        self._directions: dict[Direction, Inspection] = {"outbound": Inspection(), "inbound": Inspection()}

    def direction(self, direction: Direction) -> Inspection:
        """One of the two, to be looked at."""
        return self._directions[direction]

    def waits(self, direction: Direction) -> bool:
        """Whether `QUIET` seconds without a byte of this direction should lead to `quiet`."""
        return not self._settled and self._directions[direction].starved

    def take(self, direction: Direction, chunk: bytes) -> list[Step]:
        """Bytes have arrived. After a drop they vanish."""
        if self.dropped:
            return []
        chunks = self._directions[direction].take(chunk)
        return self._pass(direction, chunks) if chunks else self._ask()

    def end(self, direction: Direction) -> list[Step]:
        """No byte will follow in this direction."""
        inspection = self._directions[direction]
        if self.dropped or inspection.ended:
            return []
        inspection.ended = True
        return self._ask() if inspection.holding else self._pass(direction, ())

    def quiet(self, direction: Direction) -> list[Step]:
        """Nothing came for `QUIET` seconds while the direction was starved."""
        if not self.waits(direction):
            return []
        return self._show(direction) if self._directions[direction].fresh else self._complete(direction)

    def verdict(self, verdict: FlowVerdict) -> list[Step]:
        """The answer to the open question, or what resumes the flow.

        Raises `Misuse` when nothing was asked, and for an answer to `data_complete` that asks for more of the same.
        """
        if not self.asked and not self.paused:
            raise Misuse("FlowInspection.verdict: nothing was asked, and the flow is not paused")
        counts: dict[Direction, int] = {"outbound": 0, "inbound": 0}
        if isinstance(verdict, Peek):
            counts = {"outbound": verdict.outbound, "inbound": verdict.inbound}
        final = self._final
        if final and self._directions[final].wants(counts[final]):
            raise Misuse(f"data_complete(..., {final!r}) answers {verdict}, which waits for more of what is over")
        self.asked = self.paused = False
        if isinstance(verdict, Pause):
            # Resuming must be as final as the answer would have been.
            self.paused = True
            for inspection in self._directions.values():
                inspection.pause()
            return []
        self._final = None
        if isinstance(verdict, Drop):
            self.dropped = verdict
            return []
        steps: list[Step] = []
        for direction, inspection in self._directions.items():
            was_held = inspection.holding
            chunks = inspection.judge(counts[direction])
            if was_held and not inspection.holding and (chunks or inspection.ended):
                steps += self._pass(direction, chunks)
        self.allowed = not any(inspection.holding for inspection in self._directions.values())
        return steps + self._ask()

    def restart(self) -> None:
        """Another instance of the filter has taken over, and is to be asked `handle_new_flow`.

        What has passed has passed; what is held waits for the new one. A flow that was decided stays so.
        """
        if self.allowed or self.dropped:
            return
        self.asked, self.paused, self._final = True, False, None
        for inspection in self._directions.values():
            inspection.forget()

    @property
    def _settled(self) -> bool:
        return self.asked or self.paused or self.allowed or self.dropped is not None

    def _ask(self) -> list[Step]:
        """The next question, if there is any to put now."""
        if self._settled:
            return []
        for direction, inspection in self._directions.items():
            if inspection.due:
                return self._show(direction)
            if inspection.ended and inspection.holding:
                return self._complete(direction)
        return []

    def _pass(self, direction: Direction, chunks: tuple[bytes, ...]) -> list[Step]:
        inspection = self._directions[direction]
        inspection.closed = inspection.ended
        return [Pass(direction, chunks, inspection.ended)]

    def _show(self, direction: Direction) -> list[Step]:
        self.asked = True
        return [Show(direction, *self._directions[direction].show())]

    def _complete(self, direction: Direction) -> list[Step]:
        self.asked = True
        self._final = direction
        return [Complete(direction)]
