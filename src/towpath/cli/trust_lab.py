"""`towpath trust lab DIR`: the test PKI on disk, and its servers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from towpath.cli.trust import ACCEPTED
from towpath.cli.trust_dial import Target
from towpath.errors import HostFault
from towpath.testing.pki import Pki
from towpath.testing.pki_servers import servers

__all__ = ["run"]

FREE_PORTS = 0


def run(folder: Path, pki: Pki, serve: str | None) -> int:
    """Writes every certificate with its key; serves them until interrupted when `serve` says where."""
    try:
        pki.write(folder)
    except OSError as error:
        raise HostFault(
            f"writing {folder}", error.errno or 0, error.strerror or "", "give a folder of yours"
        ) from error
    print(f"{folder}: root.pem, good.pem and {len(pki.names())} broken ones, each with its .key")
    if serve is None:
        print(f"try: towpath trust {folder / 'expired.pem'} --anchors {folder / 'root.pem'} --name www.example.com")
        return ACCEPTED
    asyncio.run(_serve(folder, pki, Target.parse(serve, 1) if ":" in serve else Target(serve, FREE_PORTS)))
    return ACCEPTED


async def _serve(folder: Path, pki: Pki, place: Target) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, problem: None)
    try:
        async with servers(pki, folder, place.host, place.port) as found:
            for server in found:
                print(f"{place.host}:{server.port}\t{server.name}\t--name {server.reference}")
            print(f"ask with: towpath trust HOST:PORT --anchors {folder / 'root.pem'} --name NAME", flush=True)
            await asyncio.Event().wait()
    except OSError as error:
        raise HostFault(
            f"listening on {place}", error.errno or 0, error.strerror or "", "choose other ports"
        ) from error
