"""What a hostile program inside a run starts with: the C library, and a way to tell what became of an attempt."""

from __future__ import annotations

__all__ = ["TRY", "attempt"]

TRY = r"""
import ctypes, errno, fcntl, mmap, os, signal, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
LONG = ctypes.c_ulong

def c(name, *words):
    # A function of the C library, whose failure is an OSError.
    result = getattr(libc, name)(*words)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result

def tell(action):
    try:
        print("DONE", action(), flush=True)
    except OSError as error:
        print(errno.errorcode.get(error.errno, str(error)), flush=True)

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def connect(address, port, kind=socket.SOCK_STREAM, seconds=60, protocol=0):
    # What connecting, or sending a datagram and waiting for what comes back, ends with.
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind, protocol) as s:
        s.settimeout(seconds)
        if kind == socket.SOCK_DGRAM:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.connect((address, port))
        if kind == socket.SOCK_DGRAM:
            s.send(b"x")
            return s.recv(100)
"""


def attempt(expression: str, before: str = "") -> str:
    """A program that evaluates `expression` and prints ``DONE value``, or the name of the error."""
    return f"{TRY}\n{before}\ntell(lambda: {expression})\n"
