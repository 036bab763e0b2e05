"""What Towpath asks of an operating system: plain values, typed protocols, and the one place that chooses an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.linux import Linux

__all__ = ["current"]


def current() -> Linux:
    """The operating system under this process. There is one answer so far, and nobody else imports it."""
    from towpath.linux import Linux

    return Linux()
