"""The demo's agent without any handler: it is an ordinary application."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from langchain_mlflow_cost.demo import app
from langchain_mlflow_cost.demo.provider import ProviderServer, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    Session = tuple[app.Ticket, dict[str, Any], list[Request]]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """One run: the ticket, the final state, the requests."""
    ticket = app.new_ticket()
    with ProviderServer(app.script) as server:
        state = app.build_graph(server).invoke({"ticket": ticket.text})
        yield ticket, state, server.requests


def test_answer(session: Session) -> None:
    """The writer's stream is the answer."""
    _, state, _ = session

    assert state["answer"] == app.REPLIES["writer"].text


def test_calls(session: Session) -> None:
    """Each model is called: two providers, a tool loop of three turns, one stream."""
    _, _, requests = session

    assert Counter((request.api, request.model, request.stream) for request in requests) == {
        ("openai", "gpt-5-mini", False): 4,
        ("anthropic", "claude-haiku-4-5", False): 1,
        ("anthropic", "claude-sonnet-5", False): 1,
        ("openai", "gpt-5", False): 1,
        ("anthropic", "claude-sonnet-5", True): 1,
    }


@pytest.mark.parametrize("what", ["e-mail address", "card number", "API key"])
def test_planted_values_travel(session: Session, what: str) -> None:
    """Each planted value is in several prompts: there is something to redact."""
    ticket, _, requests = session

    assert sum(ticket.planted[what] in request.prompt for request in requests) >= 3


def test_tools_get_planted_values(session: Session) -> None:
    """The tools are called with the e-mail address and the key, and repeat them."""
    ticket, _, requests = session
    results = [
        message["content"] for request in requests for message in request.body["messages"] if message["role"] == "tool"
    ]

    assert any(ticket.planted["e-mail address"] in result for result in results)
    assert any(ticket.planted["API key"] in result for result in results)


def test_private_answer_travels(session: Session) -> None:
    """What the private node's model says is in later prompts of other nodes: silencing its own spans is not enough."""
    _, _, requests = session
    told = [request.prompt for request in requests if app.PRIVATE_VERDICT in request.prompt]

    assert len(told) == 2


def test_keys_differ() -> None:
    """Each run makes its own API key."""
    first, second = app.new_ticket(), app.new_ticket()

    assert first.planted["API key"] != second.planted["API key"]
