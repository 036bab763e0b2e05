"""Landlock: a process takes the file system from itself, but for what it names (landlock(7))."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable

from towpath.errors import FeatureMissing, HostFault
from towpath.linux import libc

__all__ = ["read_only"]

_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_NETWORK_RIGHTS = 0b11
_SCOPES = 0b11
_FIRST_WITH_NETWORK, _FIRST_WITH_SCOPES = 4, 6


def _abi() -> int:
    try:
        return libc.syscall("landlock_create_ruleset", 0, 0, _VERSION)
    except HostFault as fault:
        raise FeatureMissing(
            "confine a provider",
            fault.errno or errno.ENOSYS,
            "this kernel has no Landlock, or it was switched off at boot",
            feature="CONFIG_SECURITY_LANDLOCK",
            hint="add landlock to the lsm= list of the kernel's command line (Linux 5.13 and later)",
        ) from fault


def read_only(paths: Iterable[str]) -> None:
    """From here on this process opens nothing but what is `paths` or below, and that for reading only.

    A path that does not exist is left out. Where the kernel can (ABI 4 and 6) it also loses TCP, signals to others and
    abstract Unix sockets. Needs `no_new_privs` first. Raises `FeatureMissing` without Landlock.
    """
    abi = _abi()
    rights = _RIGHTS_BY_ABI[min(abi, max(_RIGHTS_BY_ABI))]
    words = [rights]
    if abi >= _FIRST_WITH_NETWORK:
        words.append(_NETWORK_RIGHTS)
    if abi >= _FIRST_WITH_SCOPES:
        words.append(_SCOPES)
    attributes = ctypes.create_string_buffer(struct.pack(f"={len(words)}Q", *words), 8 * len(words))
    ruleset = libc.syscall("landlock_create_ruleset", ctypes.addressof(attributes), 8 * len(words), 0)
    try:
        for path in paths:
            _let(ruleset, path)
        libc.syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _let(ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rights = _READ_FILE | _READ_DIR if is_folder else _READ_FILE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        libc.syscall("landlock_add_rule", ruleset, _PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(descriptor)
