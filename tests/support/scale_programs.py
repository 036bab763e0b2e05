"""The two ends of very many flows: ``server`` echoes on a host, ``client`` runs inside and does what its lines say."""

from __future__ import annotations

__all__ = ["CLIENT", "SERVER"]

SERVER = r"""
import errno, resource, select, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
listener = socket.create_server(("", int(sys.argv[1])), backlog=4096)
listener.setblocking(False)
poll, held = select.epoll(), {}
poll.register(listener, select.EPOLLIN)
print("ready", flush=True)
while True:
    for number, _ in poll.poll():
        if number == listener.fileno():
            try:
                while True:
                    one, _ = listener.accept()
                    held[one.fileno()] = one
                    poll.register(one, select.EPOLLIN)
            except BlockingIOError:
                continue
        one = held[number]
        try:
            data = one.recv(1 << 16)
            if data:
                one.sendall(data)
                continue
        except OSError:
            pass
        poll.unregister(one)
        held.pop(number).close()
"""

CLIENT = r"""
import resource, socket, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []

def flow(host, port, word=b"x"):
    s = socket.create_connection((host, port), 30)
    s.sendall(word)
    left = len(word)
    while left:
        data = s.recv(left)
        assert data, "it ended early"
        left -= len(data)
    return s

def together(host, port, count):
    # As many at once as can be had up to `count`, each of which has been answered.
    try:
        while len(held) < count:
            held.append(flow(host, port))
    except OSError:
        pass
    still = 0
    for s in held:
        s.sendall(b"y")
        still += s.recv(1) == b"y"
    return still

def release():
    while held:
        held.pop().close()
    return "released"

def sequence(host, port, count):
    for _ in range(count):
        flow(host, port).close()
    return count

def names(pattern, port, count):
    for number in range(count):
        flow(pattern % number, port).close()
    return count

def bulk(host, port, count, size):
    # Flows that have moved much, and are idle.
    for _ in range(count):
        s = socket.create_connection((host, port), 30)
        for _ in range(size >> 14):
            s.sendall(bytes(1 << 14))
            left = 1 << 14
            while left:
                left -= len(s.recv(left))
        held.append(s)
    return len(held)

print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""
