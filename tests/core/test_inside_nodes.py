"""What runs inside a node is under the node's entry, whatever it is called with."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from fake_models import FakeChat
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from stored_traces import all_traces, only_trace

from langchain_mlflow_cost import MlflowCostHandler

SECRET = "the merger of Acme and Globex is planned for the third of May"
PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}


def everything(traces: list[Any]) -> str:
    return json.dumps([trace.to_dict() for trace in traces], default=str)


def graph(**nodes: Any) -> Any:
    builder, before = StateGraph(MessagesState), START
    for name, function in nodes.items():
        builder.add_node(name, function).add_edge(before, name)
        before = name
    return builder


@pytest.mark.parametrize("method", ["invoke", "stream"])
def test_the_handler_passed_again_in_a_node(store: str, method: str) -> None:
    """It is the same invocation: one trace, one sum, and the node's policy."""
    handler = MlflowCostHandler(PRIVATE)
    model = FakeChat(answers=[SECRET])

    def quiet(state: MessagesState) -> dict[str, Any]:
        answer = getattr(model, method)("x", {"callbacks": [handler]})
        return {"messages": [AIMessage(answer.text if method == "invoke" else "".join(part.text for part in answer))]}

    graph(quiet=quiet).compile().invoke({"messages": [("user", "hi")]}, {"callbacks": [handler]})
    trace = only_trace()

    assert handler.summary().llm_calls == 1
    assert [*handler.summary().node_breakdown] == ["quiet"]
    assert SECRET not in everything([trace])


def test_a_nested_graph_with_a_thread_of_its_own(store: str) -> None:
    """LangGraph tells its nodes without the outer one; the outer node's entry holds all the same."""
    handler = MlflowCostHandler(PRIVATE)
    inner = graph(agent=lambda s: {"messages": [FakeChat(answers=[SECRET]).invoke(s["messages"])]}).compile(
        checkpointer=InMemorySaver()
    )

    def quiet(state: MessagesState) -> dict[str, Any]:
        inner.invoke({"messages": [("user", "hello")]}, {"configurable": {"thread_id": "own"}})
        return {}

    graph(quiet=quiet).compile().invoke({"messages": [("user", "hi")]}, {"callbacks": [handler]})

    assert [*handler.summary().node_breakdown] == ["quiet/agent"]
    assert SECRET not in everything([only_trace()])


def test_a_resumed_thread(store: str) -> None:
    """What a private node said before an interrupt is not in the trace of the invocation that goes on."""
    handler = MlflowCostHandler(PRIVATE)

    def quiet(state: MessagesState) -> dict[str, Any]:
        return {"messages": [FakeChat(answers=[SECRET]).invoke(state["messages"])]}

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("user", interrupt("go on?"))]}

    app = graph(quiet=quiet, ask=ask).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "t"}}
    app.invoke({"messages": [("user", "hi")]}, config)
    app.invoke(Command(resume="surely"), config)
    traces = all_traces()

    assert len(traces) == 2
    assert SECRET not in everything(traces)
    assert "surely" in everything(traces)


@pytest.mark.parametrize(
    "said",
    [{"id": SECRET}, {"role": SECRET}, {"number": 4111222233334444555}, {"list": SECRET.split()}],
    ids=["a field named id", "a field named role", "a long number", "a word in each member"],
)
def test_every_argument_is_heard(store: str, said: dict[str, Any]) -> None:
    """Whatever the field of a tool's arguments is called, it holds the model's words."""
    handler = MlflowCostHandler(PRIVATE)
    call = AIMessage("", tool_calls=[{"name": "save", "args": said, "id": "c1"}])

    def quiet(state: MessagesState) -> dict[str, Any]:
        return {"messages": [FakeChat(answers=[call]).invoke(state["messages"])]}

    graph(quiet=quiet).compile().invoke({"messages": [("user", "hi")]}, {"callbacks": [handler]})
    stored = everything([only_trace()])

    assert SECRET not in stored
    assert "merger" not in stored
    assert "4111222233334444555" not in stored


def test_a_copy_of_a_config_holds_the_same_handler() -> None:
    """A copied graph or config belongs to the same invocations, budgets and sums."""
    handler = MlflowCostHandler()

    assert copy.deepcopy({"callbacks": [handler]})["callbacks"][0] is handler


def test_a_pickled_handler_has_the_same_policy() -> None:
    """It crosses to another process as its policy."""
    handler = MlflowCostHandler({"redact_pii": True})

    assert pickle.loads(pickle.dumps(handler)).policy == handler.policy
