"""The live view in a terminal: flows as a table, programs as a tree, and rules from the keyboard (Textual)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Key
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Input, Static, Tree

from towpath.live.board import Board, Node, Row, printable, size

if TYPE_CHECKING:
    from towpath.live.link import Link

__all__ = ["LiveApp"]

_COLUMNS = ("program", "destination", "via", "name", "verdict", "rule", "out/s", "in/s", "total", "rtt")
_STYLES = {"refused": "red", "failed": "yellow", "looking": "cyan", "allowed": "green"}
_MOST_SHOWN = 500
_REFRESH = 0.5


class Confirm(ModalScreen[bool]):
    """Asks once more, and takes enter alone for yes.

    A hostile program may write to its user's terminals, and some of them answer what is written with words of their
    own: letters may be typed that nobody has typed, but no end of line.
    """

    CSS = """
    Confirm { align: center middle; }
    Confirm Static { width: auto; max-width: 90%; padding: 1 3; background: $panel; border: heavy $warning; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(Text(printable_lines([self._question, "", "enter: yes     any other key: no"])))

    def on_key(self, event: Key) -> None:
        event.stop()
        self.dismiss(event.key == "enter")


class LiveApp(App[None]):
    """Shows a run until `q`, or, with `until_end`, until it has ended.

    The run goes on whatever happens to its view. `link` gives the messages; `App.run` draws.
    """

    TITLE = "towpath"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    #programs { width: 36; border-right: solid $panel; }
    #flows { width: 1fr; }
    #detail { height: 5; padding: 0 1; background: $panel; }
    #search { display: none; }
    #search.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add('allow')", "allow"),
        Binding("d", "add('deny')", "deny"),
        Binding("f", "follow", "follow program"),
        Binding("slash", "search", "search", key_display="/"),
        Binding("escape", "reset", "show all"),
        Binding("p", "pause", "pause"),
        Binding("ctrl+c", "interrupt", "interrupt run", priority=True),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, link: Link, *, until_end: bool = False) -> None:
        super().__init__()
        self.board = Board(link.hello)
        self._link = link
        self._until_end = until_end
        self._search = ""
        self._pid: int | None = None
        self._paused = False
        self._shown: list[int] = []
        self._stale = True

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        with Horizontal():
            yield Tree("programs", id="programs")
            yield DataTable(id="flows", cursor_type="row", zebra_stripes=True)
        yield Static(id="detail")
        yield Input(placeholder="search: a program, a destination, a rule, a verdict", id="search")
        yield Footer()

    def on_mount(self) -> None:
        table = self._table
        for name in _COLUMNS:
            table.add_column(name, key=name)
        self._tree.show_root = False
        table.focus()
        self.set_interval(_REFRESH, self.refresh_board)
        self._link.send("follow")
        self._link.socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link.socket.fileno(), self._read)
        self.refresh_board()

    def on_unmount(self) -> None:
        self._leave_link()

    def _leave_link(self) -> None:
        if self._link.socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._link.socket.fileno())
            self._link.close()

    @property
    def _base(self) -> Screen[object]:
        """The screen with the flows, also while something is asked above it."""
        return self.screen_stack[0]

    @property
    def _is_drawn(self) -> bool:
        """Whether the widgets are there: timers and the stream outlive them for a moment."""
        return bool(self.screen_stack) and all(
            self._base.query(f"#{name}") for name in ("head", "programs", "flows", "detail")
        )

    @property
    def _table(self) -> DataTable[Any]:
        return self._base.query_one("#flows", DataTable)

    @property
    def _tree(self) -> Tree[int]:
        return cast("Tree[int]", self._base.query_one("#programs", Tree))

    def _read(self) -> None:
        messages, goes_on = self._link.ready()
        for message in messages:
            self._take(message)
        if not goes_on:
            self._leave_link()
            if self.board.ended is None:
                self._take({"type": "end", "code": None})

    def _take(self, message: dict[str, Any]) -> None:
        self.board.take(message)
        self._stale = True
        if message.get("type") == "answer":
            self.notify(printable(self.board.last_answer))
        elif message.get("type") == "end":
            self.refresh_board()
            if self._until_end:
                self.exit()

    # Drawing.

    def refresh_board(self) -> None:
        """Draws what has changed; nothing while it is paused, nor when the picture is being taken down."""
        if not self._stale or self._paused or not self._is_drawn:
            return
        self._stale = False
        self._draw_head()
        self._draw_tree()
        self._draw_table()

    def _draw_head(self) -> None:
        board = self.board
        counts = board.counts()
        state = "running"
        if board.ended is not None:
            signal, code = board.ended.get("signal"), board.ended.get("code")
            state = f"ended by signal {signal}" if signal else "ended" if code is None else f"ended with {code}"
        command = printable(" ".join(map(str, board.hello.get("command") or ())))
        first = Text.assemble((f" {state} ", "reverse"), "  ", (command, "bold"), no_wrap=True, overflow="ellipsis")
        rate = sum(row.rate_in + row.rate_out for row in board.rows.values())
        second = f"{counts['allowed']} allowed, {counts['refused']} refused, {counts['failed']} failed, {size(rate)}/s"
        if self._search:
            second += f"   search: {self._search}"
        if self._pid is not None:
            second += f"   following process {self._pid}"
        if self._paused:
            second += "   paused"
        self._base.query_one("#head", Static).update(Text("\n").join([first, Text(second)]))

    def _draw_tree(self) -> None:
        tree = self._tree
        tree.clear()

        def add(parent: Any, nodes: dict[int, Node]) -> None:
            for node in nodes.values():
                style = "bold" if node.pid == self._pid else "red" if node.refused else ""
                label = Text(node.text, style)
                if node.children:
                    add(parent.add(label, data=node.pid, expand=True), node.children)
                else:
                    parent.add_leaf(label, data=node.pid)

        add(tree.root, self.board.tree())
        tree.root.expand()

    def _draw_table(self) -> None:
        table = self._table
        rows = self.board.visible(self._search, self._pid)[:_MOST_SHOWN]
        wanted = [row.record["id"] for row in rows]
        if wanted == self._shown:
            for row in rows:
                for column, cell in zip(_COLUMNS, _cells(row), strict=True):
                    table.update_cell(str(row.record["id"]), column, cell, update_width=True)
            return
        chosen = self._chosen()
        table.clear()
        for row in rows:
            table.add_row(*_cells(row), key=str(row.record["id"]))
        self._shown = wanted
        if chosen is not None and chosen.record["id"] in wanted:
            table.move_cursor(row=wanted.index(chosen.record["id"]))
        self._draw_detail()

    def _chosen(self) -> Row | None:
        at = self._table.cursor_row
        return self.board.rows.get(self._shown[at]) if 0 <= at < len(self._shown) else None

    def _draw_detail(self) -> None:
        row = self._chosen()
        lines = []
        if row is not None:
            record = row.record
            command = " ".join(map(str, record.get("command") or ()))
            lines = [f"{row.program}  {command}", f"{row.destination} {row.transport} {record.get('address') or ''}"]
            lines.append(f"{row.verdict}: {record.get('reason') or 'the first bytes will tell'}")
            lines.append(f"to allow: {record['hint']}" if record.get("hint") else "")
            requests = record.get("requests") or ()
            lines.append(", ".join(requests[-3:]))
        self._base.query_one("#detail", Static).update(Text(printable_lines(lines)))

    def on_data_table_row_highlighted(self, _event: DataTable.RowHighlighted) -> None:
        if self._is_drawn:
            self._draw_detail()

    def on_tree_node_selected(self, event: Tree.NodeSelected[int]) -> None:
        self._follow(event.node.data)

    # Keys.

    def action_add(self, action: str) -> None:
        """Allows or denies, from now on, what the chosen flow does."""
        row = self._chosen()
        if row is None:
            self.notify("choose a flow first", severity="warning")
        elif self.board.ended is not None:
            self.notify("the run has ended; its hint says what to allow next time", severity="warning")
        elif action == "deny":
            self._link.send(action, rule=row.rule_to(action))
        else:
            rule = row.rule_to(action)
            question = f"allow {rule} from now on, for this run?"
            self.push_screen(Confirm(question), lambda sure: self._link.send(action, rule=rule) if sure else None)

    def action_follow(self) -> None:
        """Shows the flows of the chosen flow's program alone, and of those below it."""
        row = self._chosen()
        self._follow(row.record.get("pid") if row is not None else None)

    def _follow(self, pid: int | None) -> None:
        self._pid = None if pid == self._pid else pid
        self._redraw()

    def action_search(self) -> None:
        """Begins a search."""
        search = self._base.query_one("#search", Input)
        search.add_class("shown")
        search.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._search = event.value
        self._redraw()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self._leave_search()

    def _leave_search(self) -> None:
        self._base.query_one("#search", Input).remove_class("shown")
        self._table.focus()

    def action_reset(self) -> None:
        """Ends search and following."""
        self._search, self._pid = "", None
        self._base.query_one("#search", Input).value = ""
        self._leave_search()
        self._redraw()

    def action_pause(self) -> None:
        """Keeps the picture as it is, to read it."""
        self._paused = not self._paused
        self._draw_head()
        self._stale = True
        self.refresh_board()

    def action_interrupt(self) -> None:
        """What ^C would have done to the command, had it the terminal."""
        if self.board.ended is not None:
            self.exit()
        else:
            self._link.send("interrupt")

    def _redraw(self) -> None:
        self._stale = True
        self.refresh_board()


def printable_lines(lines: list[str]) -> str:
    """Lines of strangers' words."""
    return "\n".join(printable(line) for line in lines)


def _cells(row: Row) -> tuple[Text | str, ...]:
    trip = row.round_trip
    return (
        printable(row.program),
        Text(printable(row.destination)),
        row.transport,
        row.learnt,
        Text(row.verdict, _STYLES.get(row.verdict, "")),
        Text(printable(row.rule)),
        size(row.rate_out) if row.rate_out >= 1 else "",
        size(row.rate_in) if row.rate_in >= 1 else "",
        size(row.sent + row.received),
        f"{trip / 1000:.1f} ms" if trip else "",
    )
