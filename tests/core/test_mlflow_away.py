"""An MLflow that is missing, changed or broken never stops the user's graph; costs and budgets still work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fake_models import FakeChat
from ways import ASK, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, configure, cost_summary

ROOT = Path(__file__).resolve().parents[2]

FAULTS = {
    # Any `import mlflow` raises ImportError from here on.
    "missing": "import sys; sys.modules['mlflow'] = None",
    # As if a newer OpenTelemetry had renamed what the guard builds on.
    "changed": "import opentelemetry.sdk.trace as t; del t._Span",
}
PROGRAM = """
import json, warnings
from fake_models import FakeChat
from langgraph.graph import END, START, MessagesState, StateGraph
ASK = {"messages": [("user", "what is new?")]}
def one_node(body):
    def node(state):
        body(state)
        return {"messages": []}
    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, configure, cost_summary, trace_decorator
    handler = MlflowCostHandler()
    configured = configure()
    refusing = MlflowCostHandler({"budget": {"max_cost_usd": 0}})
told = [str(warning.message) for warning in told]
model = FakeChat()
graph = one_node(trace_decorator("own")(lambda state: model.invoke(state["messages"])))
for each in (handler, configured):
    graph.invoke(ASK, {"callbacks": [each]})
answer = {
    "handler": handler.summary().total_cost_usd,
    "configured": configured.summary().total_cost_usd,
    "node": handler.summary().node_breakdown["node"].calls if handler.summary().node_breakdown else 0,
    "warnings": sum("cannot use this MLflow" in message for message in told),
    "requests": len(model.requests),
}
try:
    graph.invoke(ASK, {"callbacks": [refusing]})
except BudgetExceededError:
    answer["refused"] = len(model.requests) == answer["requests"]
with warnings.catch_warnings(record=True):
    warnings.simplefilter("always")
    answer["stored"] = cost_summary("tr-none").llm_calls
print(json.dumps(answer))
"""


@cache
def outcome(fault: str) -> dict[str, Any]:
    """What a program of its own says, in which MLflow is not what it should be."""
    done = subprocess.run(
        [sys.executable, "-c", f"{FAULTS[fault]}\n{PROGRAM}"],
        capture_output=True,
        text=True,
        cwd=tempfile.mkdtemp(),
        env={
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}",
            "PATH": "/usr/bin:/bin",
            "MLFLOW_MODEL_CATALOG_URI": "",
        },
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        ("handler", 0.00045),
        ("configured", 0.00045),
        ("node", 1),
        ("requests", 2),
        ("refused", True),
        ("stored", 0),
    ],
)
def test_without_a_usable_mlflow(fault: str, fact: str, expected: Any) -> None:
    """The graph runs, its costs are known by node, budgets hold, and nothing is raised."""
    assert expected == outcome(fault).get(fact)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_warning_says_so(fault: str) -> None:
    """What does not work is told when a handler is made."""
    assert outcome(fault)["warnings"] >= 1


BROKEN_STORES = {
    "no such folder": "sqlite:////proc/nowhere/mlflow.db",
    "no such scheme": "nonsense://store",
    "dead server": "http://127.0.0.1:9",
}


@pytest.fixture(params=list(BROKEN_STORES))
def broken_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    mlflow.set_tracking_uri(BROKEN_STORES[request.param])


def test_costs_with_a_broken_store(broken_store: None) -> None:
    """The graph runs and its cost is known where no trace can be stored."""
    handler = MlflowCostHandler()
    one_node(lambda state: FakeChat().invoke(state["messages"])).invoke(ASK, {"callbacks": [handler]})

    assert handler.summary().total_cost_usd == pytest.approx(0.00045, rel=1e-9)


def test_budget_with_a_broken_store(broken_store: None) -> None:
    """A budget holds where no trace can be stored."""
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 0.0001}})
    model = FakeChat()

    with pytest.raises(BudgetExceededError):
        one_node(lambda state: [model.invoke(state["messages"]) for _ in range(2)]).invoke(
            ASK, {"callbacks": [handler]}
        )
    assert len(model.requests) == 1


@pytest.mark.filterwarnings("ignore:.*could not set MLflow up:RuntimeWarning")
def test_configure_with_a_broken_store(broken_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure` does not raise, and its handler counts."""
    monkeypatch.chdir(tmp_path)
    uri = mlflow.get_tracking_uri()
    if uri.startswith("http"):
        pytest.skip("an unreachable server gives way to SQLite, see test_configure.py")
    handler = configure({"tracking_uri": uri})
    one_node(lambda state: FakeChat().invoke(state["messages"])).invoke(ASK, {"callbacks": [handler]})

    assert handler.summary().llm_calls == 1


def test_a_store_that_is_away_keeps_nobody_from_the_next(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another store has not taken is tried again in the background; whoever asks this one does not wait for it."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.set_tracking_uri(BROKEN_STORES["dead server"])
    app = one_node(lambda state: FakeChat().invoke(state["messages"]))
    app.invoke(ASK, {"callbacks": [MlflowCostHandler()]})
    request.getfixturevalue("store")
    handler = MlflowCostHandler()
    app.invoke(ASK, {"callbacks": [handler]})

    # It gives up after `Limits.summary_s`, with a warning.
    assert cost_summary(handler.summary().trace_id).total_cost_usd == pytest.approx(0.00045, rel=1e-9)
