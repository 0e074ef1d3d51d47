"""`Policy.check(graph)`: what a policy means for a graph, before anything runs, and the nodes that then do run."""

from __future__ import annotations

from typing import Any

import pytest
from agents import PLACES, asking, clinic, one_node_graph
from fake_models import FakeChat
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from ways import ASK, given, team_graph

from langchain_mlflow_cost import MlflowCostHandler, Policy

PRIVATE = {"log_prompts": False}


def checked(graph: Any, *entries: str) -> Any:
    return Policy.load({"nodes": dict.fromkeys(entries, PRIVATE)}).check(graph)


def nodes(graph: Any) -> list[str]:
    return [each.node for each in checked(graph).nodes]


def verdicts(graph: Any, *entries: str) -> dict[str, str]:
    return {each.entry: each.verdict for each in checked(graph, *entries).entries}


@entrypoint()
def flow(topics: list[str]) -> list[str]:
    """A workflow of the functional API."""
    return [work(topic).result() for topic in topics]


@task
def work(topic: str) -> str:
    """A task of it."""
    return str(FakeChat().invoke(topic).content)


class Desk:
    """A node's function that is a method, and finds its agent on its object."""

    def __init__(self, agent: Any) -> None:
        self.agents = {"report": agent}

    def __call__(self, state: Any) -> Any:
        return self.agents["report"].invoke(state)

    def answer(self, state: Any) -> Any:
        return self.agents["report"].invoke(state)


class Asking(BaseTool):
    """A tool with a class of its own."""

    name: str = "ask"
    description: str = "Ask."
    agent: Any = None

    def _run(self, question: str) -> str:
        return str(self.agent.invoke({"messages": [("user", question)]})["messages"][-1].content)


def one(node: Any) -> Any:
    return StateGraph(MessagesState).add_node("desk", node).add_edge(START, "desk").compile()


REPORT = one_node_graph("report")
GRAPHS: dict[str, tuple[Any, Any, list[str]]] = {
    "subgraphs": (team_graph(), ASK, ["plan", "search", "judge", "team", "team/researcher", "team/desk/writer"]),
    "agents of tools": (clinic(), ASK, ["model", "tools", "tools/doctor/model", "tools/nurse/model"]),
    "functional": (flow, ["a"], ["flow", "flow/work"]),
    "a callable object": (one(Desk(REPORT)), ASK, ["desk", "desk/write"]),
    "a method": (one(Desk(REPORT).answer), ASK, ["desk", "desk/write"]),
    "a lambda": (one(RunnableLambda(lambda state: REPORT.invoke(state, {}))), ASK, ["desk", "desk/write"]),
    "a chain": (one(RunnableLambda(lambda state: state) | REPORT), ASK, ["desk", "desk/write"]),
    **{f"{place}, built": (build(graph), ASK, [path]) for place, (build, graph, path) in PLACES.items()},
}


@pytest.mark.parametrize("case", GRAPHS)
def test_the_nodes_that_run_are_those_that_were_seen(store: str, case: str) -> None:
    """Each node with a call is among them, at the path that its costs have."""
    graph, given_to, expected = GRAPHS[case]
    seen = nodes(graph)
    handler = MlflowCostHandler()
    graph.invoke(given_to, given(handler))

    assert set(expected) <= set(seen)
    assert set(handler.summary().node_breakdown) <= set(seen)


def test_a_tool_of_a_class_of_its_own() -> None:
    """What its method finds on the tool."""
    graph = create_agent(FakeChat(), [Asking(agent=create_agent(FakeChat(), [], name="doctor"))])

    assert "tools/doctor/model" in nodes(graph)


def test_an_entry_s_verdict() -> None:
    """What it meets, or that it meets none, with what was meant."""
    found = checked(clinic(), "doctor", "tools/model", "Nurse", "doctor/model", "summary").entries

    assert [str(each) for each in found] == [
        '"doctor" meets tools/doctor',
        '"tools/model" meets tools/doctor/model, tools/nurse/model',
        '"Nurse" meets no node; did you mean "nurse"?',
        '"doctor/model" meets no node; did you mean "**/doctor/model"?',
        '"summary" meets no node',
    ]
    assert not checked(clinic(), "summary").ok
    assert checked(clinic(), "doctor").ok


def made_at_run_time(state: Any) -> Any:
    return create_agent(FakeChat(), [], name="doctor").invoke(state)


def test_a_graph_that_is_made_at_run_time_cannot_be_known() -> None:
    """Neither that an entry for it is right nor that it is wrong; one that meets a node meets it all the same."""
    assert verdicts(one(made_at_run_time), "doctor", "desk") == {"doctor": "cannot be known", "desk": "meets"}
    assert checked(one(made_at_run_time), "doctor").ok
    assert "desk" in str(checked(one(made_at_run_time), "doctor"))


def test_an_agent_that_asks_itself_is_not_followed_for_ever() -> None:
    """How deep it goes is not known."""
    agents: dict[str, Any] = {}

    @tool
    def again(question: str) -> str:
        """Ask again."""
        return str(agents["doctor"].invoke({"messages": [("user", question)]}))

    agents["doctor"] = create_agent(FakeChat(), [again], name="doctor")

    assert verdicts(agents["doctor"], "tools", "nurse") == {"tools": "meets", "nurse": "cannot be known"}


def test_what_holds_for_each_node() -> None:
    """Level, prompts, budget and the entries that say so."""
    policy = Policy.load(
        {"artifact_level": "full", "nodes": {"doctor": PRIVATE, "tools": {"budget": {"max_cost_usd": 0.5}}}}
    )
    found = {each.node: each for each in policy.check(clinic()).nodes}

    assert str(found["tools/doctor/model"]) == (
        "tools/doctor/model: prompts never, level minimal, budget $0.5 a trace (by doctor, tools)"
    )
    assert str(found["model"]) == "model: prompts stored, level full"


def test_what_is_no_graph() -> None:
    """It says what it was given."""
    with pytest.raises(TypeError, match="found FakeChat"):
        checked(FakeChat())


def test_a_graph_that_is_not_compiled() -> None:
    """It is taken as it would be compiled."""
    assert nodes(StateGraph(MessagesState).add_node("desk", REPORT).add_edge(START, "desk")) == [
        "desk",
        "desk/write",
    ]


def test_asking_is_used() -> None:
    """A graph in a tool that a node's function calls directly."""
    asked = asking(create_agent(FakeChat(), [], name="doctor"), "ask")
    graph = one(lambda _: {"messages": [("ai", asked.invoke({"question": "how?"}))]})

    assert nodes(graph) == ["desk", "desk/doctor", "desk/doctor/model"]
