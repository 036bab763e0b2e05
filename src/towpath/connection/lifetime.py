"""What `async with` does with a connection or a group: ready inside, ended in order behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Lifetime"]


class Lifetime(ABC):
    """Its `async with` waits for ready and cancels at the end; where waiting is cut short, it ends at once."""

    @abstractmethod
    async def ready(self) -> None: ...

    @abstractmethod
    def cancel(self) -> None: ...

    @abstractmethod
    def force_cancel(self) -> None: ...

    @abstractmethod
    async def closed(self) -> None: ...

    async def __aenter__(self) -> Self:
        try:
            await self.ready()
        except BaseException:
            self.force_cancel()
            await self.closed()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        try:
            await self.closed()
        except BaseException:
            self.force_cancel()
            raise
