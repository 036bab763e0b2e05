"""Ways out that need the manager to do something while the command runs, or the next run to find something moved."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from tests.support.rootless import USER, Rootless


def _given(user: Rootless, name: str) -> Path:
    """A folder of the ordinary user's."""
    folder = user.home / name
    user.run(["mkdir", "-p", str(folder)])
    return folder


@pytest.mark.parametrize("report", ["table", "json", "none"])
def test_code_that_the_command_plants_is_not_run_by_the_manager(rootless: Rootless, report: str) -> None:
    """In an installation of the user's own, every module is the command's to write."""
    home = _given(rootless, f"late-{report}")
    shutil.copytree(rootless.site, home / "site")
    proof = home / "escaped"
    plant = f"open({str(proof)!r}, 'a').write('x')\n"
    (home / "plant.txt").write_text(plant)
    for path in (home, *home.rglob("*")):
        shutil.chown(path, USER, USER)
    script = (
        f"find {home}/site -name '*.py' | while read f; do cat {home}/plant.txt >> $f; done; "
        f"find {home}/site -name '*.pyc' -delete; "
        "for m in opcode dis inspect json dataclasses resource traceback; do cp plant.txt $m.py; done; "
        "curl -s http://refused.test/; curl -s http://198.51.100.7/; ping -c1 -W1 198.51.100.7 >/dev/null; sleep 0.2"
    )
    command = [rootless.python, "-m", "towpath", "run", "--report", report, "--allow", "good.test", "--", "sh", "-c"]
    done = rootless.run([*command, script], cwd=home, env={"PYTHONPATH": str(home / "site")})
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert not proof.exists()


def _server(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    path.chmod(0o777)
    return listener


_CONNECT = """
import socket, sys
try: socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print("reached")
except OSError as error: print(error.strerror)
"""


def test_a_covered_socket_is_not_uncovered_by_moving_a_folder_above_it(rootless: Rootless) -> None:
    home = _given(rootless, "moved")
    for name in ("a", "m", "d/inner"):
        rootless.run(["mkdir", "-p", str(home / name)])
    with _server(home / "d" / "inner" / "s.sock"):
        inside = (
            f"cd {home}; mount --bind a m; mv d a/d; mv d/inner a/inner; "
            f"for p in d a/d m/d a m; do python3 -c '{_CONNECT}' $p/inner/s.sock; done"
        )
        done = rootless.run([rootless.towpath, "run", "--", "unshare", "-Urm", "sh", "-c", inside])
        assert "reached" not in done.stdout, done
        assert done.stdout.count("\n") == 5


_DETACH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.getuid(), os.getgid()
assert libc.unshare(0x10000000 | 0x00020000) == 0
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
assert libc.mount(None, b"/", None, 1 << 18 | 16384, None) == 0
assert libc.mount(b"a", b"m", None, 4096, None) == 0
moved, home = os.open("m", os.O_RDONLY), os.open(".", os.O_RDONLY)
assert libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None) == 0
os.mkdir("/mnt/old")
print("pivot", libc.syscall({"x86_64": 155, "aarch64": 41}[os.uname().machine], b"/mnt", b"/mnt/old"))
libc.umount2(b"/old", 2)
try: os.rename("d", "a/d", src_dir_fd=home, dst_dir_fd=home)
except OSError as error: print(error.strerror)
else: print("moved")
"""


def test_a_covered_socket_is_not_uncovered_in_a_tree_that_was_detached(rootless: Rootless) -> None:
    """A mount point can be renamed where its mounts are gone; only pivot_root(2) makes them go."""
    home = _given(rootless, "detached")
    for name in ("a", "m", "d"):
        rootless.run(["mkdir", str(home / name)])
    with _server(home / "d" / "s.sock"):
        done = rootless.run([rootless.towpath, "run", "--", "python3", "-c", _DETACH], cwd=home)
    assert done.stdout == "pivot -1\nDevice or resource busy\n", done


def test_what_one_run_moves_away_the_next_still_covers(rootless: Rootless) -> None:
    home = _given(rootless, "two-runs")
    rootless.run(["mkdir", str(home / "d")])
    with _server(home / "d" / "s.sock"):
        run = [rootless.towpath, "run", "--"]
        rootless.run([*run, "mv", str(home / "d"), str(home / "e")])
        for name in ("d", "e"):
            done = rootless.run([*run, "python3", "-c", _CONNECT, str(home / name / "s.sock")])
            assert "reached" not in done.stdout, name


def test_the_kernels_keys_cannot_be_asked_for(rootless: Rootless) -> None:
    """The kernel may start a helper outside, with the host's network, to find one (request-key(8))."""
    source = (
        "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "for n in (248, 249, 250): print(libc.syscall(n, b'dns_resolver', b'x.test', b'callout', -2), "
        "errno.errorcode[ctypes.get_errno()])"
    )
    done = rootless.run([rootless.towpath, "run", "--", "python3", "-c", source])
    assert done.stdout == "-1 ENOSYS\n" * 3


def test_a_report_that_the_command_writes_to_is_cut_back_and_said(rootless: Rootless) -> None:
    home = _given(rootless, "report")
    report = home / "report.jsonl"
    run = [rootless.towpath, "run", "--report-file", str(report), "--", "sh", "-c"]
    done = rootless.run([*run, f"for i in 1 2 3 4 5 6 7 8 9; do echo '{{\"forged\": true}}' >> {report}; done"])
    assert "forged" not in report.read_text()
    assert "written to by others" in done.stderr
    done = rootless.run([*run, f"rm {report}; echo forged > {report}"])
    assert "was replaced" in done.stderr


@pytest.mark.parametrize("option", ["--learn", "--capture"])
def test_a_file_put_in_the_place_of_an_output_is_named(rootless: Rootless, option: str) -> None:
    """As it is for a report."""
    file = _given(rootless, "replaced") / option
    replace = f"rm {file}; echo forged > {file}; exit 3"
    done = rootless.run([rootless.towpath, "run", option, str(file), "--", "sh", "-c", replace])
    assert f"towpath: {file} was replaced while the command ran: it is not this " in done.stderr
    assert done.returncode == 3
    file.unlink()
    done = rootless.run([rootless.towpath, "run", option, str(file), "--", "true"])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_capture_that_the_command_writes_to_is_cut_back_and_said(rootless: Rootless) -> None:
    file = _given(rootless, "capture-cut") / "run.pcapng"
    append = f"for i in 1 2 3 4 5 6 7 8 9; do head -c 1000 /dev/zero | tr '\\0' '\\377' >> {file}; done"
    done = rootless.run([rootless.towpath, "run", "--capture", str(file), "--", "sh", "-c", append])
    assert "written to by others" in done.stderr
    assert b"\xff" * 9 not in file.read_bytes()


@pytest.mark.parametrize("option", ["--report-file", "--capture", "--learn", "--capture-secrets", "--filter"])
def test_an_output_is_not_written_through_a_link_that_an_earlier_command_planted(
    rootless: Rootless, option: str
) -> None:
    home = _given(rootless, f"planted{option}")
    planted = "out.keys" if option == "--capture-secrets" else "out"
    rootless.run(["sh", "-c", f"echo mine > start-up; ln -s start-up {planted}"], cwd=home)
    words = {
        "--capture-secrets": ["--capture", "out", "--capture-secrets"],
        "--filter": ["--filter", "record:record.toml"],
    }.get(option, [option, "out"])
    if option == "--filter":
        rootless.run(["sh", "-c", "echo 'output = \"out\"' > record.toml"], cwd=home)
    done = rootless.run([rootless.towpath, "run", *words, "--", "echo", "started"], cwd=home)
    assert (done.returncode, done.stdout) == (125, "")
    assert ("exists already" if option == "--learn" else "it is a symbolic link") in done.stderr
    assert (home / "start-up").read_text() == "mine\n"


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/1", "/dev/null", "pipe"])
def test_a_report_goes_to_descriptors_pipes_and_devices(rootless: Rootless, path: str) -> None:
    home = _given(rootless, "descriptors")
    read = f"towpath run --report-file {path} -- true 2>&1 | cat"
    if path == "pipe":
        read = "mkfifo pipe; towpath run --report-file pipe -- true & cat pipe; wait"
    done = rootless.run(["sh", "-c", read], cwd=home, env={"PATH": f"{Path(rootless.towpath).parent}:/usr/bin:/bin"})
    assert done.stderr == ""
    assert done.stdout.count("\n") == done.stdout.count('"type": "summary"') == (path != "/dev/null")
