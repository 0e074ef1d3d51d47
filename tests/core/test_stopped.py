"""Whether a budget stopped it: in the live summary, the stored one, on the root and in what MLflow's search finds."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat, FakeStream
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import all_traces, only_trace, plain, root_of, stored
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary, trace_decorator

if TYPE_CHECKING:
    from collections.abc import Callable

TRACE = {"budget": {"max_cost_usd": 0.0001}}
NODE = {"nodes": {"second": {"budget": {"max_cost_usd": 0.0001, "scope": "node"}}}}
SESSION = {"budget": {"max_cost_usd": 0.0001, "scope": "session"}}
BUDGETS = {"trace": TRACE, 'node "second"': NODE, "session": SESSION}


def forgiving_graph() -> Any:
    """Each node calls a model twice, and goes on whatever the second call says."""
    model = FakeChat()

    def node(state: MessagesState) -> Any:
        model.invoke(state["messages"][:1])
        try:
            model.invoke(state["messages"][:1])
        except BudgetExceededError:
            return {"messages": [("ai", "never mind")]}
        return {"messages": [("ai", "fine")]}

    graph = StateGraph(MessagesState)
    graph.add_node("second", node)
    graph.add_edge(START, "second")
    return graph.compile()


def found_by(words: str) -> int:
    mlflow.flush_trace_async_logging()
    found = mlflow.search_traces(filter_string=f"metadata.`cost.stopped_by` = '{words}'", return_type="list")
    return len(found)


@pytest.mark.parametrize("words", BUDGETS)
def test_stopped_is_seen_where_the_error_was_swallowed(store: str, words: str) -> None:
    """The budget stands in both summaries, on the root and in the trace's metadata, in words without a thread's id."""
    handler = MlflowCostHandler(BUDGETS[words])
    forgiving_graph().invoke(ASK, given(handler, configurable={"thread_id": "thread-7"}))
    live = handler.summary()
    trace = stored(live.trace_id)

    assert live.stopped_by == words
    assert cost_summary(live.trace_id).stopped_by == words
    assert plain(root_of(trace).attributes["cost.stopped_by"]) == words
    assert trace.info.trace_metadata["cost.stopped_by"] == words
    assert [span.name for span in trace.data.spans if "cost.stopped_by" in span.attributes] == [root_of(trace).name]


def test_stopped_is_found_by_search(exported_in_threads: str) -> None:
    """With MLflow's default export, its search finds the traces that a budget stopped, and no other."""
    graph = forgiving_graph()
    graph.invoke(ASK, given(MlflowCostHandler(TRACE)))
    graph.invoke(ASK, given(MlflowCostHandler()))

    assert len(all_traces()) == 2
    assert found_by("trace") == 1


def test_stopped_by_a_raised_error(store: str) -> None:
    """Where the error ends the graph it is the same."""
    model, handler = FakeChat(), MlflowCostHandler(TRACE)
    graph = one_node(lambda state: [model.invoke(state["messages"]), model.invoke(state["messages"])])
    with pytest.raises(BudgetExceededError):
        graph.invoke(ASK, given(handler))

    assert handler.summary().stopped_by == cost_summary().stopped_by == "trace"


def test_a_stream_that_was_stopped(store: str) -> None:
    """A stream that passed the limit was stopped by its budget."""
    model, handler = FakeStream(answers=["word " * 400]), MlflowCostHandler({"budget": {"max_cost_usd": 0.00001}})
    graph = one_node(lambda state: list(model.stream(state["messages"])))
    with pytest.raises(BudgetExceededError):
        graph.invoke(ASK, given(handler))

    assert handler.summary().stopped_by == cost_summary().stopped_by == "trace"


@pytest.mark.parametrize(
    "policy", [{}, {"budget": {"max_cost_usd": 1}}, {"budget": {"max_cost_usd": 0.0001, "on_exceeded": "warn"}}]
)
@pytest.mark.filterwarnings("ignore:budget of trace exceeded")
def test_not_stopped(store: str, policy: dict[str, Any]) -> None:
    """Without a refusal nothing is said, and nothing is found."""
    handler = MlflowCostHandler(policy)
    forgiving_graph().invoke(ASK, given(handler))
    trace = only_trace()

    assert handler.summary().stopped_by is None
    assert cost_summary().stopped_by is None
    assert "cost.stopped_by" not in trace.info.trace_metadata
    assert "cost.stopped_by" not in root_of(trace).attributes


def test_the_span_around_says_it_too(store: str) -> None:
    """The root of a trace is the user's own span where there is one."""
    handler = MlflowCostHandler(TRACE)

    @trace_decorator("endpoint")
    def endpoint() -> None:
        forgiving_graph().invoke(ASK, given(handler))

    endpoint()
    root = root_of(only_trace())

    assert root.name == "endpoint"
    assert plain(root.attributes["cost.stopped_by"]) == "trace"
    assert cost_summary().stopped_by == "trace"


def test_a_private_trace_says_it_too(store: str) -> None:
    """A trace that is held back for a private node has it as well, whatever that node was told."""
    policy = {**TRACE, "nodes": {"second": {"log_prompts": False}}}
    handler = MlflowCostHandler(policy)
    forgiving_graph().invoke({"messages": [("user", "trace")]}, given(handler))
    trace = only_trace()

    assert plain(root_of(trace).attributes["cost.stopped_by"]) == "trace"
    assert trace.info.trace_metadata["cost.stopped_by"] == "trace"


def test_traces_of_threads_are_told_apart(store: str) -> None:
    """Of two invocations at once, the one that was stopped says so."""
    handler, graph = MlflowCostHandler(NODE), forgiving_graph()
    calm = one_node(lambda state: FakeChat().invoke(state["messages"]))
    runs: list[Callable[[], Any]] = [
        lambda: graph.invoke(ASK, given(handler)),
        lambda: calm.invoke(ASK, given(handler)),
    ]
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stops = [handler.summary(trace.info.trace_id).stopped_by for trace in all_traces()]

    assert sorted(stops, key=str) == [None, 'node "second"']


def test_the_error_of_a_budget_cannot_act(store: str) -> None:
    """A traceback that names a node with an escape in its name clears no screen."""
    graph = StateGraph(MessagesState)
    graph.add_node("a\x1b[2Jb", lambda _: {"messages": [FakeChat().invoke("go")]})
    graph.add_edge(START, "a\x1b[2Jb")
    with pytest.raises(BudgetExceededError) as refusal:
        graph.compile().invoke(ASK, given(MlflowCostHandler({"budget": {"max_cost_usd": 0}})))

    assert r"a\x1b[2Jb" in str(refusal.value)
    assert "\x1b" not in str(refusal.value)
