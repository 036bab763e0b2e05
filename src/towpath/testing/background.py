"""Labs that stay up after the command that started them, and how others find them.

Each is a process that listens on a Unix socket in a folder of the user's, ``$XDG_RUNTIME_DIR/towpath`` or
``/tmp/towpath-UID``. The socket is the only trace of a Lab in the file system. One that a killed process left behind
refuses connections, and is removed by whoever notices.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import stat
import struct
from pathlib import Path
from typing import Any, NoReturn, TypedDict

import msgspec

from towpath.errors import ConfigInvalid, HostFault, Misuse, TowpathError
from towpath.kernel import system
from towpath.testing.lab import Lab

__all__ = ["ask", "describe", "listen", "running", "serve", "start"]


class _Host(TypedDict):
    name: str
    ipv4: str
    ipv6: str | None
    names: list[str]
    services: list[str]


class _Description(TypedDict):
    name: str
    process: int
    hosts: list[_Host]
    names: dict[str, list[str]]
    ca_file: str | None


class _Way(TypedDict):
    environment: dict[str, str]


_ANSWERS: dict[str, Any] = {"describe": _Description, "enter": _Way, "down": dict[str, Any]}
_MESSAGE = 1 << 18
_PATIENCE = 60.0


def start(lab: Lab) -> dict[str, Any]:
    """Runs a Lab in a process of its own and gives its description once it is up. Raises what its start raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _daemon(lab, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:
        raise HostFault(f"start the lab {lab.plan.name}", 10, "its process ended without a word")
    found: dict[str, Any] = json.loads(data)
    if "error" in found:
        raise HostFault(f"start the lab {lab.plan.name}", 10, found["error"], found["hint"])
    return found


def serve(lab: Lab, listener: socket.socket) -> None:
    """Answers others about a running Lab until one of them ends it, or SIGTERM or SIGINT comes."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    path = Path(listener.getsockname())
    client = None
    try:
        while client is None:
            client = _answer_one(lab, listener)
    except KeyboardInterrupt:
        pass
    finally:
        path.unlink(missing_ok=True)
        listener.close()
        lab.close()
        if client is not None:
            client.close()  # tells who asked for the end that it has come


def listen(name: str) -> socket.socket:
    """The socket of the Lab `name`. Raises `ConfigInvalid` when one of that name is up."""
    path = _socket_path(name)
    if name in running():
        raise ConfigInvalid(f"lab {name}", "is up already", f"towpath lab down {name}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise HostFault(f"listen on {path}", error.errno or 0, str(error.strerror)) from None
    listener.listen()
    return listener


def running() -> dict[str, dict[str, Any]]:
    """The user's Labs by name, with their descriptions. Sockets without a Lab are removed."""
    found = {}
    for path in sorted(_folder().glob("lab-*.sock")):
        name = path.name.removeprefix("lab-").removesuffix(".sock")
        try:
            found[name], _ = ask(name, {"ask": "describe"})
        except (Misuse, ConfigInvalid):  # it has ended, or is none
            continue
    return found


def ask(name: str, question: dict[str, str]) -> tuple[dict[str, Any], int | None]:
    """One question to a running Lab: its answer, and the descriptor that came with it.

    Raises `Misuse` when no such Lab is up, it has no such host, or what is there instead is not a Lab of ours.
    """
    path = _socket_path(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            raise Misuse(f"no lab called {name} is up") from None
        except OSError as error:
            raise Misuse(f"no lab listens at {path}: {error.strerror}") from None
        if not system.peers.is_of_our_world(connection):
            refused = Misuse(f"what listens at {path} is not of this user and these namespaces: it is not trusted")
            refused.hint = "a command inside of a run may have made it; remove it, and set XDG_RUNTIME_DIR"
            raise refused
        try:
            connection.send(json.dumps(question).encode())
            data, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, 1)
            if question["ask"] == "down":
                connection.recv(1)  # closes as the process ends
        except OSError as error:
            raise Misuse(f"the lab {name} does not answer: {error.strerror or error}") from None
    if not data:
        raise Misuse(f"the lab {name} is ending")
    try:
        answer = msgspec.json.decode(data, type=dict[str, Any])
        if "error" not in answer:
            msgspec.convert(answer, _ANSWERS[question["ask"]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        for one in descriptors:
            os.close(one)
        raise Misuse(f"what listens at {path} does not answer as a lab does") from None
    if "error" in answer:
        raise Misuse(str(answer["error"]))
    return answer, descriptors[0] if descriptors else None


def describe(lab: Lab) -> dict[str, Any]:
    """A running Lab as plain values: name, hosts with addresses, names and services, every name, the CA's path."""
    hosts = [
        {
            "name": host.name,
            "ipv4": lab[host.name].address4,
            "ipv6": lab[host.name].address6,
            "names": sorted({*host.names, *(name for service in host.serves for name in service.names)}),
            "services": [f"{service.kind}:{service.port}" for service in host.serves],
        }
        for host in lab.plan.hosts
    ]
    return {
        "name": lab.plan.name,
        "process": os.getpid(),
        "hosts": hosts,
        "names": {name: list(addresses) for name, addresses in lab.names.items()},
        "ca_file": lab.ca_file if lab.ca_pem else None,
    }


def _daemon(lab: Lab, pipe: int) -> NoReturn:
    """The life of the background process, from the fork on."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            with listen(lab.plan.name) as listener:
                _let_go()
                lab.start()
                os.write(pipe, json.dumps(describe(lab)).encode())
                os.close(pipe)
                serve(lab, listener)
        except (TowpathError, OSError) as error:
            os.write(pipe, json.dumps({"error": str(error), "hint": getattr(error, "hint", None)}).encode())
    finally:
        os._exit(0)


def _let_go() -> None:
    """Lets go of the caller's terminal and pipes, before others are forked that would hold them."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.close(null)


def _is_ours(client: socket.socket) -> bool:
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1]) == os.getuid()


def _answer_one(lab: Lab, listener: socket.socket) -> socket.socket | None:
    """Answers one client, and gives it back when it asked for the end."""
    client, _ = listener.accept()
    client.settimeout(_PATIENCE)
    try:
        if _is_ours(client) and not _answer(lab, client):
            return client
    except (OSError, ValueError, KeyError):  # a client that went away or talks nonsense
        pass
    client.close()
    return None


def _answer(lab: Lab, client: socket.socket) -> bool:
    """Answers one question; False when it was the last."""
    question = json.loads(client.recv(_MESSAGE))
    if question["ask"] == "down":
        client.send(b"{}")
        return False
    descriptors = array.array("i")
    if question["ask"] == "enter":
        try:
            descriptors.append(lab[question["host"]].handle)
        except Misuse as error:
            client.send(json.dumps({"error": str(error)}).encode())
            return True
        answer: dict[str, Any] = {"environment": lab.environment({})}
    else:
        answer = describe(lab)
    socket.send_fds(client, [json.dumps(answer).encode()], descriptors)
    return True


def _folder() -> Path:
    """The user's own folder, made at need. Raises `HostFault` when it is somebody else's."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "towpath" if base else Path(f"/tmp/towpath-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise HostFault(f"make {folder}", error.errno or 0, str(error.strerror), "set XDG_RUNTIME_DIR") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise HostFault(f"use {folder}", 13, f"{folder} is not a folder of this user alone", "set XDG_RUNTIME_DIR")
    return folder


def _socket_path(name: str) -> Path:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigInvalid("lab", f"{name!r} is no name for a lab: letters, digits, - and _")
    return _folder() / f"lab-{name}.sock"
