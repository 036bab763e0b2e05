"""Files that would run later, outside of the sandbox, as the user: a command must not be able to write them.

What stands here is started by something other than the user's own decision: a shell, a session manager, git, an editor.
A file that does not exist yet cannot be protected, and is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

__all__ = ["protected_paths"]

_IN_HOME = (
    ".bash_aliases", ".bash_login", ".bash_logout", ".bash_profile", ".bashrc", ".config/autostart", ".config/direnv",
    ".config/environment.d", ".config/fish", ".config/git", ".config/nvim", ".config/systemd", ".cshrc", ".direnvrc",
    ".emacs", ".emacs.d", ".gitconfig", ".inputrc", ".kshrc", ".local/share/systemd", ".login", ".logout",
    ".pam_environment", ".profile", ".ssh", ".tcshrc", ".vim", ".vimrc", ".xinitrc", ".xprofile", ".xsession",
    ".xsessionrc", ".zlogin", ".zlogout", ".zprofile", ".zshenv", ".zshrc",
)  # fmt: skip
_IN_PROJECT = (".envrc", ".git/hooks", ".idea", ".vscode")
_NAMED_FILES = ("BASH_ENV", "ENV", "GIT_CONFIG_GLOBAL")
_DEEPEST = 64
_MOST_LOOKED_AT, _DEEPEST_SUBMODULE = 256, 6


def protected_paths(environment: Mapping[str, str], folder: str) -> list[str]:
    """What exists of it: in the home folder, and in `folder` and every folder above it up to the home or the root.

    `environment` says where the home is, and which other places the programs in it look at.
    """
    home = environment.get("HOME")
    found = [os.path.join(home, name) for name in _IN_HOME] if home else []
    found += _elsewhere(environment)
    above = os.path.realpath(folder)
    for _ in range(_DEEPEST):
        found += [os.path.join(above, name) for name in _IN_PROJECT]
        found += _of_git(os.path.join(above, ".git"))
        parent = os.path.dirname(above)
        if above == parent or (home and above == os.path.realpath(home)):
            break
        above = parent
    return [path for path in found if os.path.exists(path)]


def _elsewhere(environment: Mapping[str, str]) -> Iterator[str]:
    for variable, below in (("XDG_CONFIG_HOME", ".config/"), ("ZDOTDIR", "")):
        place = environment.get(variable, "")
        if place.startswith("/"):
            yield from (
                os.path.join(place, name.removeprefix(below)) for name in _IN_HOME if name.startswith(below or ".z")
            )
    for variable in _NAMED_FILES:
        path = environment.get(variable, "")
        if path.startswith("/") and os.path.isfile(path):
            yield path


def _of_git(path: str) -> Iterator[str]:
    """Hooks of submodules, and of the repository that a `.git` file leads to (gitrepository-layout(5))."""
    if os.path.isfile(path):
        gitdir = _text(path).removeprefix("gitdir:").strip()
        gitdir = os.path.join(os.path.dirname(path), gitdir)
        commondir = os.path.join(gitdir, "commondir")
        common = os.path.join(gitdir, _text(commondir).strip())
        yield from (path, commondir, os.path.join(gitdir, "hooks"), os.path.join(common, "hooks"))
    else:
        yield from _submodules(os.path.join(path, "modules"))


def _submodules(folder: str) -> list[str]:
    """The hooks of the submodules in a folder `modules`, whose names may have slashes, and of those in them."""
    hooks: list[str] = []
    left = [(folder, 0)]
    for _ in range(_MOST_LOOKED_AT):
        if not left:
            break
        place, depth = left.pop()
        try:
            names = os.listdir(place)
        except OSError:
            continue
        if "HEAD" in names:
            hooks.append(os.path.join(place, "hooks"))
            names = [name for name in names if name == "modules"]
        if depth < _DEEPEST_SUBMODULE:
            left += [(os.path.join(place, name), depth + 1) for name in names]
    return hooks


def _text(path: str) -> str:
    if not os.path.isfile(path):
        return ""  # a pipe would be waited for
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(4096).partition("\0")[0]
    except OSError:
        return ""
