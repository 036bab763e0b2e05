"""`towpath dns flush`: a run forgets answers before their time."""

from __future__ import annotations

import argparse
import json

from towpath.errors import ConfigInvalid

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath dns flush                          the run that is under way forgets all answers
  towpath dns flush news.example             those for this name
  towpath dns flush '*.news.example' 4711    those for all names below it, in the run whose towpath has this process id

Programs that keep addresses by themselves are not reached by it.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the verb."""
    parser.description = "Let a run forget answers to questions for names; what is asked next is asked of a server."
    parser.epilog = _EXAMPLES
    parser.add_argument("words", metavar="NAME|PID", nargs="*", help="names, none for all; a number is a run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Flushes, and says how many answers that were."""
    from towpath.live import link

    names = [word for word in options.words if not word.isdigit()]
    numbers = [int(word) for word in options.words if word.isdigit()]
    if len(numbers) > 1:
        raise ConfigInvalid("towpath dns flush", f"{len(numbers)} runs are named", "one at a time")
    attached = link.attach_one(numbers[0] if numbers else None, "towpath dns flush")
    try:
        attached.send("flush", names=names)
        answer = next((message for message in attached.messages() if message["type"] == "answer"), {})
    finally:
        attached.close()
    if "flushed" not in answer:
        raise ConfigInvalid("towpath dns flush", str(answer.get("error", "the run has ended")))
    count = answer["flushed"]
    print(json.dumps({"flushed": count}) if options.json else f"{count} answer{'' if count == 1 else 's'} forgotten")
    return 0
