"""LangGraph's functional API, with tasks in parallel, a memory, and a second turn on the same thread."""

from __future__ import annotations

from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task

model = ChatOpenAI(model="gpt-4o-mini")


@task
def write_about(topic: str) -> str:
    return model.invoke(f"Write about {topic}").text


@entrypoint(checkpointer=InMemorySaver())
def essay(topics: list[str]) -> str:
    written = [write_about(topic) for topic in topics]
    return model.invoke(" and ".join(each.result() for each in written)).text


def main(config: Any) -> None:
    flow: Any = essay
    saved = {**config, "configurable": {"thread_id": "of jane.doe@example.com"}}
    print(flow.invoke(["Rome", "jane.doe@example.com"], saved))
    print(flow.invoke(["Paris"], saved))


if __name__ == "__main__":
    main({})
