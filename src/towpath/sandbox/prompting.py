"""Asking the person who started a run, at the terminal or by a program of their choice (`--ask-with CMD`).

Prompts with the same key that wait are asked once. At the terminal one is asked after the other.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections import deque
from collections.abc import Callable

from towpath.errors import ConfigInvalid
from towpath.hosting.loop import IN, Loop
from towpath.providers.provider import Prompt, Reply

__all__ = ["Prompter"]

_MOST_WAITING = 256
_LONGEST_ANSWER = 4096
_HINT = "a program that reads one JSON object and writes one, for example --ask-with 'python3 ask.py'"

Answer = Callable[[Reply], None]


class Prompter:
    """`ask_with` is a command line, or `None` for the terminal, unless somebody else has that.

    Raises `ConfigInvalid` for a command that is not found.
    """

    def __init__(self, loop: Loop, ask_with: str | None, *, has_terminal: bool = True) -> None:
        self._loop = loop
        self._has_terminal = has_terminal
        self._command = _resolve(ask_with) if ask_with else None
        self._waiting: dict[str, list[Answer]] = {}
        self._queue: deque[Prompt] = deque()
        self._current: Prompt | None = None
        self._terminal: int | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._typed = b""

    def ask(self, prompt: Prompt, answered: Answer) -> None:
        """`answered` is called once, whatever happens."""
        if prompt.key in self._waiting:
            self._waiting[prompt.key].append(answered)
        elif len(self._waiting) >= _MOST_WAITING:
            answered(Reply(None, f"{_MOST_WAITING} questions wait already"))
        else:
            self._waiting[prompt.key] = [answered]
            if self._command is not None:
                self._ask_program(self._command, prompt)
            elif not self._has_terminal:
                self._answer(prompt, Reply(None, "the live view has the terminal, and there is no --ask-with"))
            else:
                self._queue.append(prompt)
                self._ask_terminal()

    def _answer(self, prompt: Prompt, reply: Reply) -> None:
        for answered in self._waiting.pop(prompt.key, []):
            answered(reply)

    # The terminal.

    def _ask_terminal(self) -> None:
        if self._current is not None or not self._queue:
            return
        prompt = self._current = self._queue.popleft()
        if self._terminal is None:
            try:
                self._terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                self._current = None
                self._answer(prompt, Reply(None, "there is no terminal to ask at, and no --ask-with"))
                self._ask_terminal()
                return
            self._loop.watch(self._terminal, IN, lambda _events: self._read_terminal())
        self._write(_text_of(prompt))

    def _write(self, text: str) -> None:
        if self._terminal is not None:
            os.write(self._terminal, text.encode("utf-8", "replace"))

    def _read_terminal(self) -> None:
        if self._terminal is None:
            return
        self._typed += os.read(self._terminal, _LONGEST_ANSWER)
        if b"\n" not in self._typed or self._current is None:
            return
        line, self._typed = self._typed.split(b"\n", 1)
        prompt = self._current
        choice = _chosen(prompt, line.decode("utf-8", "replace").strip())
        if choice is None:
            self._write(f"towpath: a number from 1 to {len(prompt.choices)}, or one of the words: ")
            return
        self._current = None
        self._answer(prompt, Reply(choice, "answered at the terminal"))
        self._ask_terminal()

    # A program.

    def _ask_program(self, command: list[str], prompt: Prompt) -> None:
        question = {"text": prompt.text, "choices": prompt.choices, "details": prompt.details, "key": prompt.key}
        try:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            self._answer(prompt, Reply(None, f"{command[0]}: {error.strerror}"))
            return
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with child.stdin as questions:
                questions.write(json.dumps(question, ensure_ascii=False).encode() + b"\n")
        except BrokenPipeError:
            pass  # it answers without having read
        output = child.stdout.fileno()
        os.set_blocking(output, False)
        self._children[output] = child
        heard = bytearray()
        self._loop.watch(output, IN, lambda _events: self._hear(child, output, heard, prompt))

    def _hear(self, child: subprocess.Popen[bytes], output: int, heard: bytearray, prompt: Prompt) -> None:
        try:
            data = os.read(output, _LONGEST_ANSWER)
        except BlockingIOError:
            return
        heard += data
        if data and len(heard) <= _LONGEST_ANSWER:
            return
        self._loop.forget(output)
        del self._children[output]
        _end(child)
        self._answer(prompt, _reply_of(bytes(heard), prompt, child.args))

    def close(self) -> None:
        """Nobody waits for an answer any more."""
        for output, child in self._children.items():
            self._loop.forget(output)
            _end(child)
        self._children.clear()
        if self._terminal is not None:
            self._loop.forget(self._terminal)
            os.close(self._terminal)
            self._terminal = None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    if child.stdout is not None:
        child.stdout.close()
    child.wait()


def _resolve(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigInvalid("--ask-with", f"{text!r}: {error}", _HINT) from None
    found = shutil.which(words[0]) if words else None
    if found is None:
        raise ConfigInvalid("--ask-with", f"{text!r}: no such program", _HINT)
    return [os.path.abspath(found), *words[1:]]


def _text_of(prompt: Prompt) -> str:
    details = "".join(f"\r\n    {name}: {_plain(value)}" for name, value in prompt.details.items())
    choices = "  ".join(f"{number}) {_plain(choice)}" for number, choice in enumerate(prompt.choices, 1))
    return f"\r\ntowpath: {_plain(prompt.text)}{details}\r\n  {choices}: "


def _plain(text: str) -> str:
    """What filters show comes from programs and names: nothing of it may move the cursor."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _chosen(prompt: Prompt, typed: str) -> str | None:
    if typed.isdigit() and 0 < int(typed) <= len(prompt.choices):
        return prompt.choices[int(typed) - 1]
    return typed if typed in prompt.choices else None


def _reply_of(heard: bytes, prompt: Prompt, command: object) -> Reply:
    program = command[0] if isinstance(command, list) else command
    try:
        answer = json.loads(heard)
    except ValueError:
        return Reply(None, f'{program} wrote no JSON object like {{"choice": "{prompt.choices[0]}"}}')
    choice = answer.get("choice") if isinstance(answer, dict) else None
    if choice not in prompt.choices:
        offered = ", ".join(prompt.choices)
        return Reply(None, f'{program} gave "choice": {choice!r}, which was not offered; it may be {offered}')
    return Reply(choice, f"answered by {program}")
