"""A run's packets in a capture file, with whose they are, what was decided and by which rule (`--capture`).

They are taken from the loopback device inside of the run, where they have the addresses that the program used. The
first packet of a refused flow never gets there: it is written from the queue. A run without it has nothing of this.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO

from towpath import __version__
from towpath.errors import ConfigInvalid
from towpath.hosting.loop import IN, Loop
from towpath.hosting.outputs import open_output
from towpath.kernel.system import sockets
from towpath.wire import ip, pcapng
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    import socket

    from towpath.sandbox.flows import Flow

__all__ = ["Capture", "ends_of"]

_AT_ONCE = 256
_LARGEST = 1 << 17
_MOST_SECRETS = 1 << 26
_NEW = os.O_CREAT | os.O_TRUNC | os.O_RDWR
_BUFFER = 1 << 20
_MOST_FLOWS = 65536
_MOST_HELD = 1024
_PROTOCOLS = {ip.TCP: "tcp", ip.UDP: "udp", ip.ICMP: "icmp", ip.ICMP6: "icmp"}

Key = tuple[str, bytes, int, bytes, int]


class Capture:
    """Writes `path` while the command runs. Raises `ConfigInvalid` for a file that cannot be made.

    With `secrets` the command is told to log its TLS secrets (`key_log`, the value for SSLKEYLOGFILE); they are put in
    front of the packets at the end, and their file is deleted.
    """

    def __init__(self, path: str, command: str, *, secrets: bool) -> None:
        self._path = os.path.abspath(path)
        self.key_log = f"{self._path}.keys" if secrets else None
        self._keys: BinaryIO | None = None
        try:
            self.file: BinaryIO = open(self._path, "w+b", buffering=_BUFFER, opener=open_output)
            if self.key_log is not None:
                # Read at the end by this descriptor: what the command puts in the file's place is not.
                self._keys = open(open_output(self.key_log, _NEW, 0o600), "rb")
        except OSError as error:
            raise ConfigInvalid("--capture", f"{error.filename or path}: {error.strerror or error}") from None
        self._head = pcapng.section(f"towpath {__version__}", f"towpath run -- {command}")
        self._head += pcapng.interface(pcapng.RAW_IP, "run", "inside of the run, before any relay")
        self.file.write(self._head)
        self._flows: OrderedDict[Key, Flow] = OrderedDict()
        self._told: dict[int, tuple[object, ...]] = {}
        self._held: OrderedDict[Key, tuple[int, bytes]] = OrderedDict()
        self._names: dict[str, tuple[str, ...]] = {}
        self._tap: socket.socket | None = None
        self._buffer = bytearray(_LARGEST)

    def begin(self, loop: Loop, tap: socket.socket) -> None:
        """Takes the packets of `tap` from here on."""
        self._tap = tap
        loop.watch(tap.fileno(), IN, lambda _events: self._receive())

    # What the ledger tells.

    def opened(self, flow: Flow) -> None:
        self._flows[_key(flow)] = flow
        if len(self._flows) > _MOST_FLOWS:
            self._told.pop(self._flows.popitem(last=False)[1].number, None)
        address = text_of(flow.address)
        if flow.names and self._names.get(address) != flow.names:
            self._names[address] = flow.names
            self.file.write(pcapng.names({address: flow.names}))

    def changed(self, flow: Flow) -> None:
        """It was decided; a refused one may never send a packet."""
        held = self._held.pop(_key(flow), None)
        if held is not None and flow.decision is not None and flow.decision.verdict == "deny":
            self.file.write(pcapng.packet(held[0], held[1], comments=(_about(flow),), direction="out"))

    def closed(self, flow: Flow) -> None:
        """Its last packets may still come."""

    # What is captured.

    def queued(self, time_ns: int, data: bytes) -> None:
        """The first packet of a flow, before anything is decided: written only if it is refused."""
        key = ends_of(memoryview(data))
        if key is None:
            return
        self._held[key] = time_ns, data
        if len(self._held) > _MOST_HELD:
            self._held.popitem(last=False)

    def taken(self, data: bytes) -> None:
        """A packet from the queue that goes no further, as a ping's do: it is answered from outside."""
        key = ends_of(memoryview(data))
        held = self._held.pop(key, None) if key is not None else None
        if held is not None:
            self._packet(held[0], memoryview(held[1]))

    def _receive(self) -> None:
        if self._tap is None:
            return
        for _ in range(_AT_ONCE):
            taken = sockets.take_packet(self._tap, self._buffer)
            if taken is None:
                return
            self._packet(*taken)

    def _packet(self, time_ns: int, data: memoryview) -> None:
        key = ends_of(data)
        flow, direction = self._flows.get(key) if key is not None else None, "out"
        if flow is None and key is not None:
            transport, source, source_port, destination, port = key
            back = (source_port, source, 0) if transport == "icmp" else (port, source, source_port)
            flow, direction = self._flows.get((transport, destination, *back)), "in"
        comments = () if flow is None else (self._comment(flow),)
        head, tail = pcapng.around(time_ns, len(data), comments=comments, direction=direction if flow else "")
        self.file.write(head)
        self.file.write(data)
        self.file.write(tail)

    def _comment(self, flow: Flow) -> str:
        """All about a flow when any of it is new, else its number."""
        known = flow.decision, flow.name, flow.owner
        if self._told.get(flow.number) == known:
            return f"flow {flow.number}"
        self._told[flow.number] = known
        return _about(flow)

    def finish(self) -> int:
        """Takes what is left, puts the secrets in front, and gives how many packets were lost. `file` stays open."""
        lost = 0
        if self._tap is not None:
            self._receive_all()
            lost = sockets.lost_packets(self._tap)
            self._tap.close()
            self._tap = None
        if self._keys is not None and self.key_log is not None:
            self._fold_secrets(self._keys)
            try:
                os.unlink(self.key_log)
            except OSError:
                pass  # the command has taken it away
        return lost

    def _receive_all(self) -> None:
        while self._tap is not None and (taken := sockets.take_packet(self._tap, self._buffer)) is not None:
            self._packet(*taken)

    def _fold_secrets(self, keys: BinaryIO) -> None:
        with keys:
            lines = keys.read(_MOST_SECRETS)
        if not lines:
            return
        descriptor, part = tempfile.mkstemp(prefix=".towpath-", dir=os.path.dirname(self._path))
        new = open(descriptor, "wb")
        with self.file as old:
            old.truncate()  # what the command has added goes
            old.seek(len(self._head))
            new.write(self._head + pcapng.tls_secrets(lines))
            shutil.copyfileobj(old, new, _BUFFER)
        self.file = new
        os.replace(part, self._path)


def _key(flow: Flow) -> Key:
    return flow.transport, flow.source, flow.source_port, flow.address, flow.port


def _about(flow: Flow) -> str:
    """All that is known of a flow, in a line."""
    who = f"{flow.owner.program}[{flow.owner.pid}]" if flow.owner else "a program"
    decision = flow.decision
    what = "undecided"
    if decision is not None and decision.verdict != "look":
        word = "refused" if decision.verdict == "deny" else "allowed"
        what = f"{word}: {decision.reason}"
    return f"flow {flow.number}: {who} -> {flow.destination} {flow.transport}, {what}"


def ends_of(data: memoryview) -> Key | None:
    """Who sent a packet to whom; the identifier of a ping stands for its source port."""
    try:
        if data[0] >> 4 == 4:
            at, protocol = (data[0] & 15) * 4, data[9]
            source, destination = bytes(data[12:16]), bytes(data[16:20])
        else:
            at, protocol = 40, data[6]
            source, destination = bytes(data[8:24]), bytes(data[24:40])
        transport = _PROTOCOLS.get(protocol)
        if transport is None or len(destination) not in (4, 16):
            return None
        if transport == "icmp":
            return transport, source, struct.unpack_from(">H", data, at + 4)[0], destination, 0
        source_port, port = struct.unpack_from(">HH", data, at)
    except (IndexError, struct.error):
        return None
    return transport, source, source_port, destination, port
