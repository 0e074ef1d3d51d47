"""An MLflow whose internals are not as expected: no payload leaves; structure and costs do; one warning."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from child import bare_environment
from leaks import folder_bytes, letters, spelling_in

# MLflow itself goes on with what it has: only we do not find the name.
HIDING = """
import sys, types
class Changed(types.ModuleType):
    def __getattr__(self, name):
        if name == "NAME":
            raise AttributeError(name)
        return getattr(real, name)
import mlflow.tracing.provider, mlflow.tracing.context
import mlflow.tracing.processor.mlflow_v3, mlflow.tracing.export.mlflow_v3
real = sys.modules["mlflow.tracing.MODULE"]
mlflow.tracing.MODULE = Changed("mlflow.tracing.MODULE")
"""
FAULTS = {
    "no _get_span_processors": ("provider", "_get_span_processors"),
    "no get_current_otel_span": ("provider", "get_current_otel_span"),
}
PROGRAM = """
import contextlib, json, sys, warnings
import mlflow
import mlflow.langchain.langchain_tracer
FAULT
warnings.simplefilter("ignore")
texts = json.loads(sys.argv[1])
mlflow.set_tracking_uri(f"sqlite:///{sys.argv[2]}/mlflow.db")
mlflow.set_experiment(experiment_id=mlflow.create_experiment("here", artifact_location=f"{sys.argv[2]}/artifacts"))
if sys.argv[3] == "autolog":
    mlflow.langchain.autolog()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from langchain_mlflow_cost import MlflowCostHandler, cost_summary
    handler = MlflowCostHandler({"artifact_level": "full"})
from fakes import Chat, State, graph
from langchain_core.tools import tool

@tool
def fetch(query: str) -> str:
    "Fetch."
    raise ValueError(texts["tool exception"] + query)

@mlflow.trace(attributes={"given": texts["@trace: attribute"]})
def helper(text):
    return texts["@trace: output"]

@mlflow.trace
def failing(text):
    raise ValueError(texts["@trace: exception"])

@mlflow.trace
def pieces(text):
    yield texts["@trace: chunk"]

def work(state):
    Chat(reply=texts["model: answer"]).bind(tools=[{"x": texts["model: tools"]}]).invoke(texts["model: prompt"])
    list(Chat(reply=texts["model: streamed"]).stream("x"))
    with contextlib.suppress(ValueError):
        Chat(reply=ValueError(texts["model: exception"])).invoke("x")
    with contextlib.suppress(ValueError):
        fetch.invoke(texts["tool: input"])
    helper(texts["@trace: input"])
    list(pieces("x"))
    with contextlib.suppress(ValueError):
        failing("x")
    with mlflow.start_span("own") as span:
        from mlflow.entities import SpanEvent, SpanStatus, SpanStatusCode
        span.set_attribute("mine", texts["span: attribute"])
        span.add_event(SpanEvent("e", attributes={"x": texts["span: event"]}))
        span.set_status(SpanStatus(SpanStatusCode.ERROR, texts["span: status"]))
    mlflow.update_current_trace(request_preview=texts["trace: preview"])
    return {"extra": texts["state"]}

if sys.argv[3] == "reset":
    mlflow.tracing.reset()
graph(("work", work)).invoke({"messages": [("user", texts["root: input"])]}, {"callbacks": [handler]})
with contextlib.suppress(ValueError):
    def fail(state):
        raise ValueError(texts["root: exception"])
    graph(("fail", fail)).invoke({"messages": []}, {"callbacks": [handler]})
mlflow.flush_trace_async_logging()
spans = [s for t in mlflow.search_traces(return_type="list") for s in t.data.spans]
print(json.dumps({
    "warnings": [str(w.message) for w in told if "langchain_mlflow_cost" in str(w.message)],
    "names": sorted({s.name for s in spans}),
    "costs": sum(bool(s.attributes.get("mlflow.llm.cost")) for s in spans),
    "total": max((s.attributes.get("cost.total_usd") or 0 for s in spans), default=0),
}))
"""
CHANNELS = (
    "model: answer", "model: prompt", "model: tools", "model: streamed", "model: exception", "tool: input", "tool exception",
    "@trace: attribute", "@trace: input", "@trace: output", "@trace: exception", "@trace: chunk", "span: attribute",
    "span: event", "span: status", "trace: preview", "state", "root: input", "root: exception",
)  # fmt: skip


RUNS = [(fault, "no autolog") for fault in FAULTS] + [
    ("no _get_span_processors", "autolog"),
    ("no _get_span_processors", "reset"),
]
"""What is missing, and what else the program does: with MLflow's own tracer, or with a reset after the handler was made."""


def program(module: str, name: str) -> str:
    hiding = HIDING.replace("MODULE", module).replace("NAME", name)
    return PROGRAM.replace("FAULT", hiding)


@dataclass(frozen=True)
class Left:
    """What a program left behind, and what it said."""

    stored: bytes
    texts: dict[str, str]
    said: dict[str, Any]
    autolog: str


AT_NIGHT = [
    run if run == RUNS[0] else pytest.param(run, marks=pytest.mark.nightly, id=" and ".join(run)) for run in RUNS
]


@pytest.fixture(scope="module", params=AT_NIGHT, ids=" and ".join)
def left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, template_store: Path) -> Left:
    """What one program left."""
    fault, autolog = request.param
    folder = tmp_path_factory.mktemp("changed")
    shutil.copy(template_store, folder / "mlflow.db")
    texts = {channel: letters(20) for channel in CHANNELS}
    done = subprocess.run(
        [sys.executable, "-c", program(*FAULTS[fault]), json.dumps(texts), str(folder), autolog],
        capture_output=True,
        text=True,
        cwd=folder,
        env=bare_environment(MLFLOW_ENABLE_ASYNC_TRACE_LOGGING="false"),
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Left(folder_bytes(folder), texts, json.loads(done.stdout.splitlines()[-1]), autolog)


def test_structure_and_costs_alone_leave(left: Left) -> None:
    """Nothing that was put into a span, by anybody, is stored; graph, node, models and tools are, with their costs."""
    assert {} == {c: s for c in CHANNELS if (s := spelling_in(left.texts[c], left.stored)) is not None}
    assert {"LangGraph", "work", "Chat", "fetch"} <= set(left.said["names"])
    assert left.said["total"] > 0
    # One warning says what does not work; with what else these programs do, MLflow may add its own.
    assert left.autolog != "no autolog" or len(left.said["warnings"]) == 1
