"""What a program that evades a name rule starts with: raw TLS hellos, raw HTTP, raw DNS."""

from __future__ import annotations

__all__ = ["EVADE"]

EVADE = r"""
import errno, os, re, socket, ssl, struct, sys, time

def tell(action):
    try:
        print("DONE", action(), flush=True)
    except TimeoutError:
        print("timeout", flush=True)
    except OSError as error:
        print("lost" if isinstance(error, ssl.SSLError) else errno.errorcode.get(error.errno, str(error)), flush=True)

def dial(host, port, seconds=60):
    s = socket.create_connection((host, port), seconds)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s

def everything(s):
    data = b""
    try:
        while part := s.recv(65536):
            data += part
    except (ConnectionResetError, TimeoutError):
        data += b"(cut)"
    return data

def heads(s, count):
    # The first lines of `count` answers, or of as many as came before the end.
    data = b""
    while len(found := re.findall(rb"HTTP/1\.1 ([^\r]+)\r\n", data)) < count:
        try:
            part = s.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            break
        data += part
    return [f"HTTP/1.1 {line.decode()}" for line in found]

def http(host, port, *pieces, answers=9):
    # Sends one request in pieces, and hears `answers` or what comes until the end.
    with dial(host, port) as s:
        for piece in pieces:
            s.sendall(piece)
            time.sleep(0.001 if len(pieces) > 1 else 0)
        return heads(s, answers)

def in_turn(host, port, *requests):
    # Sends each request when the one before has been answered, so that no two come together.
    with dial(host, port) as s:
        found = []
        for request in requests:
            s.sendall(request)
            found += heads(s, 1)
        return found

def hello(name):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    back, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    layer = context.wrap_bio(back, out, server_hostname=name)
    try:
        layer.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return layer, back, out, out.read()

def records(data, size):
    body = data[5:]
    return b"".join(data[:3] + struct.pack(">H", len(body[at:at + size])) + body[at:at + size]
                    for at in range(0, len(body), size))

def tls(host, port, name, shape=lambda data: [data]):
    # A whole handshake whose first flight is sent in the pieces that `shape` makes of it.
    layer, back, out, first = hello(name)
    with dial(host, port) as s:
        for piece in shape(first):
            s.sendall(piece)
        while True:
            data = s.recv(65536)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed")
            back.write(data)
            try:
                layer.do_handshake()
                return "tls"
            except ssl.SSLWantReadError:
                pass

def question(name, kind=1, klass=1, flags=0x0100, counts=(1, 0, 0, 0), tail=b""):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part) + b"\0"
    return struct.pack(">HHHHHH", 0x1234, flags, *counts) + labels + struct.pack(">HH", kind, klass) + tail

def ask(server, data, seconds=60):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(seconds)
        s.sendto(data, (server, 53))
        return s.recv(65535)

def ask_stream(server, data, seconds=60):
    with dial(server, 53, seconds) as s:
        s.sendall(struct.pack(">H", len(data)) + data)
        return s.recv(65535)[2:]

def code(answer):
    codes = {0: "answered", 1: "malformed", 2: "failed", 3: "no such name", 4: "not implemented"}
    return codes.get(answer[3] & 15), int.from_bytes(answer[6:8], "big")
"""
