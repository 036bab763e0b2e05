"""Requirements that are a time, on a machine that does other things too: what it did once it can do."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")
_TRIES = 8


class TooSlow(AssertionError):
    """It was right, and later than it has to be."""


def within(most: float, seconds: float) -> None:
    """Ends this try if it took longer than that."""
    if seconds > most:
        raise TooSlow(f"{seconds:.3f} s, and {most} s are allowed")


def best_of_several(test: Callable[P, None]) -> Callable[P, None]:
    """Runs a test again that was only too slow; whatever else is wrong fails at once."""

    @wraps(test)
    def tried(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(_TRIES - 1):
            try:
                return test(*args, **kwargs)
            except TooSlow:
                continue
        return test(*args, **kwargs)

    return tried
