"""Rows of costs as a table: for a terminal, as plain text, and as HTML for a notebook.

Amounts are in USD. Where calls have no known price the amount says so (`> 0.0012`, `unknown`): unknown is not free.
Where tokens were estimated, it says that as well (`~0.0012`). Names are data of others: none of them can act.
"""

from __future__ import annotations

import html
import io
import sys
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langchain_mlflow_cost.money import EXACT
from langchain_mlflow_cost.notices import printable
from langchain_mlflow_cost.pricing.summary import summary_notes, summary_rows, summary_total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import JustifyMethod

    from langchain_mlflow_cost.pricing.summary import CostSummary, Row

BAR_WIDTH = 10


# One figure is enough to see where the money goes; more are shown where they are needed to add up.
_FIGURES = 1


def cost_table(summary: CostSummary, console: Console, *, waiting: bool = False) -> Table:
    """The summary as a table, nodes in the order in which they began, with as many columns as the console is wide.

    Args:
        summary: What to show.
        console: How wide, and with which characters.
        waiting: Whether to show nodes whose first call has not come back: while a graph runs, that tells where it is.
    """
    rows, notes = _rows(summary, waiting=waiting), summary_notes(summary)
    return rows_table("Node", rows, summary_total(summary), console, figures=_FIGURES, adds_up=True, notes=notes)


def cost_html(summary: CostSummary, *, waiting: bool = False) -> str:
    """The same for a page."""
    rows, notes = _rows(summary, waiting=waiting), summary_notes(summary)
    return rows_html("Node", rows, summary_total(summary), figures=_FIGURES, adds_up=True, notes=notes)


def cost_text(summary: CostSummary) -> str:
    """The same as plain text, as wide as the terminal (80 where there is none)."""
    console = Console(file=_Like(), width=Console().width, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(cost_table(summary, console))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")


class _Like(io.StringIO):
    """A text that will be written where `sys.stdout` writes: with characters that it has."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # nobody sets it
        return getattr(sys.stdout, "encoding", None) or "utf-8"


def _rows(summary: CostSummary, *, waiting: bool) -> list[Row]:
    return [row for row in summary_rows(summary, "(no node)") if waiting or not row.is_empty or row.retries]


def rows_table(
    titles: str | Sequence[str],
    rows: Sequence[Row],
    total: Row,
    console: Console,
    *,
    figures: int = 2,
    adds_up: bool = False,
    notes: Sequence[str] = (),
) -> Table:
    """Rows and their total, with as many columns as the console is wide.

    Args:
        titles: Head the columns of names, of which there is one most often.
        rows: In the order in which they are to stand.
        total: The last line.
        console: How wide, and with which characters.
        figures: How many figures of the smallest amount are to be seen.
        adds_up: Whether whoever adds up the amounts as they stand there has to get the total as it stands there.
        notes: Lines below the table.
    """
    columns = [
        column
        for column in _columns((titles,) if isinstance(titles, str) else titles, rows, total, figures, adds_up=adds_up)
        if column.shown and console.width >= column.from_width
    ]
    if console.options.ascii_only:
        columns = [column for column in columns if column.head != _SHARE]
    table = Table(
        box=box.SIMPLE,
        show_footer=True,
        pad_edge=False,
        header_style="bold",
        footer_style="bold",
        caption=Text("\n".join(notes), style="yellow") if notes else None,
        caption_justify="left",
    )
    for column in columns:
        table.add_column(
            # `Text`, not `str`, in which rich would look for markup.
            Text(column.head),
            Text("" if column.head == _SHARE else column.text(total)),
            justify=column.justify,
            # Names may take two lines where it is narrow; a figure that is cut would be another figure.
            no_wrap=column.justify == "right",
            overflow="fold",
            style=column.style,
            min_width=column.min_width,
        )
    for row in rows:
        table.add_row(*(Text(column.text(row)) for column in columns), style="dim" if row.is_empty else "")
    return table


def rows_html(
    title: str,
    rows: Sequence[Row],
    total: Row,
    *,
    figures: int = 2,
    adds_up: bool = False,
    notes: Sequence[str] = (),
) -> str:
    """The same as HTML without scripts or style sheets, in which every text is escaped."""
    columns = [
        column
        for column in _columns((title,), rows, total, figures, adds_up=adds_up)
        if column.shown and column.head != _SHARE
    ]

    def line(texts: Sequence[str], tag: str) -> str:
        cells = (
            f'<{tag} style="text-align:{column.justify};white-space:pre-wrap">{html.escape(text)}</{tag}>'
            for column, text in zip(columns, texts, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    head = line([column.head for column in columns], "th")
    body = "".join(line([column.text(row) for column in columns], "td") for row in rows)
    foot = line([column.text(total) for column in columns], "th")
    below = "".join(f'<div style="white-space:pre-wrap">{html.escape(note)}</div>' for note in notes)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody><tfoot>{foot}</tfoot></table>{below}"


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


def _columns(titles: Sequence[str], rows: Sequence[Row], total: Row, figures: int, *, adds_up: bool) -> list[_Column]:
    amounts = _amounts(rows, total, figures, adds_up=adds_up)
    has_models = any(row.models for row in rows)
    has_retries = any(row.retries for row in rows)
    return [
        _Column(printable(titles[0]), lambda row: printable(row.name), "left"),
        *(_Column(printable(title), partial(_more, place), "left") for place, title in enumerate(titles[1:])),
        _Column("Model", _models, "left", "dim", from_width=64, shown=has_models),
        _Column("Calls", lambda row: _count(row, row.calls), from_width=44),
        _Column("Retries", lambda row: f"{row.retries:,}" if row.retries else "", from_width=54, shown=has_retries),
        _Column("Input", lambda row: _count(row, row.input_tokens), from_width=54),
        _Column("Output", lambda row: _count(row, row.output_tokens), from_width=54),
        _Column("USD", lambda row: _amount(row, amounts[id(row)]), style="green"),
        _Column(_SHARE, lambda row: _bar(row.cost_usd, total.cost_usd), "left", "cyan", 84, BAR_WIDTH),
    ]


def _more(place: int, row: Row) -> str:
    return printable(row.more[place]) if place < len(row.more) else ""


def _models(row: Row) -> str:
    return ", ".join(printable(model) for model in row.models)


def _count(row: Row, count: int) -> str:
    # Where no call has come back yet, nothing is known: a row of zeros would say that it was free.
    return f"{count:,}" if row.calls else "-"


def _amount(row: Row, usd: Decimal) -> str:
    if row.is_empty:
        return "-"
    if row.unpriced and not row.cost_usd:
        return "unknown"
    return f"{'> ' if row.unpriced else ''}{'~' if row.estimated else ''}{usd:f}"


_MORE_FIGURES = 2


def _amounts(rows: Sequence[Row], total: Row, figures: int, *, adds_up: bool) -> dict[int, Decimal]:
    """The amounts as they are shown, by `id` of the row; all with the same number of decimals, so that points line up.

    0.00035 and 0.00035 as 0.0004 and 0.0004 would not add up to their 0.0007. Where they have to, up to two more
    figures are shown; if that does not do, the last one of the rows that lose most by rounding is one higher or lower.
    """
    first = _decimals([total, *rows], figures)
    for decimals in range(first, min(first + _MORE_FIGURES, _MOST_DECIMALS) + 1):
        unit = Decimal(1).scaleb(-decimals)
        parts, whole = [_rounded(row, unit) for row in rows], _rounded(total, unit)
        if not adds_up or sum(parts) == whole:
            break
    off = int((whole - sum(parts)) / unit)
    # Where it is more, the rows are not all that the total is of.
    if adds_up and abs(off) <= len(rows):
        lost = [Decimal(repr(row.cost_usd)) - part for row, part in zip(rows, parts, strict=True)]
        for place in sorted(range(len(rows)), key=lost.__getitem__, reverse=off > 0)[: abs(off)]:
            parts[place] += unit if off > 0 else -unit
    return {id(row): usd for row, usd in zip((*rows, total), (*parts, whole), strict=True)}


def _rounded(row: Row, unit: Decimal) -> Decimal:
    return Decimal(repr(row.cost_usd)).quantize(unit, context=EXACT)


_MOST_DECIMALS = 8


def _decimals(rows: Sequence[Row], figures: int) -> int:
    """Enough for so many figures of the smallest amount, at least 4, at most 8."""
    smallest = min((row.cost_usd for row in rows if row.cost_usd > 0), default=1.0)
    return next((places for places in (4, 5, 6, 7) if smallest >= 10 ** (figures - 1 - places)), _MOST_DECIMALS)


def _bar(part: float, whole: float) -> str:
    """A bar in eighths of a character."""
    eighths = round(8 * BAR_WIDTH * part / whole) if whole else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
