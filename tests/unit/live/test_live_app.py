"""The live view, drawn and used by Textual's pilot, at the other end of a real link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from tests.support.live_run import Manager, flow
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static, Tree

from towpath.live.app import LiveApp


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager()
    yield made
    made.close()


def use(
    manager: Manager, steps: Callable[[LiveApp, Pilot[None]], Awaitable[None]], *, until_end: bool = False
) -> LiveApp:
    app = LiveApp(manager.link, until_end=until_end)

    async def run() -> None:
        async with app.run_test(size=(150, 40)) as pilot:
            assert manager.hear() == {"do": "follow"}
            await steps(app, pilot)

    asyncio.run(run())
    return app


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Waits for what the stream's thread brings."""
    async with asyncio.timeout(60):
        while not true():
            await pilot.pause(0.02)


def cells(app: LiveApp) -> list[list[str]]:
    if not app.query("#flows"):
        return []  # not drawn yet
    table = app.query_one("#flows", DataTable)
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


def test_flows_are_shown_with_program_name_verdict_rule_rates_and_round_trip(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.say(
            flow(1),
            {"type": "traffic", "time": 1.0, "flows": [[1, 0, 0, 1500]]},
            {"type": "traffic", "time": 2.0, "flows": [[1, 2000, 5000, 1500]]},
            flow(2, name="evil.test", name_from="dns", verdict="refused", rule=None, reason="no rule allows it"),
        )
        await until(pilot, lambda: len(cells(app)) == 2)
        refused, allowed = cells(app)
        assert allowed == [
            "curl[7]", "web.test:443", "tcp", "sni", "allowed", "web.test:443", "2 kB", "5 kB", "7 kB", "1.5 ms",
        ]  # fmt: skip
        assert refused[1:6] == ["evil.test:443", "tcp", "dns", "refused", "(default)"]
        assert "1 allowed, 1 refused" in str(app.query_one("#head", Static).render())
        assert "no rule allows it" in str(app.query_one("#detail", Static).render())
        tree = app.query_one("#programs", Tree)
        assert "make[3]  2 flows, 1 refused" in str(tree.root.children[0].label)

    use(manager, steps)


def test_a_and_d_send_the_rule_of_the_chosen_flow(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.say(flow(1), flow(2, name="evil.test", verdict="refused", hint="--allow evil.test:443"))
        await until(pilot, lambda: len(cells(app)) == 2)
        await pilot.press("a", "enter")
        assert manager.hear() == {"do": "allow", "rule": "evil.test:443"}
        await pilot.press("down", "d")
        assert manager.hear() == {"do": "deny", "rule": "web.test:443"}
        manager.say({"type": "answer", "text": "deny web.test:443; 1 flows ended"})
        await until(pilot, lambda: "1 flows ended" in app.board.last_answer)

    use(manager, steps)


@pytest.mark.parametrize("keys", [("a", "y"), ("a", "a"), ("a", "space"), ("a", "escape"), tuple("alacritty")])
def test_nothing_is_allowed_without_an_end_of_line(manager: Manager, keys: tuple[str, ...]) -> None:
    """A terminal that answers a hostile program's sequences types words, but never enter."""

    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.say(flow(2, name="evil.test", verdict="refused", hint="--allow evil.test:443"))
        await until(pilot, lambda: len(cells(app)) == 1)
        await pilot.press(*keys)
        app._link.send("interrupt")
        assert manager.hear() == {"do": "interrupt"}

    use(manager, steps)


def test_flows_go_on_behind_the_question(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.say(flow(2, name="evil.test", verdict="refused", hint="--allow evil.test:443"))
        await until(pilot, lambda: len(cells(app)) == 1)
        await pilot.press("a")
        manager.say(flow(3))
        await until(pilot, lambda: 3 in app.board.rows)
        app.refresh_board()
        await pilot.press("enter")
        assert manager.hear() == {"do": "allow", "rule": "evil.test:443"}
        assert len(cells(app)) == 2

    use(manager, steps)


def test_search_and_follow_narrow_the_table_and_escape_widens_it(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.say(flow(1), flow(2, pid=8, program="wget", name="other.test"))
        await until(pilot, lambda: len(cells(app)) == 2)
        await pilot.press("slash", *"wget", "enter")
        assert app.query_one("#search", Input).value == "wget"
        assert [row[0] for row in cells(app)] == ["wget[8]"]
        await pilot.press("escape")
        assert len(cells(app)) == 2
        await pilot.press("f")
        assert [row[0] for row in cells(app)] == ["wget[8]"]
        await pilot.press("f")
        assert len(cells(app)) == 2

    use(manager, steps)


def test_pause_keeps_the_picture(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.say(flow(1))
        await until(pilot, lambda: len(cells(app)) == 1)
        await pilot.press("p")
        manager.say(flow(2))
        await until(pilot, lambda: 2 in app.board.rows)
        app.refresh_board()
        assert len(cells(app)) == 1
        await pilot.press("p")
        assert len(cells(app)) == 2

    use(manager, steps)


def test_the_interrupt_key_is_the_commands_and_the_view_ends_with_the_run(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+c")
        assert manager.hear() == {"do": "interrupt"}
        manager.say({"type": "end", "code": None, "signal": 2})
        await until(pilot, lambda: not app.is_running)

    app = use(manager, steps, until_end=True)
    assert "ended with signal 2" in app.board.summary()


def test_a_run_that_is_gone_without_a_word_is_shown_as_ended(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.hang_up()
        await until(pilot, lambda: app.board.ended is not None)
        assert "ended" in str(app.query_one("#head", Static).render())

    use(manager, steps)


def test_what_strangers_are_called_cannot_draw(manager: Manager) -> None:
    async def steps(app: LiveApp, pilot: Pilot[None]) -> None:
        manager.say(flow(1, program="\x1b[31mred", name="[b]x[/b]\n.test", command=["\x1b]0;title\x07"]))
        await until(pilot, lambda: len(cells(app)) == 1)
        assert cells(app)[0][:2] == ["?[31mred[7]", "[b]x[/b]?.test:443"]
        assert "\x1b" not in str(app.query_one("#detail", Static).render())

    use(manager, steps)
