"""Where `towpath run --watch` draws: on the terminal if the command does not have it, else in a pane beside.

The viewer is a process of its own (`towpath top`), which reads the run's stream. The command keeps its terminal.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable

__all__ = ["Viewer"]

_PATIENCE = 3.0


class Viewer:
    """Decides where to draw while streams are still the caller's; to be made before the sandbox is."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: list[object] | None = None
        self._terminal = _open_terminal()
        self._pane = bool(os.environ.get("TMUX")) and shutil.which("tmux") is not None
        self._free = self._terminal >= 0 and not (os.isatty(1) or os.isatty(2))
        if self._free and os.isatty(0):
            # Keys are the viewer's: two readers of one terminal would each get some.
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.close(nothing)

    @property
    def draws_here(self) -> bool:
        """Whether the terminal is the view's."""
        return self._free

    def start(self, say: Callable[[str, str], None]) -> bool:
        """Draws, or says where somebody can have it drawn. The run can be watched by now; `True` if somebody comes."""
        words = [sys.executable, "-P", "-m", "towpath", "top", str(os.getpid())]
        if self._free:
            self._settings = termios.tcgetattr(self._terminal)
            self._process = subprocess.Popen(
                [*words, "--until-end"], stdin=self._terminal, stdout=self._terminal, stderr=self._terminal
            )
        elif self._pane:
            pane = ["tmux", "split-window", "-d", "-l", "45%", shlex.join(words)]
            subprocess.run(pane, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        else:
            say("warning", f"the command has this terminal; in another one: towpath top {os.getpid()}")
            return False
        return True

    def has_ended(self) -> bool:
        """Whether nobody will come any more."""
        return self._process is not None and self._process.poll() is not None

    def finish(self) -> None:
        """Lets it say its last words, and leaves the terminal as it was."""
        if self._process is not None:
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._settings is not None:
                try:
                    termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._settings)  # type: ignore[arg-type]
                except termios.error:
                    pass  # it has been hung up
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1


def _open_terminal() -> int:
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return -1
