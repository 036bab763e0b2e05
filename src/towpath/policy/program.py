"""Rules narrowed to programs: what the kernel says of the process behind a flow. A convenience, never a boundary.

Whatever may be executed in a run may execute an allowed program, or be traced into it; such a rule keeps honest
programs apart, not hostile ones.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["By", "Program"]


class Program(NamedTuple):
    """The process that opened a flow: its name, its executable file, its arguments, its ancestors' names from the
    nearest on."""

    name: str
    executable: str | None = None
    command: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


class By(NamedTuple):
    """Which programs a rule is for; "" for any. `program` and `parent` are a name, or the path of an executable; all
    may hold ``*``. `command` is compared with the arguments, joined by spaces.

    >>> By("git", "", "").excludes(Program("git", "/usr/bin/git"), "allow")
    ''
    >>> By("/usr/bin/*", "npm", "").excludes(Program("node", "/usr/bin/node", (), ("sh",)), "allow")
    'it is for /usr/bin/* under npm, and node runs under sh'
    """

    program: str
    parent: str
    command: str

    @property
    def text(self) -> str:
        """As a rule writes it, behind the host."""
        words = (("by", self.program), ("under", self.parent), ("running", self.command))
        return " ".join(f"{word} {what}" for word, what in words if what)

    def excludes(self, program: Program | None, action: str) -> str:
        """Why a rule with this `action` does not hold for a program; "" if it does.

        A program that is not known is none of those that an allow is for, and may be one of those that a deny is for.
        """
        if program is None:
            return "" if action == "deny" else f"it is {self._whose}, and the program is not known"
        if self.program and not _is(self.program, program.name, program.executable):
            return f"it is {self._whose}, not for {program.executable or program.name}"
        if self.parent and not any(fits(self.parent, parent) for parent in program.parents):
            under = " under ".join(program.parents) or "nothing"
            return f"it is {self._whose}, and {program.name} runs under {under}"
        if self.command and not fits(self.command, " ".join(program.command)):
            return f"it is {self._whose}, and {program.name} was called as: {' '.join(program.command)[:80]}"
        return ""

    @property
    def _whose(self) -> str:
        words = [f"for {self.program or 'programs'}"]
        if self.parent:
            words.append(f"under {self.parent}")
        if self.command:
            words.append(f"called as {self.command}")
        return " ".join(words)


def _is(pattern: str, name: str, executable: str | None) -> bool:
    """A pattern with a slash is a path; without one it is the name of the file, or what the process calls itself."""
    if "/" in pattern:
        return executable is not None and fits(pattern, executable)
    return fits(pattern, name) or (executable is not None and fits(pattern, executable.rpartition("/")[2]))


def fits(pattern: str, text: str) -> bool:
    """Whether a text is a pattern's, in which ``*`` stands for anything."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    if not text.startswith(first) or not text.endswith(rest[-1]) or len(text) < len(first) + len(rest[-1]):
        return False
    at, end = len(first), len(text) - len(rest[-1])
    for part in rest[:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
