"""However invocations end, what is kept of them does not grow with their number."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat, FakeStream
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.tracking._tracking_service.utils import _tracking_store_registry
from stored_traces import KeepingNothing
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, limits
from langchain_mlflow_cost.budgets.local import Reservation
from langchain_mlflow_cost.pricing.ledger import Ledger
from langchain_mlflow_cost.redaction import Redactor
from langchain_mlflow_cost.redaction.private_text import PrivateText
from langchain_mlflow_cost.tracing.calls import ModelCall
from langchain_mlflow_cost.tracing.guard import GuardedSpan
from langchain_mlflow_cost.tracing.runs import RUNS, Run
from langchain_mlflow_cost.tracing.session import Sessions
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import TraceInfo

INVOCATIONS = 150
KEPT = 4
"""Summaries that a handler still tells, here."""
SLACK = 4
"""Objects of a class that may be alive for other reasons: the last run of a thread, a cached class's first span."""
LET_GO = (Run, ModelCall, SpanState, GuardedSpan, Redactor, PrivateText, Reservation)
REMEMBERED = (Trace, Ledger)


class Broken(RuntimeError):  # noqa: N818 - it is not the application that is tested
    """What the application here raises."""


class ForgettingStore(KeepingNothing):
    """Counts the traces that MLflow exports to it: a database would take most of the time, and is not tested here."""

    traces = 0

    def start_trace(self, trace_info: TraceInfo) -> TraceInfo:
        self.traces += 1
        return super().start_trace(trace_info)


@pytest.fixture
def forgetting(clean_mlflow: None, monkeypatch: pytest.MonkeyPatch) -> ForgettingStore:
    """The store that MLflow exports to during the test."""
    store = ForgettingStore()  # type: ignore[abstract]
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    # No public function registers a scheme but an entry point, which needs an installed package.
    uri = f"forgetting{id(store)}"
    _tracking_store_registry.register(uri, lambda *_, **__: store)
    mlflow.set_tracking_uri(f"{uri}://here")
    return store


def good(configs: list[Any]) -> None:
    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    for config in configs:
        graph.invoke(ASK, config)


def raising(configs: list[Any]) -> None:
    model = FakeChat()

    def node(state: MessagesState) -> None:
        model.invoke(state["messages"])
        raise Broken("the reason why")

    graph = one_node(node)
    for config in configs:
        with pytest.raises(Broken):
            graph.invoke(ASK, config)


def dropped(configs: list[Any]) -> None:
    model = FakeStream(answers=["some words in all"])
    graph = one_node(lambda state: list(model.stream(state["messages"])))
    for config in configs:
        next(graph.stream(ASK, config, stream_mode="messages"))


def cancelled(configs: list[Any]) -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def never() -> None:
            asked.set()
            await asyncio.Event().wait()

        model = FakeChat(before_async=never)

        async def node(state: MessagesState) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        graph: Any = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
        for config in configs:
            asked.clear()
            task = asyncio.create_task(graph.ainvoke(ASK, config))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def alive() -> Counter[type]:
    gc.collect()
    return Counter(type(thing) for thing in gc.get_objects() if type(thing) in {*LET_GO, *REMEMBERED})


@pytest.mark.nightly
@pytest.mark.parametrize("ending", [good, raising, dropped, cancelled], ids=lambda ending: ending.__name__)
def test_nothing_grows(ending: Callable[[list[Any]], None], forgetting: ForgettingStore) -> None:
    """No run stays open, no span active, and of the objects of many invocations only the kept summaries are alive."""
    handlers = [
        MlflowCostHandler({"redact_pii": True, "budget": {"max_cost_usd": 1}}),
        MlflowCostHandler({"artifact_level": "full", "nodes": {"node": {"log_prompts": False}}}),
    ]
    before = alive()
    with limits.replaced(kept_summaries=KEPT):
        ending([given(handlers[number % 2]) for number in range(INVOCATIONS)])
        mlflow.flush_trace_async_logging()

    assert forgetting.traces == INVOCATIONS
    assert len(RUNS) == 0
    assert mlflow.get_current_active_span() is None
    grown = alive() - before
    assert {kind.__name__: grown[kind] for kind in LET_GO if grown[kind] > SLACK} == {}
    allowed = len(handlers) * KEPT + SLACK
    assert {kind.__name__: grown[kind] for kind in REMEMBERED if grown[kind] > allowed} == {}
    assert all(handler.summary().llm_calls == 1 for handler in handlers)


@pytest.mark.nightly
def test_what_is_open_is_counted(forgetting: ForgettingStore) -> None:
    """The count of the test above sees each of the classes while an invocation is under way."""
    model = FakeStream(answers=["some words in all"])
    graph = one_node(lambda state: list(model.stream(state["messages"])))
    before, seen = alive(), Counter[type]()
    model.between = lambda number: seen.update(alive() - before if number == 0 else ())
    graph.invoke(
        ASK, given(MlflowCostHandler({"budget": {"max_cost_usd": 1}, "nodes": {"node": {"log_prompts": False}}}))
    )

    assert [kind.__name__ for kind in (*LET_GO, *REMEMBERED) if not seen[kind]] == []


def test_private_text_of_sessions_is_bounded() -> None:
    """What was private in the sessions that were longest not heard of goes first, by number and by length."""
    sessions = Sessions()
    with limits.replaced(sessions=3, private_chars=50):
        for name in ("a", "b", "c", "a", "d"):
            sessions.of(name).text.add(f"said in {name}")
            sessions.count(name)

        assert sessions.in_full() == ["c", "a", "d"]
        sessions.of("a").text.add("x" * 40)
        sessions.count("a")
        assert sessions.in_full() == ["a"]
