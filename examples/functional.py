"""LangGraph's functional API: tasks are nodes, and run side by side under one budget.

python examples/functional.py
"""

from pathlib import Path

from langgraph.func import entrypoint, task
from offline import model

from langchain_mlflow_cost import configure

handler = configure(Path(__file__).with_suffix(".yaml"))
chat = model("One line.")


@task
def summarize(text: str) -> str:
    """One text in one line."""
    return str(chat.invoke(f"Summarize: {text}").content)


@entrypoint()
def digest(texts: list[str]) -> list[str]:
    """All texts at once."""
    return [future.result() for future in [summarize(text) for text in texts]]


lines = digest.invoke(["a long text", "another", "a third"], config={"callbacks": [handler]})

summary = handler.summary()
print(*lines, sep="\n")
print(summary)
