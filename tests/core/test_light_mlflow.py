"""With the package `mlflow-tracing` alone, which cannot open a database: a server takes traces, and else it is said."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import mlflow
import pytest
from servers import serving
from stored_traces import all_traces

pytestmark = pytest.mark.nightly

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from fake_models import FakeChat
from langgraph.graph import START, MessagesState, StateGraph
from langchain_mlflow_cost import configure, cost_summary
handler = configure({"tracking_uri": sys.argv[1], "experiment_name": "tests"} if sys.argv[1:] else None)
graph = StateGraph(MessagesState)
graph.add_node("ask", lambda state: {"messages": [FakeChat().invoke("hi")]})
graph.add_edge(START, "ask")
graph.compile().invoke({"messages": [("human", "hi")]}, {"callbacks": [handler]})
assert handler.summary().llm_calls == 1
assert cost_summary(handler.summary().trace_id).llm_calls == len(sys.argv[1:]), "as stored"
"""


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with `mlflow-tracing`, and without `mlflow`."""
    folder = tmp_path_factory.mktemp("light")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin/python"
    pip = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    others = [each for each in declared if not each.startswith("mlflow")]
    subprocess.run([*pip, "mlflow-tracing", "langchain", *others], check=True)
    return python


def run(python: Path, folder: Path, *words: str) -> str:
    """Run the program, and give what it said."""
    done = subprocess.run(
        [str(python), "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_without_a_server(light: Path, tmp_path: Path) -> None:
    """`configure` says what is missing, and costs are counted."""
    told = run(light, tmp_path)

    assert "sqlite:///mlflow.db needs the package mlflow: mlflow-tracing alone has no database store" in told
    assert list(tmp_path.glob("*.db")) == []


def test_on_a_server(light: Path, tmp_path: Path, store_uri: str, clean_mlflow: None) -> None:
    """The trace is stored there, with what it cost."""
    with serving(tmp_path, store_uri) as server:
        run(light, tmp_path, server.uri)
    mlflow.set_tracking_uri(store_uri)
    mlflow.set_experiment("tests")

    assert [len(trace.data.spans) for trace in all_traces()] == [3]
