"""Ways out of a run through what it inherits and shares: descriptors, Unix sockets, its group of processes."""

from __future__ import annotations

import json
import os
import signal
from uuid import uuid4

import pytest
from tests.support.attempts import TRY, attempt
from tests.support.processes import descendants, manager_of, parent_of, wait_for_end
from tests.support.rootless_lab import RootlessLab
from tests.support.unix_server import unix_server

_OPEN = """
import json, os, select, socket, sys
events = select.epoll()
kinds = {
    "folder": lambda: os.open("/", os.O_RDONLY),
    "folder by path only": lambda: os.open("/run", os.O_PATH),
    "unix socket": lambda: socket.socketpair()[0].detach(),
    "connected socket": lambda: socket.create_connection((ADDRESS, 80)).detach(),
    "udp socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
    "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).detach(),
    "process handle": lambda: os.pidfd_open(os.getpid()),
    "epoll": events.fileno,
    "device": lambda: os.open("/dev/null", os.O_RDWR),
    "pipe": lambda: os.pipe()[0],
    "file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "memory file": lambda: os.memfd_create("x"),
}
held = {}
for number, (name, make) in enumerate(kinds.items(), 20):
    os.dup2(make(), number)
    held[str(number)] = name
words = json.loads(sys.argv[1])
os.execve(words[0], words, {**os.environ, "HELD": json.dumps(held)})
"""
_SHOW = (
    TRY
    + """
import json
held = json.loads(os.environ["HELD"])
open_now = [name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]
print(json.dumps([held.get(name, name) for name in open_now]))
"""
)


def _inherited(lab: RootlessLab, *options: str) -> set[str]:
    source = f"ADDRESS = {lab.addresses['web'][0]!r}\n{_OPEN}"
    done = lab.on_client([lab.user.python, "-I", "-c", source, json.dumps(lab.command(_SHOW, *options))])
    return set(json.loads(done.out)) - {"0", "1", "2"}


def test_only_pipes_and_files_are_inherited(lab: RootlessLab) -> None:
    """A folder left open reaches what is covered; a socket left open is in the host's network."""
    assert _inherited(lab) == {"pipe", "file", "memory file"}


def test_any_descriptor_can_be_kept_by_its_number(lab: RootlessLab) -> None:
    assert _inherited(lab, "--keep-fd", "20", "--keep-fd", "23") == {
        "folder",
        "connected socket",
        "pipe",
        "file",
        "memory file",
    }


def test_towpath_leaves_the_command_no_descriptor_of_its_own(lab: RootlessLab) -> None:
    assert lab(TRY + "print([n for n in range(3, 4096) if os.path.lexists(f'/proc/self/fd/{n}')])").out == "[]\n"


def test_no_socket_of_towpath_is_in_the_runs_own_table(lab: RootlessLab) -> None:
    done = lab(["cat", "/proc/net/unix", "/proc/net/raw", "/proc/net/netlink"])
    assert [line.split()[-1] for line in done.out.splitlines() if line.endswith(("/", "@"))] == []
    assert "/" not in done.out


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_SEQPACKET"])
def test_a_unix_socket_of_the_host_is_covered(lab: RootlessLab, kind: str) -> None:
    path = str(lab.user.home / "agent" / uuid4().hex)
    reach = f"socket.socket(socket.AF_UNIX, socket.{kind}).connect({path!r})"
    with unix_server(lab, (kind, path)) as server:
        assert lab(attempt(reach)).out == "ECONNREFUSED\n"
    assert server.reached == 0


@pytest.mark.parametrize("spelling", ["{folder}/../{name}/{file}", "/proc/self/root{path}", "{folder}/link"])
def test_a_covered_socket_is_covered_under_every_spelling_of_its_path(lab: RootlessLab, spelling: str) -> None:
    path = lab.user.home / "agent" / uuid4().hex
    with unix_server(lab, ("SOCK_STREAM", str(path))) as server:
        reached = spelling.format(folder=path.parent, name=path.parent.name, file=path.name, path=path)
        before = f"os.path.lexists({reached!r}) or os.symlink({str(path)!r}, {reached!r})"
        reach = f"socket.socket(socket.AF_UNIX).connect({reached!r})"
        assert lab(attempt(reach, before)).out == "ECONNREFUSED\n"
        lab.on_client(["rm", "-f", str(path.parent / "link")])
    assert server.reached == 0


@pytest.mark.parametrize("action", ["os.rename(PATH, PATH + '2')", "os.unlink(PATH)", "os.link(PATH, PATH + '2')"])
def test_a_covered_socket_cannot_be_moved_from_under_its_cover(lab: RootlessLab, action: str) -> None:
    path = str(lab.user.home / "agent" / uuid4().hex)
    with unix_server(lab, ("SOCK_STREAM", path)):
        assert lab(attempt(action, f"PATH = {path!r}")).out in ("EBUSY\n", "EXDEV\n", "EPERM\n")


def test_a_folder_of_a_covered_socket_cannot_be_moved(lab: RootlessLab) -> None:
    folder = lab.user.home / uuid4().hex
    move = f"os.rename({str(folder)!r}, {str(folder) + '-moved'!r})"
    with unix_server(lab, ("SOCK_STREAM", f"{folder}/agent")) as server:
        assert lab(attempt(move)).out == "EBUSY\n"
    assert server.reached == 0


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_an_abstract_unix_socket_of_the_host_is_not_there(lab: RootlessLab, kind: str) -> None:
    name = uuid4().hex
    reach = f"socket.socket(socket.AF_UNIX, socket.{kind}).connect('\\x00' + {name!r})"
    with unix_server(lab, (kind, name)) as server:
        assert lab.on_client([lab.user.python, "-I", "-c", attempt(reach)]).out == "DONE None\n"
        assert lab(attempt(reach)).out == "ECONNREFUSED\n"
    assert server.reached <= 1, "the one from outside of a run"


@pytest.mark.parametrize("prefix", ["tmux-", "ssh-"])
def test_a_socket_that_appears_later_in_a_folder_for_sockets_is_not_seen(lab: RootlessLab, prefix: str) -> None:
    folder = f"/tmp/{prefix}{uuid4().hex}"
    lab.on_client(["mkdir", "-m", "700", folder])
    source = f"""
print("ready", flush=True); sys.stdin.readline()
print(os.listdir({folder!r}))
tell(lambda: socket.socket(socket.AF_UNIX).connect({folder + "/later"!r}))
"""
    try:
        run = lab.start(TRY + source)
        assert run.line() == "ready\n"
        with unix_server(lab, ("SOCK_STREAM", f"{folder}/later")) as server:
            run.tell("\n")
            assert run.finish().out == "[]\nENOENT\n"
        assert server.reached == 0
    finally:
        lab.on_client(["rm", "-r", folder])


@pytest.mark.parametrize("folder", ["/run/user", "/run/dbus", "/run/systemd", "/run/nscd", "/tmp/.X11-unix"])
def test_the_hosts_runtime_folders_are_covered(lab: RootlessLab, folder: str) -> None:
    source = f"""
if not os.path.isdir({folder!r}):
    print("absent")
else:
    mounts = [line.split() for line in open("/proc/self/mounts")]
    print(any(fields[1] == {folder!r} and fields[2] == "tmpfs" for fields in mounts))
"""
    assert lab(TRY + source).out in ("absent\n", "True\n")


def test_a_unix_socket_named_on_the_command_line_stays_reachable_and_no_other(lab: RootlessLab) -> None:
    kept, other = (str(lab.user.home / "agent" / uuid4().hex) for _ in range(2))
    source = f"""
with socket.socket(socket.AF_UNIX) as s:
    s.connect({kept!r}); print(s.recv(6))
tell(lambda: socket.socket(socket.AF_UNIX).connect({other!r}))
"""
    with unix_server(lab, ("SOCK_STREAM", kept), ("SOCK_STREAM", other)) as server:
        assert lab(TRY + source, "--allow-unix", kept).out == "b'secret'\nECONNREFUSED\n"
    assert server.reached == 1


def test_a_unix_socket_in_a_covered_folder_can_be_kept(lab: RootlessLab) -> None:
    folder = f"/tmp/ssh-{uuid4().hex}"
    source = f"""
with socket.socket(socket.AF_UNIX) as s:
    s.connect({folder + "/agent"!r}); print(s.recv(6))
"""
    try:
        with unix_server(lab, ("SOCK_STREAM", f"{folder}/agent")) as server:
            done = lab(TRY + source, "--allow-unix", f"{folder}/agent")
            assert done.out == "b'secret'\n", done.err
        assert server.reached == 1
    finally:
        lab.on_client(["rm", "-r", folder])


# --- a run that is stopped or killed from outside ---


_KNOCK = (
    TRY
    + """
def knock(seconds):
    try:
        return connect(TARGET, 80, seconds=seconds)
    except TimeoutError:
        raise OSError("nothing")
tell(lambda: knock(60))
sys.stdin.readline()
tell(lambda: knock(1))
"""
)


def test_a_stopped_manager_lets_nothing_pass(lab: RootlessLab) -> None:
    web = lab.addresses["web"][0]
    run = lab.start(f"TARGET = {web!r}\n{_KNOCK}", "--allow", f"tcp://{web}:80")
    assert run.line() == "DONE None\n"
    manager = manager_of(run.pid)
    os.kill(manager, signal.SIGSTOP)
    seen = len(lab.log("web"))
    lab.capture()
    run.tell("\n")
    assert run.line() == "nothing\n"
    assert lab.captured() == []
    assert len(lab.log("web")) == seen
    os.kill(manager, signal.SIGCONT)
    assert run.finish().code == 0


@pytest.mark.parametrize("victim", ["manager", "first process", "command"])
def test_whoever_of_a_run_is_killed_nothing_of_it_lives_on(lab: RootlessLab, victim: str) -> None:
    source = (
        TRY
        + """
subprocess.Popen(["setsid", "sleep", "600"])
print("ready", flush=True); time.sleep(600)
"""
    )
    run = lab.start(source)
    assert run.line() == "ready\n"
    manager = manager_of(run.pid)
    first = next(child for child in descendants(manager) if parent_of(child) == manager)
    command = next(child for child in descendants(first) if parent_of(child) == first)
    everyone = [os.pidfd_open(pid) for pid in descendants(run.pid)]
    os.kill({"manager": manager, "first process": first, "command": command}[victim], signal.SIGKILL)
    assert wait_for_end(everyone, 60) == 0
    assert len(everyone) == 4
    done = run.finish()
    assert done.code == {"manager": -9, "first process": 125, "command": -9}[victim]
    assert "Traceback" not in done.err


def test_a_command_that_kills_its_whole_group_takes_the_manager_and_its_own_offspring_along(lab: RootlessLab) -> None:
    """The group is the caller's, as for any command, and so holds the manager: that closes the run, not opens it."""
    source = (
        TRY
        + """
subprocess.Popen(["setsid", "sleep", "600"])
print("ready", flush=True); sys.stdin.readline()
os.kill(0, signal.SIGKILL)
"""
    )
    run = lab.start_on_client(["setsid", "-w", *lab.command(source)])
    assert run.line() == "ready\n"
    everyone = [os.pidfd_open(pid) for pid in descendants(run.pid)]
    run.tell("\n")
    assert wait_for_end(everyone, 60) == 0


@pytest.mark.parametrize(
    ("name", "decoy"), [("now", False), ("now", True), ("odd\rname", False)], ids=["renamed", "decoy", "return"]
)
def test_a_socket_is_covered_by_the_name_it_has_now(lab: RootlessLab, name: str, decoy: bool) -> None:
    """The kernel tells the name of the time of binding; servers rename their sockets into place."""
    folder = lab.user.home / "masked" / uuid4().hex
    bound, now = folder / ("bound" if name == "now" else name), folder / name
    with unix_server(lab, ("SOCK_STREAM", str(bound))) as server:
        if bound != now:
            bound.rename(now)
        if decoy:
            bound.write_text("decoy")
        done = lab(attempt(f"socket.socket(socket.AF_UNIX).connect({str(now)!r})"))
    assert done.out == "ECONNREFUSED\n"
    assert server.reached == 0
