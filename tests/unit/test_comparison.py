"""What the README says of others is what was tried, and by which command."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_the_readme_is_the_one_that_was_made() -> None:
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs/comparison.md").read_text()
    table = readme.partition("<!-- made by scripts.compare -->\n")[2].partition("\n<!-- end -->")[0]
    assert table
    assert table in page


def test_every_row_has_the_command_that_ran_it() -> None:
    page = (ROOT / "docs/comparison.md").read_text()
    table, _, commands = page.partition("## The commands")
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        title = f"### {row[0].upper()}{row[1:]}\n"
        assert title in commands
        assert "- Towpath, yes: `.venv/bin/towpath run" in commands.partition(title)[2].partition("###")[0]
