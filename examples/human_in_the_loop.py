"""A budget that asks: the graph stops before the call that would pass it, and goes on when somebody adds to it.

python examples/human_in_the_loop.py
"""

from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from offline import model, told

from langchain_mlflow_cost import configure

handler = configure(Path(__file__).with_suffix(".yaml"))
chat = model("A draft.", "A better draft.")


def write(state: MessagesState) -> MessagesState:
    """Write, or write again."""
    return {"messages": [chat.invoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("draft", write).add_node("improve", write)
app = graph.add_edge(START, "draft").add_edge("draft", "improve").compile(checkpointer=InMemorySaver())
config = {"callbacks": [handler], "configurable": {"thread_id": "letter-1"}}

stopped = app.invoke({"messages": [("user", "Write a letter.")]}, config)
for question in stopped.get("__interrupt__", ()):
    print("asked:", question.value)
if "__interrupt__" in stopped:
    stopped = app.invoke(Command(resume={"add_usd": 0.01}), config)

summary = handler.summary()
print(told(stopped["messages"]))
print(summary)
