"""What ends after its trace's root is in the stored sums too: the root's, its node's, and the trace's total."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import MINI_USD, FakeChat
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.entities import SpanType
from stored_traces import mlflow_usd, named, only_trace, root_of
from ways import ASK, given

from langchain_mlflow_cost import MlflowCostHandler, cost_summary

if TYPE_CHECKING:
    from collections.abc import Callable

ONE = float(MINI_USD)


def outlived(handler: MlflowCostHandler, late: Callable[[asyncio.Event], Any]) -> MlflowCostHandler:
    """A graph whose node makes one call and starts a task that goes on when the graph has ended."""

    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []
        root_has_ended = asyncio.Event()

        async def node(state: MessagesState) -> Any:
            answer = await FakeChat().ainvoke(state["messages"])
            tasks.append(asyncio.create_task(late(root_has_ended)))
            await asyncio.sleep(0.01)
            return {"messages": [answer]}

        started: Any = node
        graph = StateGraph(MessagesState).add_node("node", started).add_edge(START, "node").compile()
        await graph.ainvoke(ASK, given(handler))
        root_has_ended.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    return handler


async def one_call(root_has_ended: asyncio.Event) -> Any:
    return await FakeChat(before_async=root_has_ended.wait).ainvoke("hi")


async def two_calls_in_a_chain(root_has_ended: asyncio.Event) -> Any:
    async def both(text: str) -> None:
        await root_has_ended.wait()
        await FakeChat().ainvoke(text)
        await FakeChat().ainvoke(text)

    return await RunnableLambda(both, name="late").ainvoke("hi")


async def another_library(root_has_ended: asyncio.Event) -> Any:
    async def call(_: str) -> None:
        await root_has_ended.wait()
        with mlflow.start_span("call", span_type=SpanType.CHAT_MODEL) as span:
            span.set_attribute("mlflow.llm.model", "gpt-4o-mini")
            span.set_attribute("mlflow.llm.provider", "openai")
            usage = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
            span.set_attribute("mlflow.chat.tokenUsage", usage)

    return await RunnableLambda(call, name="late").ainvoke("hi")


LATE: dict[str, tuple[Any, int]] = {
    "a call": (one_call, 2),
    "a chain": (two_calls_in_a_chain, 3),
    "another library": (another_library, 2),
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("level", ["standard", "private"])
def test_stored_sums_have_what_was_late(exported_in_threads: str, name: str, level: str) -> None:
    """By MLflow's default export: the trace's total, the root's and the node's sums, live and stored, are all of it."""
    late, calls = LATE[name]
    policy = {"nodes": {"other": {"log_prompts": False}}} if level == "private" else {}
    handler = outlived(MlflowCostHandler(policy), late)
    trace = only_trace()

    assert [calls * ONE] * 5 == pytest.approx(
        [
            handler.summary().total_cost_usd,
            cost_summary().total_cost_usd,
            mlflow_usd(trace),
            root_of(trace).attributes["cost.total_usd"],
            named(trace, "node").attributes["cost.total_usd"],
        ],
        rel=1e-9,
    )
    assert root_of(trace).attributes["cost.llm_calls"] == calls


def test_the_users_span_around_is_brought_up_to_date(store: str) -> None:
    """A span of the user's own, which ended the trace, has the late call in its sums."""
    handler = MlflowCostHandler()
    with mlflow.start_span("endpoint"):
        done, thread = threading.Event(), None

        def node(state: MessagesState) -> Any:
            nonlocal thread
            import contextvars

            context, begun = contextvars.copy_context(), threading.Event()

            def wait() -> None:
                begun.set()
                done.wait(10)

            thread = threading.Thread(target=context.run, args=(FakeChat(before=wait).invoke, "hi"))
            thread.start()
            begun.wait(10)
            return {"messages": [FakeChat().invoke(state["messages"])]}

        StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile().invoke(ASK, given(handler))
    done.set()
    assert thread is not None
    thread.join()
    trace = only_trace()

    assert [2 * ONE] * 3 == pytest.approx(
        [mlflow_usd(trace), named(trace, "endpoint").attributes["cost.total_usd"], handler.summary().total_cost_usd],
        rel=1e-9,
    )


def test_a_late_refusal_is_stored(exported_in_threads: str) -> None:
    """A budget that refuses a call after the root's end stands on the root and in the trace's metadata."""
    # 0.00045 from the node and from the first late call reach 0.0009: the second late one is refused.
    handler = outlived(MlflowCostHandler({"budget": {"max_cost_usd": 0.0009}}), two_calls_in_a_chain)
    trace = only_trace()

    assert handler.summary().stopped_by == "trace"
    assert trace.info.trace_metadata["cost.stopped_by"] == "trace"
    assert root_of(trace).attributes["cost.stopped_by"] == "trace"
    assert cost_summary().stopped_by == "trace"
    assert json.loads(trace.info.trace_metadata["mlflow.trace.cost"])["total_cost"] == pytest.approx(2 * ONE)
