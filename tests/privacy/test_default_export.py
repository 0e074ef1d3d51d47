"""MLflow's own threads, which export by default, take nothing with them that the policy withholds."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, graph
from later_writes import ROADS
from leaks import Sinks, flush, prose, spelling_in, within
from unusual_nodes import NAMES, POLICIES, SCENES

from langchain_mlflow_cost import MlflowCostHandler, configure
from langchain_mlflow_cost.everywhere import govern_no_more

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRIVATE: dict[str, Any] = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}


@pytest.fixture
def threads(exported_in_threads: str) -> Sinks:
    """A store to which MLflow exports as it does by default."""
    return Sinks(Path(exported_in_threads.removeprefix("sqlite:///")).parent, None, flush)


@pytest.fixture
def govern() -> Iterator[Callable[[dict[str, Any]], None]]:
    def started(policy: dict[str, Any]) -> None:
        configure({"tracking_uri": mlflow.get_tracking_uri(), **policy}, everywhere=True)

    yield started
    govern_no_more()


@pytest.mark.nightly
@pytest.mark.parametrize("policy", ["private", "open"])
def test_unusual_nodes(threads: Sinks, policy: str) -> None:
    """One after the other, while the threads still export those before: no text is left, and without a policy all are."""
    texts = {}
    for name, scene in zip(NAMES, SCENES, strict=True):
        texts[name] = prose()
        scene(texts[name], {"callbacks": [MlflowCostHandler({"artifact_level": "full", **POLICIES[policy]})]})
    stored = threads.everything()

    there = {name for name, text in texts.items() if spelling_in(text, stored) is not None}
    assert there == (set() if policy == "private" else set(NAMES))


def ask(question: str) -> str:
    """A request, whose private node is told the question; the id of its trace, which may still be on its way."""
    graph(("quiet", lambda _: {"extra": Chat().invoke(question).content})).invoke({"messages": []})
    trace_id = mlflow.get_last_active_trace_id()
    assert trace_id
    return trace_id


def is_written(road: Callable[[str, str], None], trace_id: str, text: str) -> bool:
    try:
        road(trace_id, text)
    except mlflow.MlflowException:
        return False  # The store does not know the trace yet.
    return True


def test_later_writes(govern: Callable[[dict[str, Any]], None], threads: Sinks) -> None:
    """What is written as soon as the store knows the trace is searched for what its private nodes were told."""
    govern(PRIVATE)
    texts = [prose() for _ in ROADS]
    for road, text in zip(ROADS, texts, strict=True):
        trace_id = ask(text)
        assert within(20, lambda: is_written(road, trace_id, f"the answer to {text} was bad"))  # noqa: B023 - used now
    stored = threads.everything()

    assert [spelling_in(text, stored) for text in texts] == [None] * len(texts)
    assert stored.count(b"was bad") >= len(ROADS)


def test_ids_that_are_drawn_twice(govern: Callable[[dict[str, Any]], None], threads: Sinks) -> None:
    """Requests that seed `random`, and so get one trace id, and what is written to their traces later."""
    govern(PRIVATE)
    texts, ids = [prose() for _ in range(3)], []
    for text in texts:
        random.seed(7)
        ids.append(ask(text))
        assert within(20, lambda: is_written(ROADS[2], ids[-1], f"the answer to {text} was bad"))  # noqa: B023
    random.seed(os.urandom(16))
    # Those before are asked for again when the last has taken their id.
    for trace_id, text in zip(ids, texts, strict=True):
        ROADS[0](trace_id, f"the answer to {text} was bad")
    stored = threads.everything()

    assert [spelling_in(text, stored) for text in texts] == [None] * 3
