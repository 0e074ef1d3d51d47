"""A model's call that is cut off inside a node that goes on ends then and there, and gives its reservation back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from fake_models import FakeChat
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import only_trace
from ways import ASK, given

from langchain_mlflow_cost import MlflowCostHandler, cost_summary


async def never() -> None:
    await asyncio.Event().wait()


HANGING = FakeChat(before_async=never)
QUICK = FakeChat()


async def timed_out(_: MessagesState) -> Any:
    try:
        async with asyncio.timeout(0.02):
            await HANGING.ainvoke("hi")
    except TimeoutError:
        pass
    return {"messages": [HumanMessage("too late")]}


async def cancelled(_: MessagesState) -> Any:
    task = asyncio.create_task(HANGING.ainvoke("hi"))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {"messages": [HumanMessage("enough")]}


async def cancelled_and_retried(_: MessagesState) -> Any:
    await timed_out(_)
    return {"messages": [await QUICK.ainvoke("hi")]}


async def after(_: MessagesState) -> Any:
    await asyncio.sleep(0.05)
    return {"messages": [await QUICK.ainvoke("hi")]}


def run(node: Any, policy: dict[str, Any] | None = None) -> MlflowCostHandler:
    second: Any = after
    graph = StateGraph(MessagesState).add_node("first", node).add_node("second", second)
    handler = MlflowCostHandler(policy or {})
    compiled = graph.add_edge(START, "first").add_edge("first", "second").compile()
    asyncio.run(compiled.ainvoke(ASK, given(handler)))
    return handler


@pytest.mark.parametrize("node", [timed_out, cancelled, cancelled_and_retried], ids=lambda node: node.__name__)
def test_its_node_ends_on_time(store: str, node: Any) -> None:
    """The node's span is over when the node is, and the next node is not inside it."""
    run(node)
    spans = {span.name: span for span in only_trace().data.spans}
    first, second = spans["first"], spans["second"]

    assert first.end_time_ns <= second.start_time_ns
    assert second.parent_id == first.parent_id


def test_it_is_counted_at_an_estimate(store: str) -> None:
    """What was sent may be billed: the call counts by its prompt, once, in its node."""
    summary = run(timed_out).summary()

    assert (2, 1) == (summary.llm_calls, summary.estimated_calls)
    assert summary.node_breakdown["first"].calls == 1


def test_its_reservation_is_given_back(store: str) -> None:
    """Calls that were cut off hold nothing of the budget back from those that come after."""

    async def node(state: MessagesState) -> Any:
        for _ in range(34):
            await timed_out_at_once(state)
        return {"messages": [await QUICK.ainvoke("hi")]}

    async def timed_out_at_once(_: MessagesState) -> None:
        try:
            async with asyncio.timeout(0.001):
                await HANGING.ainvoke("hi")
        except TimeoutError:
            pass

    started = time.monotonic()
    handler = run(node, {"budget": {"max_cost_usd": 0.02}})

    assert handler.summary().llm_calls == 36
    assert time.monotonic() - started < 60


def test_a_call_under_way_is_left_alone(store: str) -> None:
    """A call that another task waits for is not cut off by what begins beside it."""

    async def slow() -> None:
        await asyncio.sleep(0.05)

    async def node(_: MessagesState) -> Any:
        waiting = asyncio.create_task(FakeChat(before_async=slow).ainvoke("hi"))
        await asyncio.sleep(0)
        await QUICK.ainvoke("hi")
        return {"messages": [await waiting]}

    summary = run(node).summary()

    assert (3, 0) == (summary.llm_calls, summary.estimated_calls)


@pytest.mark.parametrize("budget", [None, 1.0])
def test_a_call_that_outlives_the_root_is_counted_as_it_ends(store: str, budget: float | None) -> None:
    """A task that a node started and did not wait for costs what its answer says, in the live sum and in the stored one."""
    tasks: list[asyncio.Task[Any]] = []
    root_has_ended = asyncio.Event()

    async def until_then() -> None:
        await root_has_ended.wait()

    slow = FakeChat(before_async=until_then)
    handler = MlflowCostHandler({} if budget is None else {"budget": {"max_cost_usd": budget}})

    async def node(_: MessagesState) -> Any:
        tasks.append(asyncio.create_task(slow.ainvoke("hi")))
        await asyncio.sleep(0)
        return {"messages": [HumanMessage("later")]}

    async def main() -> tuple[int, int]:
        started: Any = node
        graph = StateGraph(MessagesState).add_node("node", started).add_edge(START, "node").compile()
        await graph.ainvoke(ASK, given(handler))
        before = handler.summary().llm_calls
        root_has_ended.set()
        await asyncio.gather(*tasks)
        return before, handler.summary().llm_calls

    before, after_it = asyncio.run(main())
    summary = handler.summary()
    stored = cost_summary()

    assert (0, 1, 0) == (before, after_it, summary.estimated_calls)
    assert (1, 0) == (stored.llm_calls, stored.estimated_calls)
    assert stored.total_cost_usd == pytest.approx(summary.total_cost_usd, rel=1e-9)
    assert summary.total_cost_usd > 0
