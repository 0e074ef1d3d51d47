"""A weather agent with a tool, in the style of LangChain's quickstart. It has never heard of MLflow."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}; ask jane.doe@example.com."


def main(config: Any) -> None:
    agent = create_agent(ChatOpenAI(model="gpt-4o-mini"), [get_weather], system_prompt="You are a helpful assistant.")
    asked: Any = {"messages": [("user", "What is the weather in Rome? Write to jane.doe@example.com.")]}
    print(agent.invoke(asked, config)["messages"][-1].text)


if __name__ == "__main__":
    main({})
