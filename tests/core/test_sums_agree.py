"""One trace with everything that counts differently: all places that tell what it cost say the same."""

from __future__ import annotations

import asyncio
import json
import sys
from decimal import Decimal
from typing import Any

import mlflow
import pytest
from fake_models import MINI_USD, SONNET, SONNET_USD, UNKNOWN, FakeChat
from langchain_core.caches import InMemoryCache
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.entities import SpanType
from stored_traces import mlflow_usd, nodes_usd, only_trace, root_of
from ways import ASK, given

from langchain_mlflow_cost import MlflowCostHandler, cost_summary
from langchain_mlflow_cost.cli import main

FEE = Decimal("0.008")
TOTAL = float(3 * MINI_USD + SONNET_USD + 2 * FEE)
"""A call, another library's, a late one; one of another model; two tools. The cached, estimated and unpriced ones apart."""


@tool
def search(word: str) -> str:
    """Search for a word."""
    return word


def other_library() -> None:
    with mlflow.start_span("call", span_type=SpanType.CHAT_MODEL) as span:
        span.set_attribute("mlflow.llm.model", "gpt-4o-mini")
        span.set_attribute("mlflow.llm.provider", "openai")
        usage = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
        span.set_attribute("mlflow.chat.tokenUsage", usage)
    with mlflow.start_span("search", span_type=SpanType.TOOL):
        pass


def run_everything(handler: MlflowCostHandler) -> None:
    async def main() -> None:
        tasks: list[Any] = []
        has_ended = asyncio.Event()
        cached = FakeChat(cache=InMemoryCache())

        async def work(state: MessagesState) -> Any:
            await cached.ainvoke("hi")
            await cached.ainvoke("hi")
            await FakeChat(model=SONNET).ainvoke("hi")
            await FakeChat(model=UNKNOWN).ainvoke("hi")
            await FakeChat(usage=None).ainvoke("hi")
            return {"messages": []}

        async def others(state: MessagesState) -> Any:
            await search.ainvoke({"word": "a"})
            other_library()
            tasks.append(asyncio.create_task(FakeChat(before_async=has_ended.wait).ainvoke("hi")))
            await asyncio.sleep(0.01)
            return {"messages": []}

        nodes: Any = StateGraph(MessagesState).add_node("work", work).add_node("others", others)
        await nodes.add_edge(START, "work").add_edge("work", "others").compile().ainvoke(ASK, given(handler))
        has_ended.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:no price is known", "ignore:no usage was reported")
def test_all_places_say_the_same(
    exported_in_threads: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Live, stored, on the root, in the trace's metadata, printed, reported, as metrics: one figure, one count each."""
    told: list[Any] = []
    handler = MlflowCostHandler({"prices": {"tools": {"search": float(FEE)}}}, on_cost=told.append)
    run_everything(handler)
    trace, live, stored = only_trace(), handler.summary(), cost_summary()
    root = root_of(trace).attributes
    report = reported(exported_in_threads, monkeypatch, capsys)
    estimated = live.estimated_usd

    assert 0 < estimated < 1e-5
    usd = TOTAL + estimated
    assert [usd] * 8 == pytest.approx(
        [
            live.total_cost_usd,
            stored.total_cost_usd,
            nodes_usd(live),
            nodes_usd(stored),
            mlflow_usd(trace),
            root["cost.total_usd"],
            live.as_metrics()["total_cost_usd"],
            report["cost_usd"],
        ],
        rel=1e-9,
    )
    assert live.model_dump(exclude=FLOATS) == stored.model_dump(exclude=FLOATS)
    assert [7, 1, 1, 1] == [root[f"cost.{kind}_calls"] for kind in ("llm", "cached", "unpriced", "estimated")]
    assert (live.llm_calls, live.cached_calls, live.unpriced_calls, live.estimated_calls) == (7, 1, 1, 1)
    assert live.tool_cost_usd == stored.tool_cost_usd == pytest.approx(float(2 * FEE), rel=1e-9)
    assert len(told) == 7
    assert sum(float(call.input_usd + call.output_usd) for call in told if call.input_usd is not None) == pytest.approx(
        usd - float(2 * FEE), rel=1e-9
    )
    counts = [report[f"{kind}calls"] for kind in ("", "cached_", "unpriced_", "estimated_")]
    assert (counts, report["tool_usd"]) == ([7, 1, 1, 1], pytest.approx(float(2 * FEE), rel=1e-9))
    assert "0.0279" in str(live)


FLOATS: Any = {"total_cost_usd", "estimated_usd", "tool_cost_usd", "node_breakdown"}


def reported(store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The total of `mlflow-cost report`."""
    words = ["mlflow-cost", "report", "--tracking-uri", store, "--experiment", "tests", "--format", "json"]
    monkeypatch.setattr(sys, "argv", words)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main()
    return json.loads(capsys.readouterr().out)["total"]
