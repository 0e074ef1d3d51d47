"""What is private is so in all of a trace, and in all of a session, whatever invocation or handler heard it."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, graph
from heard import HEARINGS
from leaks import kept, prose, spelling_in

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from leaks import Sinks

PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
OPEN = {"artifact_level": "full"}


def loud_graph() -> Any:
    return graph(("loud", lambda state: {"messages": [Chat().invoke(state["messages"])]}))


def quiet_graph() -> Any:
    return graph(("quiet", lambda state: {"messages": [Chat().invoke(state["messages"])]}))


def in_turn(first: Any, second: Any, question: str, config: Any) -> None:
    first.invoke({"messages": [("user", question)]}, config)
    second.invoke({"messages": [("user", question)]}, config)


def gathered(first: Any, second: Any, question: str, config: Any) -> None:
    async def main() -> None:
        await asyncio.gather(
            first.ainvoke({"messages": [("user", question)]}, config),
            second.ainvoke({"messages": [("user", question)]}, config),
        )

    asyncio.run(main())


@pytest.mark.parametrize("run", [in_turn, gathered], ids=["in turn", "gather"])
@pytest.mark.parametrize("policy", ["private", "open"])
def test_an_endpoint_with_two_invocations(sinks: Sinks, run: Any, policy: str) -> None:
    """A router graph before the private one was told the same question: nothing of it is in any byte of the trace."""
    question = prose()
    handler = MlflowCostHandler(PRIVATE if policy == "private" else OPEN)
    with mlflow.start_span("endpoint"):
        run(loud_graph(), quiet_graph(), question, {"callbacks": [handler]})
    found = spelling_in(question, sinks.everything())

    assert (found is None) == (policy == "private")


@pytest.mark.parametrize("policy", ["private", "open"])
def test_a_new_handler_for_each_request(sinks: Sinks, policy: str) -> None:
    """What a session's private node said in one turn is private in the next, whose handler is another one."""
    question, settings = prose(), PRIVATE if policy == "private" else OPEN
    config = {"configurable": {"thread_id": f"session of {question[:12]}"}}
    quiet_graph().invoke({"messages": [("user", question)]}, {**config, "callbacks": [MlflowCostHandler(settings)]})
    loud_graph().invoke(
        {"messages": [("user", f"you were told {question} before, {kept()}")]},
        {**config, "callbacks": [MlflowCostHandler(settings)]},
    )
    found = spelling_in(question, sinks.everything())

    assert (found is None) == (policy == "private")


def test_hearing_that_fails_withholds_everything(sinks: Sinks) -> None:
    """Where what a private node was told cannot be read, no text of the trace leaves."""
    question = prose()

    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise LookupError(question)

    def quiet(_: Any) -> Any:
        Chat().bind(extra=Hostile(x=1)).invoke(question)
        return {}

    def loud(_: Any) -> Any:
        Chat().invoke(question)
        return {}

    handler = MlflowCostHandler(PRIVATE)
    graph(("quiet", quiet), ("loud", loud)).invoke({"messages": []}, {"callbacks": [handler]})

    assert spelling_in(question, sinks.everything()) is None
    assert handler.summary().llm_calls == 2


@pytest.mark.parametrize("policy", ["private", "open"])
def test_ids_that_are_drawn_twice(sinks: Sinks, policy: str) -> None:
    """A program that seeds `random` for each request, from which ids are drawn, gets the same trace id each time."""
    handler = MlflowCostHandler(PRIVATE if policy == "private" else OPEN)
    hearing = HEARINGS["another library's model stream, left half read"]
    stored = []
    for _ in range(2):
        text, other = prose(), kept()
        private = graph(("quiet", lambda _, text=text: hearing.run(text) or {}))
        random.seed(7)
        with mlflow.start_span("endpoint") as span:
            span.set_inputs(f"{other} {text}")
            Chat().invoke(f"route {text}", {"callbacks": [handler]})
            private.invoke({"messages": []}, {"callbacks": [handler]})
        everything = sinks.everything()
        stored.append((spelling_in(text, everything) is None, other.encode() in everything))
    random.seed(os.urandom(16))

    assert stored == [(policy == "private", True)] * 2
