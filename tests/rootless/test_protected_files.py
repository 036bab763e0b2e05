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


LINKED = {
    "a-file": (".bashrc", "dotfiles/bashrc"),
    "a-folder": (".ssh", "dotfiles/ssh"),
    "a-folder-above": (".config", "dotfiles/config"),
    "hooks": ("project/.git/hooks", "dotfiles/hooks"),
}
WAYS_OF_A_LINK = {
    "remove": "rm -rf {link} && mkdir -p {folder} && echo x > {path}",
    "replace": "ln -sfn /tmp {link}",
    "move-over-it": "ln -s /tmp {link}.new && mv -fT {link}.new {link}",
    "move-away": "mv {link} {link}.old && mkdir -p {folder} && echo x > {path}",
    "move-the-folder-away": "mv {above} {above}.old && mkdir -p {folder} && echo x > {path}",
    "write-through-it": "echo x > {path}",
    "write-behind-it": "echo x > {behind}",
    "mount-namespace": "unshare -rm sh -c 'umount {link}; rm -f {link}; mkdir -p {folder}; echo x > {path}'",
}


@pytest.mark.parametrize("kind", LINKED)
@pytest.mark.parametrize("way", WAYS_OF_A_LINK)
def test_a_link_to_what_runs_later_cannot_be_replaced(lab: RootlessLab, home: Path, kind: str, way: str) -> None:
    name, target = LINKED[kind]
    link, behind = home / name, home / target
    path = home / next(one for one in PATHS if one.startswith(name))
    behind.parent.mkdir(exist_ok=True)
    link.rename(behind)
    link.symlink_to(behind)
    if os.getuid() == 0:
        for one in (behind.parent, link):
            os.chown(one, USER, USER, follow_symlinks=False)
    try:
        command = WAYS_OF_A_LINK[way].format(
            link=link, path=path, folder=path.parent, above=link.parent, behind=behind / path.relative_to(link)
        )
        script = home / "attempt"
        script.write_text(f"cat {path}\n{command}\necho tried\n")
        done = lab.on_client(["sh", "-c", f"cd {home}/project && exec {lab.user.towpath} run -- sh {script}"])
        assert done.out == "mine\ntried\n", done
        assert link.readlink() == behind
        assert path.read_text() == "mine\n"
    finally:
        link.unlink()
        behind.rename(link)


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
    found = protected_paths({"HOME": str(tmp_path)}, str(tmp_path / "a/b/c"))
    assert [str(Path(path).relative_to(tmp_path)) for path in found] == [
        ".bashrc", "a/b/c/.vscode", "a/b/.envrc", "a/.git/hooks",
    ]  # fmt: skip


def _write(folder: Path, *names: str, text: str = "") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_places_that_variables_name_are_listed(tmp_path: Path) -> None:
    named = ("config/fish/config.fish", "zsh/.zshrc", "zsh/.bashrc", "env.sh", "gitconfig", ".tcshrc")
    _write(tmp_path, *named)
    variables = {"XDG_CONFIG_HOME": "config", "ZDOTDIR": "zsh", "BASH_ENV": "env.sh", "GIT_CONFIG_GLOBAL": "gitconfig"}
    environment = {variable: str(tmp_path / place) for variable, place in variables.items()}
    (tmp_path / "work").mkdir()
    found = protected_paths({**environment, "HOME": str(tmp_path)}, str(tmp_path / "work"))
    assert sorted(str(Path(path).relative_to(tmp_path)) for path in found) == [
        ".tcshrc", "config/fish", "env.sh", "gitconfig", "zsh/.zshrc",
    ]  # fmt: skip
    assert protected_paths({"HOME": "", "GIT_CONFIG_GLOBAL": "/dev/null", "ZDOTDIR": ""}, "/") == []


def test_hooks_of_a_linked_worktree_and_of_submodules_are_listed(tmp_path: Path) -> None:
    modules = ("sub", "deep/er", "sub/modules/inner")
    _write(tmp_path, *(f"main/.git/modules/{name}/{file}" for name in modules for file in ("HEAD", "hooks/x")))
    _write(tmp_path, "main/.git/HEAD", "main/.git/hooks/x", "main/.git/worktrees/side/HEAD")
    _write(tmp_path, "main/.git/worktrees/side/commondir", text="../..\n")
    _write(tmp_path, "side/.git", text=f"gitdir: {tmp_path}/main/.git/worktrees/side\n")
    _write(tmp_path, "main/sub/.git", text="gitdir: ../.git/modules/sub\n")

    def found(folder: str) -> set[str]:
        listed = protected_paths({"HOME": str(tmp_path)}, str(tmp_path / folder))
        return {os.path.relpath(os.path.realpath(path), tmp_path) for path in listed}

    of_main = {"main/.git/hooks", *(f"main/.git/modules/{name}/hooks" for name in modules)}
    assert found("main") == of_main
    assert found("main/sub") == {*of_main, "main/sub/.git"}
    assert found("side") == {"side/.git", "main/.git/worktrees/side/commondir", "main/.git/hooks"}


@pytest.mark.parametrize("text", ["", "gitdir:", "gitdir: /nowhere", "\0" * 10, "\udcff"])
def test_a_git_file_that_leads_nowhere_is_listed_itself(tmp_path: Path, text: str) -> None:
    (tmp_path / ".git").write_text(text, errors="surrogateescape")
    assert protected_paths({"HOME": str(tmp_path)}, str(tmp_path)) == [str(tmp_path / ".git")]


def test_git_works_in_a_linked_worktree_whose_hooks_are_kept(lab: RootlessLab, home: Path) -> None:
    main, side = home / "main", home / "side"
    hook = main / ".git/hooks/post-commit"
    git = "git -c user.name=me -c user.email=me@web.test"
    begin = (
        f"mkdir {main} && cd {main} && git init -q && mkdir -p .git/hooks && touch {hook} && chmod 755 {hook} && "
        f"{git} commit -qm begin --allow-empty && git worktree add -q {side}"
    )
    assert lab.on_client(["sh", "-c", begin]).code == 0
    tries = f"! echo x >> {hook} && ! rm -f {side}/.git && ! mv {main}/.git {main}/old && ! rm -rf {main}/.git/hooks"
    script = home / "attempt"
    script.write_text(f"{tries} && echo x > new && git add new && {git} commit -qm inside && git log --format=%s\n")
    done = lab.on_client(["sh", "-c", f"cd {side} && exec {lab.user.towpath} run -- sh {script}"])
    lab.on_client(["rm", "-rf", str(main), str(side)])
    assert done.out == "inside\nbegin\n", done
