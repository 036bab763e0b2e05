"""The nftables table of a whole host's filter: owned by the socket that made it, so that it ends with its process.

The `owner` flag (nft(8), "flags owner") also keeps others from changing it. Transactions replace rules and never the
base chains: registering a hook anew drops every packet that waits in a queue of the namespace.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Literal, TypeAlias

from towpath.errors import HostFault
from towpath.linux.netlink import NETLINK_NETFILTER, NetlinkSocket
from towpath.linux.nftables import Batch

__all__ = ["HostTable", "Way"]

Way: TypeAlias = Literal["xt", "nft"]
"""How packets are given to the queue: the xt target NFQUEUE, or nft's own statement."""


class HostTable:
    """Makes the inet table `name` in this process's network namespace; see `towpath.linux.nftables.Batch` for lines.

    `ways` are tried in order; `way` is the one that the kernel has. Raises `HostFault`.
    """

    def __init__(self, name: str, lines: Sequence[str], ways: Sequence[Way] = ("xt", "nft")) -> None:
        self._name = name
        self._netlink = NetlinkSocket(NETLINK_NETFILTER)
        self._sequence = 0
        try:
            self.way = self._make(lines, ways)
        except BaseException:
            self._netlink.close()
            raise

    def _make(self, lines: Sequence[str], ways: Sequence[Way]) -> Way:
        for way in ways:
            batch = self._batch(way)
            batch.make(owned=True)
            batch.lines(lines)
            try:
                self._send(batch)
            except HostFault as fault:
                if way == ways[-1] or fault.errno != errno.ENOENT:
                    raise
                continue
            return way
        raise HostFault(f"load the table {self._name}", errno.EINVAL, "no way to the queue was given")

    def _batch(self, way: Way) -> Batch:
        return Batch(self._name, self._sequence + 1, xt=way == "xt")

    def _send(self, batch: Batch) -> None:
        self._sequence = batch.last
        batch.send(self._netlink, f"load the table {self._name}")

    def change(self, lines: Sequence[str]) -> None:
        """Applies more lines in one transaction. Raises `HostFault`; then nothing has changed."""
        batch = self._batch(self.way)
        batch.lines(lines)
        self._send(batch)

    def keep(self, name: str, mark: int) -> None:
        """Puts `mark` into the set `name`, or lets its time there begin anew. Raises `HostFault`."""
        for renew in (True, False):
            batch = self._batch(self.way)
            batch.member(name, mark, renew=renew)
            try:
                self._send(batch)
            except HostFault as fault:
                if not renew or fault.errno != errno.ENOENT:
                    raise
            else:
                return

    def close(self) -> None:
        """The table is gone when this returns."""
        self._netlink.close()
