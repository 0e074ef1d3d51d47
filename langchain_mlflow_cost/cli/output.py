"""How the commands speak: tables and figures on standard output, what they have to say on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_LIMIT: Final = 10_000
"""Columns of a pipe, in which no line is broken."""


def console() -> Console:
    """Standard output, as wide as the terminal; texts are printed as they are."""
    return Console(highlight=False, markup=False, emoji=False)


def _is_screen(out: Console) -> bool:
    # Not `is_terminal`: FORCE_COLOR, which CI sets, makes no screen of a pipe.
    return bool(out.file.isatty())


def show(out: Console, table: Table) -> None:
    """Print a table as wide as the terminal; into a pipe or a file as wide as it is, and no line ends in blanks."""
    if _is_screen(out):
        out.print(table)
        return
    wide = Console(highlight=False, markup=False, emoji=False, width=NO_LIMIT, file=out.file, force_terminal=False)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        out.file.write(f"{line.rstrip()}\n")


def say(out: Console, line: str, style: str | None = None) -> None:
    """Print a line in which names of others may stand: none of them can act. Into a pipe it stays one line."""
    out.print(printable(line, most=NO_LIMIT), style=style, soft_wrap=not _is_screen(out))


def say_below(out: Console, line: str) -> None:
    """Print a line that belongs to the one before: two blanks in, and further lines of it, too."""
    text = Text(printable(line, most=NO_LIMIT))
    if _is_screen(out):
        out.print(Padding(text, (0, 0, 0, 2)))
    else:
        out.print(f"  {text.plain}", soft_wrap=True)


def tell(message: str) -> None:
    """Say something on standard error that was not asked for, with the program's name on each line."""
    for line in message.splitlines() or [""]:
        sys.stderr.write(f"mlflow-cost: {line}\n")


def counted(count: int, word: str) -> str:
    """`1 trace`, `1,200 traces`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def rows_as_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Rows as a table: names to the left, figures to the right and never broken."""
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        is_text = all(_is_word(row[place]) for row in rows)
        table.add_column(
            Text(printable(head)), justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(printable(cell_text(value))) for value in row))
    return table


def usd_text(usd: float) -> str:
    """USD for a table."""
    return f"{usd:.6f}" if abs(usd) < 1 else f"{usd:,.4f}"


def cell_text(value: Any) -> str:
    """A value as a cell shows it."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return usd_text(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and not value[:1].isdigit() and value[:1] not in {"-", "+"}
