"""Process 1 of a world, and the processes of its nodes, from inside.

The keeper is cloned into new user, process, mount and network namespaces. It is the root router, and forks one process
for each node, which takes network and mount namespaces of its own. It watches its owner through a pidfd and ends when
the owner ends; the kernel then kills the rest of the process namespace, and the other namespaces go with their last
process. Nothing is written to a file system that outlives them.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NoReturn

from towpath.errors import TowpathError
from towpath.kernel.hosts import Card, Node, Serve
from towpath.linux import libc
from towpath.linux.entering import drop_rights
from towpath.linux.frame_relay import relay_frames
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from towpath.linux.node_network import configure, prepare
from towpath.linux.rtnetlink import add_veth

__all__ = ["REPORT_SIZE", "Keeper"]

REPORT_SIZE = 1 << 16
_SCRATCH = "/tmp"
_NEAR, _FAR = "near", "far"


class Keeper:
    """Made by the owner, run by the clone.

    `run` never unwinds into the owner's stack: the objects there are the owner's, and their finalisers would close
    descriptors that are the keeper's by now.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        serve: Serve,
        tell: socket.socket,
        owner: int,
        channels: Mapping[str, socket.socket],
    ) -> None:
        self._nodes = nodes
        self._serve = serve
        self._tell = tell
        self._owner = owner
        self._channels = channels
        self._ids = os.getuid(), os.getgid()

    def run(self) -> NoReturn:
        """The keeper's life. Whatever goes wrong is told to the owner."""
        root = self._nodes[0]
        try:
            gc.freeze()
            self._settle()
            prepare(root, self._ids[1])
            self._build()
            self._say(root.name)
            select.select([self._owner], [], [])
        except BaseException as error:
            self._say(root.name, error)
        finally:
            os._exit(0)

    def _say(self, name: str, error: BaseException | None = None, handle: int | None = None) -> None:
        """Tells the owner that a node is ready, what it failed with, or by which descriptor it is entered."""
        fault = None
        if error is not None:
            fault = [getattr(error, "errno", None) or errno.EIO, _words(error), getattr(error, "hint", None)]
        socket.send_fds(self._tell, [json.dumps([name, fault]).encode()], [] if handle is None else [handle])

    def _settle(self) -> None:
        user, group = self._ids
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of the commands become ours, and need no burial
        channels = (channel.fileno() for channel in self._channels.values())
        _close_all_but({2, self._tell.fileno(), self._owner, *channels})
        libc.mount(None, "/", None, libc.MS_REC | libc.MS_SLAVE)
        libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)

    def _build(self) -> None:
        """Makes every node's namespaces, then every link, then lets all nodes set themselves up at once."""
        moved, tell_moved = os.pipe()
        spaces = {self._nodes[0].name: os.open("/proc/self/ns/net", os.O_RDONLY)}
        relays = [(node.name, card) for node in self._nodes for card in node.cards if card.delay is not None]
        members: dict[str, Callable[[int, int], NoReturn]] = {
            **{node.name: partial(self._live, node) for node in self._nodes[1:]},
            **{f"{name}/{card.device}": partial(self._relay, card) for name, card in relays},
        }
        starts: list[int] = []
        for name, member in members.items():
            wait, start = os.pipe()
            # Not fork(3): it would wait for threads of libraries such as OpenBLAS, which the keeper did not inherit.
            child = libc.clone(0)
            if child == 0:
                member(tell_moved, wait)
            os.close(wait)
            starts.append(start)
            os.read(moved, 1)
            spaces[name] = os.open(f"/proc/{child}/ns/net", os.O_RDONLY)
            handle = os.pidfd_open(child) if name in self._channels else os.dup(start)
            self._say(name, handle=handle)
            os.close(handle)
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            for node in self._nodes:
                for card in node.cards:
                    here, there = spaces[node.name], spaces[card.upstream]
                    if card.delay is None:
                        add_veth(netlink, card.device, here, card.port, there)
                    else:
                        relay = spaces[f"{node.name}/{card.device}"]
                        add_veth(netlink, card.device, here, _NEAR, relay)
                        add_veth(netlink, _FAR, relay, card.port, there)
            configure(netlink, self._nodes[0], self._cards_at(self._nodes[0].name))
        for start in starts:
            os.write(start, b"g")
            os.close(start)

    def _cards_at(self, router: str) -> list[Card]:
        return [card for node in self._nodes for card in node.cards if card.upstream == router]

    def _live(self, node: Node, tell_moved: int, wait: int) -> NoReturn:
        """The life of one node's process."""
        channel = self._channels[node.name]
        try:
            libc.unshare(libc.CLONE_NEWNET | libc.CLONE_NEWNS)
            prepare(node, self._ids[1])
            os.write(tell_moved, b"m")
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if node.files:
                _lay_over(node.files)
            os.read(wait, 1)
            _close_all_but({2, self._tell.fileno(), channel.fileno()})
            with NetlinkSocket(NETLINK_ROUTE) as netlink:
                configure(netlink, node, self._cards_at(node.name))
            drop_rights()
            self._serve(node.name, channel, lambda: self._say(node.name))
        except BaseException as error:
            self._say(node.name, error)
        finally:
            os._exit(0)

    def _relay(self, card: Card, tell_moved: int, wait: int) -> NoReturn:
        """The life of the process that delays the frames of one card."""
        try:
            libc.unshare(libc.CLONE_NEWNET)
            os.write(tell_moved, b"m")
            os.read(wait, 1)
            _close_all_but({2, self._tell.fileno(), wait})
            relay_frames(_NEAR, _FAR, card.delay or 0.0, wait)
        except BaseException as error:
            self._say(card.device, error)
        finally:
            os._exit(0)


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, TowpathError | OSError) else f"{type(error).__name__}: {error}"


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


def _close_all_but(keep: Iterable[int]) -> None:
    """Closes every other descriptor; 0 and 1 become /dev/null."""
    kept = sorted(keep)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    lowest = 2
    for descriptor in kept:
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))


def _lay_over(files: Mapping[str, bytes]) -> None:
    """Binds each content over its path; the file behind it lives in a memory file system without a name."""
    libc.mount("tmpfs", _SCRATCH, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=0755")
    for number, (path, content) in enumerate(files.items()):
        source = f"{_SCRATCH}/{number}"
        with open(source, "wb") as file:
            file.write(content)
        libc.mount(source, path, None, libc.MS_BIND)
    libc.unmount(_SCRATCH, libc.MNT_DETACH)
