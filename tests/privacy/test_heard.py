"""What a private node's models are told and say, and what it returns, is heard, whatever field it stands in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fakes import Chat, graph
from heard import HEARINGS
from leaks import kept, spelling_in

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from leaks import Sinks

PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
OPEN = {"artifact_level": "full"}


def run(name: str, text: str, other: str, policy: Any) -> None:
    """A private node hears a text in one way; a public one, which nobody gave it, tells it to its model as well."""

    def before(_: Any) -> Any:
        return {"extra": f"{other} and {text}"}

    def quiet(_: Any) -> Any:
        answer = HEARINGS[name].run(text)
        left.append(answer)
        return answer if name.startswith("returned, as") else {}

    def after(_: Any) -> Any:
        Chat().invoke(f"{other} and {text}")
        return {}

    left: list[Any] = []
    graph(("before", before), ("quiet", quiet), ("after", after)).invoke(
        {"messages": [("user", "hi")]}, {"callbacks": [MlflowCostHandler(policy)]}
    )


@pytest.mark.parametrize("name", HEARINGS)
def test_heard(sinks: Sinks, name: str) -> None:
    """A text that the private node was told, said or returned in this way is in no byte; its neighbour is."""
    text, other = HEARINGS[name].make(), kept()
    run(name, text, other, PRIVATE)
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert other.encode() in stored


@pytest.mark.nightly
def test_control(sinks: Sinks) -> None:
    """Without a policy that hides it, each of these texts is stored."""
    told = {}
    for name, hearing in HEARINGS.items():
        told[name] = hearing.make()
        run(name, told[name], kept(), OPEN)
    stored = sinks.everything()

    assert [name for name, text in told.items() if spelling_in(text, stored) is None] == []
