"""What is active when a run has ended: others' spans nest, cost and are governed where the code that makes them stands."""

from __future__ import annotations

import asyncio
from typing import Any

import mlflow
import pytest
from fake_models import FakeChat
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.entities import SpanType
from stored_traces import all_traces, only_trace
from ways import ASK, given

from langchain_mlflow_cost import MlflowCostHandler, cost_summary

MODEL = FakeChat()
OTHER_USD = 0.03
"""10,000 tokens at 3 USD a million."""


def call_of_others(name: str = "other") -> None:
    """What another library's autolog records of a call of its own."""
    with mlflow.start_span(name, span_type=SpanType.CHAT_MODEL) as span:
        span.set_attribute("mlflow.llm.model", "claude-sonnet-4-5")
        span.set_attribute("mlflow.llm.provider", "anthropic")
        span.set_attribute(
            "mlflow.chat.tokenUsage", {"input_tokens": 10_000, "output_tokens": 0, "total_tokens": 10_000}
        )


def graph_of(node: Any) -> Any:
    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()


def parents() -> dict[str, str | None]:
    """Each span's name, and that of the span above it, in all traces."""
    found: dict[str, str | None] = {}
    for trace in all_traces():
        names = {span.span_id: span.name for span in trace.data.spans}
        found.update({span.name: names.get(span.parent_id or "") for span in trace.data.spans})
    return found


async def awaited(state: MessagesState) -> Any:
    answer = await MODEL.ainvoke(state["messages"])
    call_of_others()
    return {"messages": [answer]}


async def gathered(state: MessagesState) -> Any:
    answer = await MODEL.ainvoke(state["messages"])

    async def work() -> None:
        call_of_others()

    await asyncio.gather(work())
    return {"messages": [answer]}


async def streamed(state: MessagesState) -> Any:
    chunks = [chunk async for chunk in MODEL.astream(state["messages"])]
    call_of_others()
    return {"messages": [chunks[-1]]}


async def half_read(state: MessagesState) -> Any:
    async for _ in MODEL.astream(state["messages"]):
        call_of_others()
        break
    return {"messages": [HumanMessage("enough")]}


@pytest.mark.parametrize("node", [awaited, gathered, streamed], ids=lambda node: node.__name__)
def test_a_call_of_others_after_an_awaited_model(store: str, node: Any) -> None:
    """It is a call of its own, at its own cost, in every sum: not a part of the one before."""
    handler = MlflowCostHandler()
    asyncio.run(graph_of(node).ainvoke(ASK, given(handler)))
    only_own = MlflowCostHandler()
    asyncio.run(MODEL.ainvoke("hi", given(only_own)))
    own_usd = only_own.summary().total_cost_usd
    trace_id = next(trace.info.trace_id for trace in all_traces() if len(trace.data.spans) > 1)

    assert handler.summary().total_cost_usd == pytest.approx(own_usd + OTHER_USD, rel=1e-9)
    assert cost_summary(trace_id).total_cost_usd == pytest.approx(own_usd + OTHER_USD, rel=1e-9)


def test_it_hangs_below_the_node(store: str) -> None:
    """After an awaited model, what the node starts is inside the node."""
    asyncio.run(graph_of(awaited).ainvoke(ASK, given(MlflowCostHandler())))

    assert parents()["other"] == "node"


@pytest.mark.parametrize("around", [True, False], ids=["in a span", "alone"])
def test_own_spans_after_an_awaited_graph(store: str, around: bool) -> None:
    """They are in the user's span around both, or in a trace of their own; none is lost in the ended one."""
    handler = MlflowCostHandler()

    async def main() -> None:
        await graph_of(awaited).ainvoke(ASK, given(handler))
        with mlflow.start_span("after"):
            pass

    async def endpoint() -> None:
        with mlflow.start_span("endpoint"):
            await main()

    asyncio.run(endpoint() if around else main())

    assert parents()["after"] == ("endpoint" if around else None)
    assert len(all_traces()) == (1 if around else 2)
    assert mlflow.get_current_active_span() is None


def test_nothing_is_active_after_an_awaited_graph(store: str) -> None:
    """MLflow is told that there is no active span, and of the user's own where there is one."""
    handler = MlflowCostHandler()
    told: list[Any] = []

    async def main() -> None:
        await graph_of(awaited).ainvoke(ASK, given(handler))
        told.append(mlflow.get_current_active_span())
        with mlflow.start_span("endpoint") as span:
            await graph_of(awaited).ainvoke(ASK, given(handler))
            told.append(mlflow.get_current_active_span() is span)

    asyncio.run(main())

    assert told == [None, True]


def test_the_node_is_active_in_the_node(store: str) -> None:
    """MLflow's fluent functions reach the node's span in it, before and after an awaited model."""
    told: list[str] = []

    async def node(state: MessagesState) -> Any:
        told.append(mlflow.get_current_active_span().name)
        answer = await MODEL.ainvoke(state["messages"])
        told.append(mlflow.get_current_active_span().name)
        mlflow.update_current_trace(metadata={"mine": "yes"})
        return {"messages": [answer]}

    asyncio.run(graph_of(node).ainvoke(ASK, given(MlflowCostHandler())))

    assert told == ["node", "node"]
    assert only_trace().info.trace_metadata["mine"] == "yes"


def test_two_requests_in_one_task(store: str) -> None:
    """A second graph in the same task is a trace of its own, and so is what is recorded between them."""
    handler = MlflowCostHandler()

    async def main() -> None:
        await graph_of(awaited).ainvoke(ASK, given(handler))
        call_of_others("between")
        await graph_of(awaited).ainvoke(ASK, given(handler))

    asyncio.run(main())
    sizes = sorted(len(trace.data.spans) for trace in all_traces())

    assert sizes == [1, 4, 4]


def test_an_unsampled_request_draws_nothing_in(store: str) -> None:
    """What a request that is not recorded makes is in no trace of a recorded one before it."""
    handler = MlflowCostHandler()

    async def main() -> None:
        await graph_of(awaited).ainvoke(ASK, given(handler))
        with mlflow.tracing.context(enabled=False):
            await graph_of(awaited).ainvoke(ASK, given(handler))

    asyncio.run(main())

    assert len(only_trace().data.spans) == 4
    assert (1, "") == (handler.summary().llm_calls, handler.summary().trace_id)
