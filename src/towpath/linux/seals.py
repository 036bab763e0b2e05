"""What a confined process gives up: capabilities, new privileges, and the system calls that lead around a namespace.

capabilities(7), seccomp(2), prctl(2). The filter is classic BPF, put together here instruction by instruction.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from towpath.errors import FeatureMissing, HostFault
from towpath.linux import libc

_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY_LIMIT = 64
SETFCAP = 31

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_X32 = 0x40000000
_SET_MODE_FILTER = 1

_IO_URING_SETUP = 425
_KEYS = {0xC000003E: (248, 249, 250), 0x40000003: (286, 287, 288), 0xC00000B7: (217, 218, 219)}
"""add_key, request_key, keyctl: the kernel may start a helper outside to find a key, with the host's network."""

_PIVOT_ROOT = {0xC000003E: 155, 0x40000003: 217, 0xC00000B7: 41}
"""With it a mount namespace of one's own can lose its mounts, and what they covered can be moved from under them."""

_ABIS: dict[str, list[tuple[int, dict[str, int]]]] = {
    "x86_64": [
        (0xC000003E, {"socket": 41, "ioctl": 16, "socketpair": 53}),
        (0x40000003, {"socket": 359, "ioctl": 54, "socketpair": 360, "socketcall": 102}),
    ],
    "aarch64": [(0xC00000B7, {"socket": 198, "ioctl": 29, "socketpair": 199})],
}
"""Audit architecture and call numbers of every ABI that a process of this machine may use."""


def drop_capabilities(keep: frozenset[int] = frozenset()) -> None:
    """Takes every capability but `keep` out of all sets of this process, the bounding set included."""
    for capability in range(_LAST_CAPABILITY_LIMIT):
        if capability in keep:
            continue
        try:
            libc.prctl(libc.PR_CAPBSET_DROP, capability)
        except HostFault as fault:
            if fault.errno == errno.EINVAL:
                break  # the first number past the kernel's last capability
            raise
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    kept = sum(1 << capability for capability in keep)
    low = struct.pack("=III", kept, kept, 0)
    libc.capset(struct.pack("=II", _CAPABILITY_VERSION_3, 0), low + bytes(12))


def no_new_privileges() -> None:
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | number)


def _abi_block(architecture: int, calls: dict[str, int]) -> bytes:
    """The checks of one ABI; falls through to a final allow."""
    out = _instruction(_LOAD, _NUMBER)
    if architecture == 0xC000003E:
        out += _instruction(_AT_LEAST, _X32, 0, 1) + _refuse(errno.ENOSYS)
    for number in (_IO_URING_SETUP, *_KEYS[architecture]):
        out += _instruction(_EQUAL, number, 0, 1) + _refuse(errno.ENOSYS)
    out += _instruction(_EQUAL, _PIVOT_ROOT[architecture], 0, 1) + _refuse(errno.EPERM)
    if "socketcall" in calls:
        out += _instruction(_EQUAL, calls["socketcall"], 0, 1) + _refuse(errno.ENOSYS)
    families = (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)
    for name in ("socket", "socketpair"):
        block = _instruction(_LOAD, _FIRST_ARGUMENT)
        for index, family in enumerate(families):
            block += _instruction(_EQUAL, family, len(families) - index, 0)
        block += _refuse(errno.EAFNOSUPPORT) + _instruction(_RETURN, _ALLOW)
        out += _instruction(_EQUAL, calls[name], 0, len(block) // 8) + block
    # The kernel looks at the low 32 bits of an ioctl's request only, and so must the filter.
    block = _instruction(_LOAD, _SECOND_ARGUMENT)
    block += _instruction(_EQUAL, _TIOCSTI, 1, 0) + _instruction(_EQUAL, _TIOCLINUX, 0, 1) + _refuse(errno.EPERM)
    block += _instruction(_RETURN, _ALLOW)
    out += _instruction(_EQUAL, calls["ioctl"], 0, len(block) // 8) + block
    return out + _instruction(_RETURN, _ALLOW)


def filter_program(machine: str) -> bytes:
    """The seccomp filter for `machine`: four socket families, no io_uring, no keys, no typing into terminals."""
    if machine not in _ABIS:
        raise FeatureMissing("seccomp", errno.ENOSYS, f"no filter for {machine}", feature=machine)
    out = _instruction(_LOAD, _ARCHITECTURE)
    for architecture, calls in _ABIS[machine]:
        block = _abi_block(architecture, calls)
        out += _instruction(_EQUAL, architecture, 0, len(block) // 8) + block
    return out + _instruction(_RETURN, _KILL)


def restrict_system_calls() -> None:
    """Puts the filter on this process and all that come of it. Needs `no_new_privileges` first."""
    program = filter_program(libc.MACHINE)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, padding, a pointer.
    head = ctypes.create_string_buffer(struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code)))
    libc.syscall("seccomp", _SET_MODE_FILTER, 0, ctypes.addressof(head))
