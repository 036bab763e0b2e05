"""The few system calls that Python 3.11 has no function for, by number, through ctypes.

`PyDLL` keeps the interpreter lock, which `clone` needs: no other thread may run between the call and the child's
first Python line.
"""

from __future__ import annotations

import ctypes
import os
import struct

from towpath.errors import FeatureMissing, HostFault

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "clone": 56,
        "setns": 308,
        "unshare": 272,
        "pidfd_open": 434,
        "open_tree": 428,
        "move_mount": 429,
        "mount_setattr": 442,
        "seccomp": 317,
        "pivot_root": 155,
        "capset": 126,
        "landlock_create_ruleset": 444,
        "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
    },
    "aarch64": {
        "clone": 220,
        "setns": 268,
        "unshare": 97,
        "pidfd_open": 434,
        "open_tree": 428,
        "move_mount": 429,
        "mount_setattr": 442,
        "seccomp": 277,
        "pivot_root": 41,
        "capset": 91,
        "landlock_create_ruleset": 444,
        "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
    },
}

MACHINE = os.uname().machine

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_SIGCHLD = 17
_CAPABILITY_VERSION_3 = 0x20080522

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECBIT_NOROOT_LOCKED = 0x3

CAP_SETFCAP = 31

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
MNT_DETACH = 2


def syscall(name: str, *arguments: int | bytes) -> int:
    """Calls `name`; raises `HostFault` with the kernel's answer."""
    try:
        number = NUMBERS[MACHINE][name]
    except KeyError:
        raise FeatureMissing(
            name, 38, f"this machine ({MACHINE}) is not one of {', '.join(NUMBERS)}", feature=MACHINE
        ) from None
    converted = [
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_char_p(argument) for argument in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        code = ctypes.get_errno()
        raise HostFault(name, code, os.strerror(code))
    return result


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); missing arguments are 0."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    result = int(_libc.prctl(ctypes.c_int(option), *padded))
    if result < 0:
        code = ctypes.get_errno()
        raise HostFault(f"prctl({option})", code, os.strerror(code))
    return result


def name_thread(name: bytes) -> None:
    """What lists of processes show for this one, 15 bytes at most."""
    buffer = ctypes.create_string_buffer(name[:15])
    prctl(_PR_SET_NAME, ctypes.addressof(buffer))


def clone(flags: int) -> int:
    """fork(2) into new namespaces: 0 in the child, the child's process id in the parent."""
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    try:
        pid = syscall("clone", flags | _SIGCHLD, 0, 0, 0, 0)
    except HostFault:
        api.PyOS_AfterFork_Parent()
        raise
    if pid == 0:
        api.PyOS_AfterFork_Child()
    else:
        api.PyOS_AfterFork_Parent()
    return pid


def setns(descriptor: int, kinds: int) -> None:
    """Moves this process into namespaces of the process behind a pidfd, or into one namespace by its descriptor."""
    syscall("setns", descriptor, kinds)


def unshare(kinds: int) -> None:
    syscall("unshare", kinds)


def set_capabilities(permitted: int, inheritable: int = 0) -> None:
    """capset(2): the effective set becomes `permitted`. Both are bit masks; inheritable ones also become ambient."""
    words = [permitted, permitted, inheritable]
    data = struct.pack("=6I", *(word & 0xFFFFFFFF for word in words), *(word >> 32 for word in words))
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    syscall("capset", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), data)
    for capability in range(inheritable.bit_length()):
        if inheritable >> capability & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    words = [None if value is None else os.fsencode(value) for value in (source, target, kind, data)]
    if _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) < 0:
        code = ctypes.get_errno()
        raise HostFault(f"mount {target}", code, os.strerror(code))


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    if _libc.umount2(os.fsencode(target), flags) < 0:
        code = ctypes.get_errno()
        raise HostFault(f"unmount {target}", code, os.strerror(code))


def capset(header: bytes, data: bytes) -> None:
    """capset(2) for this thread."""
    if _libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data)) < 0:
        code = ctypes.get_errno()
        raise HostFault("capset", code, os.strerror(code))


def signalfd(mask: bytes) -> int:
    """signalfd(2), non-blocking and closed on exec; `mask` is the kernel's eight-byte signal set."""
    holder = ctypes.create_string_buffer(mask.ljust(128, b"\0"), 128)
    descriptor = int(_libc.signalfd(-1, holder, os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise HostFault("signalfd", code, os.strerror(code))
    return descriptor
