"""Classic BPF for seccomp(2): the few instructions that a filter of system calls is put together from."""

from __future__ import annotations

import ctypes
import struct

from towpath.linux import libc

__all__ = ["AND", "ARCHITECTURE", "AT_LEAST", "EQUAL", "FIRST", "LOAD", "NUMBER", "SECOND", "X32", "allow"]
__all__ += ["install", "instruction", "kill", "refuse"]

LOAD, EQUAL, AT_LEAST, AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24
"""Offsets in struct seccomp_data: the call, the audit architecture, the low words of two arguments."""
X32 = 0x40000000
"""Set in the number of every call of x86-64's second ABI."""
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_SET_MODE_FILTER = 1


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def refuse(errno: int) -> bytes:
    """The call fails with `errno`."""
    return instruction(_RETURN, _ERRNO | errno)


def allow() -> bytes:
    return instruction(_RETURN, _ALLOW)


def kill() -> bytes:
    """The process dies by SIGSYS."""
    return instruction(_RETURN, _KILL)


def install(program: bytes) -> None:
    """Puts the filter on this process and all that come of it. Needs `no_new_privs` first."""
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, padding, a pointer.
    head = ctypes.create_string_buffer(struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code)))
    libc.syscall("seccomp", _SET_MODE_FILTER, 0, ctypes.addressof(head))
