"""However a graph is run, its policy holds, and what the policy does not concern is the same at every level."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import counted
from leaks import email, prose, spelling_in
from stored_traces import wait_for_held_traces
from ways import WAYS, Words, by_day, given

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from leaks import Sinks

POLICIES: dict[str, dict[str, Any]] = {
    "minimal": {"artifact_level": "minimal"},
    "full": {"artifact_level": "full"},
    "private": {"artifact_level": "full", "nodes": {"?": {"log_prompts": False}}},
    "private throughout": {"artifact_level": "full", "log_prompts": False},
    "redacted": {"artifact_level": "full", "redact_pii": True},
}
"""`?` is the way's private node."""
KEEPS = {
    "minimal": (False, False, False),
    "full": (True, True, True),
    "private": (False, False, True),
    "private throughout": (False, False, False),
    "redacted": (False, False, True),
}
"""Whether what was told, what was said and what others said are to be stored."""
KEEPS_AROUND = {**KEEPS, "minimal": (True, True, True), "private throughout": (False, False, True)}
"""Of a model whose constructor has the handler, in a graph that has not: MLflow's own tracer records the graph, whose level
is not the handler's. What is private goes all the same."""


@dataclass(frozen=True)
class Recording:
    """What one run left behind."""

    words: Words
    stored: bytes
    structure: Counter[Any]
    calls: Counter[Any]


@pytest.fixture(scope="module")
def recording(sinks: Sinks) -> Callable[[str, str], Recording]:
    """Run a way under a policy, once."""
    known: dict[tuple[str, str], Recording] = {}

    def record(way: str, policy: str) -> Recording:
        if (way, policy) not in known:
            words = Words(email if policy == "redacted" else prose)
            with counted() as paid:
                WAYS[way].run(words, given(MlflowCostHandler(policy_for(way, policy))))
            # A trace that is held leaves a moment after its last task, later on a busy machine.
            wait_for_held_traces()
            sinks.flush()
            # Of an estimate by texts, which differ from run to run, only how many there are can be compared.
            structure, calls = look(exact=paid.usd is not None)
            known[way, policy] = Recording(words, sinks.everything(), structure, calls)
        return known[way, policy]

    return record


def policy_for(way: str, policy: str) -> dict[str, Any]:
    chosen = POLICIES[policy]
    if "nodes" not in chosen:
        return chosen
    return {**chosen, "nodes": {WAYS[way].private: chosen["nodes"]["?"]}}


def look(*, exact: bool) -> tuple[Counter[Any], Counter[Any]]:
    """The spans that are stored, without what a policy may take out: all of them, and those of models."""
    traces = mlflow.search_traces(return_type="list", max_results=50)
    structure: Counter[Any] = Counter()
    calls: Counter[Any] = Counter()
    for trace in traces:
        names = {span.span_id: span.name for span in trace.data.spans}
        for span in trace.data.spans:
            assert span.start_time_ns <= span.end_time_ns
            structure[span.name, span.span_type, span.status.status_code.value, names.get(span.parent_id)] += 1
            if span.span_type in ("CHAT_MODEL", "LLM"):
                usage, cost = span.get_attribute("mlflow.chat.tokenUsage"), span.get_attribute("mlflow.llm.cost")
                figures = (str(usage), str(cost)) if exact else (usage is None, cost is None)
                calls[figures, span.get_attribute("mlflow.llm.model")] += 1
    return structure, calls


def pairs(*policies: str) -> list[Any]:
    """Each way under each policy that concerns it: that of a private node, where there is one."""
    return [(w, p) for w in WAYS for p in policies if p != "private" or WAYS[w].private is not None]


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    """All claims about one way stand together, so that what was recorded for one serves the others."""
    return str(request.param)


OTHERS = [name for name in POLICIES if name != "full"]


def each_once(way: str, policy: str) -> bool:
    """Each way under one policy in turn that is not the level which keeps everything."""
    concerning = [p for w, p in pairs(*OTHERS) if w == way]
    return by_day("policies")(way) and policy == concerning[list(WAYS).index(way) % len(concerning)]


def every_second(way: str, policy: str) -> bool:
    """Of those, what is compared with the level that keeps everything: that level is another run."""
    return each_once(way, policy) and list(WAYS).index(way) % 2 == 0


def each_and_some_whole(way: str, policy: str) -> bool:
    """Those, and the level that keeps everything where it runs in any case."""
    return each_once(way, policy) or (policy == "full" and any(every_second(way, other) for other in OTHERS))


@pytest.mark.sampled(is_in=each_and_some_whole)
@pytest.mark.parametrize(("way", "policy"), pairs(*POLICIES), indirect=["way"])
def test_policy_holds(recording: Any, way: str, policy: str) -> None:
    """What goes is in no byte; what stays is there."""
    left: Recording = recording(way, policy)
    words = left.words
    found = tuple(spelling_in(text, left.stored) is not None for text in (words.told, words.said, words.other))

    keeps = KEEPS_AROUND if way == "handler-in-a-models-constructor-below-a-graph" else KEEPS
    assert keeps[policy] == found


@pytest.mark.sampled(is_in=every_second)
@pytest.mark.parametrize(("way", "policy"), pairs(*OTHERS), indirect=["way"])
def test_structure_survives(recording: Any, way: str, policy: str) -> None:
    """Names, types, states and nesting of spans are those of the level that keeps everything."""
    assert recording(way, "full").structure == recording(way, policy).structure


@pytest.mark.sampled(is_in=every_second)
@pytest.mark.parametrize(("way", "policy"), pairs(*OTHERS), indirect=["way"])
def test_calls_survive(recording: Any, way: str, policy: str) -> None:
    """Models, tokens and costs of calls are those of the level that keeps everything."""
    assert recording(way, "full").calls == recording(way, policy).calls
