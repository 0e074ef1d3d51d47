"""MLflow is set up anew after the handler was made, before a run or in the middle of one: the guard stays."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, State, graph
from langchain_core.messages import HumanMessage
from leaks import kept, letters, prose, spelling_in
from mlflow.entities.trace_location import MlflowExperimentLocation
from sampling import in_turn

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from leaks import Sinks

PRIVATE = {"artifact_level": "full", "nodes": {"ask": {"log_prompts": False}, "helping": {"log_prompts": False}}}
POLICIES: dict[str, dict[str, Any]] = {"minimal": {"artifact_level": "minimal"}, "private": PRIVATE}


@pytest.fixture
def home(sinks: Sinks) -> Iterator[Path]:
    """The store's folder; MLflow is as it was when the test is over."""
    uri, experiment = mlflow.get_tracking_uri(), mlflow.search_experiments(max_results=1)[0].experiment_id
    yield sinks.folder
    mlflow.tracing.configure(span_processors=[])
    mlflow.tracing.enable()
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=experiment)
    mlflow.tracing.reset()
    mlflow.langchain.autolog()


def user_processor(span: Any) -> None:
    span.set_attribute("users.mark", MARK)


MARK = "the-users-processor-was-here"


def another_store(folder: Path) -> None:
    name = letters(6)
    shutil.copy(folder / "mlflow.db", folder / f"{name}.db")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/{name}.db")


def another_experiment(folder: Path) -> None:
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(letters(6), artifact_location=f"{folder}/artifacts"))


def destination(folder: Path) -> None:
    experiment = mlflow.create_experiment(letters(6), artifact_location=f"{folder}/artifacts")
    mlflow.tracing.set_destination(MlflowExperimentLocation(experiment))


def off_and_on(_: Path) -> None:
    mlflow.tracing.disable()
    mlflow.tracing.enable()


def autolog_again(_: Path) -> None:
    mlflow.langchain.autolog()


def autolog_off_and_on(_: Path) -> None:
    mlflow.langchain.autolog(disable=True)
    mlflow.langchain.autolog()


def autolog_off(_: Path) -> None:
    mlflow.langchain.autolog(disable=True)


def processors(_: Path) -> None:
    mlflow.tracing.configure(span_processors=[user_processor])


def processors_for_a_while(_: Path) -> None:
    with mlflow.tracing.configure(span_processors=[user_processor]):
        pass


CHANGES: dict[str, Callable[[Path], None]] = {
    "set_tracking_uri": another_store,
    "set_experiment": another_experiment,
    "set_destination": destination,
    "reset": lambda _: mlflow.tracing.reset(),
    "disable, enable": off_and_on,
    "disable": lambda _: mlflow.tracing.disable(),
    "autolog": autolog_again,
    "autolog off and on": autolog_off_and_on,
    "autolog off": autolog_off,
    "span processors": processors,
    "span processors for a while": processors_for_a_while,
}


@mlflow.trace
def helper(text: str) -> str:
    return text


def asking(text: str, *, within: Callable[[], None] = lambda: None) -> Any:
    def ask(_: State) -> State:
        Chat(reply=text).invoke(f"first {text}")
        with mlflow.start_span("open across") as span:
            span.set_inputs(text)
            within()
            span.set_outputs(text)
        helper(text)
        answer = Chat(reply=text).invoke(f"then {text}")
        return {"messages": [answer], "extra": text}

    def helping(_: State) -> State:
        helper(text)
        return {}

    return graph(("ask", ask), ("helping", helping))


@pytest.mark.sampled(is_in=in_turn(change=CHANGES, policy=POLICIES))
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("change", CHANGES)
def test_before_a_run(sinks: Sinks, home: Path, change: str, policy: str) -> None:
    """After the change the same handler keeps its policy."""
    text = prose()
    handler = MlflowCostHandler(POLICIES[policy])
    CHANGES[change](home)
    asking(text).invoke({"messages": [HumanMessage(text)]}, {"callbacks": [handler]})

    assert spelling_in(text, sinks.everything()) is None
    assert handler.summary().llm_calls == 2


@pytest.mark.sampled(is_in=in_turn(change=CHANGES, policy=POLICIES))
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("change", CHANGES)
def test_in_the_middle_of_a_run(sinks: Sinks, home: Path, change: str, policy: str) -> None:
    """A node that sets MLflow up anew stays under its policy, with what was open and with what comes after."""
    text = prose()
    handler = MlflowCostHandler(POLICIES[policy])
    asking(text, within=lambda: CHANGES[change](home)).invoke(
        {"messages": [HumanMessage(text)]}, {"callbacks": [handler]}
    )

    assert spelling_in(text, sinks.everything()) is None
    assert handler.summary().llm_calls == 2


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "disable"])
def test_traces_still_arrive(sinks: Sinks, home: Path, change: str) -> None:
    """After the change traces are stored, with what the policy keeps."""
    text = kept()
    handler = MlflowCostHandler({"artifact_level": "full"})
    CHANGES[change](home)
    asking(text).invoke({"messages": [HumanMessage(text)]}, {"callbacks": [handler]})

    assert text.encode() in sinks.everything()


@pytest.mark.parametrize("policy", POLICIES)
def test_users_own_processors_run(sinks: Sinks, home: Path, policy: str) -> None:
    """The user's span processors see the spans of a governed run; what they write is under the policy as well."""
    text, seen = prose(), []

    def look(span: Any) -> None:
        seen.append(span.name)
        span.set_outputs({"mine": text})
        span.set_attribute("mine", text)

    handler = MlflowCostHandler(POLICIES[policy])
    mlflow.tracing.configure(span_processors=[look])
    asking(text).invoke({"messages": [HumanMessage(text)]}, {"callbacks": [handler]})

    assert {"ask", "helping", "helper", "Chat"} <= set(seen)
    assert spelling_in(text, sinks.everything()) is None


def test_users_processors_see_what_the_policy_keeps(sinks: Sinks, home: Path) -> None:
    """A span processor finds the payloads that stay, and its marks are stored."""
    text = kept()
    found: list[Any] = []

    def look(span: Any) -> None:
        found.append(str(span.inputs))
        user_processor(span)

    mlflow.tracing.configure(span_processors=[look])
    asking(text).invoke(
        {"messages": [HumanMessage(text)]}, {"callbacks": [MlflowCostHandler({"artifact_level": "full"})]}
    )

    assert any(text in inputs for inputs in found)
    assert MARK.encode() in sinks.everything()


def test_processor_that_raises(sinks: Sinks, home: Path) -> None:
    """A user's span processor that raises opens nothing: MLflow would export the span as it was."""
    text = prose()

    def fail(span: Any) -> None:
        raise ValueError(text)

    mlflow.tracing.configure(span_processors=[fail])
    with contextlib.suppress(ValueError):
        asking(text).invoke({"messages": [HumanMessage(text)]}, {"callbacks": [MlflowCostHandler(PRIVATE)]})

    assert spelling_in(text, sinks.everything()) is None


def test_disabled_for_one_run(sinks: Sinks, home: Path) -> None:
    """A run without a handler is recorded as MLflow records it, before and after one with a handler."""
    first, text, last = kept(), prose(), kept()
    mlflow.langchain.autolog()
    asking(first).invoke({"messages": []})
    asking(text).invoke({"messages": []}, {"callbacks": [MlflowCostHandler({"artifact_level": "minimal"})]})
    asking(last).invoke({"messages": []})
    stored = sinks.everything()

    assert [True, False, True] == [spelling_in(t, stored) is not None for t in (first, text, last)]
