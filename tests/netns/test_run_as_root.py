"""A run of root's: no capability is left, and being uid 0 opens none of the machine's own settings."""

from __future__ import annotations

import os

import pytest
from tests.support.attempts import TRY, attempt
from tests.support.running import Runner, python

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root's own files show what being uid 0 would open")

_WRITABLE = (
    TRY
    + """
def writable(top):
    for folder, names, files in os.walk(top):
        if folder == "/proc":
            names[:] = [name for name in names if not name.isdigit() and name not in ("self", "thread-self")]
        for name in files:
            path = os.path.join(folder, name)
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                yield path
            except OSError:
                pass
print(*writable("/proc"), *writable("/sys"))
"""
)
_HARMLESS = {"/proc/pressure/io", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/irq"}
"""Triggers that only tell their writer something."""


def test_no_setting_below_proc_and_sys_can_be_written(run: Runner) -> None:
    outside = set(run.host.run(python(_WRITABLE)).stdout.split())
    assert "/proc/sys/kernel/core_pattern" in outside, "uid 0 alone must open it outside, or this proves nothing"
    assert set(run(command=python(_WRITABLE)).out.split()) <= _HARMLESS


@pytest.mark.parametrize("path", ["core_pattern", "modprobe", "poweroff_cmd", "hotplug", "usermodehelper/bset"])
def test_the_programs_that_the_kernel_starts_cannot_be_named(run: Runner, path: str) -> None:
    expression = f"open('/proc/sys/kernel/{path}', 'a').close()"
    assert run(command=python(attempt(expression))).out in ("EROFS\n", "ENOENT\n")


@pytest.mark.parametrize(
    "expression",
    [
        "c('mount', b'none', b'/mnt', b'proc', 0, None)",
        "c('mount', b'none', b'/mnt', b'sysfs', 0, None)",
        "c('mount', b'none', b'/mnt', b'cgroup', 0, b'memory')",
        "c('mount', b'none', b'/mnt', b'cgroup2', 0, None)",
        "c('mount', b'none', b'/mnt', b'debugfs', 0, None)",
        "c('mount', b'none', b'/mnt', b'devtmpfs', 0, None)",
        "c('mount', b'none', b'/sys', None, 32, None)",
        "c('mount', b'none', b'/proc/sys', None, 32 | 4096, None)",
        "c('umount2', b'/proc/sys', 2)",
        "c('umount2', b'/proc', 2)",
        "c('mount', b'/proc', b'/mnt', None, 4096, None)",
        "c('mknod', b'/tmp/towpath-device', 0o20600, 0x101)",
    ],
)
def test_a_nested_user_namespace_of_uid_0_does_not_make_them_writable(run: Runner, expression: str) -> None:
    before = "c('unshare', 0x10000000 | 0x20000)"
    assert run(command=python(attempt(expression, before))).out in ("EPERM\n", "EINVAL\n", "EBUSY\n", "ENODEV\n")


def test_uid_0_mapped_into_a_nested_user_namespace_opens_no_setting(run: Runner) -> None:
    """It may be mapped, so that runs nest; the covers it finds there are not its own to take off."""
    source = f"""
c('unshare', 0x10000000 | 0x20000)
write('/proc/self/uid_map', '0 0 1')
tell(lambda: c('mount', b'/proc/sys', b'/proc/sys', None, 32 | 4096, None))
{_WRITABLE.removeprefix(TRY)}
"""
    refused, *writable = run(command=python(TRY + source)).out.split()
    assert refused == "EPERM"
    assert set(writable) <= _HARMLESS


def test_uid_0_keeps_the_one_capability_that_nesting_takes(run: Runner) -> None:
    """CAP_SETFCAP, number 31, and no other: see docs/decisions/0005-uid-0-keeps-setfcap.md."""
    done = run(command=["grep", "^Cap", "/proc/self/status"])
    sets = dict(line.split(":\t") for line in done.out.splitlines())
    assert {sets.pop("CapInh"), sets.pop("CapAmb")} == {"0" * 16}
    assert set(sets.values()) == {f"{1 << 31:016x}"}


@pytest.mark.parametrize(
    "expression",
    [
        "open('/proc/kcore', 'rb').read(1)",
        "open('/dev/mem', 'rb').read(1)",
        "c('ptrace', 16, 1, 0, 0)",
        "open('/proc/1/mem', 'rb').read(1)",
        "open('/proc/1/environ').read()",
        "c('setns', os.pidfd_open(1), 0x40000000)",
        "socket.socket().bind(('0.0.0.0', 9))",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)",
        "socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)",
        "c('chroot', b'/tmp')",
        "os.setgroups([0])",
        "os.setuid(1)",
        "os.chown('/proc/self/comm', 1, 1)",
    ],
)
def test_uid_0_has_no_capability_in_a_run(run: Runner, expression: str) -> None:
    refusals = ("EPERM\n", "EACCES\n", "EINVAL\n", "ENOENT\n", "EADDRINUSE\n")
    assert run(command=python(attempt(expression))).out in refusals
