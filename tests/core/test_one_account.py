"""One account of every model call: another library's call costs what it costs, once, whoever counts it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat
from mlflow.entities import SpanType
from mlflow.tracing.provider import get_bridged_tracer_provider
from stored_traces import all_traces, only_trace
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary

if TYPE_CHECKING:
    from collections.abc import Callable


def recorded_call(model: str, usage: dict[str, int], provider: str = "anthropic") -> Callable[[Any], dict[str, Any]]:
    """A node in which another library's autolog records one call, in MLflow's own attributes."""

    def node(_: Any) -> dict[str, Any]:
        with mlflow.start_span("call", span_type=SpanType.CHAT_MODEL) as span:
            span.set_attribute("mlflow.llm.model", model)
            span.set_attribute("mlflow.llm.provider", provider)
            span.set_attribute("mlflow.chat.tokenUsage", usage)
        return {"messages": []}

    return node


def stored_call() -> Any:
    """The span of that call."""
    (span,) = (span for span in only_trace().data.spans if span.name == "call")
    return span


CASES = {
    # claude-sonnet-4-5, USD a million: 3 in, 15 out, 0.30 read from a cache, 3.75 written for 5 minutes, 6 for an hour.
    # 50 at 3 and 100,000 at 0.30 and 20 at 15: 0.00015 + 0.03 + 0.0003.
    "read from a cache, beside the input": (
        {"input_tokens": 50, "output_tokens": 20, "total_tokens": 70, "cache_read_input_tokens": 100_000},
        0.03045,
    ),
    # 40 at 3, 60 at 0.30, 20 at 15.
    "read from a cache, part of the input": (
        {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 60},
        0.000438,
    ),
    # 100,000 at 6.
    "written for an hour": (
        {
            "input_tokens": 100_000,
            "output_tokens": 0,
            "total_tokens": 100_000,
            "cache_creation_input_tokens": 100_000,
            "cache_creation_input_tokens_above_1hr": 100_000,
        },
        0.60,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_usage_of_others_is_read_as_they_mean_it(store: str, case: str) -> None:
    """The summary, the root and MLflow's own cost say what the provider's price list makes of it."""
    usage, usd = CASES[case]
    handler = MlflowCostHandler()
    one_node(recorded_call("claude-sonnet-4-5", usage)).invoke(ASK, given(handler))
    root = next(span for span in only_trace().data.spans if span.parent_id is None)

    assert [usd] * 4 == pytest.approx(
        [
            handler.summary().total_cost_usd,
            cost_summary().total_cost_usd,
            root.attributes["cost.total_usd"],
            stored_call().attributes["mlflow.llm.cost"]["total_cost"],
        ],
        rel=1e-9,
    )


WRITTEN = {"input_tokens": 50_000, "output_tokens": 0, "total_tokens": 50_000}
"""50,000 at 3 USD a million: 0.15."""


def session(limit: float) -> dict[str, Any]:
    return {"budget": {"max_cost_usd": limit, "scope": "session"}}


@pytest.mark.parametrize("count", [1, 2])
def test_handlers_with_an_equal_session_budget_count_once(store: str, count: int) -> None:
    """A call of 0.15 USD is 0.15 in the session's sum, however many handlers are told of it."""
    handlers = [MlflowCostHandler(session(0.31)) for _ in range(count)]
    graph = one_node(recorded_call("claude-sonnet-4-5", WRITTEN))
    config = {"callbacks": handlers, "configurable": {"thread_id": f"equal {count}"}}
    graph.invoke(ASK, config)
    graph.invoke(ASK, config)
    model = FakeChat()
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, config)  # 0.30 are spent, 0.01 is left

    graph.invoke(ASK, config)
    with pytest.raises(BudgetExceededError):
        one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, config)


def test_a_call_that_passes_the_limit_is_counted(store: str) -> None:
    """A call of another library cannot be refused: it is counted all the same, and stops the next one of LangChain's."""
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 0.10}})
    model = FakeChat()
    others = recorded_call("claude-sonnet-4-5", WRITTEN)

    def node(state: Any) -> Any:
        others(state)
        others(state)
        return {"messages": [model.invoke(state["messages"])]}

    with pytest.raises(BudgetExceededError):
        one_node(node).invoke(ASK, given(handler))

    assert 0.30 == pytest.approx(handler.summary().total_cost_usd, rel=1e-9)


@pytest.mark.filterwarnings("ignore:no price is known")
def test_an_unpriced_call_is_priced_by_nobody(store: str) -> None:
    """A call to a model on one's own machine carries nothing by which the store would take a stranger's price for it."""
    handler = MlflowCostHandler()
    usage = {"input_tokens": 40, "output_tokens": 12, "total_tokens": 52}
    one_node(recorded_call("llama3.1:8b", usage, provider="ollama")).invoke(ASK, given(handler))
    trace = only_trace()

    assert handler.summary().unpriced_models == ("llama3.1:8b",)
    assert "mlflow.llm.cost" not in stored_call().attributes
    assert (
        "mlflow.trace.cost" not in trace.info.trace_metadata
        or json.loads(trace.info.trace_metadata["mlflow.trace.cost"])["total_cost"] == 0
    )


def test_two_invocations_of_one_trace_have_one_sum(store: str) -> None:
    """What an endpoint's span holds is one trace: the live sum and the stored one are those of all invocations in it."""
    handler = MlflowCostHandler()
    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    with mlflow.start_span("endpoint") as span:
        graph.invoke(ASK, given(handler))
        graph.invoke(ASK, given(handler))
    live, stored = handler.summary(span.trace_id), cost_summary(span.trace_id)

    assert len(all_traces()) == 1
    assert (2, 2) == (live.llm_calls, stored.llm_calls)
    assert live.total_cost_usd == pytest.approx(stored.total_cost_usd, rel=1e-9)


def test_one_trace_has_one_budget(store: str) -> None:
    """A budget of scope `trace` is for all invocations of one trace."""
    model = FakeChat()
    once = MlflowCostHandler()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    graph.invoke(ASK, given(once))
    handler = MlflowCostHandler({"budget": {"max_cost_usd": once.summary().total_cost_usd * 1.5}})
    with mlflow.start_span("endpoint"):
        graph.invoke(ASK, given(handler))
        graph.invoke(ASK, given(handler))
        with pytest.raises(BudgetExceededError):
            graph.invoke(ASK, given(handler))


# --- spans by other conventions ------------------------------------------------------------------------------------------

CONVENTIONS: dict[str, dict[str, Any]] = {
    "OpenTelemetry": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "PROVIDER",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 500,
    },
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o-mini",
        "llm.provider": "PROVIDER",
        "llm.token_count.prompt": 1000,
        "llm.token_count.completion": 500,
    },
}


def bridged(convention: str, provider: str) -> Callable[[Any], dict[str, Any]]:
    """A node in which an instrumented client records a call with OpenTelemetry, into MLflow."""
    told = {key: provider if value == "PROVIDER" else value for key, value in CONVENTIONS[convention].items()}
    tracer = get_bridged_tracer_provider().get_tracer("a client")

    def node(_: Any) -> dict[str, Any]:
        with tracer.start_as_current_span("call") as span:
            for key, value in told.items():
                span.set_attribute(key, value)
        return {"messages": []}

    return node


@pytest.mark.parametrize("level", ["minimal", "full"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_calls_of_bridged_libraries_count(
    store: str, monkeypatch: pytest.MonkeyPatch, convention: str, level: str
) -> None:
    """A call that a span tells by OpenTelemetry's or OpenInference's names costs what it costs, in every sum."""
    monkeypatch.setenv("MLFLOW_TRACE_PROPAGATE_TO_OTEL_CONTEXT", "true")
    handler = MlflowCostHandler({"artifact_level": level})
    one_node(bridged(convention, "openai")).invoke(ASK, given(handler))
    root = next(span for span in only_trace().data.spans if span.parent_id is None)

    # 1,000 at 0.15 and 500 at 0.60 a million.
    assert [0.00045] * 5 == pytest.approx(
        [
            handler.summary().total_cost_usd,
            cost_summary().total_cost_usd,
            root.attributes["cost.total_usd"],
            stored_call().attributes["mlflow.llm.cost"]["total_cost"],
            json.loads(only_trace().info.trace_metadata["mlflow.trace.cost"])["total_cost"],
        ],
        rel=1e-9,
    )
    assert cost_summary() == handler.summary()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bridged_calls_without_a_price_have_none(store: str, monkeypatch: pytest.MonkeyPatch, convention: str) -> None:
    """A model on one's own machine with a famous name: the store finds no usage by which it would price it."""
    monkeypatch.setenv("MLFLOW_TRACE_PROPAGATE_TO_OTEL_CONTEXT", "true")
    handler = MlflowCostHandler({"artifact_level": "full"})
    one_node(bridged(convention, "ollama")).invoke(ASK, given(handler))

    assert "mlflow.llm.cost" not in stored_call().attributes
    assert "mlflow.trace.cost" not in only_trace().info.trace_metadata
    assert (1, 1500) == (cost_summary().unpriced_calls, cost_summary().total_tokens.total_tokens)
    assert cost_summary() == handler.summary()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_client_below_its_model_counts_once(store: str, monkeypatch: pytest.MonkeyPatch, convention: str) -> None:
    """An instrumented client inside LangChain's own model: one call, and the store adds no second."""
    monkeypatch.setenv("MLFLOW_TRACE_PROPAGATE_TO_OTEL_CONTEXT", "true")
    handler, node = MlflowCostHandler(), bridged(convention, "openai")
    model = FakeChat(before=lambda: node(None))
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(handler))

    assert handler.summary().llm_calls == cost_summary().llm_calls == 1
    assert json.loads(only_trace().info.trace_metadata["mlflow.trace.cost"])["total_cost"] == pytest.approx(0.00045)
    assert stored_call().attributes["mlflow.llm.cost"]["total_cost"] == 0
