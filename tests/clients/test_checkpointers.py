"""A budget that asks a person, over a checkpointer that keeps its states in a file."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fake_models import FakeChat
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from ways import ASK, given

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("untraced")
saving: Any = pytest.importorskip("langgraph.checkpoint.sqlite", reason="scripts/clients_env.sh makes an environment")

ANSWERS = {"added": {"add_usd": 1}, "refused": {"no": 1}}


def two_calls(node: Any, saver: Any, *, inside: bool) -> Any:
    """A graph of two nodes that call a model, or a subgraph of them."""
    graph: Any = StateGraph(MessagesState).add_node("first", node).add_node("second", node)
    graph = graph.add_edge(START, "first").add_edge("first", "second")
    if not inside:
        return graph.compile(checkpointer=saver)
    return StateGraph(MessagesState).add_node("team", graph.compile()).add_edge(START, "team").compile(saver)


def asking() -> MlflowCostHandler:
    return MlflowCostHandler({"autolog_enabled": False, "budget": {"max_cost_usd": 0.0004, "on_exceeded": "interrupt"}})


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    with saving.SqliteSaver.from_conn_string(str(path)) as saver:
        yield saver


@asynccontextmanager
async def opened_async(path: Path) -> AsyncIterator[Any]:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # type: ignore[import-not-found, unused-ignore]

    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        yield saver


@pytest.mark.parametrize("inside", [False, True], ids=["graph", "subgraph"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_asked_over_a_file(tmp_path: Path, answer: str, inside: bool) -> None:
    """The call waits in the file; another opening of it is resumed with more, or refused."""
    model, handler = FakeChat(), asking()
    config = given(handler, configurable={"thread_id": "t"})

    def node(_: MessagesState) -> Any:
        return {"messages": [model.invoke("hi")]}

    with opened(tmp_path / "states.db") as saver:
        stopped = two_calls(node, saver, inside=inside).invoke(ASK, config)
    assert (len(stopped["__interrupt__"]), len(model.requests)) == (1, 1)

    with opened(tmp_path / "states.db") as saver:
        graph = two_calls(node, saver, inside=inside)
        if answer == "refused":
            with pytest.raises(BudgetExceededError):
                graph.invoke(Command(resume=ANSWERS[answer]), config)
        else:
            assert "__interrupt__" not in graph.invoke(Command(resume=ANSWERS[answer]), config)
    assert len(model.requests) == (1 if answer == "refused" else 2)


@pytest.mark.parametrize("inside", [False, True], ids=["graph", "subgraph"])
def test_asked_over_a_file_async(tmp_path: Path, inside: bool) -> None:
    """The same in tasks."""
    model, handler = FakeChat(), asking()
    config = given(handler, configurable={"thread_id": "t"})

    async def node(_: MessagesState) -> Any:
        return {"messages": [await model.ainvoke("hi")]}

    async def main() -> None:
        async with opened_async(tmp_path / "states.db") as saver:
            graph = two_calls(node, saver, inside=inside)
            assert "__interrupt__" in await graph.ainvoke(ASK, config)
            assert "__interrupt__" not in await graph.ainvoke(Command(resume=ANSWERS["added"]), config)

    asyncio.run(main())
    assert len(model.requests) == 2
