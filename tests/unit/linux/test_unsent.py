"""How much of a stream is still under way: what a reset has ended is not."""

from __future__ import annotations

import select
import socket
import struct

from towpath.linux import sockets


def test_what_was_sent_to_a_peer_that_has_reset_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        other, _ = listener.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        try:
            while True:
                one.send(bytes(65536))
        except BlockingIOError:
            assert sockets.unsent(one) > 0
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        other.close()
        poll = select.poll()
        poll.register(one.fileno(), select.POLLERR)
        assert poll.poll(60000)
        assert sockets.unsent(one) == 0
