"""A supervisor that hands work to two agents, each a subgraph. It calls MLflow's autolog by itself."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import mlflow
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command

mlflow.langchain.autolog()


@tool
def search(query: str) -> str:
    """Search the web."""
    return f"found {query} by jane.doe@example.com"


def build() -> Any:
    model = ChatOpenAI(model="gpt-4o-mini")
    researcher = create_agent(model, [search], name="researcher")
    writer = create_agent(model, [], name="writer")

    async def supervisor(state: MessagesState) -> Command[Literal["researcher", "writer", "__end__"]]:
        names = [message.name for message in state["messages"]]
        await model.ainvoke(state["messages"])
        goto: Any = next((name for name in ("researcher", "writer") if name not in names), END)
        return Command(goto=goto)

    def handed(name: str, agent: Any) -> Any:
        async def node(state: MessagesState) -> Any:
            answer = (await agent.ainvoke({"messages": state["messages"][:1]}))["messages"][-1]
            return {"messages": [answer.model_copy(update={"name": name, "id": None})]}

        return node

    builder: Any = StateGraph(MessagesState).add_node("supervisor", supervisor)
    for name, agent in (("researcher", handed("researcher", researcher)), ("writer", writer)):
        builder.add_node(name, agent).add_edge(name, "supervisor")
    return builder.add_edge(START, "supervisor").compile()


def main(config: Any) -> None:
    asked = {"messages": [("user", "Write about Rome for jane.doe@example.com.")]}
    limited = {**config, "recursion_limit": 12}

    async def run() -> None:
        async for _ in build().astream(asked, limited, stream_mode="updates", subgraphs=True):
            pass

    asyncio.run(run())
    print("done")


if __name__ == "__main__":
    main({})
