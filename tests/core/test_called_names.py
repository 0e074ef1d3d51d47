"""Each span says which models and tools were called below it, and no name says what the policy withholds."""

from __future__ import annotations

from typing import Any

import mlflow
import pytest
from fake_models import MINI, SONNET, FakeChat, tool_call
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from mlflow.entities import SpanType
from mlflow.entities.trace_metrics import AggregationType, MetricAggregation, MetricViewType
from mlflow.tracing.client import TracingClient
from stored_traces import model_spans, named, only_trace, root_of
from ways import ASK, any_agent, given, one_node

from langchain_mlflow_cost import MlflowCostHandler


@tool
def search(word: str) -> str:
    """Search for a word."""
    return str(FakeChat(model=SONNET).invoke(word).content)


@tool
def plain(word: str) -> str:
    """Do nothing."""
    return word


def run_agent(policy: dict[str, Any]) -> Any:
    calls = [tool_call("search", word="news"), tool_call("plain", word="a"), tool_call("plain", word="b"), "done"]
    handler = MlflowCostHandler(policy)
    any_agent(FakeChat(answers=calls), search, plain).invoke(ASK, given(handler))
    return only_trace()


@pytest.mark.parametrize(
    "policy", [{}, {"log_prompts": False}, {"artifact_level": "minimal", "redact_pii": True}], ids=str
)
def test_nodes_and_roots_name_their_models_and_tools(exported_in_threads: str, policy: dict[str, Any]) -> None:
    """By first call, each once; a tool that called a model names it, and neither a model nor a tool names itself."""
    trace = run_agent(policy)

    def told(span: Any) -> tuple[Any, Any]:
        return span.attributes.get("cost.models"), span.attributes.get("cost.tools")

    assert told(root_of(trace)) == ([MINI, SONNET], ["search", "plain"])
    assert told(named(trace, "search")) == ([SONNET], None)
    assert [told(span) for span in trace.data.spans if span.name == "plain"] == [(None, None)] * 2
    nodes = [told(span) for span in trace.data.spans if span.name == "tools"]
    assert nodes == [([SONNET], ["search"]), (None, ["plain"]), (None, ["plain"])]
    assert [told(span) for span in model_spans(trace)] == [(None, None)] * 5


def test_mlflow_counts_a_models_spans_alone(store: str) -> None:
    """MLflow's figures by model are those of the calls: no node or root is among them."""
    trace = run_agent({})
    told = TracingClient().store.query_trace_metrics(
        [trace.info.experiment_id],
        MetricViewType.SPANS,
        "span_count",
        [MetricAggregation(AggregationType.COUNT)],
        dimensions=["span_model_name"],
    )
    counts = {point.dimensions.get("span_model_name"): point.values["COUNT"] for point in told}

    assert (counts[MINI], counts[SONNET]) == (4, 1)


def test_a_name_that_quotes_a_private_prompt_is_cleaned(store: str) -> None:
    """A model's name in a response is the provider's word: one that says what was asked in private goes."""
    said = "zanzibar-harbour-4711"
    answer = AIMessage("fine", response_metadata={"model_name": said})
    handler = MlflowCostHandler(
        {"nodes": {"node": {"log_prompts": False}}, "prices": {"overrides": {said: {"input": 1}}}}
    )
    one_node(lambda _: FakeChat(answers=[answer]).invoke(f"tell me of {said} please")).invoke(ASK, given(handler))
    trace = only_trace()

    assert "zanzibar" not in trace.to_json()
    assert root_of(trace).attributes["cost.llm_calls"] == 1


def test_the_model_that_was_asked_for_is_named_whoever_says_so(store: str) -> None:
    """A private prompt that names the model does not hide which one it was."""
    handler = MlflowCostHandler({"log_prompts": False})
    one_node(lambda _: FakeChat().invoke(f"are you {MINI} or another?")).invoke(ASK, given(handler))

    assert root_of(only_trace()).attributes["cost.models"] == [MINI]


TYPES: dict[str, dict[str, Any]] = {
    "mlflow": {"mlflow.spanType": SpanType.TOOL},
    "opentelemetry": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
    "openinference": {"openinference.span.kind": "TOOL", "tool.name": "search"},
}


@pytest.mark.parametrize("convention", TYPES)
def test_tools_of_other_libraries_have_fees(store: str, convention: str) -> None:
    """A tool's span of another library below a run counts once, however many spans of it are nested."""

    def node(_: Any) -> Any:
        kind = {key: value for key, value in TYPES[convention].items() if key != "mlflow.spanType"}
        span_type = TYPES[convention].get("mlflow.spanType", SpanType.UNKNOWN)
        with mlflow.start_span("search", span_type, kind), mlflow.start_span("search", span_type, kind):
            pass

    handler = MlflowCostHandler({"prices": {"tools": {"search": 0.25}}, "budget": {"max_cost_usd": 1}})
    one_node(node).invoke(ASK, given(handler))
    trace = only_trace()

    assert handler.summary().tool_cost_usd == 0.25
    assert root_of(trace).attributes["cost.total_usd"] == named(trace, "node").attributes["cost.total_usd"] == 0.25
    assert root_of(trace).attributes["cost.tools"] == ["search"]


def test_a_traced_function_of_a_tool_is_the_tool(store: str) -> None:
    """`@mlflow.trace` on the function of a LangChain tool adds no second fee."""

    @tool
    @mlflow.trace(name="search", span_type=SpanType.TOOL)
    def search(word: str) -> str:
        """Search for a word."""
        return word

    handler = MlflowCostHandler({"prices": {"tools": {"search": 0.25}}})
    one_node(lambda _: search.invoke({"word": "a"})).invoke(ASK, given(handler))

    assert handler.summary().tool_cost_usd == 0.25
    assert root_of(only_trace()).attributes["cost.total_usd"] == 0.25
