"""A report to be pasted where one asks for help: what strangers named is shown there, and is no markup."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest

from towpath.sandbox.report import Row
from towpath.sandbox.table import print_markdown


def _pasted(program: str, command: str = "true") -> list[str]:
    total = SimpleNamespace(flows=1, sent=2, received=3)
    rows = {Row(program, "web.test:80", "tcp", "host", "allowed", "GET http://web.test/x/*"): total}
    out = io.StringIO()
    ledger = SimpleNamespace(rows=rows, allowed=1, refused_flows=0, failed=0)
    print_markdown(cast(Any, ledger), [command], "default allow", out)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("program", "cell"),
    [
        ("curl", "curl"),
        ("python3.11", "python3.11"),
        ("", ""),
        ("<img src=//b>", "`<img src=//b>`"),
        ("[a](//b)", "`[a](//b)`"),
        ("@name", "`@name`"),
        ("<!--", "`<!--`"),
        ("&lt;", "`&lt;`"),
        ("a\\", "`a\\`"),
        ("*a*", "`*a*`"),
        ("_a_", "`_a_`"),
        ("a`<b>`", "`a'<b>'`"),
        ("a|b", "`a/b`"),
        ("a\n\r\x1b", "a ??"),
    ],
)
def test_a_programs_name_is_text(program: str, cell: str) -> None:
    assert _pasted(program)[-1] == (
        f"| {cell} | web.test:80 | tcp | host | allowed | `GET http://web.test/x/*` | 1 | 2 B | 3 B |"
    )


def test_the_command_ends_neither_its_line_nor_its_backticks() -> None:
    assert _pasted("curl", "echo `<b>`\n\x1b\udcff")[1] == "`towpath run -- echo '<b>' ??`"
