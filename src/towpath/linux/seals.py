"""What a confined process gives up: capabilities, new privileges, and the system calls that lead around a namespace.

capabilities(7), seccomp(2), prctl(2). The filter is classic BPF, put together here instruction by instruction.
"""

from __future__ import annotations

import errno
import struct

from towpath.errors import FeatureMissing, HostFault
from towpath.linux import bpf, libc

_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY_LIMIT = 64
SETFCAP = 31

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_IO_URING_SETUP = 425
_KEYS = {0xC000003E: (248, 249, 250), 0x40000003: (286, 287, 288), 0xC00000B7: (217, 218, 219)}
"""add_key, request_key, keyctl: the kernel may start a helper outside to find a key, with the host's network."""

_PIVOT_ROOT = {0xC000003E: 155, 0x40000003: 217, 0xC00000B7: 41}
"""With it a mount namespace of one's own can lose its mounts, and what they covered can be moved from under them."""

_CLONE_NEWCGROUP = 0x02000000
"""In a cgroup namespace of one's own the kernel lets a nested user mount the hierarchy, and freeze or kill by it."""
_CLONE3 = 435
"""Its flags lie in memory, where a filter cannot read; C libraries fall back to clone(2)."""
_MAKES_NAMESPACES = {0xC000003E: (56, 272), 0x40000003: (120, 310), 0xC00000B7: (220, 97)}
"""clone, unshare: the flags come first."""
_PRLIMIT = {0xC000003E: 302, 0x40000003: 340, 0xC00000B7: 261}
_FIRST_PROCESS = 1

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


def _abi_block(architecture: int, calls: dict[str, int]) -> bytes:
    """The checks of one ABI; falls through to a final allow."""
    out = bpf.instruction(bpf.LOAD, bpf.NUMBER)
    if architecture == 0xC000003E:
        out += bpf.instruction(bpf.AT_LEAST, bpf.X32, 0, 1) + bpf.refuse(errno.ENOSYS)
    for number in (_IO_URING_SETUP, _CLONE3, *_KEYS[architecture]):
        out += bpf.instruction(bpf.EQUAL, number, 0, 1) + bpf.refuse(errno.ENOSYS)
    out += bpf.instruction(bpf.EQUAL, _PIVOT_ROOT[architecture], 0, 1) + bpf.refuse(errno.EPERM)
    block = bpf.instruction(bpf.LOAD, bpf.FIRST) + bpf.instruction(bpf.AND, _CLONE_NEWCGROUP)
    block += bpf.instruction(bpf.EQUAL, _CLONE_NEWCGROUP, 0, 1) + bpf.refuse(errno.EPERM) + bpf.allow()
    for number in _MAKES_NAMESPACES[architecture]:
        out += bpf.instruction(bpf.EQUAL, number, 0, len(block) // 8) + block
    # The first process belongs to the same user, who could take its descriptors and so its last word.
    block = bpf.instruction(bpf.LOAD, bpf.FIRST)
    block += bpf.instruction(bpf.EQUAL, _FIRST_PROCESS, 0, 1) + bpf.refuse(errno.EPERM) + bpf.allow()
    out += bpf.instruction(bpf.EQUAL, _PRLIMIT[architecture], 0, len(block) // 8) + block
    if "socketcall" in calls:
        out += bpf.instruction(bpf.EQUAL, calls["socketcall"], 0, 1) + bpf.refuse(errno.ENOSYS)
    families = (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)
    for name in ("socket", "socketpair"):
        block = bpf.instruction(bpf.LOAD, bpf.FIRST)
        for index, family in enumerate(families):
            block += bpf.instruction(bpf.EQUAL, family, len(families) - index, 0)
        block += bpf.refuse(errno.EAFNOSUPPORT) + bpf.allow()
        out += bpf.instruction(bpf.EQUAL, calls[name], 0, len(block) // 8) + block
    # The kernel looks at the low 32 bits of an ioctl's request only, and so must the filter.
    block = bpf.instruction(bpf.LOAD, bpf.SECOND)
    block += (
        bpf.instruction(bpf.EQUAL, _TIOCSTI, 1, 0)
        + bpf.instruction(bpf.EQUAL, _TIOCLINUX, 0, 1)
        + bpf.refuse(errno.EPERM)
    )
    block += bpf.allow()
    out += bpf.instruction(bpf.EQUAL, calls["ioctl"], 0, len(block) // 8) + block
    return out + bpf.allow()


def filter_program(machine: str) -> bytes:
    """The seccomp filter for `machine`: four socket families, no io_uring, keys or cgroup namespaces, no typing."""
    if machine not in _ABIS:
        raise FeatureMissing("seccomp", errno.ENOSYS, f"no filter for {machine}", feature=machine)
    out = bpf.instruction(bpf.LOAD, bpf.ARCHITECTURE)
    for architecture, calls in _ABIS[machine]:
        block = _abi_block(architecture, calls)
        out += bpf.instruction(bpf.EQUAL, architecture, 0, len(block) // 8) + block
    return out + bpf.kill()


def restrict_system_calls() -> None:
    """Puts the filter on this process and all that come of it. Needs `no_new_privileges` first."""
    bpf.install(filter_program(libc.MACHINE))
