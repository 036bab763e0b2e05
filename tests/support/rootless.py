"""Towpath as an ordinary user has it: another uid, no capability, the system's own Python, nothing of root's home."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

__all__ = ["CURL_HOME", "Rootless", "installed", "shared_site"]

USER = 1000
_SOURCE = Path(__file__).resolve().parents[2] / "src" / "towpath"
_PYTHON = "/usr/bin/python3"
CURL_HOME = Path(__file__).parent / "curl"
"""A folder with settings of curl's, which the tests' curl reads."""
_SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {site!r})
from towpath.cli import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Rootless:
    """`python` and `towpath` can be executed; `site` is on their module path, `home` is the user's."""

    python: str
    towpath: str
    site: Path
    home: Path

    @property
    def prefix(self) -> list[str]:
        """What goes before a command so that an ordinary user runs it; nothing, where the tests are run by one."""
        if os.getuid():
            return []
        return [
            "setpriv",
            f"--reuid={USER}",
            f"--regid={USER}",
            "--clear-groups",
            "--inh-caps=-all",
            "--ambient-caps=-all",
        ]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        base = {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.site),
            "CURL_HOME": str(self.home.parent / "curl"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return base | dict(extra or {})

    def run(self, command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run as the user, in the user's home, output captured as text; `env` is added to a clean one."""
        return subprocess.run([*self.prefix, *command], **self._options(options, capture=True))

    def popen(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([*self.prefix, *command], **self._options(options, capture=False))

    def _options(self, options: dict[str, Any], *, capture: bool) -> dict[str, Any]:
        found = {"cwd": self.home, "text": True} | options
        if capture:
            found = {"stdin": None if "input" in options else subprocess.DEVNULL, "timeout": 120} | found
            found = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | found
            if found["stdin"] is None:
                del found["stdin"]
        found["env"] = self.environment(options.get("env"))
        return found


@contextmanager
def shared_site(folder: Path) -> Iterator[Path]:
    """Towpath and what it needs in `folder`, readable by all.

    The first process of the tests that asks copies it, and the last one removes it.
    """
    with open(f"{folder}.coming-and-going", "w") as door, open(f"{folder}.in-use", "w") as use:
        fcntl.flock(door, fcntl.LOCK_EX)
        if not folder.exists():
            made = folder.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            _copy(made)
            made.rename(folder)
        fcntl.flock(use, fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield folder
        finally:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(use, fcntl.LOCK_UN)
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another process has it still
            else:
                shutil.rmtree(folder, ignore_errors=True)
                Path(use.name).unlink(missing_ok=True)
                Path(door.name).unlink(missing_ok=True)
            fcntl.flock(door, fcntl.LOCK_UN)


def _copy(site: Path) -> None:
    shutil.copytree(_SOURCE, site / "towpath")
    for name in sorted(_needed("towpath", "trustme")):
        for file in distribution(name).files or ():
            if ".." not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), target)
    # Nobody else may write there, so that each start would compile it again.
    subprocess.run([_PYTHON, "-m", "compileall", "-q", site / "towpath"], check=True)
    subprocess.run(["chmod", "-R", "a+rX", site], check=True)


def installed(folder: Path, site: Path) -> Iterator[Rootless]:
    """A user with a home and a program in `folder`, which goes afterwards."""
    home, program = folder / "home", folder / "towpath"
    shutil.copytree(CURL_HOME, folder / "curl")
    folder.chmod(0o755)
    home.mkdir()
    if not os.getuid():
        os.chown(home, USER, USER)
    subprocess.run(["chmod", "-R", "a+rX", folder / "curl"], check=True)
    program.write_text(_SCRIPT.format(python=_PYTHON, site=str(site)))
    program.chmod(0o755)
    user = Rootless(_PYTHON, str(program), site, home)
    _check(user)
    try:
        yield user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _needed(*names: str) -> set[str]:
    """The distributions that `names` require, without extras and without Towpath, which comes from the source."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for requirement in distribution(name).requires or ():
            word = re.match(r"[A-Za-z0-9._-]+", requirement)
            if word and "extra ==" not in requirement and _applies(requirement):
                waiting.append(word.group().lower())
    return found - {"towpath"}


def _applies(requirement: str) -> bool:
    from packaging.requirements import Requirement

    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate()


def _check(user: Rootless) -> None:
    """Sees that the user is ordinary: a proof by a privileged one would prove nothing."""
    version = user.run([user.python, "-c", f"import sys; print(sys.version_info[:2] == {sys.version_info[:2]!r})"])
    assert version.stdout == "True\n", f"{_PYTHON} cannot load this environment's compiled modules"
    status = user.run(["grep", "-E", "^(Uid|Cap(Inh|Prm|Eff|Amb))", "/proc/self/status"]).stdout
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    assert fields.pop("Uid") == [str(USER if not os.getuid() else os.getuid())] * 4
    assert set(map(tuple, fields.values())) == {("0000000000000000",)}, f"the user has capabilities: {fields}"
