"""Announces one service until its standard input ends: `python -m tests.support.bonjour_advertiser NAME PORT`."""

from __future__ import annotations

import asyncio
import sys

from towpath.names import Bonjour, BonjourService

__all__: list[str] = []


async def main(name: str, port: int) -> None:
    service = BonjourService(name, "_towpath-test._tcp", host="advertiser.local", port=port, text={"path": b"/a"})
    async with Bonjour() as bonjour, bonjour.advertise(service) as announced:
        sys.stdout.write(f"{announced}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
