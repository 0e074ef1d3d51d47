"""The figure on MLflow's pages is the trace's sum, whatever the order in which its spans are stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.entities import SpanType
from stored_traces import all_traces, only_trace
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, trace_decorator

if TYPE_CHECKING:
    from mlflow.entities import Trace


def stored_usd(trace: Trace) -> float | None:
    """What stands in the trace's metadata, which MLflow's pages show."""
    written = trace.info.trace_metadata.get("mlflow.trace.cost")
    return None if written is None else float(json.loads(written)["total_cost"])


def ten_nodes() -> Any:
    model = FakeChat()
    graph = StateGraph(MessagesState)
    for number in range(10):
        graph.add_node(f"n{number}", lambda state: {"messages": [model.invoke(state["messages"][:1])]})
        graph.add_edge(f"n{number - 1}" if number else START, f"n{number}")
    return graph.compile()


@pytest.mark.parametrize("number", [30, pytest.param(200, marks=pytest.mark.nightly)])
def test_every_total_is_right_by_default(exported_in_threads: str, number: int) -> None:
    """With MLflow's asynchronous export, whose batches race in the store, the total of each trace is its sum."""
    handler, graph = MlflowCostHandler(), ten_nodes()
    for _ in range(number):
        graph.invoke(ASK, given(handler))
    usd = handler.summary().total_cost_usd
    mlflow.flush_trace_async_logging()
    traces = all_traces()

    assert usd > 0
    assert [usd] * number == pytest.approx([stored_usd(trace) for trace in traces], rel=1e-9)


def test_several_invocations_in_one_span(store: str) -> None:
    """The user's span around two invocations ends the trace: the total is of both, and its own attributes say so."""
    handler, model = MlflowCostHandler(), FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))

    @trace_decorator("endpoint")
    def endpoint() -> None:
        graph.invoke(ASK, given(handler))
        graph.invoke(ASK, given(handler))

    endpoint()
    trace = only_trace()
    root = next(span for span in trace.data.spans if span.parent_id is None)

    assert handler.summary().llm_calls == 2
    assert stored_usd(trace) == pytest.approx(handler.summary().total_cost_usd, rel=1e-9)
    assert root.attributes["cost.total_usd"] == pytest.approx(handler.summary().total_cost_usd, rel=1e-9)
    assert root.attributes["cost.llm_calls"] == 2


def test_a_trace_that_goes_on_elsewhere_is_added_up_by_the_store(store: str) -> None:
    """Where trace headers were handed on, one process's part is not written as the whole."""
    handler, model = MlflowCostHandler(), FakeChat()

    def node(state: MessagesState) -> Any:
        headers = mlflow.tracing.get_tracing_context_headers_for_http_request()
        # What another process does with them.
        with (
            mlflow.tracing.set_tracing_context_from_http_request_headers(headers),
            mlflow.start_span("remote", span_type=SpanType.CHAT_MODEL) as span,
        ):
            span.set_attribute("mlflow.llm.cost", {"input_cost": 3.0, "output_cost": 4.0, "total_cost": 7.0})
        return {"messages": [model.invoke(state["messages"])]}

    one_node(node).invoke(ASK, given(handler))

    assert stored_usd(only_trace()) == pytest.approx(7 + handler.summary().total_cost_usd, rel=1e-9)


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_calls_outside_every_invocation_stay_in_the_total(store: str, is_before: bool) -> None:
    """A call of the user's own in the same trace, which no handler counts, is in the total that the store makes."""
    handler, model = MlflowCostHandler(), FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))

    def own_call() -> None:
        with mlflow.start_span("own", span_type=SpanType.CHAT_MODEL) as span:
            span.set_attribute("mlflow.llm.cost", {"input_cost": 3.0, "output_cost": 4.0, "total_cost": 7.0})

    with mlflow.start_span("endpoint"):
        if is_before:
            own_call()
        graph.invoke(ASK, given(handler))
        if not is_before:
            own_call()

    assert stored_usd(only_trace()) == pytest.approx(7 + handler.summary().total_cost_usd, rel=1e-9)


def test_tools_and_chains_have_the_sums_of_the_calls_in_them(store: str) -> None:
    """Each span with a call below it says what that cost, a tool's too."""
    model = FakeChat()

    @tool
    def ask(question: str) -> str:
        """Ask a model."""
        return str(model.invoke(question).content)

    handler = MlflowCostHandler()
    one_node(lambda _: {"messages": [("ai", ask.invoke({"question": "what?"}))]}).invoke(ASK, given(handler))
    spans = {span.span_type: span for span in only_trace().data.spans}

    assert spans["TOOL"].attributes["cost.total_usd"] == pytest.approx(handler.summary().total_cost_usd, rel=1e-9)
    assert spans["TOOL"].attributes["cost.llm_calls"] == 1
