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
from langchain_core.runnables.config import ContextThreadPoolExecutor
from leaks import folder_bytes, kept, prose, spelling_in, within

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

    def loud(self, _: Any) -> Any:
        Chat().invoke(f"{self.other} and {self.text}")
        return {"extra": self.text}


def _cancelled(quiet: Callable[[Any], Any], story: Story, config: Any) -> None:
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
}


@pytest.mark.parametrize("policies", [[PRIVATE], [OPEN], [OPEN, PRIVATE]], ids=["private", "open", "open first"])
@pytest.mark.parametrize("name", WAYS)
def test_told_after_the_end(sinks: Sinks, name: str, policies: list[Any]) -> None:
    """The one trace waits for the thread: what it is told then is in no byte."""
    story, began_ms = Story(), time.time_ns() // 1_000_000
    WAYS[name](story, {"callbacks": [MlflowCostHandler(policy) for policy in policies]})
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
