"""Asking people: not at a terminal that somebody else draws on."""

from __future__ import annotations

from towpath.hosting.loop import Loop
from towpath.providers.provider import Prompt, Reply
from towpath.sandbox.prompting import Prompter


def test_nobody_is_asked_at_a_terminal_that_the_live_view_has() -> None:
    loop = Loop()
    answers: list[Reply] = []
    prompter = Prompter(loop, None, has_terminal=False)
    prompter.ask(Prompt("x", "allow it?", ("yes", "no")), answers.append)
    prompter.close()
    loop.close()
    assert [(answer.choice, "the live view has the terminal" in str(answer)) for answer in answers] == [(None, True)]
