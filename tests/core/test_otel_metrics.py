"""OpenTelemetry metrics: what a collector gets of calls and costs, and what it never gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import MINI, MINI_USD, SONNET, SONNET_USD, UNKNOWN, FakeChat, FakeStream
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from leaks import Collector, email, prose, spelling_in
from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import _internal
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Points = dict[tuple[tuple[str, str], ...], Any]
ROOT = Path(__file__).resolve().parents[2]


class Scraped:
    """A collector on loopback and the provider that sends to it."""

    def __init__(self) -> None:
        self.collector = Collector()
        exporter = OTLPMetricExporter(f"{self.collector.url}/v1/metrics")
        self.reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        self.provider = MeterProvider([self.reader])

    def points(self, name: str) -> Points:
        """The points of one metric, as they are on the wire, by their attributes."""
        self.provider.force_flush()
        request = ExportMetricsServiceRequest.FromString(self.collector.sent("/v1/metrics"))
        self.sent = self.collector.sent()
        self.collector.clear()
        return {
            tuple(sorted((each.key, each.value.string_value) for each in point.attributes)): point
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in (metric.histogram if metric.HasField("histogram") else metric.sum).data_points
        }


@pytest.fixture
def scraped(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scraped]:
    """The program's meter provider, set as programs set it, and taken back at the end."""
    monkeypatch.setattr(_internal, "_METER_PROVIDER", None)
    monkeypatch.setattr(_internal, "_METER_PROVIDER_SET_ONCE", type(_internal._METER_PROVIDER_SET_ONCE)())
    made = Scraped()
    metrics.set_meter_provider(made.provider)
    yield made
    made.provider.shutdown()
    made.collector.close()


def graph(**nodes: Callable[[Any], Any]) -> Any:
    made: Any = StateGraph(MessagesState)
    before = START
    for name, node in nodes.items():
        made.add_node(name, node)
        made.add_edge(before, name)
        before = name
    return made.compile()


def asking(model: FakeChat) -> Callable[[Any], Any]:
    return lambda state: {"messages": [model.invoke(state["messages"])]}


def where(node: str, model: str, outcome: str = "answered") -> tuple[tuple[str, str], ...]:
    return (("cost.outcome", outcome), ("gen_ai.response.model", model), ("policy.node", node))


def usage(provider: str, model: str, kind: str) -> tuple[tuple[str, str], ...]:
    return (
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", provider),
        ("gen_ai.request.model", model),
        ("gen_ai.response.model", model),
        ("gen_ai.system", provider),
        ("gen_ai.token.type", kind),
    )


def test_a_collector_gets_what_the_summary_says(scraped: Scraped) -> None:
    """Tokens by the conventions, USD by node and model, and both equal to the sums; unpriced calls are told apart."""
    handler = MlflowCostHandler({"prices": {"tools": {"lookup": "0.25"}}})

    @tool
    def lookup(query: str) -> str:
        """Look up."""
        return query

    app = graph(
        writer=asking(FakeChat(model=MINI)),
        critic=asking(FakeChat(model=SONNET)),
        strange=asking(FakeChat(model=UNKNOWN)),
        caller=lambda _: {"messages": [("ai", lookup.invoke({"query": "a"}))]},
    )
    with pytest.warns(UserWarning, match="no price is known"):
        app.invoke({"messages": [HumanMessage("hello")]}, {"callbacks": [handler]})
    app.invoke({"messages": [HumanMessage("hello")]}, {"callbacks": [handler]})
    summary = handler.summary()

    usd = {key: point.as_double for key, point in scraped.points("cost.usd").items()}
    fee = (("cost.outcome", "answered"), ("gen_ai.tool.name", "lookup"), ("policy.node", "caller"))
    assert usd == {
        where("writer", MINI): pytest.approx(float(2 * MINI_USD)),
        where("critic", SONNET): pytest.approx(float(2 * SONNET_USD)),
        fee: pytest.approx(0.5),
    }
    assert sum(usd.values()) == pytest.approx(2 * float(summary.total_cost_usd))
    app.invoke({"messages": [HumanMessage("hello")]}, {"callbacks": [handler]})
    unpriced = {key: point.as_int for key, point in scraped.points("cost.unpriced_calls").items()}
    assert unpriced == {where("strange", UNKNOWN): 3}
    app.invoke({"messages": [HumanMessage("hello")]}, {"callbacks": [handler]})
    tokens = scraped.points("gen_ai.client.token.usage")
    providers = {MINI: "openai", SONNET: "anthropic", UNKNOWN: "acme"}
    assert {key: (point.count, point.sum) for key, point in tokens.items()} == {
        usage(provider, model, kind): (4, 4 * count)
        for model, provider in providers.items()
        for kind, count in (("input", 1000), ("output", 500))
    }
    (bounds,) = {tuple(point.explicit_bounds) for point in tokens.values()}
    assert (bounds[0], bounds[1], bounds[-1]) == (1, 4, 67_108_864)


def test_how_a_call_ended(scraped: Scraped) -> None:
    """Failed, refused, cached and answered calls are told apart, and what is not billed has no USD."""
    from langchain_core.caches import InMemoryCache

    handler = MlflowCostHandler({"budget": {"max_cost_usd": "0.0005"}})
    failing = FakeChat(model=MINI, answers=[ValueError("down")])
    cached = FakeChat(model=MINI, cache=InMemoryCache())
    twice = graph(cached=lambda state: [cached.invoke("same") for _ in range(2)] and {})

    with pytest.raises(ValueError, match="down"):
        graph(broken=asking(failing)).invoke({"messages": [HumanMessage("a")]}, {"callbacks": [handler]})
    twice.invoke({"messages": [HumanMessage("a")]}, {"callbacks": [handler]})
    with pytest.raises(BudgetExceededError):
        graph(a=asking(FakeChat(model=SONNET)), b=asking(FakeChat(model=SONNET))).invoke(
            {"messages": [HumanMessage("a")]}, {"callbacks": [handler]}
        )
    stopped = MlflowCostHandler({"budget": {"max_total_tokens": 300}})
    with pytest.raises(BudgetExceededError, match="a stream was stopped"):
        list(FakeStream(answers=["word " * 5000], usage=None).stream("hi", {"callbacks": [stopped]}))

    calls = {key: point.as_int for key, point in scraped.points("cost.calls").items()}
    assert calls.pop(where("broken", MINI, "failed")) == 1
    assert calls.pop(where("cached", MINI, "cached")) == 1
    assert calls.pop(where("cached", MINI)) == 1
    assert calls.pop(where("", MINI, "stopped")) == 1
    assert calls == {where("a", SONNET): 1, where("b", SONNET, "refused"): 1}


def test_names_are_cleaned_and_bounded(scraped: Scraped) -> None:
    """No address in a node's name leaves, no prompt does; past the limit names are one series, and nothing is lost."""
    address, secret = email(), prose()
    handler = MlflowCostHandler({"redact_pii": True, "nodes": {"quiet": {"log_prompts": False}}})
    ways = {f"n{number}": asking(FakeChat(model=MINI)) for number in range(6)}
    app = graph(**{f"to {address}": asking(FakeChat(model=MINI)), "quiet": asking(FakeChat(model=MINI)), **ways})

    with limits.replaced(metric_series=4):
        app.invoke({"messages": [HumanMessage(secret)]}, {"callbacks": [handler]})

    usd = {key: point.as_double for key, point in scraped.points("cost.usd").items()}
    assert len(usd) == 5
    assert usd[where("_OTHER", "_OTHER")] == pytest.approx(float(4 * MINI_USD))
    assert sum(usd.values()) == pytest.approx(float(8 * MINI_USD))
    assert spelling_in(address, scraped.sent) is None
    assert spelling_in(secret, scraped.sent) is None
    assert b"quiet" in scraped.sent


def test_a_broken_meter_stops_nothing(store: str, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """What a provider raises is logged once; the graph goes on and the sums are right."""

    class Broken(metrics.NoOpMeterProvider):
        def get_meter(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no meters today")

    monkeypatch.setattr(_internal, "_METER_PROVIDER", Broken())
    handler = MlflowCostHandler({})
    app = graph(a=asking(FakeChat(model=MINI)), b=asking(FakeChat(model=MINI)))

    app.invoke({"messages": [HumanMessage("a")]}, {"callbacks": [handler]})

    assert handler.summary().total_cost_usd == pytest.approx(float(2 * MINI_USD))
    told = [record for record in caplog.records if "OpenTelemetry metrics" in record.getMessage()]
    assert len(told) == 1
    mlflow.flush_trace_async_logging()


def test_nothing_is_made_without_a_provider(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody set a provider, no instrument is made, on the stand-in neither; and asking imports nothing."""
    monkeypatch.setattr(_internal, "_METER_PROVIDER", None)
    before = len(_internal._PROXY_METER_PROVIDER._meters)

    graph(a=asking(FakeChat(model=MINI))).invoke(
        {"messages": [HumanMessage("a")]}, {"callbacks": [MlflowCostHandler({})]}
    )

    assert len(_internal._PROXY_METER_PROVIDER._meters) == before
    program = (
        "import sys; from langchain_mlflow_cost.adapters import meters;"
        "print(meters.meter_provider(), 'opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["None", "False"]
