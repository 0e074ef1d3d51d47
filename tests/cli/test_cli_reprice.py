"""`mlflow-cost reprice`: what is stored of calls without a price, or with a wrong one, is as if it had been right."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import mlflow
import postgres_server
import pytest
from fake_models import UNKNOWN, FakeChat
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.entities import SpanType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracing.client import TracingClient
from servers import serving
from stored_traces import all_traces, leaves_usd, mlflow_usd, plain
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, cost_summary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow.entities import Trace

    Cli = Callable[..., Any]

HOUSE = {UNKNOWN: {"input": "2", "output": "8", "cache_read": "0.5"}}
"""1,000 and 500 tokens: 0.002 and 0.004 USD."""
CALL_USD = 0.006


def written_policy(folder: Path, prices: dict[str, Any]) -> Path:
    path = folder / "policy.yaml"
    path.write_text(json.dumps({"prices": prices}))
    return path


def spend(policy: Any = None) -> None:
    """An agent in a node, a tool with a fee that asks a model, two models: one that no price source knows."""
    unknown, known = FakeChat(model=UNKNOWN), FakeChat()

    @tool
    def ask(question: str) -> str:
        """Ask a model."""
        return str(unknown.invoke(question).content)

    def write(state: MessagesState) -> Any:
        return {"messages": [unknown.invoke(state["messages"])]}

    def look(_: MessagesState) -> Any:
        known.invoke("and you?")
        return {"messages": [("ai", ask.invoke({"question": "what?"}))]}

    writer: Any = StateGraph(MessagesState)
    inner = writer.add_node("writer", write).add_edge(START, "writer").compile()
    graph: Any = StateGraph(MessagesState)
    graph.add_node("team", inner).add_node("look", look)
    graph.add_edge(START, "team").add_edge("team", "look").compile().invoke(
        ASK, given(MlflowCostHandler({"prices": {"tools": {"ask": 0.001}, **(policy or {})}}))
    )
    mlflow.flush_trace_async_logging()


def figures(trace: Trace) -> Any:
    """All figures of a trace, by the names of its spans in their order: what two traces of one graph are compared by."""
    spans = sorted(trace.data.spans, key=lambda span: (span.start_time_ns, span.span_id))
    kept = ("cost.", "mlflow.llm.", "mlflow.chat.tokenUsage")
    told = [
        (
            span.name,
            {key: value for key, value in span.attributes.items() if key.startswith(kept) and key != "cost.usage"},
        )
        for span in spans
    ]
    metadata = {
        key: plain(trace.info.trace_metadata.get(key)) for key in ("mlflow.trace.cost", "mlflow.trace.tokenUsage")
    }
    return told, metadata


def assert_agrees(trace: Trace) -> None:
    """Spans, node and root sums, the trace's cost and `cost_summary` say one thing."""
    summary = cost_summary(trace.info.trace_id)
    roots = [span for span in trace.data.spans if span.parent_id is None]

    assert leaves_usd(trace) + summary.tool_cost_usd == pytest.approx(summary.total_cost_usd, rel=1e-9)
    assert mlflow_usd(trace) == pytest.approx(summary.total_cost_usd, rel=1e-9)
    assert [span.attributes["cost.total_usd"] for span in roots] == pytest.approx([summary.total_cost_usd], rel=1e-9)
    assert math.fsum(node.cost_usd for node in summary.node_breakdown.values()) == pytest.approx(summary.total_cost_usd)


def test_an_unpriced_trace_is_as_if_it_had_been_priced(store: str, cli: Cli, tmp_path: Path) -> None:
    """Every figure of the spans, of those above and of the trace is what the same graph gives under the prices."""
    repriced_as_if_priced(store, cli, tmp_path)


@pytest.mark.filterwarnings("ignore:.*file.?store:FutureWarning", "ignore:.*filesystem:FutureWarning")
def test_a_file_store(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a trace's spans are in files, they are written anew there."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    uri = f"file://{tmp_path}/mlruns"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("tests")
    repriced_as_if_priced(uri, cli, tmp_path)


@pytest.mark.nightly
def test_a_server(store_uri: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through MLflow's server it is the same."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    with serving(tmp_path, store_uri) as server:
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_experiment("tests")
        repriced_as_if_priced(server.uri, cli, tmp_path)


@pytest.mark.nightly
@pytest.mark.skipif(postgres_server.programs() is None, reason="needs PostgreSQL and psycopg2")
def test_postgres(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In PostgreSQL it is the same."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    with postgres_server.running() as server:
        uri = server.database()
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("tests")
        repriced_as_if_priced(uri, cli, tmp_path)
        mlflow.set_tracking_uri(None)


def test_with_the_default_export(exported_in_threads: str, cli: Cli, tmp_path: Path) -> None:
    """What MLflow's threads have stored is changed as well, also where they came in between."""
    spend()
    policy = written_policy(tmp_path, {"overrides": HOUSE})
    done = cli("reprice", "--tracking-uri", exported_in_threads, "--experiment", "tests", "--policy", policy, "--yes")

    assert "Changed 1 trace" in done.out
    assert_agrees(mlflow.search_traces(return_type="list")[0])


def repriced_as_if_priced(uri: str, cli: Cli, tmp_path: Path) -> None:
    spend()
    spend({"overrides": HOUSE})
    before, right = all_traces()
    assert cost_summary(before.info.trace_id).unpriced_calls == 2
    policy = written_policy(tmp_path, {"overrides": HOUSE})
    words = ("reprice", "--tracking-uri", uri, "--experiment", "tests", "--policy", policy)

    dry = cli(*words, "--dry-run")
    assert (dry.code, "Would change 1 trace" in dry.out) == (0, True), dry
    assert [line.split() for line in dry.out.splitlines() if UNKNOWN in line] == [
        [UNKNOWN, "2", "unpriced", "0.012000"]
    ]
    assert figures(all_traces()[0]) == figures(before)

    done = cli(*words, "--yes")
    now = all_traces()[0]
    assert (done.code, "Changed 1 trace" in done.out) == (0, True), done
    assert figures(now) == figures(right)
    assert cost_summary(now.info.trace_id).node_breakdown == cost_summary(right.info.trace_id).node_breakdown
    assert_agrees(now)
    assert now.info.request_time == before.info.request_time
    assert [span.to_dict()["events"] for span in now.data.spans] == [
        span.to_dict()["events"] for span in before.data.spans
    ]

    assert "Nothing to change" in cli(*words, "--yes").out


def test_wrong_prices_are_put_right(store: str, cli: Cli, tmp_path: Path) -> None:
    """With --all a call that has a price gets today's; without it stays; a call whose model has none keeps its price."""
    spend({"overrides": {UNKNOWN: {"input": "200", "output": "800"}}})
    policy = written_policy(tmp_path, {"overrides": HOUSE})
    words = ("reprice", "--tracking-uri", store, "--experiment", "tests")
    (wrong,) = all_traces()

    assert "Nothing to change" in cli(*words, "--policy", policy, "--yes").out
    none = cli(*words, "--all", "--yes")
    assert "Left as they are: 2 calls whose model no price source knows" in none.out
    assert figures(all_traces()[0]) == figures(wrong)

    assert "0.012000" in cli(*words, "--policy", policy, "--all", "--model", UNKNOWN, "--yes").out
    (now,) = all_traces()
    assert_agrees(now)
    # Two calls, one of gpt-4o-mini (0.00045) and the fee.
    assert cost_summary().total_cost_usd == pytest.approx(2 * CALL_USD + 0.00045 + 0.001)


def test_an_interrupted_run_goes_on(store: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed before Ctrl-C is not changed again; a trace whose spans alone were stored gets its sum."""
    for _ in range(3):
        spend()
    policy = written_policy(tmp_path, {"overrides": HOUSE})
    words = ("reprice", "--tracking-uri", store, "--experiment", "tests", "--policy", policy, "--yes")
    begun = 0
    start_trace = SqlAlchemyStore.start_trace

    def interrupted(self: Any, trace_info: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == 2:
            raise KeyboardInterrupt
        return start_trace(self, trace_info)

    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "start_trace", interrupted)
        first = cli(*words)
    assert first.code == 130
    assert "interrupted: 1 of 3 traces are changed; run it again for the others" in first.err
    second = cli(*words)

    assert "Sums that do not agree with their calls: 1 trace" in second.out
    assert "Changed 2 traces" in second.out
    for trace in all_traces():
        assert_agrees(trace)


def test_what_cannot_be_priced_or_written_is_named(
    store: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls without usage, running traces, a store that refuses: each is told, and what failed ends with 1."""
    spend()
    with mlflow.start_span("old", span_type=SpanType.CHAT_MODEL) as span:
        span.set_attributes({"cost.llm_calls": 1, "cost.unpriced_calls": 1, "mlflow.llm.model": UNKNOWN})
    (refused,) = (trace.info.trace_id for trace in all_traces()[:1])
    running = mlflow.start_span_no_context("running")
    mlflow.start_span_no_context("a part", parent_span=running).end()
    policy = written_policy(tmp_path, {"overrides": HOUSE})
    log_spans = SqlAlchemyStore.log_spans

    def refusing(self: Any, location: str, spans: Any, **more: Any) -> Any:
        if spans[0].trace_id == refused:
            raise MlflowException("the database is read-only")
        return log_spans(self, location, spans, **more)

    monkeypatch.setattr(SqlAlchemyStore, "log_spans", refusing)
    done = cli("reprice", "--tracking-uri", store, "--experiment", "tests", "--policy", policy, "--yes")

    assert done.code == 1
    assert "Left as they are: 1 call without cost.usage on their span" in done.out
    assert "Left as they are: 1 trace still running" in done.out
    assert f"mlflow-cost: trace {refused}: the database is read-only" in done.err
    assert "mlflow-cost: 1 trace could not be changed, see above" in done.err
    running.end()


@pytest.mark.nightly
def test_a_trace_in_an_archive(store: str, cli: Cli, tmp_path: Path) -> None:
    """One trace whose spans cannot be read does not keep the others from being changed."""
    spend()
    spend()
    archived = all_traces()[0].info.trace_id
    TracingClient().store.set_trace_tag(archived, "mlflow.trace.spansLocation", "ARCHIVE_REPO")
    policy = written_policy(tmp_path, {"overrides": HOUSE})
    done = cli("reprice", "--tracking-uri", store, "--experiment", "tests", "--policy", policy, "--yes")

    assert done.code == 1
    assert f"mlflow-cost: trace {archived} is left out: its spans cannot be read" in done.err
    assert "Changed 1 trace\n" in done.out
    assert "mlflow-cost: 1 trace could not be changed, see above" in done.err


def test_a_users_own_cost_stays_in_the_trace(store: str, cli: Cli, tmp_path: Path) -> None:
    """A span that is not ours, with a cost in MLflow's key, is in the trace's sum before and after."""
    with mlflow.start_span("endpoint"):
        with mlflow.start_span("mine") as span:
            span.set_attribute("mlflow.llm.cost", {"input_cost": 1.0, "output_cost": 1.0, "total_cost": 2.0})
        one_node(lambda state: FakeChat(model=UNKNOWN).invoke(state["messages"])).invoke(
            ASK, given(MlflowCostHandler())
        )
    policy = written_policy(tmp_path, {"overrides": HOUSE})
    cli("reprice", "--tracking-uri", store, "--experiment", "tests", "--policy", policy, "--yes")
    (trace,) = all_traces()

    assert mlflow_usd(trace) == pytest.approx(2 + CALL_USD)
    assert cost_summary().total_cost_usd == pytest.approx(CALL_USD)
