"""LangGraph's retries of a node are counted, live and from the store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_models import FakeChat
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, Send
from stored_traces import only_trace
from ways import ASK, given

from langchain_mlflow_cost import MlflowCostHandler, cost_summary

TRIES = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=4, retry_on=ConnectionError)


def failing(times: int) -> Any:
    """A node that calls a model, and fails so many times after that."""
    model, left = FakeChat(), [times]

    def node(state: Any) -> Any:
        model.invoke("go")
        if left[0]:
            left[0] -= 1
            raise ConnectionError
        return {"messages": [("ai", "done")]}

    return node


def graph_of(**nodes: Any) -> Any:
    graph = StateGraph(MessagesState)
    for name, node in nodes.items():
        graph.add_node(name, node, retry_policy=TRIES)
        graph.add_edge(START, name)
    return graph.compile()


def retries(summary: Any) -> dict[str, tuple[int, int]]:
    return {name: (node.retries, node.calls) for name, node in summary.node_breakdown.items()}


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
def test_retries_are_counted(store: str, is_async: bool) -> None:
    """A node that failed twice was run again twice, and each of its calls is counted; another one was not."""
    handler, graph = MlflowCostHandler(), graph_of(flaky=failing(2), steady=failing(0))
    if is_async:
        asyncio.run(graph.ainvoke(ASK, given(handler)))
    else:
        graph.invoke(ASK, given(handler))

    assert retries(handler.summary()) == {"flaky": (2, 3), "steady": (0, 1)}
    assert retries(cost_summary()) == {"flaky": (2, 3), "steady": (0, 1)}


def test_the_span_says_which_attempt_it_was(store: str) -> None:
    """The first try of a node has no such attribute."""
    graph_of(flaky=failing(2)).invoke(ASK, given(MlflowCostHandler()))
    nodes = sorted((s for s in only_trace().data.spans if s.name == "flaky"), key=lambda s: s.start_time_ns)

    assert [span.attributes.get("cost.attempt") for span in nodes] == [None, 2, 3]


def test_a_node_that_runs_often_is_not_retried(store: str) -> None:
    """A fan-out and a loop run a node many times without a retry."""
    model, handler = FakeChat(), MlflowCostHandler()
    graph = StateGraph(MessagesState)
    graph.add_node("many", lambda _: {"messages": [model.invoke("go")]})
    graph.add_conditional_edges(START, lambda _: [Send("many", {})] * 3, ["many"])
    graph.add_conditional_edges("many", lambda state: "many" if len(state["messages"]) < 6 else "__end__")
    graph.compile().invoke(ASK, given(handler))

    assert handler.summary().node_breakdown["many"].calls > 3
    assert handler.summary().node_breakdown["many"].retries == 0


def test_a_failure_of_another_task_of_the_node_is_no_retry(store: str) -> None:
    """Of three tasks of one node, one failed once: one retry."""
    handler, node = MlflowCostHandler(), failing(1)
    graph = StateGraph(MessagesState)
    graph.add_node("many", node, retry_policy=TRIES)
    graph.add_conditional_edges(START, lambda _: [Send("many", {})] * 3, ["many"])
    graph.compile().invoke(ASK, given(handler))

    assert retries(handler.summary()) == retries(cost_summary()) == {"many": (1, 4)}


def test_a_subgraph_that_is_retried(store: str) -> None:
    """The retry is that of the outer node, whose graph runs anew; its inner nodes are not retried."""
    inner = StateGraph(MessagesState)
    inner.add_node("inner", failing(1))
    inner.add_edge(START, "inner")
    handler = MlflowCostHandler()
    graph_of(outer=inner.compile()).invoke(ASK, given(handler))

    assert retries(handler.summary()) == retries(cost_summary()) == {"outer/inner": (0, 2), "outer": (1, 0)}


def test_a_node_without_a_call_is_counted(store: str) -> None:
    """Its retries are told although it cost nothing."""
    left = [1]

    def fetch(_: Any) -> Any:
        if left.pop() if left else 0:
            raise ConnectionError
        return {"messages": [("ai", "done")]}

    handler = MlflowCostHandler()
    graph_of(fetch=fetch).invoke(ASK, given(handler))

    assert retries(handler.summary()) == retries(cost_summary()) == {"fetch": (1, 0)}
    assert "fetch" in str(handler.summary())
