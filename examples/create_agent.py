"""An agent of LangChain's `create_agent` with a tool that costs a fee: what it cost, node by node.

python examples/create_agent.py
"""

from pathlib import Path

from langchain.agents import create_agent
from langchain_core.tools import tool
from offline import calls, model, told

from langchain_mlflow_cost import configure


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"It rains in {city}; ask the station at ops@example.com."


handler = configure(Path(__file__).with_suffix(".yaml"))
agent = create_agent(model(calls("weather", city="Rome"), "Take an umbrella."), [weather], name="adviser")
answer = agent.invoke({"messages": [("user", "What do I wear in Rome?")]}, config={"callbacks": [handler]})

summary = handler.summary()
print(told(answer["messages"]))
print(summary)
