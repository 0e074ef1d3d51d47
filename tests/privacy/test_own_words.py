"""A public node's own system prompt and tools stay though a private node has the same; nobody's words pass by that way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fakes import Chat, graph
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from leaks import Sinks, letters, prose, spelling_in

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.tracing.own_words import OWN_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLICY = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
RULE = "You are a patient agent of our help desk, and you never promise a refund before you have looked it up."
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Find the order of a customer by the number on the letter.",
        "parameters": {},
    },
}


@pytest.fixture(autouse=True)
def nothing_learnt() -> Iterator[None]:
    OWN_WORDS.clear()
    yield
    OWN_WORDS.clear()


def run(number: int, system: str, question: str, answer: str = "fine") -> None:
    """One session: the private node and the public one have the same system prompt and tool."""

    def both(_: Any) -> Any:
        Chat(reply=answer).bind(tools=[TOOL]).invoke([SystemMessage(system), HumanMessage(question)])
        return {}

    handler = MlflowCostHandler(POLICY)
    config = {"configurable": {"thread_id": f"{letters(12)} {number}"}, "callbacks": [handler]}
    graph(("quiet", both), ("loud", both)).invoke({"messages": []}, config)


def test_a_shared_system_prompt_stays(sinks: Sinks) -> None:
    """Once it was the same in three sessions, the public node's prompt and tool's description are stored."""
    for number in range(4):
        sinks.everything()
        run(number, RULE, prose())
    stored = sinks.everything()

    assert RULE.encode() in stored
    assert b"Find the order of a customer by the number on the letter." in stored


def test_not_before_it_is_known_for_one(sinks: Sinks) -> None:
    """In the first session nobody can tell a prompt from somebody's words: it is withheld."""
    run(0, RULE, prose())

    assert RULE.encode() not in sinks.everything()


SAID: dict[str, Callable[[str], dict[str, Any]]] = {
    "the same question each time": lambda text: {"system": f"{RULE}\n{text}", "question": text},
    "what the model says": lambda text: {"system": f"{RULE}\n{text}", "question": prose(), "answer": AIMessage(text)},
    "another line in each session": lambda text: {"system": f"{RULE}\n{prose()} {text}", "question": prose()},
}


@pytest.mark.parametrize("said", SAID.values(), ids=list(SAID))
def test_nobodys_words_pass(sinks: Sinks, said: Callable[[str], dict[str, Any]]) -> None:
    """What a user or a model says is private in a public node's system prompt too, however often it is there."""
    text = "my sister is pregnant and does not want anybody to know about it"
    for number in range(6):
        run(number, **said(text))
    stored = sinks.everything()

    assert text.encode() not in stored


def test_a_returning_customers_name_is_no_line_of_the_node(sinks: Sinks) -> None:
    """A line with a name is taken for the node's own after many sessions only, and never if it was missing in one."""
    name = f"The customer is {letters(8).title()} {letters(9).title()}, who has {letters(10)}"
    for number in range(5):
        run(number, f"{RULE}\n{name}", prose())

    assert spelling_in(name, sinks.everything()) is None
