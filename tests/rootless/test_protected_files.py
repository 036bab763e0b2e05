"""Files that would run later, outside: read-only inside, whichever way they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.rootless import USER, Rootless
from tests.support.rootless_lab import RootlessLab

from towpath.sandbox.protect import protected_paths

PATHS = (".bashrc", ".ssh/authorized_keys", ".config/systemd/user/evil.service", "project/.git/hooks/pre-commit")
WAYS = {
    "append": "echo x >> {path}",
    "replace": "echo x > {path}.new && mv -f {path}.new {path}",
    "remove": "rm -f {path}",
    "link": "ln -sf /tmp/other {path}",
    "move-the-folder-away": "mv {folder} {folder}.old && mkdir {folder} && echo x > {path}",
    "move-a-folder-above-away": "mv {top} {top}.old && mkdir -p {folder} && echo x > {path}",
    "another-name": "ln {path} {path}.link && echo x >> {path}.link",
    "mount-namespace": "unshare -rm sh -c 'umount {path} {folder}; mount -o remount,rw,bind {path}; echo x >> {path}'",
}


@pytest.fixture
def home(rootless: Rootless) -> Iterator[Path]:
    for name in PATHS:
        path = rootless.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine\n")
    if os.getuid() == 0:
        for path in [rootless.home, *rootless.home.rglob("*")]:
            os.chown(path, USER, USER, follow_symlinks=False)
    yield rootless.home
    for name in PATHS:
        (rootless.home / name).unlink()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_runs_later_cannot_be_written(lab: RootlessLab, home: Path, name: str, way: str) -> None:
    path = home / name
    top = home / Path(name).parts[0]
    command = WAYS[way].format(path=path, folder=path.parent, top=top)
    script = home / "attempt"
    script.write_text(f"{command}\necho tried\n")
    done = lab.on_client(["sh", "-c", f"cd {home}/project && exec {lab.user.towpath} run -- sh {script}"])
    assert done.out.endswith("tried\n"), done
    assert path.read_text() == "mine\n"
    assert not path.is_symlink()


def test_whoever_wants_to_may_let_it_write(lab: RootlessLab, home: Path) -> None:
    path = home / ".bashrc"
    done = lab(["sh", "-c", f"echo x >> {path}"], "--no-protect")
    assert done.code == 0
    assert path.read_text() == "mine\nx\n"


def test_the_rest_of_the_home_stays_writable(lab: RootlessLab, home: Path) -> None:
    command = (
        f"echo new > {home}/notes && mv {home}/notes {home}/project/notes && cat {home}/project/notes {home}/.bashrc"
    )
    done = lab(["sh", "-c", command])
    assert done.out == "new\nmine\n", done
    (home / "project" / "notes").unlink()


def test_only_what_exists_is_listed_from_the_folder_up_to_the_home(tmp_path: Path) -> None:
    for name in (".bashrc", "a/.git/hooks/x", "a/b/.envrc", "a/b/c/.vscode/tasks.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = protected_paths(str(tmp_path), str(tmp_path / "a/b/c"))
    assert [str(Path(path).relative_to(tmp_path)) for path in found] == [
        ".bashrc", "a/b/c/.vscode", "a/b/.envrc", "a/.git/hooks",
    ]  # fmt: skip
