"""How the commands speak: tables and figures on standard output, what they have to say on standard error."""

from __future__ import annotations

import sys

from rich.console import Console

from langchain_mlflow_cost.notices import printable


def console() -> Console:
    """Standard output, as wide as the terminal; texts are printed as they are."""
    return Console(highlight=False, markup=False, emoji=False)


def say(out: Console, line: str, style: str | None = None) -> None:
    """Print a line in which names of others may stand: none of them can act."""
    out.print(printable(line, most=10_000), style=style)


def tell(message: str) -> None:
    """Say something on standard error that does not belong to what was asked for."""
    sys.stderr.write(f"mlflow-cost: {message}\n")


def counted(count: int, word: str) -> str:
    """`1 trace`, `1,200 traces`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
