"""Replies to each message of a group until its input ends: ``python -m tests.support.multicast_member GROUP``."""

from __future__ import annotations

import asyncio
import sys

from towpath.connection import MulticastGroup

__all__: list[str] = []


async def main(endpoint: str) -> None:
    async with MulticastGroup(endpoint) as group:
        sys.stdout.write("joined\n")
        sys.stdout.flush()
        answering = asyncio.ensure_future(answer(group))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        answering.cancel()


async def answer(group: MulticastGroup) -> None:
    async for message in group:
        if not message.content.startswith(b"me"):
            await group.reply(message, b"me: " + message.content)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
