"""Agents that tools call, and graphs that nodes call: whose the calls are, and which entries hold for them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from agents import PLACES, SECRET, asking, calls, clinic, in_a_tool, one_node_graph
from fake_models import MINI, MINI_USD, SONNET, SONNET_USD, FakeChat, FakeStream
from langchain.agents import create_agent, factory
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from stored_traces import all_traces, model_spans, only_trace, root_of
from ways import ASK, RUN, given

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary

CLINIC_NODES = {"model": 2 * MINI_USD, "tools/doctor/model": SONNET_USD, "tools/nurse/model": MINI_USD}


def breakdown(summary: Any) -> dict[str, float]:
    return {name: node.cost_usd for name, node in summary.node_breakdown.items()}


def by_node(trace: Any) -> list[str]:
    return sorted({span.attributes["policy.node"] for span in model_spans(trace)})


# --- costs ----------------------------------------------------------------------------------------------------------


ALL_RUN: dict[str, Callable[[Any, Any], Any]] = {
    **RUN,
    "messages": lambda graph, config: list(graph.stream(ASK, config, stream_mode="messages", subgraphs=True)),
    "batch": lambda graph, config: graph.batch([ASK], config),
}


@pytest.mark.parametrize("chat", [FakeChat, FakeStream])
@pytest.mark.parametrize("run", ALL_RUN.values(), ids=list(ALL_RUN))
def test_agents_of_two_tools_are_two_nodes(store: str, run: Any, chat: type[FakeChat]) -> None:
    """Asked at once, in threads or tasks, each has the costs of its own model, live and stored."""
    handler = MlflowCostHandler()
    run(clinic(chat), given(handler))

    expected = {name: pytest.approx(float(usd), rel=1e-9) for name, usd in CLINIC_NODES.items()}
    assert breakdown(handler.summary()) == expected
    assert breakdown(cost_summary()) == expected


def test_exported_in_threads(exported_in_threads: str) -> None:
    """The same with MLflow's own export, and two invocations at once."""
    handler = MlflowCostHandler()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda graph: graph.invoke(ASK, given(handler)), [clinic(), clinic()]))

    assert [sorted(CLINIC_NODES)] * 2 == [by_node(trace) for trace in all_traces()]
    assert breakdown(cost_summary()) == breakdown(handler.summary(cost_summary().trace_id))


def test_an_agent_asked_by_an_agent(store: str) -> None:
    """Each is a segment, one within the other, and told apart from the same agent asked directly."""
    nurse = create_agent(FakeChat(answers=["all is well"]), [], name="nurse")
    doctor = create_agent(
        FakeChat(model=SONNET, answers=[calls("ask_nurse"), SECRET]), [asking(nurse, "ask_nurse")], name="doctor"
    )
    clinic(doctor=doctor, nurse=nurse).invoke(ASK, given(MlflowCostHandler()))

    assert by_node(only_trace()) == [
        "model",
        "tools/doctor/model",
        "tools/doctor/tools/nurse/model",
        "tools/nurse/model",
    ]


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
@pytest.mark.parametrize("place", PLACES)
def test_only_what_a_tool_calls_is_in_the_path(store: str, place: str, is_async: bool) -> None:
    """A graph that a node calls is that node's subgraph; one that a tool calls is told apart by its name."""
    build, graph, expected = PLACES[place]
    if is_async and place == "in a tool that a node calls":
        pytest.skip("the tool is a sync node's")
    handler = MlflowCostHandler()
    if is_async:
        asyncio.run(build(graph).ainvoke(ASK, given(handler)))
    else:
        build(graph).invoke(ASK, given(handler))

    assert expected in by_node(only_trace())
    assert expected in handler.summary().node_breakdown


def test_a_name_for_one_invocation_is_no_agent_s(store: str) -> None:
    """What an invocation is called may hold anything, and is not what the graph is called."""
    graph = one_node_graph("report")

    def ask(question: str) -> str:
        """Ask."""
        config: Any = {"run_name": "of Tuesday"}
        return str(graph.invoke({"messages": [("user", question)]}, config)["messages"][-1].content)

    create_agent(FakeChat(answers=[calls("ask"), "done"]), [tool(ask)]).invoke(ASK, given(MlflowCostHandler()))

    assert "tools/report/write" in by_node(only_trace())


def test_a_plain_graph_below_an_agent_has_not_its_name(store: str) -> None:
    """LangChain's `lc_agent_name` is inherited by all that runs below an agent; the path is not told by it."""
    plain = asking(one_node_graph(None), "plain")
    doctor = create_agent(FakeChat(answers=[calls("plain"), "done"]), [plain], name="doctor")
    in_a_tool(doctor).invoke(ASK, given(MlflowCostHandler()))

    assert by_node(only_trace()) == ["model", "tools/doctor/model", "tools/doctor/tools/write"]


def test_an_agent_that_is_resumed(store: str) -> None:
    """After an interrupt within it the agent is the same node."""
    model = FakeChat()

    def write(state: MessagesState) -> Any:
        model.invoke(state["messages"])
        return {"messages": [("ai", f"{interrupt('go on?')}")]}

    inner: Any = StateGraph(MessagesState).add_node("write", write).add_edge(START, "write").compile(name="report")
    graph: Any = create_agent(
        FakeChat(answers=[calls("ask"), "done"]), [asking(inner, "ask")], checkpointer=InMemorySaver()
    )
    handler = MlflowCostHandler()
    config: Any = given(handler, configurable={"thread_id": "t"})
    graph.invoke(ASK, config)
    graph.invoke(Command(resume="yes"), config)

    assert [by_node(trace) for trace in all_traces()] == [["model", "tools/report/write"]] * 2


# --- policies -------------------------------------------------------------------------------------------------------


PRIVATE = {"log_prompts": False}
MEETING = ["doctor", "tools/doctor", "tools/doctor/model", "doc*", "**/doctor/model"]
MEETING_BEFORE = ["tools/model", "tools", "tools/*", "tools/**", "*/model"]


def stored_levels(policy: Any, graph: Any = None) -> dict[str, bool]:
    """Node to whether its prompts are stored."""
    (graph or clinic()).invoke(ASK, given(MlflowCostHandler(policy)))
    return {
        span.attributes["policy.node"]: bool(span.attributes["policy.log_prompts"])
        for span in model_spans(only_trace())
    }


@pytest.mark.parametrize("entry", MEETING)
def test_an_entry_for_an_agent_holds_for_it_alone(store: str, entry: str) -> None:
    """By its name, its path, its nodes' paths and globs."""
    assert stored_levels({"nodes": {entry: PRIVATE}}) == {
        "model": True,
        "tools/doctor/model": False,
        "tools/nurse/model": True,
    }


@pytest.mark.parametrize("entry", MEETING_BEFORE)
def test_an_entry_that_knows_of_no_agents_holds_for_all(store: str, entry: str) -> None:
    """What met an agent's nodes when agents were not in the path still does."""
    assert stored_levels({"nodes": {entry: PRIVATE}}) == {
        "model": True,
        "tools/doctor/model": False,
        "tools/nurse/model": False,
    }


def test_an_older_entry_and_an_agent_s(store: str) -> None:
    """The path of the agent's node names a deeper node than the agent's name."""
    levels = stored_levels({"nodes": {"tools/model": PRIVATE, "doctor": {"log_prompts": True}}})

    assert levels == {"model": True, "tools/doctor/model": False, "tools/nurse/model": False}


@pytest.mark.parametrize("place", ["in a node's function", "as a node"])
def test_a_subgraph_s_name_is_a_pattern_too(store: str, place: str) -> None:
    """A graph that a node calls can be meant by the graph's name as well as by the node's."""
    build, graph, node = PLACES[place]

    assert stored_levels({"nodes": {"report": PRIVATE}}, build(graph)) == {node: False}


def test_what_a_private_agent_says_is_nowhere(store: str) -> None:
    """Neither in its own spans nor in the tool's answer, the next prompt and the root's output."""
    clinic().invoke(ASK, given(MlflowCostHandler({"artifact_level": "full", "nodes": {"doctor": PRIVATE}})))
    trace = only_trace()

    assert "Quillfeather" not in str(trace.to_dict())
    assert "all is well" in str(trace.to_dict())


def test_it_is_there_without_the_entry(store: str) -> None:
    """The control of the test before."""
    clinic().invoke(ASK, given(MlflowCostHandler({"artifact_level": "full"})))

    assert "Quillfeather" in str(only_trace().to_dict())


@pytest.mark.skipif("lc_agent_name" not in inspect.getsource(factory), reason="this LangChain does not say it")
def test_a_handler_in_the_model_of_an_agent(store: str) -> None:
    """A handler that hears of nothing but a model knows by LangChain's word in which agent it is."""
    handler = MlflowCostHandler({"nodes": {"doctor": PRIVATE}})
    doctor = create_agent(FakeChat(model=SONNET, answers=[SECRET], callbacks=[handler]), [], name="doctor")
    clinic(doctor=doctor).invoke(ASK)

    # MLflow's own tracer records the graph around it, and what it heard from others is not this handler's.
    told = [span for trace in all_traces() for span in model_spans(trace)]
    levels = {span.attributes.get("policy.node"): span.attributes.get("policy.log_prompts") for span in told}
    assert levels["tools/model"] is False
    assert "Quillfeather" not in str([trace.to_dict() for trace in all_traces()])


# --- budgets --------------------------------------------------------------------------------------------------------


def asked_in_turn(asked: str = MINI) -> Any:
    """Two agents, one after the other."""
    doctor = create_agent(FakeChat(model=asked), [], name="doctor")
    nurse = create_agent(FakeChat(model=asked), [], name="nurse")
    model = FakeChat(answers=[calls("ask_doctor"), calls("ask_nurse"), "done"])
    return create_agent(model, [asking(doctor, "ask_doctor"), asking(nurse, "ask_nurse")])


ALMOST_TWO = float(MINI_USD) * 1.5


@pytest.mark.parametrize("entry", ["tools/model", "tools/*", "tools"])
def test_a_budget_that_knows_of_no_agents_is_one_for_all(store: str, entry: str) -> None:
    """Two agents do not have it twice: it is not more than it was."""
    handler = MlflowCostHandler({"nodes": {entry: {"budget": {"max_cost_usd": ALMOST_TWO}}}})
    asked_in_turn().invoke(ASK, given(handler))
    graph = asked_in_turn()
    with pytest.raises(BudgetExceededError) as refusal:
        graph.invoke(ASK, given(MlflowCostHandler({"nodes": {entry: {"budget": {"max_cost_usd": float(MINI_USD)}}}})))

    assert refusal.value.node == "tools/nurse/model"


@pytest.mark.parametrize("entry", ["nurse", "tools/nurse", "tools/nurse/model"])
def test_a_budget_of_an_agent_is_its_own(store: str, entry: str) -> None:
    """What others spend does not count in it."""
    handler = MlflowCostHandler({"nodes": {entry: {"budget": {"max_cost_usd": 1.001 * float(MINI_USD)}}}})
    asked_in_turn().invoke(ASK, given(handler))
    too_small = MlflowCostHandler({"nodes": {entry: {"budget": {"max_cost_usd": 0.00000001}}}})
    with pytest.raises(BudgetExceededError) as refusal:
        asked_in_turn().invoke(ASK, given(too_small))

    assert handler.summary().llm_calls == 5
    assert (refusal.value.node, too_small.summary().llm_calls) == ("tools/nurse/model", 3)


def test_a_budget_of_each_node_is_one_of_each_agent(store: str) -> None:
    """`scope: node` tells agents apart: each may spend what one call costs; an entry for both may not."""
    one_call = {"budget": {"max_cost_usd": float(SONNET_USD), "scope": "node"}}
    asked_in_turn(SONNET).invoke(ASK, given(MlflowCostHandler(one_call)))
    both = {"nodes": {"tools/model": {"budget": {"max_cost_usd": float(SONNET_USD)}}}}
    with pytest.raises(BudgetExceededError) as refusal:
        asked_in_turn(SONNET).invoke(ASK, given(MlflowCostHandler(both)))

    assert refusal.value.node == "tools/nurse/model"


def test_the_root_has_the_sum_of_all(store: str) -> None:
    """The trace's own sum is that of its nodes."""
    clinic().invoke(ASK, given(MlflowCostHandler()))

    assert root_of(only_trace()).attributes["cost.total_usd"] == pytest.approx(
        float(sum(CLINIC_NODES.values())), rel=1e-9
    )
