"""A process for code that nobody vouches for: it computes, reads what it was given, and speaks over one socket.

It begins as a copy of its parent in new user, network, PID and IPC namespaces, and gives up the rest before the first
line of the stranger's code: capabilities, files (Landlock), and the system calls that make sockets and processes, send
signals, or change what a file is (seccomp). A call that is not its business fails with EPERM; it does not kill, so that
the reason can be logged.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from towpath.errors import FeatureMissing
from towpath.linux import bpf, landlock, libc, seals

__all__ = ["send_to_connected_only", "spawn", "stand_apart"]

_NAMESPACES = libc.CLONE_NEWUSER | libc.CLONE_NEWNET | libc.CLONE_NEWPID | libc.CLONE_NEWIPC
_MOST_DESCRIPTORS = 64
_CLONE_THREAD = 0x00010000
_AF_UNIX = 1

_REFUSED = {
    # name: (x86-64, AArch64); `None` where an architecture has no such call
    "accept": (43, 202), "accept4": (288, 242), "acct": (163, 89), "add_key": (248, 217), "bind": (49, 200),
    "bpf": (321, 280), "chmod": (90, None), "chown": (92, None), "chroot": (161, 51), "connect": (42, 203),
    "execve": (59, 221), "execveat": (322, 281), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "fchown": (93, 55), "fchownat": (260, 54),
    "fgetxattr": (193, 10), "flistxattr": (196, 13), "fork": (57, None), "fremovexattr": (199, 16),
    "fsconfig": (431, 431), "fsetxattr": (190, 7), "fsmount": (432, 432), "fsopen": (430, 430), "fspick": (433, 433),
    "futimesat": (261, None), "getxattr": (191, 8), "inotify_add_watch": (254, 27), "inotify_init": (253, None),
    "inotify_init1": (294, 26), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425), "kcmp": (312, 272), "keyctl": (250, 219), "kill": (62, 129), "lchown": (94, None),
    "lgetxattr": (192, 9), "listen": (50, 201), "listxattr": (194, 11), "llistxattr": (195, 12),
    "lremovexattr": (198, 15), "lsetxattr": (189, 6), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "mq_open": (240, 180),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "personality": (135, 92), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "process_madvise": (440, 440),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "removexattr": (197, 14), "request_key": (249, 218), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setns": (308, 268), "setxattr": (188, 5), "socket": (41, 198),
    "tgkill": (234, 131), "tkill": (200, 130), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
    "utime": (132, None), "utimensat": (280, 88), "utimes": (235, None), "vfork": (58, None),
}  # fmt: skip
_SENDTO, _SENDMSG, _SENDMMSG = (44, 206), (46, 211), (307, 269)
_CLONE, _CLONE3, _SOCKETPAIR = (56, 220), (435, 435), (53, 199)
_NEWER = 463
"""The first call that came after these lists were made, setxattrat(2): what is not known yet is not there."""
_IOCTL, _SETS_ATTRIBUTES = (16, 29), (0x40086602, 0x40046602, 0x401C5820)
"""FS_IOC_SETFLAGS in both sizes, FS_IOC_FSSETXATTR: a descriptor for reading is enough for them."""
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}


def filter_program(machine: str) -> bytes:
    """The seccomp filter for `machine`. Raises `FeatureMissing` for one that is not known."""
    if machine not in _ARCHITECTURES:
        raise FeatureMissing("seccomp", errno.ENOSYS, f"no filter for {machine}", feature=machine)
    architecture, column = _ARCHITECTURES[machine]
    out = bpf.instruction(bpf.LOAD, bpf.ARCHITECTURE)
    out += bpf.instruction(bpf.EQUAL, architecture, 1, 0) + bpf.kill()
    out += bpf.instruction(bpf.LOAD, bpf.NUMBER)
    if machine == "x86_64":
        out += bpf.instruction(bpf.AT_LEAST, bpf.X32, 0, 1) + bpf.refuse(errno.ENOSYS)
    out += bpf.instruction(bpf.AT_LEAST, _NEWER, 0, 1) + bpf.refuse(errno.ENOSYS)
    # The C library falls back to clone(2), whose flags a filter can read.
    out += bpf.instruction(bpf.EQUAL, _CLONE3[column], 0, 1) + bpf.refuse(errno.ENOSYS)
    for name in sorted(_REFUSED):
        number = _REFUSED[name][column]
        if number is not None:
            out += bpf.instruction(bpf.EQUAL, number, 0, 1) + bpf.refuse(errno.EPERM)
    threads = bpf.instruction(bpf.LOAD, bpf.FIRST) + bpf.instruction(bpf.AND, _CLONE_THREAD)
    threads += bpf.instruction(bpf.EQUAL, _CLONE_THREAD, 1, 0) + bpf.refuse(errno.EPERM) + bpf.allow()
    out += bpf.instruction(bpf.EQUAL, _CLONE[column], 0, len(threads) // 8) + threads
    pairs = bpf.instruction(bpf.LOAD, bpf.FIRST)
    pairs += bpf.instruction(bpf.EQUAL, _AF_UNIX, 1, 0) + bpf.refuse(errno.EPERM) + bpf.allow()
    out += bpf.instruction(bpf.EQUAL, _SOCKETPAIR[column], 0, len(pairs) // 8) + pairs
    requests = bpf.instruction(bpf.LOAD, bpf.SECOND)
    for index, request in enumerate(_SETS_ATTRIBUTES):
        requests += bpf.instruction(bpf.EQUAL, request, len(_SETS_ATTRIBUTES) - index, 0)
    requests += bpf.allow() + bpf.refuse(errno.EPERM)
    out += bpf.instruction(bpf.EQUAL, _IOCTL[column], 0, len(requests) // 8) + requests
    return out + bpf.allow()


def connected_program(machine: str) -> bytes:
    """The seccomp filter by which nothing is sent but to whom a socket is connected. Raises `FeatureMissing`."""
    if machine not in _ARCHITECTURES:
        raise FeatureMissing("seccomp", errno.ENOSYS, f"no filter for {machine}", feature=machine)
    architecture, column = _ARCHITECTURES[machine]
    out = bpf.instruction(bpf.LOAD, bpf.ARCHITECTURE)
    out += bpf.instruction(bpf.EQUAL, architecture, 1, 0) + bpf.kill()
    out += bpf.instruction(bpf.LOAD, bpf.NUMBER)
    for numbers in (_SENDMSG, _SENDMMSG):
        out += bpf.instruction(bpf.EQUAL, numbers[column], 0, 1) + bpf.refuse(errno.EPERM)
    out += bpf.instruction(bpf.EQUAL, _SENDTO[column], 1, 0) + bpf.allow()
    for half in (0, 4):  # the fifth argument, a pointer: the address
        out += bpf.instruction(bpf.LOAD, bpf.FIRST + 4 * 8 + half)
        out += bpf.instruction(bpf.EQUAL, 0, 1, 0) + bpf.refuse(errno.EPERM)
    return out + bpf.allow()


def send_to_connected_only() -> None:
    """From here on this process sends by a socket only to whom it is connected: no datagram names another address."""
    bpf.install(connected_program(libc.MACHINE))


def stand_apart(kept: int) -> None:
    """This process dies with its parent, nobody may look into its memory, and `kept` is all it holds open."""
    libc.name_thread(b"towpath-zygote")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)


def spawn(live: Callable[[int], None], channel: int, output: int, readable: Sequence[str], memory: int) -> int:
    """Starts `live(channel)` in a confined copy of this process; gives its process id.

    `channel` becomes its only descriptor besides the standard ones, of which input is /dev/null and the others are
    `output`. `readable` are the files and folders it may read, `memory` the bytes it may have beyond what it starts
    with. The copy ends when `live` returns, and dies with its parent. Raises `HostFault`.
    """
    pid = libc.clone(_NAMESPACES)
    if not pid:
        _enter(live, channel, output, readable, memory)
    return pid


def _enter(live: Callable[[int], None], channel: int, output: int, readable: Sequence[str], memory: int) -> NoReturn:
    code = 1
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        _keep_only(channel, output)
        _limit(memory)
        libc.name_thread(b"towpath-worker")
        os.environ.clear()
        os.chdir("/")
        seals.drop_capabilities()
        seals.no_new_privileges()
        landlock.read_only(readable)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        bpf.install(filter_program(libc.MACHINE))
        live(3)
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(code)


def _keep_only(channel: int, output: int) -> None:
    moved = os.dup(channel) if channel < 4 else channel
    errors = os.dup(output) if output < 4 else output
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, kept in enumerate((nothing, errors, errors, moved)):
        os.dup2(kept, number, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    # Those of the parent belong to another terminal, and would keep lines back.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _limit(memory: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        begun_with = int(file.read().split()[0]) * resource.getpagesize()
    most = begun_with + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_DESCRIPTORS, _MOST_DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
