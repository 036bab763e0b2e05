"""Ways out of a run that were tried and fail: processes, namespaces, rights, system calls. By an ordinary user."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from tests.support.attempts import TRY, attempt
from tests.support.rootless import Rootless
from tests.support.rootless_lab import RootlessLab
from tests.support.unix_server import unix_server

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86-64")


def test_the_attempts_are_an_ordinary_users_without_rights(lab: RootlessLab) -> None:
    done = lab(["grep", "-E", "^(Uid|Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"])
    fields = {line.split(":")[0]: line.split()[1:] for line in done.out.splitlines()}
    assert "0" not in fields.pop("Uid")
    assert fields.pop("NoNewPrivs") == ["1"]
    assert fields.pop("Seccomp") == ["2"]
    assert fields == {f"Cap{which}": ["0" * 16] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


# --- the first process and the manager ---


@pytest.mark.parametrize(
    "expression",
    [
        "c('ptrace', 16, 1, 0, 0)",
        "c('process_vm_readv', 1, ctypes.byref((LONG * 2)(0x1000, 8)), 1, ctypes.byref((LONG * 2)(0x1000, 8)), 1, 0)",
        "c('syscall', 438, os.pidfd_open(1), 0, 0)",
        "open('/proc/1/mem', 'rb').read(1)",
        "open('/proc/1/environ').read()",
        "open('/proc/1/maps').read()",
        "open('/proc/1/auxv', 'rb').read()",
        "os.listdir('/proc/1/fd')",
        "os.listdir('/proc/1/map_files')",
        "os.readlink('/proc/1/exe')",
        "os.listdir('/proc/1/root/')",
        "os.listdir('/proc/1/cwd/')",
        "os.readlink('/proc/1/ns/net')",
        "c('setns', os.pidfd_open(1), 0x40000000)",
        "c('setns', os.pidfd_open(1), 0x10000000)",
    ],
)
def test_the_first_process_cannot_be_read_or_entered(lab: RootlessLab, expression: str) -> None:
    assert lab(attempt(expression)).out in ("EPERM\n", "EACCES\n")


def test_nothing_of_the_first_process_can_be_written(lab: RootlessLab) -> None:
    source = """
for folder, _, names in os.walk('/proc/1'):
    for name in names:
        try:
            descriptor = os.open(os.path.join(folder, name), os.O_WRONLY)
            os.write(descriptor, b'1')
            print(folder, name)
        except OSError:
            continue
print('tried', os.getuid() > 0)
"""
    assert lab(TRY + source).out == "tried True\n"


def test_no_signal_ends_or_stops_the_first_process(lab: RootlessLab) -> None:
    source = "for number in range(1, 65):\n    os.kill(1, number)\ntime.sleep(0.1); sys.exit(7)"
    done = lab(TRY + source)
    assert (done.code, done.err) == (7, "")


def test_processes_of_the_host_are_invisible(lab: RootlessLab) -> None:
    source = "print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()), os.getppid())"
    assert lab(TRY + source).out == "[1, 2] 1\n"


def test_no_process_number_reaches_out(lab: RootlessLab) -> None:
    source = """
found = []
for pid in range(3, 40000):
    try:
        os.kill(pid, 0)
        found.append(pid)
    except OSError:
        pass
print(found)
"""
    assert lab(TRY + source).out == "[]\n"


def test_killing_everything_does_not_reach_the_manager(lab: RootlessLab) -> None:
    done = lab(TRY + "subprocess.Popen(['sleep', '60']); os.kill(-1, signal.SIGKILL); sys.exit(5)")
    assert (done.code, done.err) == (5, "")


# --- namespaces ---


@pytest.mark.parametrize("kind", ["net", "mnt", "pid", "user", "uts", "ipc", "cgroup"])
def test_a_namespace_outside_cannot_be_entered_even_by_an_open_handle(lab: RootlessLab, kind: str) -> None:
    """An open handle is more than the name of one below /run/netns would give."""
    inside = attempt("c('setns', 9, 0)")
    outside = (
        f"import os; os.dup2(os.open('/proc/self/ns/{kind}', os.O_RDONLY), 9);"
        f" words = {lab.command(inside, '--keep-fd', '9')!r}; os.execv(words[0], words)"
    )
    done = lab.on_client([lab.user.python, "-c", outside])
    assert done.out in ("EPERM\n", "EINVAL\n"), done.err  # EINVAL: one's own user namespace's parent, never enterable


_NESTED = """
def nested(flags):
    uid, gid = os.getuid(), os.getgid()
    c('unshare', 0x10000000 | flags)
    write('/proc/self/setgroups', 'deny')
    write('/proc/self/uid_map', f'0 {uid} 1')
    write('/proc/self/gid_map', f'0 {gid} 1')
"""


def test_a_nested_user_namespace_has_rights_over_its_own_network_only(lab: RootlessLab) -> None:
    """With every right there it still has no device that leads anywhere, and cannot go back."""
    web = lab.addresses["web"][0]
    source = f"""
{_NESTED}
run = os.open('/proc/self/ns/net', os.O_RDONLY)
nested(0x40000000)
print(subprocess.run(['ip', 'link', 'set', 'lo', 'up']).returncode)
tell(lambda: connect({web!r}, 80))
tell(lambda: c('setns', run, 0x40000000))
tell(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
"""
    lab.capture()
    assert lab(TRY + source).out == "0\nENETUNREACH\nEPERM\nEAFNOSUPPORT\n"
    assert lab.captured() == []


def test_a_nested_user_namespace_has_no_rights_over_the_runs_network(lab: RootlessLab) -> None:
    source = f"""
{_NESTED}
nested(0)
print(subprocess.run(['ip', 'link', 'set', 'lo', 'down'], stderr=-3).returncode)
print(subprocess.run(['nft', 'flush', 'ruleset'], stderr=-3).returncode)
tell(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255))
tell(lambda: socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1))
tell(lambda: write('/proc/sys/net/ipv4/ip_forward', '1'))
"""
    *codes, raw, mark, setting = lab(TRY + source).out.split()
    assert "0" not in codes
    assert (raw, mark) == ("EPERM", "EPERM")
    assert setting in ("EACCES", "EROFS", "EPERM")


@pytest.mark.parametrize(
    "expression",
    [
        "c('umount2', PATH, 2)",
        "c('umount2', PATH, 0)",
        "c('mount', FOLDER, b'/mnt', None, 4096, None)",
        "c('mount', b'/', b'/mnt', None, 4096, None)",
        "c('mount', PATH, b'/mnt', None, 8192, None)",
        "c('syscall', 428, -100, FOLDER, 1)",
        "c('mount', b'overlay', b'/mnt', b'overlay', 0, b'lowerdir=' + FOLDER + b':/etc')",
    ],
)
def test_a_mask_cannot_be_taken_off_in_a_nested_user_namespace(lab: RootlessLab, expression: str) -> None:
    """Neither by unmounting, nor by showing the covered folder elsewhere without what covers it."""
    path = lab.user.home / "masked" / uuid4().hex
    with unix_server(lab, ("SOCK_STREAM", str(path))):
        before = f"""
{_NESTED}
PATH = {str(path).encode()!r}; FOLDER = os.path.dirname(PATH)
nested(0x20000)
"""
        assert lab(attempt(expression, before)).out in ("EINVAL\n", "EPERM\n")


def test_a_copy_of_a_covered_folder_is_covered_too(lab: RootlessLab) -> None:
    path = lab.user.home / "masked" / uuid4().hex
    source = f"""
{_NESTED}
nested(0x20000)
c('mount', {str(path.parent).encode()!r}, b'/mnt', None, 4096 | 16384, None)
s = socket.socket(socket.AF_UNIX)
tell(lambda: s.connect('/mnt/{path.name}'))
"""
    with unix_server(lab, ("SOCK_STREAM", str(path))) as server:
        assert lab(TRY + source).out == "ECONNREFUSED\n"
    assert server.reached == 0


# --- rights over the run's own network ---


@pytest.mark.parametrize(
    "words",
    [
        "nft flush ruleset",
        "nft add table inet mine",
        "ip link set lo down",
        "ip link add d0 type dummy",
        "ip link add v0 type veth",
        "ip address add 198.51.100.9/32 dev lo",
        "ip route add default dev lo",
        "ip rule add table 100",
        "ip tuntap add dev t0 mode tun",
        "ip netns add mine",
    ],
)
def test_the_runs_network_cannot_be_changed(lab: RootlessLab, words: str) -> None:
    assert shutil.which(words.split()[0], path="/usr/sbin:/sbin:/usr/bin"), "iproute2 and nftables are needed here"
    done = lab(words.split())
    assert done.code != 0
    assert any(said in done.err for said in ("Operation not permitted", "Permission denied", "must be root")), done.err


@pytest.mark.parametrize(
    "expression",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        "socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)",
        "socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)",
        "socket.socket().setsockopt(socket.IPPROTO_IP, 19, 1)",
        "socket.socket(socket.AF_INET6).setsockopt(socket.IPPROTO_IPV6, 75, 1)",
        "socket.socket().setsockopt(socket.IPPROTO_TCP, 19, 1)",
        "socket.socket(socket.AF_INET6).setsockopt(socket.IPPROTO_IPV6, 54, bytes(8))",
        "fcntl.ioctl(os.open('/dev/net/tun', os.O_RDWR), 0x400454CA, struct.pack('16sH22x', b't0', 1))",
    ],
    ids=["raw", "icmp", "icmp6", "mark", "transparent", "transparent6", "tcp-repair", "hop-options", "tun"],
)
def test_a_socket_that_writes_its_own_packets_is_refused(lab: RootlessLab, expression: str) -> None:
    assert lab(attempt(expression)).out in ("EPERM\n", "EACCES\n", "ENOENT\n")


_NETLINK = """
def netfilter(kind, body):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    s.send(struct.pack('=IHHII', 16 + len(body), kind, 5, 1, 0) + body)
    code = struct.unpack_from('=i', s.recv(4096), 16)[0]
    if code: raise OSError(-code, '')
"""


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (0x302, "bytes(4) + struct.pack('=HHBxH', 8, 1, 1, 0)"),
        (0x302, "bytes(4) + struct.pack('=HHBxH', 8, 1, 2, 0)"),
        (0x302, "struct.pack('=BBBB', 0, 0, 0, 7) + struct.pack('=HHBxH', 8, 1, 1, 0)"),
        (0x301, "bytes(4) + struct.pack('=HH', 12, 2) + struct.pack('>II', 1, 1)"),
    ],
    ids=["bind", "unbind", "bind-another", "verdict"],
)
def test_the_packet_queue_cannot_be_taken_over(lab: RootlessLab, kind: int, body: str) -> None:
    assert lab(attempt(f"netfilter({kind}, {body})", _NETLINK)).out == "EPERM\n"


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
@pytest.mark.parametrize("option", ["SO_REUSEADDR", "SO_REUSEPORT"])
@pytest.mark.parametrize(
    ("address", "port"), [("192.0.2.1", 9), ("0.0.0.0", 9), ("192.0.2.1", 53), ("0.0.0.0", 53), ("203.0.113.1", 53)]
)
def test_the_managers_ports_inside_cannot_be_bound(
    lab: RootlessLab, address: str, port: int, option: str, kind: str
) -> None:
    before = f"s = socket.socket(type=socket.{kind}); s.setsockopt(socket.SOL_SOCKET, socket.{option}, 1)"
    assert lab(attempt(f"s.bind(({address!r}, {port}))", before)).out == "EADDRINUSE\n"


def test_a_set_user_id_program_runs_as_the_user(rootless: Rootless) -> None:
    if os.getuid():
        pytest.skip("only root can make a set-user-ID program of root's to try")
    program = Path(rootless.towpath).with_name("set-user-id")
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    assert rootless.run([str(program), "-u"]).stdout == "0\n", "the program must work outside, or this proves nothing"
    assert rootless.run([rootless.towpath, "run", "--", str(program), "-u"]).stdout == "1000\n"


def test_a_program_with_file_capabilities_runs_without_them(rootless: Rootless) -> None:
    if os.getuid() or not shutil.which("setcap"):
        pytest.skip("only root can give a program capabilities, with setcap (libcap2-bin)")
    program = Path(rootless.towpath).with_name("capable")
    shutil.copy("/usr/bin/grep", program)
    assert os.system(f"setcap cap_net_raw=ep {program}") == 0
    words = [str(program), "CapEff", "/proc/self/status"]
    assert rootless.run(words).stdout.split() == ["CapEff:", "0000000000002000"]
    assert rootless.run([rootless.towpath, "run", "--", *words]).stdout.split() == ["CapEff:", "0" * 16]


@pytest.mark.parametrize("path", ["/", "/usr", "/proc", "/dev", "/sys", "/tmp"])
def test_no_mount_grants_set_user_id(lab: RootlessLab, path: str) -> None:
    assert lab(attempt(f"bool(os.statvfs({path!r}).f_flag & os.ST_NOSUID)")).out == "DONE True\n"


# --- system calls ---


@pytest.mark.parametrize("family", [15, 17, 21, 29, 30, 31, 33, 38, 40, 41, 42, 43, 44])
def test_socket_families_outside_the_network_namespace_are_refused(lab: RootlessLab, family: int) -> None:
    """AF_VSOCK (40) above all, which no network namespace holds."""
    assert lab(attempt(f"socket.socket({family}, socket.SOCK_STREAM)")).out == "EAFNOSUPPORT\n"


@x86_64
@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("41, LONG(40 | 1 << 32), 1, 0", "EAFNOSUPPORT"),
        ("41, LONG(40 | 0xFFFFFFFF << 32), 1, 0", "EAFNOSUPPORT"),
        ("53, 40, 1, 0, (ctypes.c_int * 2)()", "EAFNOSUPPORT"),
        ("0x40000000 | 41, 40, 1, 0", "ENOSYS"),
        ("0x40000000 | 41, 2, 1, 0", "ENOSYS"),
        ("0x40000000 | 514, 0, 0x5412, b'x'", "ENOSYS"),
        ("425, 8, bytes(120)", "ENOSYS"),
    ],
    ids=["high-bit", "high-bits", "socketpair", "x32-vsock", "x32-inet", "x32-ioctl", "io_uring"],
)
def test_the_filter_cannot_be_passed_by_another_form_of_the_call(lab: RootlessLab, words: str, error: str) -> None:
    assert lab(attempt(f"c('syscall', {words})")).out == f"{error}\n"


_I386 = """
page = mmap.mmap(-1, 4096, prot=7)
# push rbx; mov eax,edi; mov ebx,esi; xchg ecx,edx; int 0x80; cdqe; pop rbx; ret
page.write(bytes.fromhex('53 89f8 89f3 87d1 cd80 4898 5b c3'))
i386 = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
"""


@x86_64
def test_i386_system_calls_are_filtered_too(lab: RootlessLab) -> None:
    calls = {"getpid": "20, 0, 0, 0", "vsock": "359, 40, 1, 0", "socketpair": "360, 40, 1, 0"}
    calls |= {"socketcall": "102, 1, 0, 0", "io_uring_setup": "425, 8, 0, 0", "tiocsti": "54, 0, 0x5412, 0"}
    calls |= {"tioclinux": "54, 0, 0x541C, 0"}
    source = TRY + _I386 + "".join(f"print({name!r}, i386({words}))\n" for name, words in calls.items())
    done = lab(source)
    if done.code == -11:
        pytest.skip("this kernel has no i386 system calls")
    assert dict(line.split() for line in done.out.splitlines()) == {
        "getpid": "2",
        "vsock": "-97",
        "socketpair": "-97",
        "socketcall": "-38",
        "io_uring_setup": "-38",
        "tiocsti": "-1",
        "tioclinux": "-1",
    }


_TERMINAL = """
master, slave = os.openpty()
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.setsid()
fcntl.ioctl(slave, 0x540E, 0)
"""


@pytest.mark.parametrize("request_word", ["0x5412", "0x5412 | 1 << 32", "0x541C", "0x541C | 5 << 40"])
def test_nothing_can_be_typed_into_the_terminal(lab: RootlessLab, request_word: str) -> None:
    source = attempt(f"c('ioctl', slave, LONG({request_word}), ctypes.c_char_p(b'x'))", _TERMINAL)
    outside = lab.on_client([lab.user.python, "-I", "-c", source]).out
    if "5412" in request_word and outside == "DONE 0\n":
        assert lab(source).out == "EPERM\n"
    else:  # the kernel refuses it by itself (dev.tty.legacy_tiocsti=0), or has it for consoles only
        assert lab(source).out in ("EPERM\n", "EIO\n")


@pytest.mark.parametrize(
    "expression",
    [
        "c('mount', b'none', b'/mnt', b'tmpfs', 0, None)",
        "c('umount2', b'/proc', 2)",
        "c('chroot', b'/tmp')",
        "c('sethostname', b'x', 1)",
        "c('swapoff', b'/x')",
        "c('syscall', 321, 5, bytes(120), 120)",
        "c('init_module', b'', 0, b'')",
        "c('reboot', 0)",
    ],
)
def test_what_needs_rights_over_the_machine_is_refused(lab: RootlessLab, expression: str) -> None:
    assert lab(attempt(expression)).out in ("EPERM\n", "EACCES\n", "ENOSYS\n", "E2BIG\n")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv4/ping_group_range",
        "/proc/sys/net/netfilter/nf_conntrack_max",
        "/proc/sysrq-trigger",
        "/proc/net/nf_conntrack",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/systemd/release_agent",
        "/sys/fs/cgroup/systemd/notify_on_release",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/unified/cgroup.procs",
    ],
)
def test_a_setting_of_the_machine_or_the_run_cannot_be_written(lab: RootlessLab, path: str) -> None:
    assert lab(attempt(f"write({path!r}, '1')")).out in ("EACCES\n", "EROFS\n", "ENOENT\n", "EPERM\n")
