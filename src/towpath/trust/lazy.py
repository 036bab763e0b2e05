"""An attribute that is found once, when it is first asked for.

As `functools.cached_property`, without the lock that Python 3.11 takes on every first read: finding a fact twice in
two threads does no harm here, and an evaluation reads dozens of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["lazy"]

_Value = TypeVar("_Value")


class lazy(Generic[_Value]):  # noqa: N801
    """Decorates a method without arguments. ::

    @lazy
    def fingerprint(self) -> bytes: ...
    """

    def __init__(self, find: Callable[[Any], _Value]) -> None:
        self._find = find
        self._name = find.__name__
        self.__doc__ = find.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> lazy[_Value]: ...
    @overload
    def __get__(self, owner: object, kind: type) -> _Value: ...
    def __get__(self, owner: object | None, kind: type) -> lazy[_Value] | _Value:
        if owner is None:
            return self
        value = self._find(owner)
        owner.__dict__[self._name] = value
        return value
