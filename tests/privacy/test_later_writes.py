"""Tags and assessments that an application writes after a trace has ended go through the policy, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, graph
from later_writes import MAIL, ROADS, later_tag, rationale, tag_key
from leaks import Sinks, letters, prose, spelling_in

from langchain_mlflow_cost import configure
from langchain_mlflow_cost.everywhere import govern_no_more
from langchain_mlflow_cost.tracing.session import SESSIONS
from langchain_mlflow_cost.tracing.trace import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def govern(sinks: Sinks) -> Iterator[Callable[[dict[str, Any]], None]]:
    def started(policy: dict[str, Any]) -> None:
        configure({"redact_pii": True, "tracking_uri": mlflow.get_tracking_uri(), **policy}, everywhere=True)

    yield started
    govern_no_more()


def a_trace(question: str, **config: Any) -> str:
    """A request, whose private node is told the question; its id."""
    graph(("quiet", lambda _: {"extra": Chat().invoke(question).content})).invoke({"messages": []}, config)
    trace_id = mlflow.get_last_active_trace_id()
    assert trace_id
    mlflow.flush_trace_async_logging()
    return trace_id


PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}


@pytest.mark.parametrize("road", ROADS)
def test_what_is_to_be_redacted(
    govern: Callable[[dict[str, Any]], None], sinks: Sinks, road: Callable[[str, str], None]
) -> None:
    """A value that the policy redacts is in no byte, and the rest of what was written stays."""
    govern({})
    road(a_trace("hi"), f"ask {MAIL} about it")
    stored = sinks.everything()

    assert MAIL.encode() not in stored
    assert b"about it" in stored


@pytest.mark.parametrize("road", ROADS)
def test_control(sinks: Sinks, road: Callable[[str, str], None]) -> None:
    """Without a policy that governs everywhere the same is stored as it is."""
    with mlflow.start_span("root") as span:
        pass
    mlflow.flush_trace_async_logging()
    road(span.trace_id, f"ask {MAIL} about it")

    assert MAIL.encode() in sinks.everything()


@pytest.mark.parametrize("config", [{}, {"configurable": {"thread_id": "thread 1"}}], ids=["no thread", "a thread"])
@pytest.mark.parametrize("road", ROADS)
def test_what_a_private_node_was_told(
    govern: Callable[[dict[str, Any]], None], sinks: Sinks, road: Callable[[str, str], None], config: dict[str, Any]
) -> None:
    """A private text that the application writes to its trace later is in no byte, and words beside it are."""
    text = prose()
    govern(PRIVATE)
    road(a_trace(text, **config), f"the answer to {text} was bad")
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert b"was bad" in stored


@pytest.mark.parametrize("is_governed", [True, False])
def test_the_key_of_a_tag(govern: Callable[[dict[str, Any]], None], sinks: Sinks, is_governed: bool) -> None:
    """A key that holds a private text is written as one that the store takes; without a policy as it is."""
    text = letters(16)
    if is_governed:
        govern(PRIVATE)
    with mlflow.start_span("root") as span:
        if is_governed:
            a_trace(text)
    mlflow.flush_trace_async_logging()
    tag_key(span.trace_id, f"note {text}")
    stored = sinks.everything()

    assert (text.encode() in stored) != is_governed
    assert (b"note _PRIVATE_" in stored) == is_governed


def test_a_trace_of_another_process(govern: Callable[[dict[str, Any]], None], sinks: Sinks) -> None:
    """What is private in it is not known here: texts are withheld under a policy with private nodes, a verdict is not."""
    govern(PRIVATE)
    text = prose()
    trace_id = a_trace("hi")
    ENDED._known.clear()
    SESSIONS.clear()
    rationale(trace_id, text)
    stored = mlflow.get_trace(trace_id).info.assessments

    assert spelling_in(text, sinks.everything()) is None
    assert [(each.name, each.value) for each in stored] == [("helpful", True)]


def test_minimal_keeps_none(govern: Callable[[dict[str, Any]], None], sinks: Sinks) -> None:
    """Where no payload is kept, an assessment is none that is kept, as in an open trace."""
    govern({"artifact_level": "minimal"})
    text = prose()
    trace_id = a_trace("hi")
    rationale(trace_id, text)
    stored = mlflow.get_trace(trace_id).info.assessments

    assert spelling_in(text, sinks.everything()) is None
    assert stored == []


def test_a_session_is_not_kept_busy(govern: Callable[[dict[str, Any]], None], sinks: Sinks) -> None:
    """What is looked up for a later tag may be let go of like any other session."""
    govern(PRIVATE)
    trace_id = a_trace(prose(), configurable={"thread_id": "thread 1"})
    later_tag(trace_id, "fine")

    assert SESSIONS.of("thread 1").traces == 0
