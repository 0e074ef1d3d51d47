"""Spans from elsewhere: a bridged OpenTelemetry library, another process, a thread that outlives the run, a time-out."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, State, graph
from langchain_core.messages import HumanMessage
from leaks import kept, prose, spelling_in, within
from mlflow.tracing.distributed import (
    get_tracing_context_headers_for_http_request,
    set_tracing_context_from_http_request_headers,
)
from mlflow.tracing.provider import get_bridged_tracer_provider
from opentelemetry import trace as otel
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leaks import Sinks

POLICIES: dict[str, dict[str, Any]] = {
    "minimal": {"artifact_level": "minimal"},
    "private": {"artifact_level": "full", "nodes": {"work": {"log_prompts": False}}},
    "private elsewhere": {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}},
}


@pytest.fixture(params=["propagated", "not propagated"])
def bridged(request: pytest.FixtureRequest, sinks: Sinks, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_TRACE_PROPAGATE_TO_OTEL_CONTEXT", str(request.param == "propagated").lower())
    mlflow.tracing.reset()
    yield
    monkeypatch.undo()
    mlflow.tracing.reset()


def library(text: str) -> None:
    """What an instrumented OpenTelemetry library does, in all its channels."""
    tracer = get_bridged_tracer_provider().get_tracer("library")
    elsewhere = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span(
        "llm call",
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.input.messages": text,
        },
        links=[Link(elsewhere, {"linked": text})],
    ) as span:
        span.set_attribute("gen_ai.output.messages", text)
        span.set_attributes({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5, "list": [text, text]})
        span.add_event("gen_ai.content.prompt", {"gen_ai.prompt": text})
        with tracer.start_as_current_span("http"):
            otel.get_current_span().set_attribute("url.full", f"https://example.org/{text}")
        span.record_exception(ValueError(text))
        span.add_link(elsewhere, {"also": text})
        span.set_status(Status(StatusCode.ERROR, text))


def nodes(text: str, marker: str, work: Callable[[], None], *, told: bool = True) -> Any:
    def working(_: State) -> State:
        work()
        Chat(reply="fine").invoke(marker)
        return {}

    async def async_working(_: State) -> State:
        work()
        await Chat(reply="fine").ainvoke(marker)
        return {}

    def quiet(_: State) -> State:
        Chat(reply="fine").invoke([HumanMessage(text if told else "nothing")])
        return {}

    return {
        "sync": lambda config: graph(("work", working), ("quiet", quiet)).invoke({"messages": []}, config),
        "async": lambda config: asyncio.run(
            graph(("work", async_working), ("quiet", quiet)).ainvoke({"messages": []}, config)
        ),
    }


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("policy", POLICIES)
def test_bridged_library(sinks: Sinks, bridged: None, policy: str, mode: str) -> None:
    """Spans of an OpenTelemetry library in a node are under its policy, in MLflow's trace or in one of their own."""
    text, marker = prose(), kept()
    run = nodes(text, marker, lambda: library(text))[mode]
    run({"callbacks": [MlflowCostHandler(POLICIES[policy])]})
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert b"llm call" in stored


def test_bridged_library_at_full(sinks: Sinks, bridged: None) -> None:
    """At `full` what the library wrote is there."""
    text = kept()
    nodes("something else entirely", kept(), lambda: library(text))["sync"](
        {"callbacks": [MlflowCostHandler({"artifact_level": "full"})]}
    )

    assert text.encode() in sinks.everything()


def test_model_call_of_a_bridged_library(sinks: Sinks, bridged: None) -> None:
    """What a bridged library's model call in a private node was told is gone from the state too."""
    text, marker = prose(), kept()

    def work(_: State) -> State:
        library(text)
        return {"extra": [f"it said {text}"]}

    graph(("work", work)).invoke(
        {"messages": [HumanMessage(marker), HumanMessage(text)]},
        {"callbacks": [MlflowCostHandler(POLICIES["private"])]},
    )
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert marker.encode() in stored


def test_library_outside_any_run(sinks: Sinks, bridged: None) -> None:
    """A library's span outside governed runs is none of the policy's business."""
    before, after = kept(), kept()
    library(before)
    graph(("work", lambda _: {})).invoke({"messages": []}, {"callbacks": [MlflowCostHandler(POLICIES["minimal"])]})
    library(after)
    stored = sinks.everything()

    assert [True, True] == [text.encode() in stored for text in (before, after)]


# --- another process ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_remote_parent(sinks: Sinks, policy: str) -> None:
    """An invocation that continues another process's trace is under its policy, and is stored."""
    text, marker = prose(), kept()
    headers: dict[str, str] = {}

    def caller() -> None:
        with mlflow.start_span("caller"):
            headers.update(get_tracing_context_headers_for_http_request())

    caller()
    with set_tracing_context_from_http_request_headers(headers):
        nodes(text, marker, lambda: library(text))["sync"]({"callbacks": [MlflowCostHandler(POLICIES[policy])]})
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert policy != "private elsewhere" or marker.encode() in stored


# --- later and never ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_span_that_ends_after_the_root(sinks: Sinks, policy: str) -> None:
    """A span that was opened in a node and ends when the run is over is under the node's policy."""
    text, opened = prose(), []

    def work() -> None:
        span = mlflow.start_span_no_context("late", parent_span=mlflow.get_current_active_span(), inputs=text)
        opened.append(span)

    nodes(text, kept(), work, told=policy != "private")["sync"]({"callbacks": [MlflowCostHandler(POLICIES[policy])]})
    opened[0].set_attribute("later", text)
    opened[0].set_outputs(text)
    opened[0].end()

    assert spelling_in(text, sinks.everything()) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_child_that_starts_after_the_root(sinks: Sinks, policy: str) -> None:
    """A span that starts below a run's span when the run is over is under the same policy."""
    text, opened = prose(), []
    nodes(text, kept(), lambda: opened.append(mlflow.get_current_active_span()), told=policy != "private")["sync"](
        {"callbacks": [MlflowCostHandler(POLICIES[policy])]}
    )
    span = mlflow.start_span_no_context("after", parent_span=opened[0], inputs=text)
    span.set_attribute("later", text)
    span.end(outputs=text)

    assert spelling_in(text, sinks.everything()) is None


# A model that is called when the run is over begins a trace of its own: what was private in the first is not known there.
@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "private elsewhere"])
def test_thread_that_outlives_the_run(sinks: Sinks, policy: str) -> None:
    """A thread that a node started with its context is under the node's policy also when the run is over."""
    from contextvars import copy_context

    text, over, threads = prose(), threading.Event(), []

    @mlflow.trace
    def helper(value: str) -> str:
        return value

    def later() -> None:
        over.wait(20)
        helper(text)
        Chat(reply=text).invoke(text)

    def work() -> None:
        thread = threading.Thread(target=copy_context().run, args=(later,))
        thread.start()
        threads.append(thread)

    nodes(text, kept(), work, told=policy != "private")["sync"]({"callbacks": [MlflowCostHandler(POLICIES[policy])]})
    over.set()
    threads[0].join()

    assert spelling_in(text, sinks.everything()) is None


# What is told to a private node only after the trace was halted and stored can no longer be taken out of it.
@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "private elsewhere"])
def test_time_out(sinks: Sinks, monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    """A trace that MLflow halts in the middle of a node leaves nothing, nor does what comes after in that node."""
    monkeypatch.setenv("MLFLOW_TRACE_TIMEOUT_SECONDS", "1")
    monkeypatch.setenv("MLFLOW_TRACE_TIMEOUT_CHECK_INTERVAL_SECONDS", "1")
    mlflow.tracing.reset()
    from mlflow.tracing.trace_manager import InMemoryTraceManager

    InMemoryTraceManager.reset()
    text = prose()

    def work() -> None:
        with mlflow.start_span("own") as span:
            span.set_inputs(text)
            root = mlflow.get_current_active_span()
            within(5, lambda: root.trace_id not in InMemoryTraceManager.get_instance()._traces)
            span.set_outputs(text)
        library(text)

    nodes(text, kept(), work, told=policy != "private")["sync"]({"callbacks": [MlflowCostHandler(POLICIES[policy])]})
    stored = sinks.everything()
    monkeypatch.undo()
    InMemoryTraceManager.reset()
    mlflow.tracing.reset()

    assert spelling_in(text, stored) is None
