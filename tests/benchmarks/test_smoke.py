"""The benchmark program runs; what it measures is nobody's test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"
SMALL = "linear,fanout,react1,react10,stream,nospace20k,base64_100k"


@pytest.fixture(scope="module")
def report() -> str:
    """What one run of every small graph, bare and under autolog, prints."""
    command = [sys.executable, str(RUN), "--graphs", SMALL, "--modes", "bare,autolog", "--reps", "1"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _cells(report: str, graph: str, mode: str) -> list[str]:
    rows = report.split(f"### {graph}:")[1].splitlines()
    return next([cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith(f"| {mode} |"))


@pytest.mark.parametrize(
    ("graph", "spans"),
    [("linear", 21), ("fanout", 204), ("react1", 104), ("react10", 104), ("stream", 3), ("nospace20k", 7)],
)
def test_autolog_traces_the_whole_graph(report: str, graph: str, spans: int) -> None:
    """Under autolog each graph makes the number of spans that the figures are about, and none is lost."""
    cells = _cells(report, graph, "autolog")

    assert [str(spans), "0"] == [cells[6], cells[10]]


@pytest.mark.parametrize("graph", SMALL.split(","))
def test_bare_exports_nothing(report: str, graph: str) -> None:
    """Once autolog is switched off again, no span of a bare run reaches the store."""
    assert _cells(report, graph, "bare")[6] == "0"
