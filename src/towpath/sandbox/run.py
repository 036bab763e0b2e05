"""`towpath run`: one command in a sandbox of its own, from the first plan to the exit code.

The sandbox is cloned first, because that takes the kernel a while; the manager reads the policy and imports its own
parts meanwhile. The command is executed only when everything that serves it is in place.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from towpath.errors import ConfigInvalid, HostFault
from towpath.kernel import system
from towpath.kernel.scope import QUEUE_NUMBER, CommandExit, ScopePlan
from towpath.sandbox import ruleset
from towpath.sandbox.command import find, unusable
from towpath.sandbox.options import RunOptions
from towpath.sandbox.protect import protected_paths

if TYPE_CHECKING:
    from towpath.sandbox.filter_run import FilterRun
    from towpath.sandbox.manager import Manager
    from towpath.sandbox.tunnel_run import TunnelRun
    from towpath.sandbox.viewer import Viewer

__all__ = ["run"]

OWN4 = "192.0.2.1"
OWN6 = "2001:db8:746f:7770::1"
"""The run's own addresses, from the ranges for documentation: no other host has them."""
NAME_SERVER = "192.0.2.2"
_RELAY_PORT = 9
_COPIED_SETTINGS = ("net/ipv4/tcp_syn_retries", "net/ipv4/ip_local_port_range", "net/ipv4/tcp_keepalive_time")


def _settings() -> dict[str, str]:
    """Per-namespace settings that a program would notice: a dial inside must not give up before the one outside."""
    found = {}
    for path in _COPIED_SETTINGS:
        try:
            with open("/proc/sys/" + path, encoding="ascii") as file:
                found[path] = file.read().strip()
        except OSError:
            continue
    return found


def _resolver_file() -> bytes:
    """The host's resolv.conf with the run's name server; its search list and options stay."""
    kept = []
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            kept = [line.rstrip("\n") for line in file if line.startswith(("search", "domain", "options"))]
    except OSError:
        pass
    return "\n".join([f"nameserver {NAME_SERVER}", *kept, ""]).encode()


def _check(options: RunOptions) -> None:
    for number in options.keep_fd:
        try:
            os.fstat(number)
        except OSError:
            raise ConfigInvalid("--keep-fd", f"descriptor {number} is not open") from None
    for path in options.allow_unix:
        if not os.path.exists(path):
            raise ConfigInvalid("--allow-unix", f"{path} does not exist", "start its server before the run")
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigInvalid("--allow-unix", f"{path} is not a socket")


def _open_streams() -> None:
    """Gives closed standard streams /dev/null: the next descriptors that are opened would take their numbers."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def make_plan(options: RunOptions, read_only: list[str], hidden: Sequence[str] = ()) -> ScopePlan:
    """The whole sandbox as a value; nothing in it can change the files `read_only`, or see what is in `hidden` ones.

    Raises `CommandUnusable` and `ConfigInvalid`.
    """
    environment = {**os.environ, **options.environment}
    executable = find(options.argv[0], environment)
    _check(options)
    own6 = OWN6 if options.tunnel is not None or system.addresses.has_ipv6() else None
    own = [OWN4, own6] if own6 else [OWN4]
    folder = _folder()
    return ScopePlan(
        argv=options.argv,
        environment=environment,
        executable=executable,
        folder=folder,
        address4=OWN4,
        address6=own6,
        relay_port=_RELAY_PORT,
        local_ports=options.allow_local,
        table=ruleset.lines(own, _RELAY_PORT, QUEUE_NUMBER, options.allow_local),
        settings=_settings(),
        resolver_file=_resolver_file(),
        masked_sockets=system.mounts.listening_unix_sockets(),
        masked_folders=system.mounts.socket_folders(),
        kept_sockets=options.allow_unix,
        kept_descriptors=options.keep_fd,
        runtime_folder=os.environ.get("XDG_RUNTIME_DIR"),
        hidden=hidden,
        read_only=[*read_only, *(protected_paths(os.environ, folder) if options.protect else [])],
        tap=options.capture is not None,
    )


def _find_filters(options: RunOptions) -> FilterRun | None:
    if not options.filters and options.dns is None:
        return None
    from towpath.sandbox.filter_run import FilterRun

    return FilterRun(options)


def _find_tunnel(options: RunOptions) -> TunnelRun | None:
    if options.tunnel is None:
        return None
    from towpath.sandbox.tunnel_run import TunnelRun

    return TunnelRun(options.tunnel)


def _find_viewer(options: RunOptions) -> Viewer | None:
    if not options.watch:
        return None
    from towpath.sandbox.viewer import Viewer

    return Viewer()


def run(options: RunOptions) -> int:
    """Runs the command and gives the exit code that a shell would; ends by the signal that ended the command.

    Raises `TowpathError` for whatever kept the command from being started.
    """
    _open_streams()
    viewer = _find_viewer(options)
    options = options._replace(has_terminal=viewer is None or not viewer.draws_here)
    filters = _find_filters(options)
    tunnel = None
    try:
        tunnel = _find_tunnel(options)
        read_only = [*(filters.files if filters else []), *(tunnel.files if tunnel else [])]
        plan = make_plan(options, read_only, tunnel.secrets if tunnel else ())
        scope = system.LinuxScope(plan)
        try:
            from towpath.sandbox.manager import Manager

            manager: Manager = Manager(options, scope, filters, viewer, tunnel)
            ended: CommandExit = manager.run()
        finally:
            scope.close()
        manager.finish()
    finally:
        if tunnel is not None:
            tunnel.close()
        if filters is not None:
            filters.close()
    if ended.error == errno.ECHILD:
        raise HostFault("run the command", ended.error, "the first process of the sandbox was killed")
    if ended.error is not None:
        raise unusable(options.argv[0], ended.error)
    if ended.signal is not None:
        sys.stderr.flush()
        system.signals.die_by(ended.signal)
    return ended.code
