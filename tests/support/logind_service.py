"""Speaks as logind on a bus: ``python -m tests.support.logind_service BUS``; says "ready".

For each line of its input, "sleep" or "wake", it sends the signal; after "sleep" it says "let go" when the lock is.
After "wait" it says "held" once somebody holds a lock.
"""

from __future__ import annotations

import asyncio
import os
import sys

from dbus_fast import Message
from dbus_fast.aio import MessageBus

NAME, PATH, MANAGER = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def serve(address: str) -> None:
    bus = await MessageBus(bus_address=address, negotiate_unix_fd=True).connect()
    loop = asyncio.get_running_loop()
    locks: list[int] = []
    held = asyncio.Event()

    def answer(message: Message) -> Message | bool:
        if message.member != "Inhibit":
            return False
        assert message.body[0] == "sleep"
        assert message.body[3] == "delay"
        reader, writer = os.pipe()
        locks.append(reader)
        held.set()
        loop.call_later(0.5, os.close, writer)
        return Message.new_method_return(message, "h", [0], [writer])

    bus.add_message_handler(answer)
    await bus.request_name(NAME)
    say("ready")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word = line.strip()
        if word == "wait":
            await held.wait()
            say("held")
            continue
        await bus.send(Message.new_signal(PATH, MANAGER, "PrepareForSleep", "b", [word == "sleep"]))
        if word == "sleep":
            await held.wait()
            held.clear()
            await loop.run_in_executor(None, os.read, locks.pop(), 1)
            say("let go")


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
