"""A filter that means harm: what it tries fails, with a reason in the log. The manager is an ordinary user."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.filters import Author, said
from tests.support.rootless import USER, Rootless
from tests.support.rootless_lab import RootlessLab

_ONCE = "dig +short +tries=1 +time=120"
"""One question, asked once: each costs two workers at the most, and the filter is given up with the fifth."""
_ATTEMPTS = {
    "read a file": 'open("/etc/passwd").read()',
    "read a file of the user's": 'open("{notes}").read()',
    "list a folder": 'os.listdir("/home")',
    "write a file": 'open("/tmp/towpath-was-here", "w")',
    "write into its own folder": 'open("{folder}/left", "w")',
    "look into another process": 'open("/proc/1/environ", "rb").read()',
    "change a file's mode": 'os.chmod("{notes}", 0)',
    "change a file's time": 'os.utime("{notes}", (1, 1))',
    "set an attribute": 'os.setxattr("{notes}", "user.said", b"x")',
    "set an attribute by a newer call": "import ctypes; c = ctypes.CDLL(None, use_errno=True); "
    '1 / (c.syscall(463, -100, b"{notes}", 0, b"user.said", (ctypes.c_ulong * 2)(), 16) == -1); '
    "raise OSError(ctypes.get_errno(), 'setxattrat')",
    "read an attribute": 'os.getxattr("{notes}", "user.secret")',
    "set a file's flags": "import ctypes; c = ctypes.CDLL(None, use_errno=True); "
    '1 / (c.syscall(469, -100, b"{notes}", bytes(24), 24, 0) == -1); raise OSError(ctypes.get_errno(), "file_setattr")',
    "set a file's flags by its descriptor": '__import__("fcntl").ioctl(os.open("{folder}/mine.py", 0), 0x40086602, '
    "bytes(8))",
    "watch a folder": "import ctypes; c = ctypes.CDLL(None, use_errno=True); "
    "1 / (c.inotify_init1(0) == -1); raise OSError(ctypes.get_errno(), 'inotify')",
    "take memory by a file": 'os.memfd_create("x")',
    "make a link": 'os.symlink("/etc/passwd", "{folder}/link")',
    "connect to a server": '__import__("socket").create_connection(("{address}", 80), 2)',
    "resolve a name": '__import__("socket").socket(__import__("socket").AF_INET, __import__("socket").SOCK_DGRAM)',
    "open a Unix socket": '__import__("socket").socket(__import__("socket").AF_UNIX)',
    "open a netlink socket": '__import__("socket").socket(__import__("socket").AF_NETLINK, 3, 12)',
    "signal everybody": "os.kill(-1, 9)",
    "signal its parent": "os.kill(os.getppid() or 2, 9)",
    "start a program": 'os.execv("/bin/sh", ["sh"])',
    "fork": "os.fork()",
    "start a process": '__import__("subprocess").run(["/bin/true"])',
    "make namespaces": "import ctypes; c = ctypes.CDLL(None, use_errno=True); "
    "1 / (c.unshare(0x10000000) != 0); raise OSError(ctypes.get_errno(), 'unshare')",
    "take a descriptor of another's": "os.fstat(5)",
    "change its limits": '__import__("resource").setrlimit(__import__("resource").RLIMIT_AS, (-1, -1))',
}


@pytest.fixture
def author(rootless: Rootless) -> Author:
    folder = rootless.home / "filters"
    folder.mkdir(exist_ok=True, mode=0o777)
    folder.chmod(0o777)
    return Author(folder)


@pytest.fixture
def place(rootless: Rootless) -> Iterator[Path]:
    """A folder of the user's, empty."""
    folder = rootless.home / "place"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("attempt", _ATTEMPTS, ids=lambda name: name.replace(" ", "-"))
def test_a_filter_cannot(rootless: Rootless, lab: RootlessLab, author: Author, attempt: str) -> None:
    notes = rootless.home / "notes"
    notes.write_text("private")
    notes.chmod(0o666)
    if os.getuid() == 0:
        os.chown(notes, USER, USER)
    folder, address = rootless.home / "filters", lab.addresses["web"][0]
    code = _ATTEMPTS[attempt].format(notes=notes, folder=folder, address=address)
    mine = author(f"""
        def handle_name(self, question):
            {code}
            say(done=True)
            return Allow()
    """)
    done = lab(["getent", "hosts", "web.test"], "--filter", mine, "--log-level", "info")
    assert said(done.err) == [], done.err
    assert "mine: handle_name raised" in done.err, done.err
    assert "mine.py:" in done.err
    assert done.code == 2  # what a failed filter would have decided is refused
    assert notes.read_text() == "private"
    assert notes.stat().st_mode & 0o777 == 0o666
    assert notes.stat().st_mtime > 2
    assert [file.name for file in folder.iterdir()] == ["mine.py"]


_TRIED_BY_A_PROXY = (
    "read a file", "write a file", "connect to a server", "resolve a name", "signal everybody", "start a process",
    "fork",
)  # fmt: skip


@pytest.mark.parametrize("attempt", _TRIED_BY_A_PROXY, ids=lambda name: name.replace(" ", "-"))
def test_a_dns_proxy_cannot(rootless: Rootless, lab: RootlessLab, author: Author, attempt: str) -> None:
    """It is confined as a filter is; what it forwards is carried by the manager, an ordinary user."""
    folder, address = rootless.home / "filters", lab.addresses["web"][0]
    code = _ATTEMPTS[attempt].format(notes="", folder=folder, address=address)
    mine = author(
        f"""
        def handle_query(self, query):
            if query.name == "web.test":
                return Forward()
            {code}
            say(done=True)
            return Forward()
        """,
        base="DNSProxyProvider",
    )
    command = ["sh", "-c", "getent hosts web.test && ! getent hosts tracker.test"]
    done = lab(command, "--dns", mine, "--log-level", "info")
    assert said(done.err) == [], done.err
    assert "mine: handle_query raised" in done.err, done.err
    assert done.code == 0, done.err


def test_the_command_cannot_change_the_lists_of_a_dns_proxy(
    rootless: Rootless, lab: RootlessLab, author: Author
) -> None:
    folder = rootless.home / "filters"
    (folder / "ads.txt").write_text("||tracker.test^\n")
    (folder / "ads.toml").write_text('block_lists = ["ads.txt"]\n')
    for name in ("ads.txt", "ads.toml"):
        (folder / name).chmod(0o666)
    command = (
        f"! echo > {folder}/ads.txt && ! rm {folder}/ads.txt && ! getent hosts tracker.test && getent hosts web.test"
    )
    done = lab(["sh", "-c", command], "--dns", f"secure_dns:{folder}/ads.toml", "--reload")
    assert done.code == 0, done.err
    assert (folder / "ads.txt").read_text() == "||tracker.test^\n"


_LINKED = {
    "the code": ("mine.py", "real/mine.py", "mine.py:real/mine.toml"),
    "the config": ("mine.toml", "real/mine.toml", "real/mine.py:mine.toml"),
    "a list": ("list.txt", "real/list.txt", "real/mine.py:named.toml"),
    "a folder above the code": ("below", "real", "below/mine.py:real/mine.toml"),
    "a folder above the config": ("below", "real", "real/mine.py:below/mine.toml"),
    "a bundle": ("below", "real", "below:real/mine.toml"),
}


@pytest.mark.parametrize("linked", _LINKED, ids=lambda name: name.replace(" ", "-"))
def test_the_command_cannot_have_another_file_loaded_by_replacing_a_link(
    lab: RootlessLab, place: Path, linked: str
) -> None:
    """What a link leads to is read-only; the link itself, or one above it, cannot be made anew either."""
    name, target, given = _LINKED[linked]
    (place / "real").mkdir()
    settings = "import msgspec\nclass Settings(msgspec.Struct):\n    list: str\n"
    Author(place / "real")("pass", head=settings, base="ContentFilterProvider[Settings]")
    (place / "real/pyproject.toml").write_text('[tool.towpath.extension]\nid = "mine"\n')
    for config in ("real/mine.toml", "named.toml"):
        (place / config).write_text('list = "list.txt"\n')
    (place / "real/list.txt").write_text("mine\n")
    (place / name).symlink_to(target)
    if os.getuid() == 0:
        for path in [place, *place.rglob("*")]:
            os.chown(path, USER, USER, follow_symlinks=False)
    tries = ("rm -f {0}", "ln -sfn /tmp {0}", "mv {0} {0}.old", "mv {1} {1}.old", "echo > {0}")
    command = " && ".join(f"! {one.format(place / name, place)}" for one in tries)
    code, _, config = given.partition(":")
    done = lab(["sh", "-c", f"{command} && echo tried"], "--filter", f"{place / code}:{place / config}", "--reload")
    assert done.out == "tried\n", done
    assert str((place / name).readlink()) == target


@pytest.mark.parametrize("exists", [True, False], ids=["there", "not-there-yet"])
@pytest.mark.parametrize("way", ["echo x >> {0}", "rm -f {0}", "echo x > {0}.new; mv -f {0}.new {0}"])
def test_the_command_cannot_answer_for_the_person_who_is_asked(
    lab: RootlessLab, place: Path, exists: bool, way: str
) -> None:
    """A saved answer counts in the next run; the filter's own descriptor is from outside and still writes."""
    saved = place / "answers.jsonl"
    (place / "ask.toml").write_text('remember = "saved"\nsaved = "answers.jsonl"\n')
    before = '{"rule":"tcp://web.test:80","action":"drop","until":99999999999}\n' if exists else ""
    if exists:
        saved.write_text(before)
        saved.chmod(0o666)
    done = lab(["sh", "-c", f"{way.format(saved)}; echo tried"], "--filter", f"ask:{place}/ask.toml", "--reload")
    assert done.out == "tried\n", done
    assert saved.read_text() == before


def test_a_filter_still_writes_what_the_command_cannot(lab: RootlessLab, place: Path) -> None:
    (place / "record.toml").write_text('output = "flows.jsonl"\n')
    command = f"getent hosts web.test && ! echo x >> {place}/flows.jsonl"
    done = lab(["sh", "-c", command], "--filter", f"record:{place}/record.toml")
    assert done.code == 0, done
    assert "web.test" in (place / "flows.jsonl").read_text()


def test_a_filter_holds_nothing_but_its_channel(lab: RootlessLab, author: Author) -> None:
    mine = author("""
        def start(self):
            held = []
            for number in range(256):
                try:
                    os.fstat(number)
                    held.append(number)
                except OSError:
                    pass
            import resource
            say(held=held, uid=os.getuid(), pid=os.getpid(), environment=dict(os.environ), folder=os.getcwd())
    """)
    done = lab(["true"], "--filter", mine)
    assert done.code == 0, done.err
    assert said(done.err), done
    facts = said(done.err)[0]
    assert facts["pid"] == 1  # of a process namespace of its own
    assert facts["uid"] == 65534  # nobody: its user namespace maps no one
    assert facts["environment"] == {}
    assert facts["folder"] == "/"
    assert set(facts["held"]) <= {0, 1, 2, 3, 4}  # 4 is the event by which threads wake it


def test_a_filter_that_takes_all_memory_fails_alone(lab: RootlessLab, author: Author) -> None:
    mine = author("""
        def handle_name(self, question):
            if question.name == "tracker.test":
                hoard = []
                while True:
                    hoard.append(bytearray(1 << 20))
            return Allow()
    """)
    done = lab(["sh", "-c", "getent hosts tracker.test; getent hosts web.test"], "--filter", mine)
    assert "mine: handle_name raised MemoryError" in done.err
    assert done.out.endswith("web.test\n")


def test_a_filter_that_makes_threads_without_end_fails_alone(lab: RootlessLab, author: Author) -> None:
    mine = author("""
        def handle_name(self, question):
            while question.name == "tracker.test":
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            return Allow()
    """)
    done = lab(["sh", "-c", "getent hosts tracker.test; getent hosts web.test"], "--filter", mine)
    assert "mine: " in done.err
    assert done.out.endswith("web.test\n")


@pytest.mark.parametrize(
    "junk",
    ["b'junk'", "b'\\x90'", "b'\\xdd\\xff\\xff\\xff\\xff'", "os.urandom(5000)", "b'\\x91\\x92\\xa7Verdict\\x01'"],
    ids=["text", "empty", "lying-length", "noise", "half-a-verdict"],
)
def test_a_filter_that_breaks_the_protocol_is_replaced(lab: RootlessLab, author: Author, junk: str) -> None:
    mine = author(f"""
        def handle_name(self, question):
            if question.name == "tracker.test":
                os.write(3, {junk})
            return Allow()
    """)
    done = lab(["sh", "-c", f"{_ONCE} tracker.test; {_ONCE} web.test"], "--filter", mine)
    assert done.out.endswith("198.51.100.20\n"), done.err
    if junk != "b'\\x90'":
        assert "mine: it broke the protocol" in done.err


def test_a_filter_that_floods_is_stopped(lab: RootlessLab, author: Author) -> None:
    mine = author("""
        def handle_name(self, question):
            while question.name == "tracker.test":
                self.context.update(12345, Drop("flood"))
            return Allow()
    """)
    done = lab(["sh", "-c", f"{_ONCE} tracker.test; {_ONCE} web.test"], "--filter", mine)
    assert done.out.endswith("198.51.100.20\n"), done.err
