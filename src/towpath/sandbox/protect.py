"""Files that would run later, outside of the sandbox, as the user: a command must not be able to write them.

What stands here is started by something other than the user's own decision: a shell, a session manager, git, an editor.
A file that does not exist yet cannot be protected, and is left out.
"""

from __future__ import annotations

import os

__all__ = ["protected_paths"]

_IN_HOME = (
    ".bash_aliases", ".bash_login", ".bash_logout", ".bash_profile", ".bashrc", ".config/autostart", ".config/direnv",
    ".config/environment.d", ".config/fish", ".config/git", ".config/nvim", ".config/systemd", ".direnvrc", ".emacs",
    ".emacs.d", ".gitconfig", ".inputrc", ".kshrc", ".local/share/systemd", ".pam_environment", ".profile", ".ssh",
    ".vim", ".vimrc", ".xinitrc", ".xprofile", ".xsession", ".xsessionrc", ".zlogin", ".zlogout", ".zprofile",
    ".zshenv", ".zshrc",
)  # fmt: skip
_IN_PROJECT = (".envrc", ".git/hooks", ".idea", ".vscode")
_DEEPEST = 64


def protected_paths(home: str | None, folder: str) -> list[str]:
    """What exists of it: in the home folder, and in `folder` and every folder above it up to the home or the root."""
    found = [os.path.join(home, name) for name in _IN_HOME] if home else []
    above = os.path.realpath(folder)
    for _ in range(_DEEPEST):
        found += [os.path.join(above, name) for name in _IN_PROJECT]
        parent = os.path.dirname(above)
        if above == parent or (home and above == os.path.realpath(home)):
            break
        above = parent
    return [path for path in found if os.path.exists(path)]
