"""What cannot be redacted does not leave: the payload is dropped, the span says so, one warning, and the graph goes on."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import mlflow
import pydantic
import pytest
from fakes import Chat, State, graph
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from leaks import Sinks, kept, prose, spelling_in

from langchain_mlflow_cost import MlflowCostHandler, limits
from langchain_mlflow_cost.policy.node_policy import NodePolicy
from langchain_mlflow_cost.tracing import guard, span_state
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = {"artifact_level": "full"}


# --- values that resist ---------------------------------------------------------------------------------------------


class Items(Mapping[str, Any]):
    def __init__(self, text: str) -> None:
        self.text = text

    def __getitem__(self, key: str) -> Any:
        raise KeyError(self.text)

    def __iter__(self) -> Iterator[str]:
        yield self.text

    def __len__(self) -> int:
        return 1


class Members(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError(str(list.__getitem__(self, 0)))


class Length(list[Any]):
    def __len__(self) -> int:
        raise RuntimeError(str(list.__getitem__(self, 0)))


class Pairs(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError(str(dict(self)))


class Model(pydantic.BaseModel):
    text: str

    @pydantic.model_serializer
    def fail(self) -> Any:
        raise ValueError(self.text)


class Printed:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        raise ValueError(self.text)


class Attribute:
    def __init__(self, text: str) -> None:
        self.text = text

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__", "text"):
            return object.__getattribute__(self, name)
        raise RuntimeError(object.__getattribute__(self, "text"))


class Exits:
    """Raises what is no `Exception`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        raise RecursionError(self.text)


@dataclass
class Fields:
    text: str

    @property
    def __dataclass_fields__(self) -> Any:
        raise RuntimeError(self.text)


def cycle(text: str) -> Any:
    found: dict[str, Any] = {"text": "x"}
    found["self"] = found
    found["deep"] = [found]
    return found


def deep(text: str) -> Any:
    value: Any = "x"
    for _ in range(5_000):
        value = [value]
    return value


RESISTING: dict[str, Callable[[str], Any]] = {
    "mapping that raises": Items,
    "list that raises": Members,
    "list without a length": Length,
    "dict whose items raise": lambda text: Pairs(text=text),
    "model whose serialiser raises": lambda text: Model(text=text),
    "repr that raises": Printed,
    "attributes that raise": Attribute,
    "recursion": Exits,
    "fields that raise": Fields,
    "cycle": cycle,
    "deep nesting": deep,
    "lone surrogates": lambda text: {"\udc00": "\ud800"},
    "huge number": lambda text: 10**6000,
    "not a number": lambda text: [float("nan"), float("inf")],
    "generator": lambda text: (piece for piece in text),
}


@pytest.mark.parametrize("level", ["full", "private"])
@pytest.mark.parametrize("kind", RESISTING)
def test_resisting_value(sinks: Sinks, kind: str, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """A value that cannot be serialised stops no graph, quotes nothing, and takes no other payload with it."""
    text, other = f"{prose()} ann@example.com", kept()
    policy: dict[str, Any] = {**FULL, "redact_pii": True}
    if level == "private":
        policy["nodes"] = {"quiet": {"log_prompts": False}}
    reached = []

    @tool
    def keep(value: Any) -> Any:
        """Keep it."""
        return None

    @mlflow.trace
    def helper(value: Any) -> Any:
        return value

    def work(_: State) -> State:
        value = RESISTING[kind](text)
        RunnableLambda(lambda _: value).invoke("x")
        for use in (lambda: keep.invoke({"value": value}), lambda: helper(value)):
            # LangChain and MLflow look at it themselves, and raise also without a handler.
            with contextlib.suppress(Exception):
                use()
        Chat(reply=other).invoke("x")
        return {"extra": value if kind != "generator" else None}

    def quiet(_: State) -> State:
        Chat(reply="fine").invoke([HumanMessage(text)])
        reached.append(1)
        return {"extra": None}

    with caplog.at_level(logging.DEBUG, "langchain_mlflow_cost"):
        graph(("work", work), ("quiet", quiet)).invoke({"messages": []}, {"callbacks": [MlflowCostHandler(policy)]})
    stored = sinks.everything()

    assert reached
    assert other.encode() in stored
    assert b"ann@example.com" not in stored
    assert text[:16] not in caplog.text
    if level == "private":
        assert spelling_in(text, stored) is None


# --- detectors that raise -------------------------------------------------------------------------------------------


class Raising:
    """A redactor whose detectors fail for some texts."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def text(self, text: str) -> tuple[str | None, dict[str, int]]:
        if self.mark in text:
            raise LookupError(text)
        return text, {}

    def json(self, value: Any) -> tuple[str, dict[str, int]]:
        written = json.dumps(value, default=str, ensure_ascii=False)
        if self.mark in written:
            raise LookupError(written)
        return written, {}


@dataclass(frozen=True)
class Failed:
    stored: bytes
    span: Any
    said: str
    text: str


def below_a_failing_redactor(
    sinks: Sinks, caplog: pytest.LogCaptureFixture, fill: Callable[[Any, str], None]
) -> Failed:
    """One span whose redactor raises for every text with a mark in it."""
    MlflowCostHandler(FULL)
    text = prose()
    span_state.DROPPED.forget()
    state = SpanState(NodePolicy("full", True, (), 100_000), Trace(), "work")
    state.redactors = cast("Any", (Raising(text[:16]),))
    with caplog.at_level(logging.DEBUG), guard.starting(state):
        span = mlflow.start_span_no_context("outer")
    with caplog.at_level(logging.DEBUG):
        fill(span, text)
        span.end()
    stored_span = mlflow.get_trace(span.trace_id).data.spans[0]
    return Failed(sinks.everything(), stored_span, caplog.text, text)


def _status(span: Any, text: str) -> None:
    from mlflow.entities import SpanStatus, SpanStatusCode

    span.set_status(SpanStatus(SpanStatusCode.ERROR, text))


def _event(span: Any, text: str) -> None:
    from mlflow.entities import SpanEvent

    span.add_event(SpanEvent("e", attributes={"x": text}))  # type: ignore[abstract]


FILLS: dict[str, Callable[[Any, str], None]] = {
    "inputs": lambda span, text: span.set_inputs({"x": text}),
    "outputs": lambda span, text: span.set_outputs([text]),
    "attributes": lambda span, text: span.set_attribute("mine", text),
    "events": _event,
    "status": _status,
}


@pytest.mark.parametrize("channel", FILLS)
def test_redactor_that_raises(sinks: Sinks, caplog: pytest.LogCaptureFixture, channel: str) -> None:
    """The payload is not stored, the span says which channel was dropped and why, and no message quotes it."""
    failed = below_a_failing_redactor(sinks, caplog, FILLS[channel])

    assert spelling_in(failed.text, failed.stored) is None
    assert {channel: "LookupError"} == failed.span.get_attribute("policy.dropped")
    assert failed.text[:16] not in failed.said


def test_redactor_that_raises_for_an_exception(sinks: Sinks, caplog: pytest.LogCaptureFixture) -> None:
    """The event of an exception keeps its type where its message cannot be redacted."""
    failed = below_a_failing_redactor(sinks, caplog, lambda span, text: span.record_exception(ValueError(text)))

    assert spelling_in(failed.text, failed.stored) is None
    assert b"ValueError" in failed.stored


def test_one_warning(sinks: Sinks, caplog: pytest.LogCaptureFixture) -> None:
    """However many payloads fail for one cause, the operator is told once."""

    def fill(span: Any, text: str) -> None:
        for number in range(5):
            span.set_attribute(f"key {number}", text)

    below_a_failing_redactor(sinks, caplog, fill)

    assert 1 == sum(
        record.name == "langchain_mlflow_cost" and record.levelno >= logging.WARNING for record in caplog.records
    )


# --- a held trace that grows too large ------------------------------------------------------------------------------


def test_held_trace_too_large(sinks: Sinks) -> None:
    """Past the limit of what is kept in memory, further payloads are dropped and the spans say so."""
    first, text, secret = kept(), kept(), prose()

    def work(_: State) -> State:
        Chat(reply=first).invoke("x")
        Chat(reply="x" * 30_000).invoke("x")
        Chat(reply=text).invoke("x")
        return {}

    def quiet(_: State) -> State:
        Chat().invoke(secret)
        return {"extra": secret}

    policy = {**FULL, "nodes": {"quiet": {"log_prompts": False}}}
    handler = MlflowCostHandler(policy)
    with limits.replaced(held_chars=20_000):
        graph(("work", work), ("quiet", quiet)).invoke({"messages": []}, {"callbacks": [handler]})
    trace = mlflow.search_traces(return_type="list", max_results=1)[0]
    reasons = {reason for span in trace.data.spans for reason in (span.get_attribute("policy.dropped") or {}).values()}
    stored = sinks.everything()

    assert first.encode() in stored
    assert text.encode() not in stored
    assert spelling_in(secret, stored) is None
    assert any("too large" in reason for reason in reasons)
    assert handler.summary().llm_calls == 4
