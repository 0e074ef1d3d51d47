"""The cost table: one row a node, which grows while the graph runs, in a terminal or a notebook.

with handler.live():
    graph.invoke(state, config={"callbacks": [handler]})
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import JustifyMethod, RenderableType

    from langchain_mlflow_cost.pricing.ledger import CostSummary

REFRESH_PER_SECOND = 8
BAR_WIDTH = 10


@contextmanager
def live_table(summary: Callable[[], CostSummary], console: Console | None = None) -> Iterator[None]:
    """Show the cost table until the block ends; where nothing can be redrawn (a pipe, CI), only once, at the end.

    It is shown also where the block raises: what was spent until then is what the reader wants to know.

    Args:
        summary: Called at each redrawing, from another thread than the block's.
        console: Where to; standard output if not given.
    """
    console = console or Console()
    can_redraw = (console.is_terminal and not console.is_dumb_terminal) or console.is_jupyter
    if not can_redraw:
        try:
            yield
        finally:
            console.print(cost_table(summary(), console))
        return
    spinner = Spinner("dots", style="cyan")
    start_s = time.monotonic()
    running = True

    def picture() -> RenderableType:
        table = cost_table(summary(), console, waiting=running)
        if not running:
            return table
        spinner.update(text=Text(f"running {time.monotonic() - start_s:.1f} s", style="dim"))
        return Group(table, spinner)

    # When it stops, `Live` draws once more: the final figures, without the spinner.
    with Live(get_renderable=picture, console=console, refresh_per_second=REFRESH_PER_SECOND):
        try:
            yield
        finally:
            running = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a cost table."""

    name: str
    models: tuple[str, ...] = ()
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: bool = False
    """Some of its calls have no known price, so that the cost is a part of the truth."""


def cost_table(summary: CostSummary, console: Console, *, waiting: bool = False) -> Table:
    """The summary as a table, nodes in the order in which they began, with as many columns as the console is wide.

    Amounts are in USD. Where calls have no known price, the amount says so: an unknown cost is not $0.

    Args:
        summary: What to show.
        console: How wide, and with which characters.
        waiting: Whether to show nodes whose first call has not come back: while a graph runs, that tells where it is.
    """
    rows = summary_rows(summary, "(no node)")
    rows = [row for row in rows if row.calls or waiting]
    # One figure is enough to see where the money goes, and most amounts keep their places while they grow.
    return rows_table("Node", rows, summary_total(summary), console, figures=1)


def summary_rows(summary: CostSummary, nameless: str) -> list[Row]:
    """A row for each node; `nameless` is what the one with an empty name is called."""
    unknown = set(summary.unpriced_models)
    return [
        Row(
            name or nameless,
            tuple(node.models),
            node.calls,
            node.tokens.input_tokens,
            node.tokens.output_tokens,
            node.cost_usd,
            not unknown.isdisjoint(node.models),
        )
        for name, node in summary.node_breakdown.items()
    ]


def summary_total(summary: CostSummary) -> Row:
    """The row of all nodes together."""
    return Row(
        "Total",
        calls=summary.llm_calls,
        input_tokens=summary.total_tokens.input_tokens,
        output_tokens=summary.total_tokens.output_tokens,
        cost_usd=summary.total_cost_usd,
        unpriced=summary.unpriced_calls > 0,
    )


def rows_table(title: str, rows: list[Row], total: Row, console: Console, *, figures: int = 2) -> Table:
    """Rows and their total, with as many columns as the console is wide.

    Args:
        title: Heads the first column.
        rows: In the order in which they are to stand.
        total: The last line.
        console: How wide, and with which characters.
        figures: How many figures of the smallest amount are to be seen.
    """
    columns = [
        column
        for column in _columns(title, rows, total, figures)
        if column.shown and console.width >= column.from_width
    ]
    if console.options.ascii_only:
        columns = [column for column in columns if column.head != _SHARE]
    table = Table(box=box.SIMPLE, show_footer=True, pad_edge=False, header_style="bold", footer_style="bold")
    for column in columns:
        table.add_column(
            column.head,
            "" if column.head == _SHARE else column.text(total),
            justify=column.justify,
            # Names may take two lines where it is narrow; a figure that is cut would be another figure.
            no_wrap=column.justify == "right",
            overflow="fold",
            style=column.style,
            min_width=column.min_width,
        )
    for row in rows:
        table.add_row(*(column.text(row) for column in columns), style="" if row.calls else "dim")
    return table


_SHARE = "Share"


@dataclass(frozen=True, slots=True)
class _Column:
    head: str
    text: Callable[[Row], str]
    justify: JustifyMethod = "right"
    style: str = ""
    from_width: int = 0
    """The width of the terminal from which it is shown."""
    min_width: int | None = None
    shown: bool = True


def _columns(title: str, rows: list[Row], total: Row, figures: int) -> list[_Column]:
    decimals = _decimals([total, *rows], figures)
    has_models = any(row.models for row in rows)
    return [
        _Column(title, lambda row: row.name, "left"),
        _Column("Model", lambda row: ", ".join(row.models), "left", "dim", from_width=64, shown=has_models),
        _Column("Calls", lambda row: _count(row, row.calls), from_width=44),
        _Column("Input", lambda row: _count(row, row.input_tokens), from_width=54),
        _Column("Output", lambda row: _count(row, row.output_tokens), from_width=54),
        _Column("USD", lambda row: _amount(row, decimals), style="green"),
        _Column(_SHARE, lambda row: _bar(row.cost_usd, total.cost_usd), "left", "cyan", 84, BAR_WIDTH),
    ]


def _count(row: Row, count: int) -> str:
    # Where no call has come back yet, nothing is known: a row of zeros would say that it was free.
    return f"{count:,}" if row.calls else "-"


def _amount(row: Row, decimals: int) -> str:
    if not row.calls:
        return "-"
    if not row.unpriced:
        return f"{row.cost_usd:.{decimals}f}"
    return f"> {row.cost_usd:.{decimals}f}" if row.cost_usd else "unknown"


def _decimals(rows: list[Row], figures: int) -> int:
    """Enough for so many figures of the smallest amount, at least 4, at most 8, the same for all: points line up."""
    smallest = min((row.cost_usd for row in rows if row.cost_usd > 0), default=1.0)
    return next((decimals for decimals in (4, 5, 6, 7) if smallest >= 10 ** (figures - 1 - decimals)), 8)


def _bar(part: float, whole: float) -> str:
    """A bar in eighths of a character."""
    eighths = round(8 * BAR_WIDTH * part / whole) if whole else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
