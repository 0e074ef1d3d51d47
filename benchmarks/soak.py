"""Whether memory grows with the number of invocations, also where they do not end as they should.

The first half of the invocations is not counted. Caches fill up to their bounds in it, and so does what is kept of
invocations that never end, which is bounded at 2,000: where every second one does not end, 4,000 are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import graphs
import modes
from interleaving import markdown
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import HumanMessage
from texts import Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.outputs import ChatResult

CHECKPOINTS: Final = 20
WARM_UP: Final = CHECKPOINTS // 2
"""Checkpoints at the start that are left out."""


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint."""

    invocations: int
    """So far."""
    rss_mb: float
    trimmed_mb: float
    """The same after the allocator was trimmed."""
    objects: int
    cpu_s: float
    """CPU of the invocations since the last checkpoint, with the making of their texts, without the flush."""


class _HungModel(graphs.ScriptedModel):
    """Never answers."""

    called: Any = None

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        self.called.set()
        await asyncio.Event().wait()
        raise AssertionError


def _endings(kind: str) -> Iterator[Callable[[list[Any], Texts], None]]:
    """Invocations of a graph of three model nodes, every second one in a bad way: in all of them in turn if `mixed`."""
    model = graphs.ScriptedModel(replies=deque())
    graph = graphs.chain_of_models(model, 3)
    hung = _HungModel(replies=deque())
    hung_graph = graphs.chain_of_models(hung, 3, is_async=True)

    def question(texts: Texts) -> dict[str, Any]:
        model.replies.clear()
        model.replies.extend(graphs.reply(texts.prose(2_000), 2_000) for _ in range(3))
        return {"messages": [HumanMessage(texts.prose(2_000))]}

    def ended(callbacks: list[Any], texts: Texts) -> None:
        graph.invoke(question(texts), {"callbacks": callbacks})

    def failed(callbacks: list[Any], texts: Texts) -> None:
        state = question(texts)
        model.replies.pop()
        # The third node finds no reply left.
        with contextlib.suppress(IndexError):
            graph.invoke(state, {"callbacks": callbacks})

    def cancelled(callbacks: list[Any], texts: Texts) -> None:
        async def cancel() -> None:
            hung.called = asyncio.Event()
            task = asyncio.create_task(hung_graph.ainvoke(question(texts), {"callbacks": callbacks}))
            await hung.called.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(cancel())

    def aborted(callbacks: list[Any], texts: Texts) -> None:
        reading = graph.stream(question(texts), {"callbacks": callbacks}, stream_mode="messages")
        for _ in itertools.islice(reading, 20):
            pass
        reading.close()

    def dropped(callbacks: list[Any], texts: Texts) -> None:
        next(graph.stream(question(texts), {"callbacks": callbacks}, stream_mode="messages"))

    def never_ended(callbacks: list[Any], texts: Texts) -> None:
        # What a killed worker or a bug in a runnable leaves behind: starts without ends.
        manager = CallbackManager.configure(inheritable_callbacks=callbacks)
        run = manager.on_chain_start({"name": "never"}, question(texts), run_id=uuid.uuid4())
        run.get_child().on_chat_model_start({"name": "never"}, [question(texts)["messages"]])

    bad = {e.__name__: e for e in (failed, cancelled, aborted, dropped, never_ended)}
    others = {"good": [ended], "mixed": [*bad.values()]}.get(kind) or [bad[kind]]
    for other in itertools.cycle(others):
        yield ended
        yield other


def _trim() -> None:
    """Give back to the system what glibc's allocator keeps though nothing is in it; nothing on other systems."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def work(mode: str, endings_kind: str, invocations: int, seed: int) -> None:
    """Run in this process; print the checkpoints, `Point`s, as one list of JSON."""
    import mlflow
    from sink import counting_store

    store, texts, endings = counting_store(), Texts(seed), _endings(endings_kind)
    points = []
    with modes.MODES[mode].open() as callbacks:
        for checkpoint in range(1, CHECKPOINTS + 1):
            cpu = time.process_time()
            for _ in range(invocations // CHECKPOINTS):
                next(endings)(callbacks, texts)
            cpu_s = time.process_time() - cpu
            mlflow.flush_trace_async_logging()
            store.take(0, 0)
            gc.collect()
            rss_mb = _rss_mb()
            _trim()
            points.append(
                Point(
                    invocations=checkpoint * (invocations // CHECKPOINTS),
                    rss_mb=rss_mb,
                    trimmed_mb=_rss_mb(),
                    objects=len(gc.get_objects()),
                    cpu_s=cpu_s,
                )
            )
    print(json.dumps([asdict(point) for point in points]), flush=True)


def _slope(points: list[Point], value: Callable[[Point], float]) -> float:
    """By how much a value grows per 1,000 invocations: least squares."""
    at = [point.invocations / 1_000 for point in points]
    return statistics.linear_regression(at, [value(point) for point in points]).slope


def compare_slopes(mode_names: list[str], endings: str, invocations: int, seed: int) -> str:
    """A table of slopes per 1,000 invocations, least squares over the checkpoints of the second half."""
    rows = []
    for mode in mode_names:
        program = str(Path(__file__).with_name("run.py"))
        command = [sys.executable, program, "soak-worker", mode, endings, str(invocations), str(seed)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        points = [Point(**point) for point in json.loads(done.stdout.splitlines()[-1])][WARM_UP:]
        rows.append(
            [
                mode,
                f"{_slope(points, lambda point: point.rss_mb):.2f}",
                f"{_slope(points, lambda point: point.trimmed_mb):.2f}",
                f"{_slope(points, lambda point: point.objects):.0f}",
                f"{points[-1].rss_mb:.0f}",
                str(points[-1].objects),
            ]
        )
    header = ["mode", "MB per 1,000", "trimmed, MB per 1,000", "objects per 1,000", "RSS at the end, MB", "objects"]
    title = f"### soak, {invocations} invocations of 3 model nodes, endings {endings}"
    return f"{title}\n\n{markdown(header, rows)}\n"
