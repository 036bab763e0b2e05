"""`towpath path`: what a connection would use now, or why there is nothing to use."""

from __future__ import annotations

import argparse
import errno
import json
from typing import TYPE_CHECKING

from towpath.errors import HostFault, Misuse

if TYPE_CHECKING:
    from towpath.path import Path, PathMonitor

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath path                              by the default routes
  towpath path 198.51.100.7                 to one address, as the kernel would route it
  towpath path news.example                 to each address of a name
  towpath path --watch --json               an object now, and one each time that the path changes
  towpath path --prohibit-expensive         with what is expensive left out

Nothing is sent but the question for a name. `expensive` and `constrained` are what ~/.config/towpath/paths.toml or
/etc/towpath/paths.toml say; an interface that the file says nothing of is expensive where NetworkManager calls it
metered. The exit code is 0 when there is a path, and 1 when there is none.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "Say which interfaces and gateways a connection would use now, or why there is no path."
    parser.epilog = _EXAMPLES
    parser.add_argument("host", metavar="HOST", nargs="?", help="an address or a name")
    parser.add_argument("--watch", action="store_true", help="go on, and print each change, until interrupted")
    parser.add_argument("--json", action="store_true", help="print JSON: a list of objects; with --watch one a line")
    parser.add_argument("--prohibit-expensive", action="store_true", help="use no interface that is expensive")
    parser.add_argument("--prohibit-constrained", action="store_true", help="use no interface that must save data")
    parser.set_defaults(call=_call)


def _call(options: argparse.Namespace) -> int:
    from towpath.path import PathMonitor, PathPolicy, PathRequirements

    requirements = PathRequirements(
        prohibit_expensive=options.prohibit_expensive, prohibit_constrained=options.prohibit_constrained
    )
    policy = PathPolicy.default()
    monitors = [
        PathMonitor(requirements, destination=destination, policy=policy)
        for destination in ([None] if options.host is None else _addresses(options.host))
    ]
    if options.watch:
        import asyncio

        if len(monitors) > 1:
            error = Misuse(f"{options.host} has {len(monitors)} addresses; watch one of them")
            error.hint = " or ".join(f"towpath path --watch {monitor.destination}" for monitor in monitors[:2])
            raise error
        asyncio.run(_watch(monitors[0], as_json=options.json))
        return 0
    paths = [monitor.current() for monitor in monitors]
    if options.json:
        from towpath.path.plain import plain_path

        print(json.dumps([plain_path(path) for path in paths]))
    else:
        _print(paths)
    return 0 if any(path.satisfied for path in paths) else 1


def _addresses(host: str) -> list[str]:
    """The addresses of a host, in the system's order of preference."""
    import socket

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        words = str(error.strerror) if isinstance(error, OSError) else "not a name"
        raise HostFault(f"resolve {host}", errno.ENOENT, words, hint="an address needs no resolving") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _watch(monitor: PathMonitor, *, as_json: bool) -> None:
    from towpath.path.plain import plain_path

    async for path in monitor:
        if as_json:
            print(json.dumps(plain_path(path)), flush=True)
        else:
            _print([path])


def _print(paths: list[Path]) -> None:
    from towpath.cli.table import print_table

    print_table(
        ("TO", "STATUS", "INTERFACES", "GATEWAYS", "SOURCE", "SUPPORTS", "EXPENSIVE", "CONSTRAINED"),
        [
            (
                str(path.destination or "anywhere"),
                path.status.value + (f"\n{path.reason.value}" if path.reason else ""),
                "\n".join(f"{found.name} ({found.type.value})" for found in path.interfaces) or "-",
                "\n".join(map(str, path.gateways)) or "-",
                str(path.source or "-"),
                " ".join(_supports(path)) or "-",
                f"{'yes' if path.expensive else 'no'}: {path.expensive.reason}",
                f"{'yes' if path.constrained else 'no'}: {path.constrained.reason}",
            )
            for path in paths
        ],
    )


def _supports(path: Path) -> list[str]:
    kinds = (("IPv4", path.supports_ipv4), ("IPv6", path.supports_ipv6), ("DNS", path.supports_dns))
    return [name for name, supported in kinds if supported]
