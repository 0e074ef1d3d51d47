"""A supervisor with two subgraphs: each has its part of the policy and its row in the bill.

python examples/supervisor.py
"""

from pathlib import Path
from typing import Any

from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from offline import model, told

from langchain_mlflow_cost import configure

handler = configure(Path(__file__).with_suffix(".yaml"))


def team(name: str, *answers: str) -> Any:
    """A subgraph with one node that asks a model."""
    chat = model(*answers)
    graph = StateGraph(MessagesState)
    graph.add_node("work", lambda state: {"messages": [chat.invoke(state["messages"])]})
    return graph.add_edge(START, "work").compile(name=name)


chief = model("research", "review", "done")


def supervisor(state: MessagesState) -> Command[Any]:
    """Say who works next."""
    said = str(chief.invoke([("system", "Answer research, review or done."), *state["messages"]]).content).lower()
    order = ["research", "review", END]
    asked = next((name for name in order[:2] if name in said), END)
    # A real model may go round in circles: no team works twice.
    worked = [message.name for message in state["messages"]]
    return Command(goto=END if asked in worked else asked)


def asked(name: str, graph: Any) -> Any:
    """A node that asks a team and signs its answer."""

    def node(state: MessagesState) -> Any:
        answer = graph.invoke(state)["messages"][-1]
        answer.name = name
        return Command(goto="supervisor", update={"messages": [answer]})

    return node


app = StateGraph(MessagesState).add_node("supervisor", supervisor, destinations=("research", "review", END))
app.add_node("research", asked("research", team("research", "The patient has a rare disease.")))
app.add_node("review", asked("review", team("review", "The report is complete.")))
app.add_edge(START, "supervisor")
answer = app.compile().invoke({"messages": [("user", "Write the report.")]}, config={"callbacks": [handler]})

summary = handler.summary()
print(told(answer["messages"]))
print(summary)
