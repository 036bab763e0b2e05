"""The programs we compare with, and our own as its users start it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.rounds import Absent

__all__ = ["CODEX", "codex", "npm_environment", "program", "sandbox_runtime", "sandlock", "towpath_run"]

_ROOT = Path(__file__).resolve().parent.parent
_NPM = _ROOT / ".cache" / "npm" / "node_modules" / ".bin"
CODEX = _ROOT / ".cache" / "codex" / "node_modules" / "@openai"
_CODEX_INSTALL = "npm install --prefix .cache/codex @openai/codex"


def program(name: str, package: str = "") -> str:
    """The path of a program of a Debian package. Raises `Absent`."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise Absent(f"{name} is not installed: apt-get install {package or name}, or make peers")
    return found


def towpath_run(*options: str) -> list[str]:
    """`towpath run OPTIONS --`, to be followed by a command."""
    script = Path(sys.executable).with_name("towpath")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "towpath"]
    return [*start, "run", *options, "--"]


def sandbox_runtime(folder: str, *domains: str) -> list[str]:
    """`srt` with these domains allowed, to be followed by a command. Raises `Absent`."""
    if not (_NPM / "srt").exists():
        raise Absent("@anthropic-ai/sandbox-runtime is not installed: it needs npm, then make peers")
    for name, package in (("bwrap", "bubblewrap"), ("socat", "socat"), ("rg", "ripgrep")):
        program(name, package)
    settings = Path(folder, "srt.json")
    network = {"allowedDomains": list(domains), "deniedDomains": []}
    files = {"denyRead": [], "allowWrite": ["/tmp"], "denyWrite": []}
    settings.write_text(json.dumps({"network": network, "filesystem": files}))
    return [str(_NPM / "srt"), "--settings", str(settings)]


def codex(*domains: str, private: bool) -> list[str]:
    """`codex sandbox` with these domains allowed, to be followed by a command. Raises `Absent`.

    `private` are names that lead to addresses which are not public, such as those of a Lab.
    """
    found = sorted(CODEX.glob("codex-linux-*/vendor/*/bin/codex"))
    if not found:
        raise Absent(f"Codex is not installed; it has 420 MB: {_CODEX_INSTALL}")
    home = CODEX.parents[1] / "home"  # it takes none below /tmp
    home.mkdir(exist_ok=True)
    lines = [f'{json.dumps(domain)} = "allow"' for domain in domains]
    (home / "config.toml").write_text(
        'default_permissions = "tried"\n[features]\nnetwork_proxy = true\n[permissions.tried]\n'
        'extends = ":workspace"\n[permissions.tried.network]\nenabled = true\n'
        f"allow_local_binding = {str(private).lower()}\n[permissions.tried.network.domains]\n" + "\n".join(lines) + "\n"
    )
    start = ["env", f"CODEX_HOME={home}", str(found[0]), "sandbox", "-P", "tried", "--transparent-tcp"]
    return [*start, "--"]


def sandlock(*rules: str) -> list[str]:
    """A command under sandlock with these rules, to be followed by it. Raises `Absent`."""
    if find_spec("sandlock") is None:
        raise Absent("sandlock is not installed: make peers")
    runner = Path(__file__).with_name("programs") / "sandlocked.py"
    return [sys.executable, str(runner), ",".join(rules)]


def npm_environment() -> dict[str, str]:
    """The environment in which npm's programs find the Node.js that came with them."""
    return {**os.environ, "PATH": f"{_NPM}:{os.environ.get('PATH', '')}"}
