"""What stands in place of an answer. Small: a run loads it, and nothing of the workers, before its command starts."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Failure"]


class Failure(NamedTuple):
    """In place of a verdict, where what fails must not look like one.

    >>> Failure("its worker has crashed").reason
    'its worker has crashed'
    """

    reason: str
