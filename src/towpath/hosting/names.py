"""Which names stand behind an address: what DNS answers said in a scope, and for how long that counts."""

from __future__ import annotations

import time
from collections.abc import Iterable

__all__ = ["NameEvidence"]

LEAST_LIFETIME = 300.0
"""Seconds. Programs keep addresses longer than a TTL of a few seconds allows, and mean no harm by it."""
MOST_NAMES = 64
"""Names of one address: a zone that answers every name with it must neither fill the memory nor slow decisions."""
MOST_ASKERS = 512
"""Those that asked last."""
MOST_ADDRESSES = 65536
"""A program that resolves without end pushes out the oldest evidence, not the manager's memory."""


class NameEvidence:
    """Packed addresses to the names that were answered with them.

    `generation` changes whenever an answer to "which names" may have.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._names: dict[bytes, dict[str, float]] = {}
        self._alive: dict[bytes, int] = {}
        self._next_expiry = float("inf")
        self._asked: dict[object, dict[str, None]] = {}

    def asked(self, asker: object, name: str) -> None:
        """Somebody (a process id) has asked for a name: of an address's names it means those that it asked for."""
        names = self._asked.pop(asker, None)
        if names is None:
            names = {}
            if len(self._asked) >= MOST_ASKERS:
                del self._asked[next(iter(self._asked))]
        self._asked[asker] = names
        names.pop(name, None)
        names[name] = None
        if len(names) > MOST_NAMES:
            del names[next(iter(names))]

    def meant_by(self, asker: object, names: tuple[str, ...]) -> tuple[str, ...]:
        """The same names, those first that this asker asked for, the latest before the others."""
        own = self._asked.get(asker)
        if not own or len(names) < 2:
            return names
        order = list(own)
        return tuple(sorted(names, key=lambda name: -1 - order.index(name) if name in own else 0))

    def learn(self, name: str, addresses: Iterable[tuple[bytes, int]], now: float | None = None) -> None:
        """Takes the addresses of one answer, each with its TTL in seconds."""
        moment = time.monotonic() if now is None else now
        for address, ttl in addresses:
            known = self._names.setdefault(address, {})
            if name not in known:
                self.generation += 1
                if len(known) >= MOST_NAMES:
                    del known[next(iter(known))]
            known.pop(name, None)  # the latest answer stands last
            known[name] = moment + max(float(ttl), LEAST_LIFETIME)
            self._next_expiry = min(self._next_expiry, known[name])
        while len(self._names) > MOST_ADDRESSES:
            oldest = next((address for address in self._names if address not in self._alive), None)
            if oldest is None:
                break
            del self._names[oldest]
            self.generation += 1

    def of(self, address: bytes, now: float | None = None) -> tuple[str, ...]:
        """The names of an address, the latest first. Evidence lives on while a flow to its address does."""
        moment = time.monotonic() if now is None else now
        if moment >= self._next_expiry:
            self._expire(moment)
        known = self._names.get(address)
        return tuple(reversed(known)) if known else ()

    def _expire(self, now: float) -> None:
        self._next_expiry = float("inf")
        for address, known in list(self._names.items()):
            if address not in self._alive:
                for name in [name for name, end in known.items() if end <= now]:
                    del known[name]
                    self.generation += 1
                if not known:
                    del self._names[address]
                    continue
                self._next_expiry = min(self._next_expiry, *known.values())
            else:
                self._next_expiry = min(self._next_expiry, now + LEAST_LIFETIME)

    def hold(self, address: bytes) -> None:
        """A flow to the address has begun."""
        self._alive[address] = self._alive.get(address, 0) + 1

    def release(self, address: bytes) -> None:
        """A flow to the address has ended."""
        left = self._alive.get(address, 1) - 1
        if left:
            self._alive[address] = left
        else:
            self._alive.pop(address, None)
