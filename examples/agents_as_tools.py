"""Agents that a tool calls: each is a segment of the path, with costs and a policy of its own.

python examples/agents_as_tools.py
"""

from pathlib import Path

from langchain.agents import create_agent
from langchain_core.tools import tool
from offline import calls, model, told

from langchain_mlflow_cost import configure

handler = configure(Path(__file__).with_suffix(".yaml"))
doctor = create_agent(model("It is hyperlobulated spondylarthrosis."), [], name="doctor")


@tool
def ask_doctor(question: str) -> str:
    """Ask the doctor."""
    return told(doctor.invoke({"messages": [("user", question)]})["messages"])


desk = create_agent(model(calls("ask_doctor", question="What is it?"), "The doctor will call you."), [ask_doctor])
answer = desk.invoke({"messages": [("user", "What do I have?")]}, config={"callbacks": [handler]})

summary = handler.summary()
print(told(answer["messages"]))
print(summary)
