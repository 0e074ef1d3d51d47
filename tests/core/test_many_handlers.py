"""Several handlers, threads and tasks at once: each handler governs and prices what it was passed to, and no more."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_models import MINI_USD, FakeChat
from langchain_core.runnables import RunnableConfig  # noqa: TC002 - LangGraph reads the node's annotations
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import all_traces, model_spans, only_trace
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary

CARD = "4111 1111 1111 1111"
TOLD = {"messages": [("user", f"my card is {CARD}, my mail jane.doe@example.com")]}


def priced(input_usd: float, **more: Any) -> MlflowCostHandler:
    """1,000 tokens in and 500 out of gpt-4o-mini at `input_usd` and 0 per million."""
    return MlflowCostHandler({"prices": {"overrides": {"gpt-4o-mini": {"input": input_usd, "output": 0}}}, **more})


def ask_in_a_node(model: FakeChat) -> Any:
    return one_node(lambda state: model.invoke(state["messages"]))


# --- two handlers on one invocation --------------------------------------------------------------------------------


def test_two_in_config_price_each_for_itself(store: str) -> None:
    """Each handler's summary has its own prices; the call is recorded once, at the first one's."""
    one, two = priced(1), priced(7)
    ask_in_a_node(FakeChat()).invoke(ASK, {"callbacks": [one, two]})
    (span,) = model_spans(only_trace())

    assert (0.001, 0.007) == pytest.approx((one.summary().total_cost_usd, two.summary().total_cost_usd), rel=1e-9)
    assert span.get_attribute("mlflow.llm.cost")["total_cost"] == pytest.approx(0.001, rel=1e-9)


def test_config_and_constructor_price_each_for_itself(store: str) -> None:
    """The same with one handler in `config` and one in the model."""
    one, two = priced(1), priced(7)
    ask_in_a_node(FakeChat(callbacks=[two])).invoke(ASK, {"callbacks": [one]})
    (span,) = model_spans(only_trace())

    assert (0.001, 0.007) == pytest.approx((one.summary().total_cost_usd, two.summary().total_cost_usd), rel=1e-9)
    assert (1, 1) == (one.summary().llm_calls, two.summary().llm_calls)
    assert span.get_attribute("mlflow.llm.cost")["total_cost"] == pytest.approx(0.001, rel=1e-9)


@pytest.mark.parametrize("place", ["config", "constructor"])
@pytest.mark.parametrize("first_is_strict", [True, False])
def test_the_stricter_policy_holds_in_each_point(store: str, place: str, first_is_strict: bool) -> None:
    """A call under two handlers is stored under the stricter of their policies, level and redaction apart."""
    mails = MlflowCostHandler(
        {"artifact_level": "full", "redact_pii": True, "redaction": {"entities": ["EMAIL_ADDRESS"]}}
    )
    cards = MlflowCostHandler({"redact_pii": True, "redaction": {"entities": ["CREDIT_CARD"]}})
    one, two = (mails, cards) if first_is_strict else (cards, mails)
    if place == "config":
        ask_in_a_node(FakeChat()).invoke(TOLD, {"callbacks": [one, two]})
    else:
        ask_in_a_node(FakeChat(callbacks=[two])).invoke(TOLD, {"callbacks": [one]})
    (span,) = model_spans(only_trace())

    assert span.get_attribute("policy.artifact_level") == "standard"
    assert "my card is [CREDIT_CARD], my mail [EMAIL_ADDRESS]" in str(span.inputs)


def test_a_models_handler_governs_that_model_only(store: str) -> None:
    """The handler in a model's constructor says nothing about the rest of the trace."""
    quiet = MlflowCostHandler({"artifact_level": "minimal"})
    loud = MlflowCostHandler({"artifact_level": "full"})
    model, other = FakeChat(callbacks=[quiet]), FakeChat()
    one_node(lambda state: [model.invoke(state["messages"]), other.invoke(state["messages"])]).invoke(ASK, given(loud))

    assert ["full", "minimal"] == sorted(
        span.get_attribute("policy.artifact_level") for span in model_spans(only_trace())
    )
    assert (2, 1) == (loud.summary().llm_calls, quiet.summary().llm_calls)


def test_either_budget_refuses(store: str) -> None:
    """A call is sent only if the budgets of all its handlers allow it, in whichever place they are."""
    broke = MlflowCostHandler({"budget": {"max_cost_usd": 0}})
    model = FakeChat(callbacks=[broke])
    with pytest.raises(BudgetExceededError):
        ask_in_a_node(model).invoke(ASK, given(MlflowCostHandler()))

    assert model.requests == []


# --- handlers side by side -----------------------------------------------------------------------------------------


def expected_usd(number: int) -> float:
    return 0.001 * (number + 1)


def test_threads_with_a_handler_each(store: str) -> None:
    """Invocations that are under way at once in threads keep their prices, policies and traces apart."""
    barrier = threading.Barrier(4, timeout=15)
    model = FakeChat(before=barrier.wait)
    handlers = [priced(n + 1, artifact_level=["minimal", "full"][n % 2]) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda handler: ask_in_a_node(model).invoke(ASK, given(handler)), handlers))

    for number, handler in enumerate(handlers):
        stored = cost_summary(handler.summary().trace_id)
        assert stored.total_cost_usd == pytest.approx(expected_usd(number), rel=1e-9)
        assert stored == handler.summary()
    assert 4 == len(all_traces())
    assert sorted(["minimal", "full"] * 4) == sorted(
        span.get_attribute("policy.artifact_level")
        for trace in all_traces()
        for span in trace.data.spans
        if span.name != "LangGraph"
    )


def test_tasks_with_a_handler_each(store: str) -> None:
    """The same for tasks of one event loop."""
    handlers = [priced(n + 1) for n in range(4)]

    async def main() -> None:
        barrier = asyncio.Barrier(4)
        model = FakeChat(before_async=barrier.wait)

        async def node(state: Any) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        graph: Any = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
        await asyncio.gather(*(graph.ainvoke(ASK, given(handler)) for handler in handlers))

    asyncio.run(main())

    assert [expected_usd(n) for n in range(4)] == pytest.approx(
        [cost_summary(handler.summary().trace_id).total_cost_usd for handler in handlers], rel=1e-9
    )


def test_one_handler_in_many_threads(store: str) -> None:
    """One handler that serves many invocations at once knows each by its trace."""
    barrier = threading.Barrier(4, timeout=15)
    model = FakeChat(before=barrier.wait)
    handler = MlflowCostHandler()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask_in_a_node(model).invoke(ASK, given(handler)), range(4)))
    traces = [trace.info.trace_id for trace in all_traces()]

    assert [float(MINI_USD)] * 4 == pytest.approx([handler.summary(t).total_cost_usd for t in traces], rel=1e-9)
    assert handler.summary().trace_id in traces


def test_a_plain_thread_in_a_node(store: str) -> None:
    """A call in a thread that the node starts itself, with the node's `config`, is part of the trace."""
    model, handler = FakeChat(), MlflowCostHandler()

    def node(state: MessagesState, config: RunnableConfig) -> Any:
        thread = threading.Thread(target=model.invoke, args=(state["messages"], config))
        thread.start()
        thread.join()
        return {"messages": []}

    StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile().invoke(ASK, given(handler))
    (span,) = model_spans(only_trace())

    assert span.get_attribute("policy.node") == "node"
    assert handler.summary().node_breakdown["node"].calls == 1
