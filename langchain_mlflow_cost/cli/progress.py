"""How far a command that takes long has come: one line on a terminal's standard error, nothing in a pipe or a file."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Task


class Bar:
    """One step of a command, and how much of it is done."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def at(self, done: float) -> None:
        """So much of it is done."""
        self._progress.update(self._task, completed=done)

    def more(self, done: float) -> None:
        """So much more of it is done."""
        self._progress.advance(self._task, done)


@contextmanager
def bars() -> Iterator[Callable[[str, float], Bar]]:
    """Bars, one below the other: each is begun with the name of its step and how much there is to do."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(),
    )
    with _progress(*columns) as progress:
        yield lambda step, total: Bar(progress, progress.add_task(step.ljust(9), total=total))


@contextmanager
def counter(what: str = "traces read", *, shown: bool = True) -> Iterator[Callable[[float], None]]:
    """A number that grows, where nobody knows how far: it is told how much there is by now.

    Args:
        what: Behind the number.
        shown: False where rows are written to the same terminal meanwhile.
    """
    with _progress(_Count(), shown=shown) as progress:
        # From the first number on: most commands are done before there is one.
        task = progress.add_task(what, total=None, visible=False)
        yield lambda count: progress.update(task, completed=count, visible=True)


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"mlflow-cost: {task.completed:,.0f} {task.description}")


def _progress(*columns: ProgressColumn, shown: bool = True) -> Progress:
    return Progress(
        *columns,
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=True,
        redirect_stdout=False,
        # Not `is_terminal`: whoever forces colours (FORCE_COLOR) into a file does not want a bar there.
        disable=not (shown and sys.stderr.isatty()),
    )
