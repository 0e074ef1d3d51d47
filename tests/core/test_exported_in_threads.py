"""One claim of each kind with MLflow's export as it comes: in threads of its own, after the call has returned.

Elsewhere a fixture makes it synchronous, for speed. Channels under each policy: `privacy/test_sinks.py`, its first setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
from fake_models import MINI_USD, FakeChat, FakeStream
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import all_traces, forest, leaves_usd, model_spans, only_trace, root_of, statuses, use_experiment
from ways import ASK, TEAM_USD, given, one_node, run_way

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary

PRIVATE, OPEN = "bktdrwqzxvplmn is what only one node may know", "hgfdsqwzrtplkj may be stored"


def stored_bytes(uri: str) -> bytes:
    """The database, with all that MLflow had still to write."""
    mlflow.flush_trace_async_logging()
    return b"".join(path.read_bytes() for path in Path(uri.removeprefix("sqlite:///")).parent.glob("mlflow.db*"))


def saying(**answers: str) -> Any:
    """A graph with a node for each answer, in a row."""

    def node(answer: str) -> Any:
        model = FakeChat(answers=[answer])
        # Each is told what it will say, and nothing of the others.
        return lambda _: {"messages": [model.invoke(f"say: {answer}")]}

    graph = StateGraph(MessagesState)
    above = START
    for name, answer in answers.items():
        graph.add_node(name, node(answer))
        graph.add_edge(above, name)
        above = name
    return graph.compile()


@pytest.mark.sampled(is_in=lambda way: way == "agent")
@pytest.mark.parametrize("way", ["graph-invoke", "graph-ainvoke", "graph-in-threads", "agent"])
def test_ways_of_running(exported_in_threads: str, way: str) -> None:
    """The spans are autolog's, and each call is priced once."""
    paid = run_way(way, MlflowCostHandler({"artifact_level": "full"}))
    ours = all_traces()
    use_experiment("autolog alone")
    mlflow.langchain.autolog()
    run_way(way)

    assert forest(all_traces()) == forest(ours)
    assert sum(map(leaves_usd, ours)) == pytest.approx(float(paid.usd), rel=1e-9)


def test_private_node(exported_in_threads: str) -> None:
    """What a private node's model was told and said is in no byte; what the next one says is there."""
    handler = MlflowCostHandler({"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}})
    saying(quiet=PRIVATE, after=OPEN).invoke(ASK, given(handler))
    stored = stored_bytes(exported_in_threads)

    assert PRIVATE[:14].encode() not in stored
    assert OPEN.encode() in stored


def test_two_policies(exported_in_threads: str) -> None:
    """Of two handlers in turn, each governs its own invocation."""
    saying(node=PRIVATE).invoke(ASK, given(MlflowCostHandler({"artifact_level": "minimal"})))
    saying(node=OPEN).invoke(ASK, given(MlflowCostHandler({"artifact_level": "full"})))
    stored = stored_bytes(exported_in_threads)

    assert PRIVATE[:14].encode() not in stored
    assert OPEN.encode() in stored


def test_budget(exported_in_threads: str) -> None:
    """A call beyond the limit is not sent, and the stored trace has the sum until then."""
    model = FakeChat()
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 0.0001}})
    with pytest.raises(BudgetExceededError):
        one_node(lambda state: [model.invoke(state["messages"]) for _ in range(3)]).invoke(ASK, given(handler))

    assert len(model.requests) == 1
    assert root_of(only_trace()).get_attribute("cost.total_usd") == pytest.approx(float(MINI_USD), rel=1e-9)


def test_cost_summary(exported_in_threads: str) -> None:
    """The summary that is read from the store is the live one, without a flush by the caller."""
    handler = MlflowCostHandler()
    run_way("graph-invoke", handler)
    live = handler.summary()

    assert cost_summary(live.trace_id) == live
    assert live.total_cost_usd == pytest.approx(float(TEAM_USD), rel=1e-9)


def test_stream_left_early(exported_in_threads: str) -> None:
    """A stream that is left is stored whole, with what it cost by estimate."""
    handler = MlflowCostHandler()
    stream: Any = FakeStream(answers=["some words in all"]).stream("what is new?", given(handler))
    next(stream)
    stream.close()
    trace = only_trace()
    (span,) = model_spans(trace)

    assert set(statuses(trace).values()) == {"OK"}
    assert span.get_attribute("cost.estimated") is True
    assert cost_summary(trace.info.trace_id) == handler.summary()


def test_error(exported_in_threads: str) -> None:
    """A node that raises after its call: the call is paid for, the spans say that they failed."""

    def node(state: MessagesState) -> Any:
        FakeChat().invoke(state["messages"])
        raise LookupError("what the application raises")

    handler = MlflowCostHandler()
    with pytest.raises(LookupError):
        one_node(node).invoke(ASK, given(handler))
    trace = only_trace()

    assert {name: state for name, state in statuses(trace).items() if name != "FakeChat"} == {
        "LangGraph": "ERROR",
        "node": "ERROR",
    }
    assert leaves_usd(trace) == pytest.approx(float(MINI_USD), rel=1e-9)
