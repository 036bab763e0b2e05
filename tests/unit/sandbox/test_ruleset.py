"""The rule set of a run is a text; the kernel's own program reads it, and so does our compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from towpath.errors import Misuse
from towpath.linux.nftables import compile_rule
from towpath.sandbox import ruleset

_GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "run.nft"
_OWN = ["192.0.2.1", "2001:db8:746f:7770::1"]


def _as_nft(lines: list[str]) -> str:
    """The lines in the shape of a file for nft(8)."""
    out = ["table inet towpath {"]
    for index, line in enumerate(lines):
        if line.startswith("chain "):
            name, _, hook = line.removeprefix("chain ").partition(" ")
            hook = hook.replace(" policy", "; policy")
            out += ["  }"] * (index > 0) + [f"  chain {name} {{", f"    {hook};"]
        else:
            out.append(f"    {line}")
    return "\n".join([*out, "  }", "}", ""])


def test_the_rule_set_is_the_reviewed_one() -> None:
    assert _as_nft(ruleset.lines(_OWN, 9, 0, [5432])) == _GOLDEN.read_text()


def test_nft_itself_understands_every_line() -> None:
    text = _as_nft(ruleset.lines(_OWN, 9, 0, [5432])).replace("queue num 0", "accept")  # this kernel may lack `queue`
    done = subprocess.run(["unshare", "-rn", "nft", "-c", "-f", "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_ipv6_there_are_no_rules_that_take_it() -> None:
    assert not [line for line in ruleset.lines(_OWN[:1], 9, 0, []) if "tproxy ip6" in line]


@pytest.mark.parametrize("line", ["ip protocol 6 accept", "queue", "tproxy to 1.2.3.4:5", "acept"])
def test_a_line_outside_of_the_subset_is_a_mistake_of_the_programmer(line: str) -> None:
    with pytest.raises(Misuse, match="subset"):
        compile_rule(line)
