"""How the commands speak: tables and figures on standard output, what they have to say on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console

from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from rich.table import Table

_NO_LIMIT: Final = 10_000
"""Columns of a pipe, in which no line is broken."""


def console() -> Console:
    """Standard output, as wide as the terminal; texts are printed as they are."""
    return Console(highlight=False, markup=False, emoji=False)


def show(out: Console, table: Table) -> None:
    """Print a table as wide as the terminal; into a pipe or a file as wide as it is, and no line ends in blanks."""
    if out.is_terminal:
        out.print(table)
        return
    wide = Console(highlight=False, markup=False, emoji=False, width=_NO_LIMIT, file=out.file, force_terminal=False)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        out.file.write(f"{line.rstrip()}\n")


def say(out: Console, line: str, style: str | None = None) -> None:
    """Print a line in which names of others may stand: none of them can act."""
    out.print(printable(line, most=10_000), style=style)


def tell(message: str) -> None:
    """Say something on standard error that does not belong to what was asked for."""
    sys.stderr.write(f"mlflow-cost: {message}\n")


def counted(count: int, word: str) -> str:
    """`1 trace`, `1,200 traces`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
