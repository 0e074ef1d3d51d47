"""The cost table: one row a node, which grows while the graph runs, in a terminal or a notebook.

with handler.live():
    graph.invoke(state, config={"callbacks": [handler]})
"""

from __future__ import annotations

import html
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from langchain_mlflow_cost.pricing.table import cost_html, cost_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from langchain_mlflow_cost.pricing.summary import CostSummary

REFRESH_PER_SECOND = 8
NOTEBOOK_REFRESH_S = 0.25
"""A notebook is sent the whole table each time."""


@contextmanager
def live_table(summary: Callable[[], CostSummary], console: Console | None = None) -> Iterator[None]:
    """Show the cost table until the block ends; where nothing can be redrawn (a pipe, CI), only once, at the end.

    It is shown also where the block raises: what was spent until then is what the reader wants to know.

    Args:
        summary: Called at each redrawing, from another thread than the block's.
        console: Where to; standard output if not given, or the notebook's cell.
    """
    console = console or Console()
    if console.is_jupyter:
        with _in_notebook(summary, console):
            yield
        return
    if not console.is_terminal or console.is_dumb_terminal:
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
        spinner.update(text=Text(_running(start_s), style="dim"))
        return Group(table, spinner)

    # When it stops, `Live` draws once more: the final figures, without the spinner.
    with Live(get_renderable=picture, console=console, refresh_per_second=REFRESH_PER_SECOND):
        try:
            yield
        finally:
            running = False


def _running(start_s: float) -> str:
    return f"running {time.monotonic() - start_s:.1f} s"


@contextmanager
def _in_notebook(summary: Callable[[], CostSummary], console: Console) -> Iterator[None]:
    """Show the table in the cell's output, redrawn in its place.

    Rich's own `Live` needs ipywidgets there, and does not draw when it stops (rich 15): a fast graph showed nothing.
    """
    try:
        from IPython.display import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - only in a notebook
            HTML,
            display,
        )
    except ImportError:
        try:
            yield
        finally:
            console.print(cost_table(summary(), console))
        return
    start_s = time.monotonic()
    is_over = threading.Event()

    def picture(*, running: bool) -> Any:
        table = cost_html(summary(), waiting=running)
        return HTML(f"{table}<div>{html.escape(_running(start_s))}</div>" if running else table)

    shown = display(picture(running=True), display_id=True)

    def redraw() -> None:
        while not is_over.wait(NOTEBOOK_REFRESH_S):
            shown.update(picture(running=True))

    drawing = threading.Thread(target=redraw, name="langchain_mlflow_cost live table", daemon=True)
    drawing.start()
    try:
        yield
    finally:
        is_over.set()
        drawing.join()
        shown.update(picture(running=False))
