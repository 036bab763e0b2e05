"""The first process of a sandbox: makes it, hands its sockets out, gives up every right, starts the command, reaps.

It runs between `clone` and the end of the run, never returns to its caller, and holds nothing but its control socket
once the command runs: no capability, no descriptor of the caller's, no memory that the command may read.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import signal
import socket
import stat
from typing import Any, NoReturn

from towpath.errors import HostFault
from towpath.kernel.scope import QUEUE_NUMBER, ScopePlan
from towpath.linux import libc, mounts, seals, sockets
from towpath.linux.netlink import NETLINK_ROUTE, NETLINK_SOCK_DIAG, NetlinkSocket
from towpath.linux.nfqueue import PacketQueue
from towpath.linux.nftables import make_table
from towpath.linux.rtnetlink import LOOPBACK_INDEX, add_address, add_route, set_link

_TABLE, _STATIC_TABLE = "towpath", "towpath_static"
_SCRIPT_INTERPRETER = "/bin/sh"

Held = list[tuple[tuple[str, int, int], int]]
"""`((name, IP version, port), descriptor)` of every object to hand out."""


def live(plan: ScopePlan, control: socket.socket, uid: int, gid: int) -> NoReturn:
    """The whole life of the process; `uid` and `gid` are the caller's, which stay what they are inside.

    Failures are told to the manager as a value, never as a trace.
    """
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            # The interpreter's handler would end this process; without one the kernel spares the first process.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        _map_identity(uid, gid)
        _hand_out(control, _make_network(plan, gid))
        data = control.recv(1 << 20)
        if not data:
            os._exit(0)
        added: dict[str, str]
        added, static_table, search, read_only = marshal.loads(data)[1]
        for lines in static_table:
            make_table(_STATIC_TABLE, lines)
        plan = plan._replace(read_only=[*plan.read_only, *read_only])
        _make_mounts(_searching(plan, search), root=uid == 0)
        _enter(plan.folder)
        # The kernel lets uid 0 map itself into one more user namespace, as a nested run does, only with this. It adds
        # nothing to what owning root's files gives.
        seals.drop_capabilities(frozenset({seals.SETFCAP}) if uid == 0 else frozenset())
        seals.no_new_privileges()
        seals.restrict_system_calls()
        # The command must find nothing to attach to or read in this process.
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        _show_processes(control)
        wake, command = _start(plan, added, control)
        _serve(command, control, wake)
    except HostFault as fault:
        _say(control, "fault", (fault.operation, fault.errno or 0, _reason(fault)))
    except OSError as error:
        _say(control, "fault", ("make the sandbox", error.errno or 0, str(error)))
    except BaseException as error:  # the last frame of this process: whatever it is, the manager must be told
        _say(control, "fault", ("make the sandbox", 0, f"{type(error).__name__}: {error}"))
    os._exit(1)


def _reason(fault: HostFault) -> str:
    return str(fault).removeprefix(fault.operation + ": ")


def _say(control: socket.socket, kind: str, payload: Any) -> None:
    try:
        control.send(marshal.dumps((kind, payload)))
    except OSError:
        os._exit(1)  # nobody is left to tell


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
    except OSError as error:
        raise HostFault(f"write {path}", error.errno or 0, str(error.strerror)) from error
    finally:
        os.close(descriptor)


def _set(path: str, value: str) -> None:
    """Writes a setting of the new network namespace; inside a run of uid 0 they are closed, and stay as they are."""
    try:
        _write("/proc/sys/" + path, value)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise


def _map_identity(uid: int, gid: int) -> None:
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _make_network(plan: ScopePlan, gid: int) -> Held:
    versions = (4, 6) if plan.address6 else (4,)
    with NetlinkSocket(NETLINK_ROUTE) as route:
        set_link(route, LOOPBACK_INDEX, up=True)
        add_address(route, LOOPBACK_INDEX, plan.address4, 32)
        add_route(route, "0.0.0.0", 0, index=LOOPBACK_INDEX, source=plan.address4, local=True)
        if plan.address6:
            add_address(route, LOOPBACK_INDEX, plan.address6, 128)
            add_route(route, "::", 0, index=LOOPBACK_INDEX, source=plan.address6, local=True)
    for path, value in {
        **plan.settings,
        "net/ipv4/ping_group_range": f"{gid} {gid}",
        "net/ipv4/ip_unprivileged_port_start": "0",
    }.items():
        _set(path, value)
    make_table(_TABLE, list(plan.table))
    held: Held = [(("queue", 0, 0), PacketQueue(QUEUE_NUMBER).socket.detach())]
    held.append((("diagnosis", 0, 0), NetlinkSocket(NETLINK_SOCK_DIAG).socket.detach()))
    if plan.tap:
        held.append((("tap", 0, 0), sockets.tap("lo").detach()))
    for version in versions:
        own = plan.address4 if version == 4 else plan.address6 or ""
        everywhere, loopback = ("0.0.0.0", "127.0.0.1") if version == 4 else ("::", "::1")
        made = {
            "tcp": sockets.tcp_listener(version, own, plan.relay_port, transparent=True),
            "udp": sockets.udp_intake(version, own, plan.relay_port),
            "dns_udp": sockets.dns_intake(version),
            "dns_tcp": sockets.tcp_listener(version, everywhere, 53, transparent=True),
            "raw_udp": sockets.raw_sender(version, socket.IPPROTO_UDP),
            "raw_icmp": sockets.raw_sender(version, socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6),
        }
        held += [((name, version, 0), one.detach()) for name, one in made.items()]
        held += [
            (("local", version, port), sockets.tcp_listener(version, loopback, port, transparent=False).detach())
            for port in plan.local_ports
        ]
    return held


def _hand_out(control: socket.socket, held: Held) -> None:
    names = [name for name, _ in held]
    socket.send_fds(control, [marshal.dumps(("ready", names))], [number for _, number in held])
    for _, number in held:
        os.close(number)


def _make_mounts(plan: ScopePlan, *, root: bool) -> None:
    mounts.separate()
    mounts.own_proc()
    if root:
        mounts.close_system_settings()
    mounts.close_control_groups()
    covered = mounts.mask_sockets(list(plan.masked_sockets), list(plan.masked_folders), list(plan.kept_sockets))
    if plan.runtime_folder and "/run/user" in covered:
        mounts.own_runtime_folder(plan.runtime_folder)
    mounts.cover_file("/etc/resolv.conf", plan.resolver_file, covered)
    mounts.hide_files(list(plan.hidden))
    mounts.make_read_only(list(plan.read_only))


def _searching(plan: ScopePlan, search: list[str]) -> ScopePlan:
    """The plan with other search domains in its resolver file."""
    if not search:
        return plan
    kept = [line for line in plan.resolver_file.splitlines() if not line.startswith((b"search", b"domain"))]
    return plan._replace(resolver_file=b"\n".join([*kept, f"search {' '.join(search)}".encode(), b""]))


def _show_processes(control: socket.socket) -> None:
    """Hands out the folder of the run's own processes, by which the manager finds who opened a flow."""
    folder = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    socket.send_fds(control, [marshal.dumps(("processes", None))], [folder])
    os.close(folder)


def _enter(folder: str) -> None:
    """Goes to the caller's folder by name, so that a covered one is seen as covered."""
    try:
        os.chdir(folder)
    except OSError:
        os.chdir("/")


def _start(plan: ScopePlan, added: dict[str, str], control: socket.socket) -> tuple[int, int]:
    """Forks the command. Gives the descriptor that wakes on SIGCHLD, and the command's process id."""
    wake = _wake_on_children()
    report, told = os.pipe()
    command = os.fork()
    if command == 0:
        try:
            os.close(report)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _restoresignals()
            _close_descriptors({0, 1, 2, told, *plan.kept_descriptors})
            for number in plan.kept_descriptors:
                os.set_inheritable(number, True)
            environment = {**plan.environment, **added}
            try:
                os.execve(plan.executable, list(plan.argv), environment)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
            os.execve(_SCRIPT_INTERPRETER, [_SCRIPT_INTERPRETER, plan.executable, *plan.argv[1:]], environment)
        except OSError as error:
            os.write(told, str(error.errno or errno.EIO).encode())
        finally:
            os._exit(126)
    os.close(told)
    failure = os.read(report, 16)
    os.close(report)
    if failure:
        _say(control, "exit", (126, None, int(failure)))
        os._exit(0)
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    _close_descriptors({0, 1, 2, control.fileno(), *wake})
    return wake[0], command


def _wake_on_children() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def _restoresignals() -> None:
    """What the interpreter changed for itself goes back; what the caller ignores stays ignored."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close_descriptors(keep: set[int]) -> None:
    """Closes all but `keep` and the pipes and regular files that the caller left open on purpose.

    A folder, socket or device left open leads out of the namespaces: a folder reaches what is covered.
    """
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number in keep:
            continue
        try:
            kind = os.fstat(number).st_mode
            if os.get_inheritable(number) and (stat.S_ISFIFO(kind) or stat.S_ISREG(kind)):
                continue
            os.close(number)
        except OSError:
            continue  # the descriptor of the listing itself


def _serve(command: int, control: socket.socket, wake: int) -> NoReturn:
    """Reaps, and does the manager's small errands, until the command ends."""
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for number, _events in poll.poll():
            if number == wake:
                os.read(wake, 4096)
                _reap(command, control)
            else:
                _errand(command, control)


def _reap(command: int, control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid != command:
            continue
        if os.WIFSTOPPED(status):
            _say(control, "stopped", None)
        else:
            signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            code = 128 + signalled if signalled else os.WEXITSTATUS(status)
            _say(control, "exit", (code, signalled, None))
            os._exit(0)


def _errand(command: int, control: socket.socket) -> None:
    data = control.recv(1 << 16)
    if not data:
        os._exit(0)
    kind, payload = marshal.loads(data)
    if kind == "signal":
        try:
            os.kill(command, payload)
        except ProcessLookupError:
            pass  # it has ended, and its end is being told
    elif kind == "sockets":
        version, count = payload
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        made = [socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) for _ in range(count)]
        socket.send_fds(control, [marshal.dumps(("sockets", version))], [one.fileno() for one in made])
        for one in made:
            one.close()
