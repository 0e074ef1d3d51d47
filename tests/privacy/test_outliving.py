"""What a private node's threads are told after its invocation has ended is gone from the trace, which waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import mlflow
import pytest
from fakes import Chat, graph
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel
from langchain_core.runnables.config import ContextThreadPoolExecutor
from leaks import folder_bytes, kept, prose, spelling_in, within
from sampling import in_turn

from langchain_mlflow_cost import MlflowCostHandler, limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from leaks import Sinks

PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
OPEN = {"artifact_level": "full"}


class Story:
    """One run: `over` is set when the invocation has ended, and only then is the model told the text, twice."""

    def __init__(self) -> None:
        self.text, self.other = prose(), kept()
        self.over, self.started, self.done = threading.Event(), threading.Event(), threading.Event()

    def late(self) -> None:
        self.started.set()
        self.over.wait(20)
        Chat().invoke("are you there?")
        Chat().invoke(self.text)
        self.done.set()

    async def late_async(self) -> None:
        self.started.set()
        await _until(self.over)
        await Chat().ainvoke("are you there?")
        await Chat().ainvoke(self.text)
        self.done.set()

    def loud(self, _: Any) -> Any:
        Chat().invoke(f"{self.other} and {self.text}")
        return {"extra": self.text}


class BrokenError(Exception):
    """What one branch of a node raises."""


async def _until(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110 - a thread that waited for it would be one that the trace waits for
        await asyncio.sleep(0.002)


def _cancelled(quiet: Any, story: Story, config: Any) -> None:
    async def main() -> None:
        running = asyncio.ensure_future(
            graph(("loud", story.loud), ("quiet", quiet)).ainvoke({"messages": [("user", "hi")]}, config)
        )
        await asyncio.to_thread(story.started.wait, 20)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        story.over.set()

    asyncio.run(main())


def cancelled_ainvoke(story: Story, config: Any) -> None:
    def quiet(_: Any) -> Any:
        story.late()
        return {}

    _cancelled(quiet, story, config)


def _cancelled_around_a_graph(story: Story, config: Any) -> None:
    """The node's own graph goes on: its next node begins after the end."""

    def first(_: Any) -> Any:
        story.started.set()
        story.over.wait(20)
        return {}

    def second(_: Any) -> Any:
        story.late()
        return {}

    def quiet(_: Any) -> Any:
        graph(("first", first), ("second", second)).invoke({"messages": [("user", "hi")]})
        return {}

    _cancelled(quiet, story, config)


def _cancelled_before_a_graph(story: Story, config: Any) -> None:
    """The node's own graph begins after the end."""

    def second(_: Any) -> Any:
        story.late()
        return {}

    def quiet(_: Any) -> Any:
        story.started.set()
        story.over.wait(20)
        graph(("first", lambda _: Chat().invoke("x") and {}), ("second", second)).invoke({"messages": [("user", "hi")]})
        return {}

    _cancelled(quiet, story, config)


def _cancelled_in_anyio(story: Story, config: Any) -> None:
    """An async node has left its work to a thread of anyio's, which is abandoned."""

    async def quiet(_: Any) -> Any:
        await anyio.to_thread.run_sync(story.late, abandon_on_cancel=True)
        return {}

    _cancelled(quiet, story, config)


def _left_behind(start: Callable[[Callable[[], None]], None]) -> Callable[[Story, Any], None]:
    def run(story: Story, config: Any) -> None:
        def quiet(_: Any) -> Any:
            start(story.late)
            story.started.wait(10)
            return {}

        graph(("loud", story.loud), ("quiet", quiet)).invoke({"messages": [("user", "hi")]}, config)
        story.over.set()

    return run


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=copy_context().run, args=(work,)).start()


def _in_a_lambda(work: Callable[[], None]) -> None:
    context = copy_context()
    threading.Thread(target=lambda: context.run(work)).start()


def _in_a_pool(work: Callable[[], None]) -> None:
    pool = ThreadPoolExecutor(1)
    pool.submit(copy_context().run, work)
    pool.shutdown(wait=False)


def _in_langchains_pool(work: Callable[[], None]) -> None:
    pool = ContextThreadPoolExecutor(1)
    pool.submit(work)
    pool.shutdown(wait=False)


def _in_hand(story: Story, config: Any) -> None:
    """A pool's thread has taken the work, and not begun it, when the invocation ends: it waits for the future's lock."""
    pool, go_on, ends_meanwhile = ThreadPoolExecutor(1), threading.Event(), list[bool]()
    holding: list[threading.Thread] = []

    def hold(future: Future[None]) -> None:
        with future._condition:
            go_on.set()
            ends_meanwhile.append(story.over.wait(20))

    def quiet(_: Any) -> Any:
        pool.submit(go_on.wait, 20)
        holding.append(threading.Thread(target=hold, args=(pool.submit(copy_context().run, story.late),)))
        holding[0].start()
        assert within(10, lambda: any(_is_taking(frame) for frame in sys._current_frames().values()))
        return {}

    graph(("loud", story.loud), ("quiet", quiet)).invoke({"messages": [("user", "hi")]}, config)
    story.over.set()
    holding[0].join()
    assert ends_meanwhile == [True], "the graph's end waits for nobody's lock"
    pool.shutdown(wait=False)


def _in_a_queue(story: Story, config: Any) -> None:
    """A pool's only thread is busy with something else when the invocation ends."""
    pool = ThreadPoolExecutor(1)

    def quiet(_: Any) -> Any:
        pool.submit(lambda: story.over.wait(20))
        pool.submit(copy_context().run, story.late)
        return {}

    graph(("loud", story.loud), ("quiet", quiet)).invoke({"messages": [("user", "hi")]}, config)
    story.over.set()
    pool.shutdown(wait=False)


def _cancelled_in_a_subgraph(story: Story, config: Any) -> None:
    """The node is a graph, which ends with the cancellation; what its node had begun does not."""

    def second(_: Any) -> Any:
        story.late()
        return {}

    _cancelled(graph(("first", lambda _: {}), ("second", second)), story, config)


def _in_async_code(quiet: Callable[[Story], Callable[[Any], Any]]) -> Callable[[Story, Any], None]:
    """The loop goes on when the graph has ended, and with it what the node has left there."""

    def run(story: Story, config: Any) -> None:
        async def main() -> None:
            with contextlib.suppress(BrokenError):
                built = graph(("loud", story.loud), ("quiet", quiet(story)))
                await built.ainvoke({"messages": [("user", "hi")]}, config)
            story.over.set()
            await asyncio.wait_for(_until(story.done), 20)

        asyncio.run(main())

    return run


def _beside_a_branch_that_raises(story: Story) -> Callable[[Any], Any]:
    async def answers(_: Any) -> None:
        await story.late_async()

    async def raises(_: Any) -> None:
        await _until(story.started)
        raise BrokenError

    async def quiet(_: Any) -> Any:
        await RunnableParallel(answers=RunnableLambda(answers), raises=RunnableLambda(raises)).ainvoke("x")
        return {}

    return quiet


def _in_a_task_of_a_task(story: Story) -> Callable[[Any], Any]:
    tasks: list[asyncio.Task[None]] = []

    async def between() -> None:
        tasks.append(asyncio.create_task(story.late_async()))

    async def quiet(_: Any) -> Any:
        tasks.append(asyncio.create_task(between()))
        return {}

    return quiet


def _in_another_loop(story: Story, config: Any) -> None:
    """A sync node hands a coroutine to the loop of another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def quiet(_: Any) -> Any:
        asyncio.run_coroutine_threadsafe(story.late_async(), loop)
        story.started.wait(10)
        return {}

    graph(("loud", story.loud), ("quiet", quiet)).invoke({"messages": [("user", "hi")]}, config)
    story.over.set()
    story.done.wait(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _read_on_in_a_thread(story: Story, config: Any) -> None:
    """A thread reads on in a graph's stream that the node began to read."""

    def second(_: Any) -> Any:
        story.late()
        return {}

    def quiet(_: Any) -> Any:
        inner = graph(("first", lambda _: {"extra": "x"}), ("second", second))
        stream = inner.stream({"messages": [("user", "hi")]}, stream_mode="updates")
        next(stream)
        threading.Thread(target=copy_context().run, args=(list, stream)).start()
        story.started.wait(10)
        return {}

    graph(("loud", story.loud), ("quiet", quiet)).invoke({"messages": [("user", "hi")]}, config)
    story.over.set()


def _with_the_config(story: Story, config: Any) -> None:
    """A plain thread that has no context, and hands on the node's config."""

    def quiet(_: Any, config: RunnableConfig) -> Any:
        def work() -> None:
            story.started.set()
            story.over.wait(20)
            Chat().invoke("are you there?", config)
            Chat().invoke(story.text, config)
            story.done.set()

        threading.Thread(target=work).start()
        story.started.wait(10)
        return {}

    quiet.__annotations__["config"] = RunnableConfig  # LangGraph looks at what stands there, not at its text
    graph(("loud", story.loud), ("quiet", quiet)).invoke({"messages": [("user", "hi")]}, config)
    story.over.set()


def _in_the_pool_of_the_graph(story: Story, config: Any) -> None:
    """The thread that the graph ran in takes what its node has left in its pool's queue."""
    pool = ThreadPoolExecutor(1)

    def quiet(_: Any) -> Any:
        pool.submit(copy_context().run, story.late)
        return {}

    built = graph(("loud", story.loud), ("quiet", quiet))
    pool.submit(built.invoke, {"messages": [("user", "hi")]}, config).result()
    story.over.set()
    pool.shutdown(wait=False)


def _in_a_timer(work: Callable[[], None]) -> None:
    threading.Timer(0.01, copy_context().run, args=(work,)).start()


def _in_a_job(work: Callable[[], None]) -> None:
    class Job(threading.Thread):
        def __init__(self) -> None:
            super().__init__()
            self.context = copy_context()

        def run(self) -> None:
            self.context.run(work)

    Job().start()


def _is_taking(frame: FrameType | None) -> bool:
    return frame is not None and (frame.f_code.co_name == "set_running_or_notify_cancel" or _is_taking(frame.f_back))


WAYS: dict[str, Callable[[Story, Any], None]] = {
    "cancelled ainvoke": cancelled_ainvoke,
    "cancelled around a graph": _cancelled_around_a_graph,
    "cancelled before a graph": _cancelled_before_a_graph,
    "cancelled in anyio": _cancelled_in_anyio,
    "thread": _left_behind(_in_a_thread),
    "pool": _left_behind(_in_a_pool),
    "LangChain's pool": _left_behind(_in_langchains_pool),
    "in a pool's hands": _in_hand,
    "in a pool's queue": _in_a_queue,
    "cancelled in a subgraph": _cancelled_in_a_subgraph,
    "beside a branch that raises": _in_async_code(_beside_a_branch_that_raises),
    "in a task of a task": _in_async_code(_in_a_task_of_a_task),
    "in another loop": _in_another_loop,
    "read on in a thread": _read_on_in_a_thread,
    "with the config": _with_the_config,
    "in the graph's pool": _in_the_pool_of_the_graph,
    "lambda": _left_behind(_in_a_lambda),
    "timer": _left_behind(_in_a_timer),
    "job": _left_behind(_in_a_job),
}


@pytest.mark.sampled(
    is_in=lambda name, policies: (
        policies == [PRIVATE] or in_turn(name=WAYS, policies=[[OPEN], [OPEN, PRIVATE]])(name=name, policies=policies)
    )
)
@pytest.mark.parametrize("policies", [[PRIVATE], [OPEN], [OPEN, PRIVATE]], ids=["private", "open", "open first"])
@pytest.mark.parametrize("name", WAYS)
def test_told_after_the_end(sinks: Sinks, name: str, policies: list[Any]) -> None:
    """The one trace waits for the thread: what it is told then is in no byte."""
    story, began_ms = Story(), time.time_ns() // 1_000_000
    handlers = [MlflowCostHandler(policy) for policy in policies]
    WAYS[name](story, {"callbacks": handlers})
    assert story.done.wait(20)
    # The spans of a held trace are stored one by one.
    within(20, lambda: story.other.encode() in folder_bytes(sinks.folder))
    sinks.flush()
    # What an earlier test left in MLflow's queues may come in now.
    traces = [each for each in mlflow.search_traces(return_type="list") if each.info.request_time >= began_ms]
    stored = sinks.everything()

    assert story.other.encode() in stored
    assert (spelling_in(story.text, stored) is None) == (PRIVATE in policies)
    assert PRIVATE not in policies or len(traces) == 1
    least = 4 if name == "cancelled before a graph" else 3
    assert PRIVATE not in policies or all(each.summary().llm_calls >= least for each in handlers), (
        "late calls cost, too"
    )


def test_bounded(sinks: Sinks) -> None:
    """After `Limits.outliving_s` the trace leaves, whatever its threads do."""
    story = Story()
    with limits.replaced(outliving_s=0.2):
        _left_behind(_in_a_thread)(story, {"callbacks": [MlflowCostHandler(PRIVATE)]})
        began = time.monotonic()
        story.over.clear()
        assert within(5, lambda: mlflow.search_traces(return_type="list"))
    story.over.set()
    assert time.monotonic() - began < 5
    assert story.done.wait(20)
    sinks.everything()


def test_nothing_waits_without_threads(sinks: Sinks) -> None:
    """A trace without threads of its own leaves when its invocation ends."""
    story = Story()
    story.over.set()

    def quiet(_: Any) -> Any:
        with ContextThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: Chat().invoke(story.text), range(4)))
        return {}

    graph(("loud", story.loud), ("quiet", quiet)).invoke(
        {"messages": [("user", "hi")]}, {"callbacks": [MlflowCostHandler(PRIVATE)]}
    )
    stored = sinks.everything()

    assert story.other.encode() in stored
    assert spelling_in(story.text, stored) is None
