"""What a node's thread goes on with when its node, or its whole invocation, has ended: every sum and budget has it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import operator
import threading
import uuid
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import mlflow
import pytest
from fake_models import MINI_USD, SONNET, SONNET_USD, FakeChat, counted, tool_call
from fakes import graph
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from leaks import within
from mlflow.tracing.trace_manager import InMemoryTraceManager
from stored_traces import all_traces, leaves_usd, mlflow_usd
from ways import ASK

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary
from langchain_mlflow_cost.tracing.runs import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Trace

HELD = {"nodes": {"quiet": {"log_prompts": False}}}
"""A trace with a private node is held until its threads are done: all of it is one trace."""
OPEN: dict[str, Any] = {}


class Story:
    """One run: a node's thread stops at `pause` until its node, or the invocation, has ended."""

    def __init__(self) -> None:
        self.started, self.over, self.done = threading.Event(), threading.Event(), threading.Event()
        self.refusal: BudgetExceededError | None = None

    def pause(self, _: Any = None) -> Any:
        self.started.set()
        self.over.wait(20)
        return {}

    def quiet(self, work: Callable[[], Any]) -> Callable[[Any], Any]:
        def node(_: Any) -> Any:
            try:
                mini()
                work()
            except BudgetExceededError as refusal:
                self.refusal = refusal
            finally:
                self.done.set()
            return {}

        return node

    def cancelled(self, runnable: Any, config: Any) -> None:
        async def main() -> None:
            running = asyncio.ensure_future(runnable.ainvoke(ASK, config))
            await asyncio.to_thread(self.started.wait, 20)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            self.over.set()
            await asyncio.to_thread(self.done.wait, 20)

        asyncio.run(main())


def mini(_: Any = None) -> Any:
    FakeChat().invoke("hi")
    return {}


def sonnet(_: Any = None) -> Any:
    FakeChat(model=SONNET).invoke("hi")
    return {}


def calls(story: Story, config: Any) -> None:
    """One is under way at the end, and others follow."""

    def work() -> None:
        FakeChat(model=SONNET, before=story.pause).invoke("hi")
        sonnet()
        mini()

    story.cancelled(graph(("loud", mini), ("quiet", story.quiet(work))), config)


def graphs(story: Story, config: Any) -> None:
    """One is under way at the end, in a subgraph; another follows, and a call."""

    def work() -> None:
        graph(("one", mini), ("two", lambda _: story.pause() or sonnet()), ("three", mini)).invoke(ASK)
        mini()
        graph(("four", mini), ("five", sonnet)).invoke(ASK)

    inner = graph(("quiet", story.quiet(work)))
    story.cancelled(graph(("loud", mini), ("team", inner)), config)


def an_agent(story: Story, config: Any) -> None:
    """Its tool is under way at the end."""

    @tool
    def look_up(word: str) -> str:
        """Look up."""
        story.pause()
        return str(FakeChat(model=SONNET).invoke(word).text)

    model = FakeChat(answers=[tool_call("look_up", word="x"), "done"])
    work = create_agent(model, [look_up]).invoke
    story.cancelled(graph(("loud", mini), ("quiet", story.quiet(lambda: work(ASK)))), config)


def a_half_read_stream(story: Story, config: Any) -> None:
    """It is read on after the end, and left before its own."""

    def work() -> None:
        stream = graph(("one", mini), ("two", sonnet), ("three", mini)).stream(ASK)
        next(stream)
        story.pause()
        next(stream)
        stream.close()
        mini()

    story.cancelled(graph(("loud", mini), ("quiet", story.quiet(work))), config)


def a_stream_in_another_thread(story: Story, config: Any) -> None:
    """A node begins it, and a thread is inside of it when the invocation ends."""
    reading: list[threading.Thread] = []

    def node(_: Any) -> Any:
        stream = graph(("one", mini), ("two", lambda _: story.pause() or sonnet()), ("three", mini)).stream(ASK)
        next(stream)
        reading.append(threading.Thread(target=list, args=(stream,)))
        reading[0].start()
        story.started.wait(20)
        return mini()

    graph(("quiet", node), ("loud", mini)).invoke(ASK, config)
    story.over.set()
    reading[0].join(20)


def a_branch_timed_out(story: Story, config: Any) -> None:
    """The node gives its agent up and goes on, as does the agent; the invocation is told the sums of both."""

    def agent() -> None:
        graph(("one", lambda _: story.pause() or sonnet()), ("two", mini)).invoke(ASK)
        mini()

    async def quiet(_: Any) -> Any:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(story.quiet(agent), None), 0.2)
        await FakeChat().ainvoke("hi")
        return {}

    async def loud(_: Any) -> Any:
        story.over.set()
        await asyncio.to_thread(story.done.wait, 20)
        await FakeChat().ainvoke("hi")
        return {}

    asyncio.run(graph(("quiet", quiet), ("loud", loud)).ainvoke(ASK, config))


class Numbers(TypedDict):
    numbers: Annotated[list[int], operator.add]


def a_branch_raised(story: Story, config: Any) -> None:
    """Of three branches one fails: the invocation ends, and the threads of the others go on."""
    begun, left = threading.Semaphore(0), threading.Semaphore(0)

    def quiet(state: Any) -> Any:
        mini()
        if state["number"] == 0:
            assert all(begun.acquire(timeout=20) for _ in range(2))
            raise ValueError("broken")
        begun.release()
        story.pause()
        try:
            graph(("one", sonnet), ("two", mini)).invoke(ASK)
        finally:
            left.release()
        return {"numbers": [1]}

    def branches(_: Any) -> list[Send]:
        return [Send("quiet", {"number": number}) for number in range(3)]

    built: Any = StateGraph(Numbers).add_node("quiet", quiet).add_conditional_edges(START, branches, ["quiet"])

    async def main() -> None:
        with contextlib.suppress(ValueError):
            await built.compile().ainvoke({"numbers": []}, config)
        story.over.set()

    asyncio.run(main())
    assert all(left.acquire(timeout=20) for _ in range(2))


STORIES: dict[Callable[[Story, Any], None], Decimal] = {
    calls: 3 * MINI_USD + 2 * SONNET_USD,
    graphs: 6 * MINI_USD + 2 * SONNET_USD,
    an_agent: 4 * MINI_USD + SONNET_USD,
    a_half_read_stream: 4 * MINI_USD + SONNET_USD,
    a_stream_in_another_thread: 4 * MINI_USD + SONNET_USD,
    a_branch_timed_out: 5 * MINI_USD + SONNET_USD,
    a_branch_raised: 5 * MINI_USD + 2 * SONNET_USD,
}
"""And what each costs, by hand."""


def wrong_sums(trace: Trace) -> list[tuple[str, float, float]]:
    """The spans whose own sum is not that of the calls below them in the stored trace."""
    below = defaultdict(list)
    for span in trace.data.spans:
        below[span.parent_id].append(span)

    def leaves(span: Any) -> float:
        own = (span.get_attribute("mlflow.llm.cost") or {}).get("total_cost", 0.0)
        return math.fsum([own, *map(leaves, below[span.span_id])])

    told = {
        span.span_id: (str(span.name), float(span.attributes.get("cost.total_usd", 0)), leaves(span))
        for span in trace.data.spans
    }
    return [each for each in told.values() if abs(each[1] - each[2]) > 1e-9]


def run(story: Callable[[Story, Any], None], policy: dict[str, Any], **more: Any) -> tuple[Story, MlflowCostHandler]:
    told, handler = Story(), MlflowCostHandler(policy)
    # What another test of this process left open is none of this story's.
    opened, before = InMemoryTraceManager.get_instance()._traces, set(InMemoryTraceManager.get_instance()._traces)
    story(told, {"callbacks": [handler], **more})
    # A held trace leaves a moment after its threads are done.
    assert within(20, lambda: not RUNS.open_runs() and set(opened) <= before)
    return told, handler


@pytest.mark.sampled(
    is_in=lambda story, policy: (policy is HELD) == (story in (graphs, a_half_read_stream, a_branch_raised))
)
@pytest.mark.parametrize("policy", [OPEN, HELD], ids=["open", "held"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_each_sum_has_it(store: str, story: Any, policy: dict[str, Any]) -> None:
    """Every span, trace, summary and metric, and the session's budget, is what was paid for, by hand."""
    truth, session = STORIES[story], str(uuid.uuid4())
    budget = {"max_cost_usd": float(truth), "scope": "session"}
    with mlflow.start_run() as active, counted() as tally:
        _, handler = run(story, {**policy, "budget": budget}, configurable={"thread_id": session})
        with pytest.raises(BudgetExceededError) as refused:
            graph(("next", mini)).invoke(ASK, {"callbacks": [handler], "configurable": {"thread_id": session}})
    mlflow.flush_async_logging()
    *traces, refused_trace = all_traces()
    sums = [leaves_usd(trace) for trace in traces]

    assert tally.usd == truth
    assert math.fsum(sums) == pytest.approx(float(truth), abs=1e-9)
    assert leaves_usd(refused_trace) == 0
    assert [wrong_sums(trace) for trace in traces] == [[] for _ in traces]
    assert [mlflow_usd(trace) for trace in traces] == pytest.approx(sums, abs=1e-9)
    for read in (cost_summary, handler.summary):
        told = [read(trace.info.trace_id).total_cost_usd for trace in traces]
        assert told == pytest.approx(sums, abs=1e-9)
    assert (refused.value.spent_usd, refused.value.reserved_usd) == (truth, Decimal(0))
    metrics = mlflow.get_run(active.info.run_id).data.metrics
    assert metrics["total_cost_usd"] == pytest.approx(float(truth), abs=1e-9)
    if policy is HELD or story is a_branch_timed_out:
        assert len(traces) == 1


def test_each_sum_has_it_by_default(exported_in_threads: str) -> None:
    """The same by MLflow's own export, where the trace's root goes on: a node's span that has left is stored again."""
    run(a_branch_timed_out, OPEN)
    (trace,) = all_traces()

    assert leaves_usd(trace) == pytest.approx(float(STORIES[a_branch_timed_out]), abs=1e-9)
    assert wrong_sums(trace) == []


@pytest.mark.parametrize("policy", [OPEN, HELD], ids=["open", "held"])
@pytest.mark.parametrize("where", ["trace", "node", "entry"])
def test_it_is_within_the_same_limits(store: str, where: str, policy: dict[str, Any]) -> None:
    """A node that goes on asks the budgets of the trace that it was in, before each call, also where that has left."""

    def work(story: Story) -> None:
        story.pause()
        graph(("one", mini), ("two", mini)).invoke(ASK)
        for _ in range(3):
            mini()

    def late(story: Story, config: Any) -> None:
        story.cancelled(graph(("loud", mini), ("quiet", story.quiet(lambda: work(story)))), config)

    entry = dict(policy.get("nodes", {}).get("quiet", {}))
    policies: dict[str, dict[str, Any]] = {
        "trace": {**policy, "budget": {"max_cost_usd": 0.0018}},
        "node": {**policy, "budget": {"max_cost_usd": 0.00045, "scope": "node"}},
        "entry": {"nodes": {"quiet": {**entry, "budget": {"max_cost_usd": 0.00135}}}},
    }
    with counted() as tally:
        story, _ = run(late, policies[where])

    # Before the end one in `loud` and one in `quiet`, then one in each node of the graph; each costs 0.00045.
    assert story.refusal is not None
    assert (tally.calls, story.refusal.node) == {"trace": (4, "quiet"), "node": (4, "quiet"), "entry": (4, "quiet")}[
        where
    ]
    assert (story.refusal.reserved_usd, len(RUNS)) == (Decimal(0), 0)
