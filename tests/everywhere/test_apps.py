"""Six applications that nobody edits: every span is governed, and costs what it costs with the handler passed."""

from __future__ import annotations

import importlib.util
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from app_server import CALL_USD
from stored_traces import leaves_usd, tree

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.everywhere import govern_no_more

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Trace

    from langchain_mlflow_cost.demo.provider import ProviderServer

APPS = Path(__file__).parent / "apps"
NAMES = ("agent", "supervisor", "rag", "streaming", "functional")
POLICY = {"redact_pii": True, "artifact_level": "full"}
TOLD = "jane.doe"
CALLS = {"agent": 2, "supervisor": 6, "rag": 2, "streaming": 2, "functional": 5, "sdk": 4}
"""Requests that each makes, counted by hand."""


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"app_{name}", APPS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def traces_of_all_experiments() -> list[Trace]:
    mlflow.flush_trace_async_logging()
    ids = [each.experiment_id for each in mlflow.search_experiments()]
    found: list[Trace] = mlflow.search_traces(locations=ids, return_type="list", order_by=["timestamp_ms ASC"])
    return found


def told_usd(traces: list[Trace]) -> float:
    """What the roots say, as the sum over all traces."""
    roots = [span for trace in traces for span in trace.data.spans if span.parent_id is None]
    return math.fsum(root.get_attribute("cost.total_usd") or 0.0 for root in roots)


def mlflow_sum(traces: list[Trace]) -> float:
    import json

    costs = [trace.info.trace_metadata.get("mlflow.trace.cost") for trace in traces]
    return math.fsum(json.loads(cost)["total_cost"] for cost in costs if cost)


def assert_governed(traces: list[Trace]) -> None:
    spans = [span for trace in traces for span in trace.data.spans]

    assert spans
    assert [] == [span.name for span in spans if span.get_attribute("policy.artifact_level") != "full"]
    assert TOLD not in "".join(trace.to_json() for trace in traces)


def warnings_of_mlflow(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("mlflow") and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_app_costs_what_it_costs_with_the_handler(
    everywhere: Callable[..., MlflowCostHandler],
    server: ProviderServer,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same spans, costs and sums; every one governed, and not a word of MLflow's in the log."""
    load(name).main({"callbacks": [MlflowCostHandler(POLICY)]})
    expected = traces_of_all_experiments()
    asked = len(server.requests)
    everywhere(POLICY)
    with caplog.at_level(logging.WARNING):
        load(name).main({})
    traces = [
        trace
        for trace in traces_of_all_experiments()
        if trace.info.trace_id not in {known.info.trace_id for known in expected}
    ]
    usd = CALLS[name] * CALL_USD

    assert_governed(traces)
    assert [CALLS[name]] * 2 == [asked, len(server.requests) - asked]
    assert sorted(tree(trace.data.spans) for trace in expected) == sorted(tree(trace.data.spans) for trace in traces)
    assert [usd] * 4 == pytest.approx(
        [told_usd(expected), told_usd(traces), math.fsum(map(leaves_usd, traces)), mlflow_sum(traces)], rel=1e-9
    )
    assert [] == warnings_of_mlflow(caplog)


def test_an_app_without_langchain(
    everywhere: Callable[..., MlflowCostHandler], server: ProviderServer, autologs_off: None
) -> None:
    """Roots of OpenAI's autolog, also in a raw thread, a decorated function and a plain span: governed, priced, summed."""
    handler = everywhere(POLICY)
    load("sdk").main({})
    traces = traces_of_all_experiments()
    by_root = {
        trace.data.spans[0].name: handler.summary(trace.info.trace_id).total_cost_usd
        for trace in traces
        if trace.data.spans[0].name == "converse"
    }

    assert_governed(traces)
    assert 4 == len(server.requests)
    assert 3 == len(traces)
    assert [4 * CALL_USD] * 3 == pytest.approx(
        [told_usd(traces), math.fsum(map(leaves_usd, traces)), mlflow_sum(traces)], rel=1e-9
    )
    assert {"converse": pytest.approx(2 * CALL_USD, rel=1e-9)} == by_root


def test_without_everywhere_the_apps_are_raw(server: ProviderServer, store: str, autologs_off: None) -> None:
    """The control: the text is in the store where nobody governs."""
    govern_no_more()
    load("sdk").main({})

    assert TOLD in "".join(trace.to_json() for trace in traces_of_all_experiments())
