"""OpenInference's real instrumentor beside the handler, put on after autolog: it loses no span."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest
from fake_models import FakeChat
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

openinference = pytest.importorskip(
    "openinference.instrumentation.langchain", reason="openinference-instrumentation-langchain is not installed"
)


@pytest.fixture
def theirs(store: str) -> Iterator[InMemorySpanExporter]:
    """What OpenInference exports, put on between `autolog()` and the first run of a handler."""
    mlflow.langchain.autolog()
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = openinference.LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=tracers)
    yield exporter
    instrumentor.uninstrument()


def test_instrumentor_sees_every_invocation(theirs: InMemorySpanExporter) -> None:
    """A graph of one node with one model gives OpenInference three spans, at the third invocation as at the first."""
    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    handler, seen = MlflowCostHandler(), []
    for _ in range(3):
        graph.invoke(ASK, given(handler))
        seen.append(len(theirs.get_finished_spans()))
        theirs.clear()

    assert seen == [3, 3, 3]
    assert handler.summary().llm_calls == 1
