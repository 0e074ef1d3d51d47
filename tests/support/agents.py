"""Agents that tools call, and named graphs in every place where a graph can run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fake_models import SONNET, FakeChat
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langgraph.graph import START, MessagesState, StateGraph

SECRET = "patient Quillfeather has hyperlobulated spondylarthrosis"


def asking(agent: Any, name: str, before: Callable[[], Any] | None = None) -> Any:
    """A tool that asks an agent, in sync and in async code."""

    def ask(question: str) -> str:
        """Ask."""
        if before is not None:
            before()
        return str(agent.invoke({"messages": [("user", question)]})["messages"][-1].content)

    async def ask_async(question: str) -> str:
        return str((await agent.ainvoke({"messages": [("user", question)]}))["messages"][-1].content)

    return StructuredTool.from_function(ask, ask_async, name=name, description="Ask.")


def calls(*names: str) -> AIMessage:
    """One answer that calls so many tools at once."""
    message = AIMessage("")
    message.tool_calls = [
        {"name": name, "args": {"question": "how?"}, "id": f"call-{at}", "type": "tool_call"}
        for at, name in enumerate(names)
    ]
    return message


def clinic(chat: type[FakeChat] = FakeChat, *, doctor: Any = None, nurse: Any = None) -> Any:
    """An agent that asks two others at once: `doctor`, of SONNET, and `nurse`, of MINI."""
    doctor = doctor or create_agent(chat(model=SONNET, answers=[SECRET]), [], name="doctor")
    nurse = nurse or create_agent(chat(answers=["all is well"]), [], name="nurse")
    tools = [asking(doctor, "ask_doctor"), asking(nurse, "ask_nurse")]
    return create_agent(chat(answers=[calls("ask_doctor", "ask_nurse"), "done"]), tools)


def one_node_graph(name: str | None, chat: FakeChat | None = None) -> Any:
    model = chat or FakeChat()
    graph = StateGraph(MessagesState)
    graph.add_node("write", lambda state: {"messages": [model.invoke(state["messages"])]})
    return graph.add_edge(START, "write").compile(name=name)


def in_a_tool(graph: Any) -> Any:
    return create_agent(FakeChat(answers=[calls("ask"), "done"]), [asking(graph, "ask")])


def in_a_tool_of_a_node(graph: Any) -> Any:
    asked = asking(graph, "ask")
    outer = StateGraph(MessagesState)
    outer.add_node("desk", lambda _: {"messages": [("ai", asked.invoke({"question": "how?"}))]})
    return outer.add_edge(START, "desk").compile()


def in_a_chain_of_a_tool(graph: Any) -> Any:
    chain = RunnableLambda(lambda state: state) | graph
    return in_a_tool(chain)


def in_a_node_s_function(graph: Any) -> Any:
    outer = StateGraph(MessagesState)
    outer.add_node("desk", lambda state: graph.invoke(state, {}))
    return outer.add_edge(START, "desk").compile()


def as_a_node(graph: Any) -> Any:
    return StateGraph(MessagesState).add_node("desk", graph).add_edge(START, "desk").compile()


def below_an_agent_s_node(graph: Any) -> Any:
    inner = StateGraph(MessagesState)
    inner.add_node("desk", lambda state: graph.invoke(state, {}))
    return in_a_tool(inner.add_edge(START, "desk").compile(name="agent"))


PLACES: dict[str, tuple[Callable[[Any], Any], Any, str]] = {
    "in a tool": (in_a_tool, one_node_graph("report"), "tools/report/write"),
    "in a tool, without a name": (in_a_tool, one_node_graph(None), "tools/write"),
    "in a tool, named by its config": (
        in_a_tool,
        one_node_graph(None).with_config(run_name="report"),
        "tools/report/write",
    ),
    "in a tool, two names for one graph": (
        in_a_tool,
        one_node_graph("shared").with_config(run_name="report"),
        "tools/report/write",
    ),
    "in a tool that a node calls": (in_a_tool_of_a_node, one_node_graph("report"), "desk/report/write"),
    "in a chain in a tool": (in_a_chain_of_a_tool, one_node_graph("report"), "tools/report/write"),
    "in a node's function": (in_a_node_s_function, one_node_graph("report"), "desk/write"),
    "as a node": (as_a_node, one_node_graph("report"), "desk/write"),
    "in a node of an agent": (below_an_agent_s_node, one_node_graph("report"), "tools/agent/desk/write"),
    "with a slash in its name": (in_a_tool, one_node_graph("a/b"), r"tools/a\/b/write"),
}
