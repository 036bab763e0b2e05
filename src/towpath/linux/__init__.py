"""The Linux answer to `towpath.kernel`: one module a facility, mechanism and never policy.

The modules that a run needs before its command is executed import little, because `towpath run` must start fast.
"""

from __future__ import annotations

__all__ = ["Linux"]


class Linux:
    """The facilities by name; each is imported when it is first asked for."""
