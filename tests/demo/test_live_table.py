"""The cost table, as text on consoles of many kinds."""

from __future__ import annotations

import io
import sys
import threading
import types
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from langchain_mlflow_cost.live import live_table
from langchain_mlflow_cost.pricing.ledger import Call, Ledger
from langchain_mlflow_cost.pricing.table import cost_table

if TYPE_CHECKING:
    from langchain_mlflow_cost.pricing.summary import CostSummary

PLAN = Call("plan", "gpt-5-mini", 1_840, 512, Decimal("0.0002"), Decimal("0.0010"))
CRITIC = Call("review/critic", "claude-sonnet-5", 6_150, 420, Decimal("0.0120"), Decimal("0.0040"))
UNPRICED = Call("", "my-own", 100, 10, None, None)


def summary_of(*calls: Call, waiting: tuple[str, ...] = ()) -> CostSummary:
    ledger = Ledger()
    for call in calls:
        ledger.add(call)
    for node in waiting:
        ledger.enter(object(), node)
    return ledger.summary()


def written(console: Console) -> str:
    """What a console that writes into memory has written."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines_of(summary: CostSummary, width: int = 100, **options: Any) -> dict[str, list[str]]:
    """The table's lines: first word to the other words."""
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(cost_table(summary, console, waiting=True))
    words = [line.split() for line in written(console).splitlines()]
    return {first: rest for first, *rest in filter(None, words)}


def test_row() -> None:
    """A row has node, models, calls, tokens in and out, and USD."""
    lines = lines_of(summary_of(PLAN, PLAN), width=80)

    assert lines["Node"] == ["Model", "Calls", "Input", "Output", "USD"]
    assert lines["plan"] == ["gpt-5-mini", "2", "3,680", "1,024", "0.0024"]


def test_total() -> None:
    """The last row is the sum of all nodes."""
    lines = lines_of(summary_of(PLAN, CRITIC), width=80)

    assert lines["Total"] == ["2", "7,990", "932", "0.0172"]


def test_order() -> None:
    """Nodes stand in the order in which they began, so that no row jumps while the graph runs."""
    lines = lines_of(summary_of(PLAN, CRITIC, PLAN))

    assert [name for name in lines if name in {"plan", "review/critic"}] == ["plan", "review/critic"]


def test_unpriced_node() -> None:
    """A node whose calls have no price is unknown, not free, and the total says that it is more."""
    lines = lines_of(summary_of(PLAN, UNPRICED), width=80)

    assert lines["(no"] == ["node)", "my-own", "1", "100", "10", "unknown"]
    assert lines["Total"][-2:] == [">", "0.0012"]


def test_waiting_node() -> None:
    """A node whose first call has not come back shows no figures."""
    lines = lines_of(summary_of(PLAN, waiting=("writer",)), width=80)

    assert lines["writer"] == ["-", "-", "-", "-"]


def test_node_without_a_call() -> None:
    """At the end a node whose only call never came back is no row."""
    console = Console(file=io.StringIO(), width=80)
    console.print(cost_table(summary_of(PLAN, waiting=("review",)), console))

    assert "review" not in written(console)


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        pytest.param("0", "0.0000", id="free"),
        pytest.param("12.5", "12.5000", id="dollars"),
        pytest.param("0.0001", "0.0001", id="last with 4 places"),
        pytest.param("0.000099", "0.00010", id="first with 5 places"),
        pytest.param("0.0000012", "0.000001", id="6 places"),
        pytest.param("0.00000000123", "0.00000000", id="8 places at most"),
    ],
)
def test_decimals(usd: str, shown: str) -> None:
    """Small amounts get as many places as one of their figures needs."""
    lines = lines_of(summary_of(Call("node", "m", 1, 1, Decimal(usd), Decimal(0))), width=80)

    assert lines["node"][-1] == shown


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (100, ["Model", "Calls", "Input", "Output", "USD", "Share"]),
        (84, ["Model", "Calls", "Input", "Output", "USD", "Share"]),
        (83, ["Model", "Calls", "Input", "Output", "USD"]),
        (64, ["Model", "Calls", "Input", "Output", "USD"]),
        (63, ["Calls", "Input", "Output", "USD"]),
        (54, ["Calls", "Input", "Output", "USD"]),
        (53, ["Calls", "USD"]),
        (44, ["Calls", "USD"]),
        (43, ["USD"]),
        (24, ["USD"]),
    ],
)
def test_width(width: int, heads: list[str]) -> None:
    """A narrow terminal shows fewer columns."""
    lines = lines_of(summary_of(PLAN, CRITIC), width)

    assert lines["Node"] == heads


@pytest.mark.parametrize("width", range(20, 101, 5))
def test_figures_are_whole(width: int) -> None:
    """At no width is an amount cut."""
    lines = lines_of(summary_of(PLAN, CRITIC, UNPRICED), width)

    assert "0.0012" in lines["plan"]
    assert lines["Total"][-2:] == [">", "0.0172"]


def test_no_models() -> None:
    """Where no row has a model there is no column for them."""
    lines = lines_of(summary_of(waiting=("plan",)))

    assert lines["Node"] == ["Calls", "Input", "Output", "USD", "Share"]


def test_ascii_terminal() -> None:
    """A terminal without Unicode gets neither bars nor box characters."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=100)
    console.print(cost_table(summary_of(PLAN), console))
    file.flush()

    assert b"plan" in file.buffer.getvalue()


def test_pipe_shows_one_table() -> None:
    """Where nothing can be redrawn the table is printed once, when the block has ended."""
    console = Console(file=io.StringIO(), width=80)
    ledger = Ledger()
    with live_table(ledger.summary, console):
        ledger.add(PLAN)
        before = written(console)
    after = written(console)

    assert before == ""
    assert after.count("Total") == 1
    assert "\x1b" not in after


def test_failed_block_shows_its_cost() -> None:
    """What was spent is shown also where the graph raises, and its error comes through."""
    console = Console(file=io.StringIO(), width=80)

    with pytest.raises(ZeroDivisionError), live_table(lambda: summary_of(PLAN), console):
        _ = 1 / 0

    assert "0.0012" in written(console)


def test_terminal_is_redrawn() -> None:
    """In a terminal a figure is on the screen before the block has ended."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    drawn = threading.Event()

    def summary() -> CostSummary:
        # The second drawing begins when the first is written.
        if "0.0012" in written(console):
            drawn.set()
        return summary_of(PLAN)

    with live_table(summary, console):
        seen_while_running = drawn.wait(timeout=10)

    assert seen_while_running
    assert "running" in written(console)


def test_last_drawing_is_final() -> None:
    """What stays on the terminal is the end's figures, without the sign that it runs."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    ledger = Ledger()
    with live_table(ledger.summary, console):
        ledger.add(CRITIC)
    last = written(console).rpartition("Node")[2]

    assert "0.0160" in last
    assert "running" not in last


# --- a notebook -----------------------------------------------------------------------------------------------------


class Cell:
    """The output of a notebook's cell, as IPython's `display` with an id changes it."""

    def __init__(self) -> None:
        self.pictures: list[str] = []
        self.is_redrawn = threading.Event()

    def display(self, picture: str, *, display_id: bool) -> Cell:
        self.pictures.append(picture)
        return self

    def update(self, picture: str) -> None:
        self.pictures.append(picture)
        self.is_redrawn.set()


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """IPython is there, and shows HTML."""
    cell, module = Cell(), types.ModuleType("IPython.display")
    module.HTML, module.display = str, cell.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return cell


def notebook() -> Console:
    return Console(file=io.StringIO(), force_jupyter=True, width=100)


def test_notebook_shows_its_last_picture(cell: Cell) -> None:
    """In a notebook a graph that is over at once leaves its final figures, without the sign that it runs."""
    ledger = Ledger()
    with live_table(ledger.summary, notebook()):
        ledger.add(CRITIC)

    assert "running" in cell.pictures[0]
    assert "0.0160" in cell.pictures[-1]
    assert "running" not in cell.pictures[-1]


def test_notebook_is_redrawn(cell: Cell) -> None:
    """A graph that takes its time is seen to go on."""
    ledger = Ledger()
    with live_table(ledger.summary, notebook()):
        ledger.add(PLAN)
        cell.is_redrawn.clear()
        seen_while_running = cell.is_redrawn.wait(timeout=10)
        last = cell.pictures[-1]

    assert seen_while_running
    assert "0.0012" in last


def test_notebook_shows_the_cost_of_a_failed_block(cell: Cell) -> None:
    """The last picture is drawn also where the graph raises, and its error comes through."""
    with pytest.raises(ZeroDivisionError), live_table(lambda: summary_of(PLAN), notebook()):
        _ = 1 / 0

    assert "0.0012" in cell.pictures[-1]
    assert "running" not in cell.pictures[-1]
