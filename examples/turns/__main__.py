"""Plays: ``python -m examples.turns key > game.key``, then ``host game.key`` here and ``join game.key`` over there.

Moves are read from standard input, a field from 1 to 9 each.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

from examples.turns.board import Board
from towpath.connection import Connection, Listener, Parameters, ServiceEndpoint
from towpath.errors import PeerViolation, TowpathError
from towpath.names import BonjourService
from towpath.protocols import Message, TlsPsk, Tlv

TYPE = "_towpath-turns._tcp"
NAME = "A game of turns"
MOVE, RESIGN = 1, 2


def parameters(key: bytes) -> Parameters:
    """TLS with the key of the game, and each message with its type."""
    return Parameters.tcp(framers=[TlsPsk(key, identity="player"), Tlv(1, 2, maximum=16)])


async def host(key: bytes) -> None:
    """Waits for the other player, who begins."""
    service = BonjourService(NAME, TYPE)
    async with Listener("0.0.0.0:0", parameters(key), limit=1, advertise=service) as listener:
        print("waiting as", (await listener.advertised()).name, flush=True)
        async with await listener.accept() as connection:
            await play(connection, "O")


async def join(key: bytes) -> None:
    """Finds who waits on this link, and begins."""
    async with Connection(ServiceEndpoint(NAME, TYPE), parameters(key)) as connection:
        await play(connection, "X")


async def play(connection: Connection, mine: str) -> None:
    """One game; both sides know the rules, and neither believes the other."""
    board = Board()
    print("you are", mine, flush=True)
    while not board.is_over:
        if board.turn == mine:
            field = await own_move(board)
            kind, content = (RESIGN, b"") if field is None else (MOVE, bytes((field,)))
            await connection.send(Message(content).with_metadata(Tlv, kind))
            if field is None:
                print("you resign", flush=True)
                return
            board = board.after(field)
        else:
            message = await connection.receive_message()
            kind: int | None = message.get(Tlv)
            if kind == RESIGN:
                print("the other resigns", flush=True)
                return
            board = judged(board, message)
        print(board, flush=True)
    print("a draw" if board.winner is None else "you win" if board.winner == mine else "you lose", flush=True)


def judged(board: Board, message: Message) -> Board:
    """The board after the other's move. Raises `PeerViolation` for what is none."""
    if message.get(Tlv) != MOVE or len(message.content) != 1:
        raise PeerViolation("no-move", f"a message of type {message.get(Tlv)}")
    try:
        return board.after(message.content[0])
    except ValueError as error:
        raise PeerViolation("foul", str(error)) from None


async def own_move(board: Board) -> int | None:
    """A field that can be taken; `None` at the end of the input."""
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        try:
            field = int(line)
            board.after(field)
        except ValueError:
            print("not a field that is free: 1 to 9", flush=True)
        else:
            return field
    return None


def main(words: list[str]) -> int:
    if words == ["key"]:
        print(secrets.token_hex(32))
        return 0
    if len(words) != 2 or words[0] not in ("host", "join"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        key = bytes.fromhex(Path(words[1]).read_text())
        asyncio.run(host(key) if words[0] == "host" else join(key))
    except (TowpathError, OSError, ValueError) as error:
        print(error, getattr(error, "hint", None) or "", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
