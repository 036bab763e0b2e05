"""`towpath tunnel`: keys, files, and the tunnels that run."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from typing import Any

from towpath.cli.table import clean
from towpath.errors import ConfigInvalid, TowpathError

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath tunnel keygen                        a private key and its public one
  towpath tunnel keygen --psk                  a preshared key
  towpath tunnel check wg0.conf                what a wg-quick file says, and what is wrong with it
  towpath run --tunnel wg0.conf -- ./app
  towpath tunnel status --watch                of the tunnels of this user that run
  towpath tunnel capture -w inner.pcapng       what passes inside, for Wireshark, until ^C
"""
_OF_KEYGEN = """\
examples:
  towpath tunnel keygen --json | jq -r .public_key
  towpath tunnel keygen --psk >> wg0.conf      as a line of a [Peer]
"""
_OF_CHECK = """\
examples:
  towpath tunnel check wg0.conf                exit 0: it can be used; 1: a line says what is wrong, and in which line
  towpath tunnel check wg0.conf --json | jq .valid
"""
_OF_STATUS = """\
examples:
  towpath tunnel status
  towpath tunnel status --watch --json | jq -c '.[] | [.tunnel, .state]'
  sudo towpath tunnel status                   of root's: tunnels of the whole host
"""
_OF_CAPTURE = """\
examples:
  towpath tunnel capture -w inner.pcapng       until ^C, or the tunnel ends
  towpath tunnel capture -w inner.pcapng --seconds 10 && tshark -r inner.pcapng
"""
_INTERVAL = 1.0


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "Keys and files of tunnels, and how those are that run. `towpath run --tunnel` runs one."
    parser.epilog = _EXAMPLES
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    def action(name: str, summary: str, examples: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, epilog=examples, formatter_class=parser.formatter_class)

    keygen = action("keygen", "make a key pair for WireGuard", _OF_KEYGEN)
    keygen.add_argument("--psk", action="store_true", help="a preshared key instead")
    keygen.add_argument("--json", action="store_true", help="print one JSON object")
    keygen.set_defaults(call=_keygen)

    check = action("check", "say what is wrong with a tunnel's file (exit 1), or what it is (exit 0)", _OF_CHECK)
    check.add_argument("file", metavar="FILE", help="a wg-quick file, or what --tunnel takes")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(call=_check)

    status = action("status", "the tunnels of this user that run: state, peers, bytes, drops, path", _OF_STATUS)
    status.add_argument("--watch", action="store_true", help="again every second, until ^C")
    status.add_argument("--json", action="store_true", help="print a JSON list; with --watch one a line")
    status.set_defaults(call=_status)

    capture = action("capture", "write the packets inside of a tunnel to a pcapng file", _OF_CAPTURE)
    capture.add_argument("-w", dest="file", metavar="FILE", required=True, help="where to; it must not exist yet")
    capture.add_argument("--pid", type=int, metavar="PID", help="of the tunnel's process, where several run")
    capture.add_argument("--seconds", type=float, metavar="S", help="end after so long (default: at ^C)")
    capture.set_defaults(call=_capture)


def _keygen(options: argparse.Namespace) -> int:
    from base64 import b64encode

    if options.psk:
        found = {"preshared_key": b64encode(os.urandom(32)).decode()}
    else:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        key = X25519PrivateKey.generate()
        secret, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
        found = {"private_key": b64encode(secret).decode(), "public_key": b64encode(public).decode()}
    if options.json:
        print(json.dumps(found))
    elif options.psk:
        print(f"PresharedKey = {found['preshared_key']}")
    else:
        print(f"PrivateKey = {found['private_key']}\n# for the other side:\nPublicKey = {found['public_key']}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from towpath.hosting.check import check_tunnel

    try:
        found = check_tunnel(options.file)
    except ConfigInvalid as error:
        if options.json:
            print(json.dumps({"valid": False, "where": error.where, "reason": error.reason, "hint": error.hint}))
        else:
            print(f"towpath: {error}", file=sys.stderr)
            if error.hint:
                print(f"towpath: hint: {error.hint}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"valid": True, **found}))
        return 0
    for key, value in found.items():
        lines = value if isinstance(value, list) and key in ("peers", "ignored") else [value]
        for line in lines if lines != [[]] else []:
            words = ", ".join(map(str, line)) if isinstance(line, list) else line
            print(f"{key.replace('_', ' '):<14} {words}")
    return 0


def _status(options: argparse.Namespace) -> int:
    try:
        while True:
            _print(_asked_all(), as_json=options.json, again=options.watch)
            if not options.watch:
                return 0
            time.sleep(_INTERVAL)
    except KeyboardInterrupt:
        return 0


def _asked_all() -> list[dict[str, Any]]:
    found = []
    for name, pid in _tunnels().items():
        made = _connected(name)
        if made is None:
            continue
        with made:
            made.settimeout(3)
            try:
                made.sendall(b'{"ask": "status"}\n')
                one = {"pid": pid, **_read(made)}
                if one.get("protocol") == "WireGuard":
                    one["kernel_has_wireguard"] = _kernel_has_wireguard()
                found.append(one)
            except (OSError, ValueError):
                continue  # it has just ended
    return found


def _kernel_has_wireguard() -> bool | None:
    """`None` where that cannot be told."""
    from towpath.kernel import system

    try:
        return system.generic_netlink.has_family("wireguard")
    except (TowpathError, OSError):
        return None


def _tunnels() -> dict[str, int]:
    from towpath.kernel import system

    return system.run_sockets.find(kind="tunnel")


def _connected(name: str) -> socket.socket | None:
    from towpath.kernel import system

    return system.run_sockets.connect(name)


def _read(made: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        part = made.recv(1 << 16)
        if not part:
            raise ValueError("no answer")
        data += part
    found: dict[str, Any] = json.loads(data)
    return found


def _print(tunnels: list[dict[str, Any]], *, as_json: bool, again: bool) -> None:
    if as_json:
        print(json.dumps(tunnels), flush=True)
        return
    if again and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    if not tunnels:
        print("no tunnel of this user runs here")
    for one in tunnels:
        print(_described(one), flush=True)


def _described(one: dict[str, Any]) -> str:
    since = f", for {_ago(one['since'])}" if one.get("since") else ""
    lines = [f"{one['tunnel']}: {one['state']}{since} (process {one['pid']}, device {one['device']})"]
    error = one.get("last_error")
    if error:
        lines.append(f"  last error    {error['reason']} ({error['cause']})")
    if one.get("network") is False:
        lines.append("  network       there is none: no default route by a link that carries anything")
    lines.append(f"  spoken by     {_spoken_by(one)}")
    lines += [f"  path          from {path['from']} to {path['to']}" for path in one.get("paths", [])]
    names = one.get("names")
    if names:
        domains = names["domains"]
        whose = "all" if domains is None else " and ".join(domains) or "none"
        lines.append(f"  names         {whose}, of {', '.join(names['servers'])}")
    peers = one.get("peers")
    for peer in peers if isinstance(peers, list) else []:
        lines += _peer(peer)
    packets = _counts(one.get("packets"))
    if packets:
        bytes_in, bytes_out = (_bytes(packets.get(key, 0)) for key in ("bytes_in", "bytes_out"))
        lines.append(
            f"  inside        {packets.get('packets_in', 0)} packets in ({bytes_in}), "
            f"{packets.get('packets_out', 0)} out ({bytes_out})"
        )
    drops = _counts(one.get("drops"))
    drops["refused by the device"] = packets.get("refused", 0)
    links = one.get("links")
    drops["no room to send"] = sum(_counts(link).get("dropped", 0) for link in links or () if isinstance(links, list))
    said = ", ".join(f"{cause} {count}" for cause, count in drops.items() if count)
    lines.append(f"  dropped       {said or 'nothing'}")
    return clean("\n".join(lines))


def _counts(told: Any) -> dict[str, int]:
    """The counters in what a provider's process tells, which may be anything."""
    counted = told.items() if isinstance(told, dict) else ()
    return {str(name): value for name, value in counted if isinstance(value, int) and abs(value) < 1 << 64}


def _peer(peer: Any) -> list[str]:
    """As our providers tell of one; what another author's tells is shown as it is."""
    try:
        last = f"{_ago(peer['last_handshake'])} ago" if peer.get("last_handshake") else "never"
        counted = f" ({peer['handshakes']} in all)" if "handshakes" in peer else ""
        return [
            f"  peer          {peer['public_key']} at {peer['endpoint']}",
            f"                handshake {last}{counted}, {_bytes(peer['received'])} in, {_bytes(peer['sent'])} out",
        ]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return [f"  peer          {json.dumps(peer)}"]


def _spoken_by(one: dict[str, Any]) -> str:
    if one.get("implementation") == "kernel":
        return "the kernel"
    other = {True: "; the kernel's own is not used", False: "; this kernel has none of its own"}
    known = one.get("kernel_has_wireguard")
    return "Towpath, in user space" + (other[known] if known is not None else "")


def _ago(moment: float) -> str:
    seconds = max(0, round(time.time() - moment))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1000
    return ""


def _capture(options: argparse.Namespace) -> int:
    from towpath.wire import pcapng

    tunnels = {name: pid for name, pid in _tunnels().items() if options.pid in (None, pid)}
    if len(tunnels) != 1:
        what = "no tunnel of this user runs here" if not tunnels else f"{len(tunnels)} tunnels run"
        known = ", ".join(str(pid) for pid in tunnels.values())
        hint = f"--pid, one of {known}" if known else "towpath run --tunnel"
        raise ConfigInvalid("towpath tunnel capture", what, hint)
    (name,) = tunnels
    made = _connected(name)
    if made is None:
        raise ConfigInvalid("towpath tunnel capture", "the tunnel has just ended")
    try:
        file = open(options.file, "xb", buffering=0)
    except OSError as error:
        raise ConfigInvalid("-w", f"{options.file}: {error.strerror}") from None
    with file, made:
        file.write(pcapng.section("towpath tunnel capture") + pcapng.interface(pcapng.RAW_IP, "tunnel"))
        socket.send_fds(made, [b'{"ask": "capture"}\n'], [file.fileno()])
        answer = _read(made)
        if not answer.get("capturing"):
            os.unlink(options.file)
            raise ConfigInvalid("towpath tunnel capture", str(answer.get("why_not") or "the tunnel cannot be captured"))
        print(f"capturing to {options.file}" + ("" if options.seconds else ", ^C ends it"), file=sys.stderr)
        end = time.monotonic() + options.seconds if options.seconds else None
        made.settimeout(options.seconds)
        try:
            while made.recv(1 << 16):  # until the tunnel ends
                if end is not None and time.monotonic() > end:
                    break
        except (TimeoutError, KeyboardInterrupt):
            pass
    return 0
