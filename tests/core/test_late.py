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
from sqlalchemy import event
from sqlalchemy.engine import Engine
from stored_traces import mlflow_usd, named, only_trace, root_of
from ways import ASK, given

from langchain_mlflow_cost import MlflowCostHandler, cost_summary

if TYPE_CHECKING:
    from collections.abc import Callable

ONE = float(MINI_USD)


def outlived(
    handler: MlflowCostHandler, late: Callable[[asyncio.Event], Any], *, node_s: float = 0.01
) -> MlflowCostHandler:
    """A graph whose node makes one call and starts a task that goes on when the graph has ended."""

    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []
        root_has_ended = asyncio.Event()

        async def node(state: MessagesState) -> Any:
            answer = await FakeChat().ainvoke(state["messages"])
            tasks.append(asyncio.create_task(late(root_has_ended)))
            await asyncio.sleep(node_s)
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


def test_a_first_export_under_way_does_not_win(exported_in_threads: str) -> None:
    """The root's first batch, written out with the sums of then, reaches the database last: what is late waits for it."""
    armed, is_held, is_late_stored = threading.Event(), threading.Event(), threading.Event()

    def hold_the_first(*_: Any) -> None:
        is_exporting = threading.current_thread().name.startswith("langchain_mlflow_cost store")
        if is_exporting and armed.is_set() and not is_held.is_set():
            is_held.set()
            is_late_stored.wait(0.5)

    def note_the_second(*_: Any) -> None:
        if is_held.is_set():
            is_late_stored.set()

    async def late(root_has_ended: asyncio.Event) -> None:
        async def wait() -> None:
            await asyncio.sleep(0.3)  # The answer's own span is stored by now.
            armed.set()
            await root_has_ended.wait()
            await asyncio.to_thread(is_held.wait, 10)

        await FakeChat(before_async=wait).ainvoke("hi")

    event.listen(Engine, "before_cursor_execute", hold_the_first)
    event.listen(Engine, "commit", note_the_second)
    try:
        outlived(MlflowCostHandler(), late, node_s=0.4)
        mlflow.flush_trace_async_logging()
    finally:
        event.remove(Engine, "before_cursor_execute", hold_the_first)
        event.remove(Engine, "commit", note_the_second)
    trace = only_trace()

    assert is_held.is_set()
    assert [2 * ONE] * 3 == pytest.approx(
        [
            mlflow_usd(trace),
            root_of(trace).attributes["cost.total_usd"],
            named(trace, "node").attributes["cost.total_usd"],
        ],
        rel=1e-9,
    )
