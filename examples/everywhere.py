"""A program with plain autolog and no callbacks: one line governs it all, spans of other kinds too.

python examples/everywhere.py
"""

from pathlib import Path

import mlflow
from langgraph.graph import START, MessagesState, StateGraph
from offline import model, told

from langchain_mlflow_cost import configure

handler = configure(Path(__file__).with_suffix(".yaml"), everywhere=True)  # the one line that is new
mlflow.langchain.autolog()
chat = model("Write to ada@example.com.")
graph = StateGraph(MessagesState).add_node("agent", lambda s: {"messages": [chat.invoke(s["messages"])]})
app = graph.add_edge(START, "agent").compile()


@mlflow.trace
def endpoint(question: str) -> str:
    """What the program had before."""
    return told(app.invoke({"messages": [("user", question)]})["messages"])


print(endpoint("Whom do I ask?"))
summary = handler.summary()
print(summary)
