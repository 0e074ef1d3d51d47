"""The benchmark program runs; what it measures is nobody's test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"
SMALL = "linear,fanout,react1,react10,stream,nospace20k,base64_100k"


@pytest.fixture(scope="module")
def report() -> str:
    """What one run of every small graph, without tracing, under autolog and with the handler, prints."""
    command = [sys.executable, str(RUN), "--graphs", SMALL, "--modes", "bare,autolog,standard", "--reps", "1"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _cells(report: str, graph: str, mode: str) -> list[str]:
    rows = report.split(f"### {graph}:")[1].splitlines()
    return next([cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith(f"| {mode} |"))


@pytest.mark.parametrize(
    ("graph", "spans"),
    [("linear", 21), ("fanout", 204), ("react1", 104), ("react10", 104), ("stream", 3), ("nospace20k", 7)],
)
@pytest.mark.parametrize("mode", ["autolog", "standard"])
def test_the_whole_graph_is_traced(report: str, graph: str, spans: int, mode: str) -> None:
    """Each graph makes the number of spans that the figures are about, with the handler too, and none is lost."""
    cells = _cells(report, graph, mode)

    assert [str(spans), "0"] == [cells[6], cells[10]]


@pytest.mark.parametrize("graph", SMALL.split(","))
def test_bare_exports_nothing(report: str, graph: str) -> None:
    """Once autolog is switched off again, no span of a bare run reaches the store."""
    assert _cells(report, graph, "bare")[6] == "0"


def test_profile_shows_where_the_time_goes() -> None:
    """Behind a flag the program prints a profile in place of the table."""
    command = [sys.executable, str(RUN), "--profile", "--graphs", "linear", "--modes", "standard", "--reps", "1"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    assert "### linear, standard" in printed
    assert "langchain_mlflow_cost/handler.py" in printed
