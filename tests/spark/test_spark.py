"""Traces in Spark: each answer is that of one machine, over the same stored traces."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import mlflow
import pytest
from fake_models import UNKNOWN, FakeChat, tool_call
from fakes import Chat, graph
from langchain_core.messages import AIMessage, HumanMessage
from pages import PAGES, blocks
from sqlalchemy import create_engine, inspect, text
from stored_traces import all_traces
from ways import ASK, any_agent, given, look_up, team_graph

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.adapters.stored_spans import rewrite
from langchain_mlflow_cost.adapters.trace_rewriting import StoredTraces
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.reports.dimensions import dimensions
from langchain_mlflow_cost.reports.query import Question, Store
from langchain_mlflow_cost.reports.reprice import Prices, correction_of
from langchain_mlflow_cost.tracing.stored_trace import Beside, StoredPolicy

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from langchain_mlflow_cost.tracing.stored_trace import Finding

pytestmark = pytest.mark.nightly

MAIL = "bob.miller@example.com"
SAID = "the harbour of Trieste is closed to vessels without a pilot"
STRICT: dict[str, Any] = {
    "redact_pii": True,
    "redaction": {"strategy": "hash", "hash_key": "a key that is long enough to be one"},
    "nodes": {"quiet": {"log_prompts": False}},
}
PRICES: dict[str, Any] = {"prices": {"overrides": {UNKNOWN: {"input": "2", "output": "8"}}}}
TABLES = {
    "spans": "spans",
    "info": "trace_info",
    "tags": "trace_tags",
    "metadata": "trace_request_metadata",
    "assessments": "assessments",
}


def record() -> None:
    """Traces with addresses in every channel, a private node, agents, tools with fees, users, calls without a price."""

    def work(state: Any) -> Any:
        Chat(reply=f"write to {MAIL}").invoke([HumanMessage("whom?")])
        FakeChat(model=UNKNOWN).invoke("and the other?")
        if state["messages"][-1].content == "fail":
            raise ValueError(f"nobody is {MAIL}")
        return {"messages": [AIMessage("done")]}

    def quiet(state: Any) -> Any:
        return {"messages": [Chat(reply=SAID).invoke([HumanMessage("so?")])]}

    app = graph(("work", work), ("quiet", quiet))
    handler = MlflowCostHandler(
        {"artifact_level": "full", "trace_metadata": ["tenant"], "prices": {"tools": {"look_up": 0.002}}}
    )
    for number in range(3):
        config: Any = {
            "configurable": {"thread_id": f"thread {number % 2}"},
            "metadata": {"user_id": MAIL if number else "bob", "tenant": f"tenant {number}"},
            "tags": ["beta"] * (number % 2),
            **given(handler),
        }
        app.invoke({"messages": [("user", f"I am {MAIL}")]}, config)
        team_graph().invoke(ASK, config)
        any_agent(FakeChat(answers=[tool_call("look_up", word="news"), "done"]), look_up).invoke(ASK, config)
        with pytest.raises(ValueError, match="nobody"):
            app.invoke({"messages": [("user", "fail")]}, config)
    mlflow.flush_trace_async_logging()
    for trace in mlflow.search_traces(return_type="list", max_results=2):
        mlflow.log_feedback(trace_id=trace.info.trace_id, name="good", value=True, rationale=f"asked {MAIL}")
        mlflow.set_trace_tag(trace.info.trace_id, "owner", MAIL)


def frames_of(uri: str, spark: Any) -> dict[str, Any]:
    """MLflow's tables as DataFrames, with the types of their columns as near as Parquet has them."""
    engine = create_engine(uri)
    found = {}
    for name, table in TABLES.items():
        columns = [each["name"] for each in inspect(engine).get_columns(table)]
        numbers = ("_ms", "_nano", "_ns", "experiment_id", "timestamp", "_cost")
        schema = ", ".join(
            f"{column} {'double' if column.endswith('_cost') else 'bigint' if column.endswith(numbers) else 'string'}"
            for column in columns
        )
        with engine.connect() as connection:
            rows = [
                tuple(
                    value if value is None or "string" not in part else str(value)
                    for value, part in zip(row, schema.split(", "), strict=True)
                )
                for row in connection.execute(text(f"SELECT * FROM {table}"))
            ]
        found[name] = spark.createDataFrame(rows, schema)
    engine.dispose()
    return found


@pytest.fixture
def tables(spark: Any, store: str) -> Any:
    from langchain_mlflow_cost.spark import Tables

    record()
    return Tables(**frames_of(store, spark))


def stored(uri: str) -> list[Any]:
    found = StoredTraces(uri)
    experiment = mlflow.get_experiment_by_name("tests").experiment_id
    traces = [trace for page in found.pages([experiment], after=None, since_ms=None, until_ms=None) for trace in page]
    found.close()
    return traces


def by_span(frame: Any) -> dict[Any, Any]:
    return {(row.trace_id, row.span_id): row for row in frame.collect()}


def test_scan_finds_the_same(tables: Any, store: str) -> None:
    """Entity, channel, node and count of each trace."""
    from langchain_mlflow_cost.spark import scan

    expected: dict[str, Counter[Finding]] = {}
    for trace in stored(store):
        beside = Beside(trace.fields, trace.tags, trace.metadata, trace.assessments)
        expected[trace.trace_id] = StoredPolicy(Policy(**STRICT)).clean(trace.spans, beside).found
    found: dict[str, Any] = {}
    for row in scan(tables, STRICT).collect():
        found.setdefault(row.trace_id, {})[row.entity, row.channel, row.node] = row["count"]

    assert {"EMAIL_ADDRESS", "PRIVATE_TEXT", "DROPPED"} <= {each.entity for sums in expected.values() for each in sums}
    assert {trace_id: {tuple(each): n for each, n in sums.items()} for trace_id, sums in expected.items()} == found


def test_redacted_texts_are_the_same(tables: Any, store: str) -> None:
    """Each column of each table is what `scan --fix` writes there; nothing planted is left; a second scan is clean."""
    from langchain_mlflow_cost.spark import redact, scan

    found = redact(tables, STRICT)
    spans, info = by_span(found.spans), {row.request_id: row for row in found.info.collect()}
    pairs = {
        name: {(row.request_id, row.key): row.value for row in getattr(found, name).collect()}
        for name in ("tags", "metadata")
    }
    assessed = {row.assessment_id: row for row in found.assessments.collect()}
    for trace in stored(store):
        beside = Beside(trace.fields, trace.tags, trace.metadata, trace.assessments)
        cleaned = StoredPolicy(Policy(**STRICT)).clean(trace.spans, beside)
        mine = [json.loads(row.content) for (trace_id, _), row in spans.items() if trace_id == trace.trace_id]
        assert {span["span_id"]: span for span in mine} == {span["span_id"]: span for span in cleaned.spans}
        for name, value in cleaned.beside.fields.items():
            assert info[trace.trace_id][name] == value, name
        for name, told in (("tags", cleaned.beside.tags), ("metadata", cleaned.beside.metadata)):
            assert {key: value for (of, key), value in pairs[name].items() if of == trace.trace_id} == told
        for each, fields in cleaned.beside.assessments.items():
            assert {name: assessed[each][name] for name in fields} == fields
    everything = str([row for name in TABLES for row in getattr(found, name).collect()])

    for name in TABLES:
        assert getattr(found, name).schema == getattr(tables, name).schema
        assert getattr(found, name).count() == getattr(tables, name).count()
    assert MAIL not in everything
    assert SAID not in everything
    assert scan(found, STRICT).collect() == []


def test_prices_are_the_same(tables: Any, store: str) -> None:
    """Calls that had no price have the one of `reprice`, with all sums above, in the columns that MLflow adds up too."""
    from langchain_mlflow_cost.spark import price_changes, reprice

    found, changes = reprice(tables, PRICES), price_changes(tables, PRICES).collect()
    spans = by_span(found.spans)
    metadata = {(row.request_id, row.key): row.value for row in found.metadata.collect()}
    prices = Prices(Policy(**PRICES).price_book(catalogue_rates))
    usd: list[float] = []
    for trace in mlflow.search_traces(return_type="list"):
        correction = correction_of(trace, prices)
        usd += [float(call.now_usd) for call in correction.calls]
        rewrite(trace, correction.spans, correction.metadata)
    mlflow.flush_trace_async_logging()
    expected = frames_of(store, found.spans.sparkSession)

    assert len(usd) == 6
    assert sorted(row.now_usd for row in changes) == pytest.approx(sorted(usd), rel=1e-9)
    for key, row in by_span(expected["spans"]).items():
        for name in ("input_cost", "output_cost", "total_cost"):
            assert spans[key][name] == (None if row[name] is None else pytest.approx(row[name], rel=1e-9))
        mine, theirs = (json.loads(each.content)["attributes"] for each in (spans[key], row))
        assert mine.keys() == theirs.keys()
        assert {name: figures(value) for name, value in mine.items()} == {
            name: figures(value) for name, value in theirs.items()
        }
    for row in expected["metadata"].collect():
        if row.key == "mlflow.trace.cost":
            assert figures(metadata[row.request_id, row.key]) == figures(row.value)
    assert reprice(found.spans, PRICES).exceptAll(found.spans).count() == 0


def figures(value: str) -> Any:
    told = json.loads(value)
    if isinstance(told, dict):
        return {name: pytest.approx(each, rel=1e-9) if isinstance(each, float) else each for name, each in told.items()}
    return pytest.approx(told, rel=1e-9) if isinstance(told, float) else told


@pytest.mark.parametrize(
    "by",
    [
        "",
        "node",
        "model",
        "day,model",
        "user",
        "session",
        "tag:tenant",
        "tag:beta",
        "tool",
        "provider",
        "trace",
        "agent",
    ],
)
def test_sums_are_the_same(tables: Any, store: str, by: str) -> None:
    """A report's groups and figures, to 1e-9."""
    from langchain_mlflow_cost.spark import sum_up

    zone = ZoneInfo("Asia/Kathmandu")
    experiment = mlflow.get_experiment_by_name("tests")
    asked = dimensions(by, zone) if by else ()
    report = Store(store).report(Question({experiment.experiment_id: experiment.name}, by=asked))
    expected = {values: sums.as_fields() for values, sums in report.groups.items()}
    rows = [row.asDict() for row in sum_up(tables, by, zone=zone).collect()]
    found = {tuple(row.pop(each.name) for each in asked): row for row in rows}

    assert found.keys() == expected.keys()
    for values, fields in expected.items():
        for name, figure in fields.items():
            told = pytest.approx(figure, rel=1e-9) if isinstance(figure, float) else figure
            assert found[values][name] == told, (values, name)
    assert math.fsum(row["cost_usd"] or 0 for row in found.values()) > 0


def test_spans_alone(tables: Any) -> None:
    """Without the other tables: texts and prices are the same, since all that they need stands on the spans."""
    from langchain_mlflow_cost.spark import redact, reprice, sum_up

    for function, policy in ((redact, STRICT), (reprice, PRICES)):
        whole, alone = function(tables, policy).spans, function(tables.spans, policy)
        assert alone.exceptAll(whole).count() == whole.exceptAll(alone).count() == 0
    (whole,), (alone,) = sum_up(tables).collect(), sum_up(tables.spans).collect()
    assert alone.cost_usd == pytest.approx(whole.cost_usd, rel=1e-9)


def test_what_cannot_be_read(spark: Any) -> None:
    """A span that is no JSON is told, and not let through; one that stands in files has no content, and stays."""
    from langchain_mlflow_cost.spark import redact, scan

    rows = [("tr-1", "a", f"{{cut off, {MAIL}", MAIL), ("tr-1", "b", None, "kept")]
    spans = spark.createDataFrame(rows, "trace_id string, span_id string, content string, name string")

    (found,) = scan(spans, STRICT).collect()
    assert tuple(found) == ("tr-1", "UNREADABLE", "content", "", 1)
    assert sorted(map(tuple, redact(spans, STRICT).collect())) == [
        ("tr-1", "a", None, None), ("tr-1", "b", None, "kept"),
    ]  # fmt: skip


@pytest.mark.parametrize("attributes", ["map", "variant"])
def test_tables_of_databricks(tables: Any, attributes: str) -> None:
    """The view `trace_unified` and the table `otel_spans`, made of the same traces, give the same finds and sums."""
    from pyspark.sql import functions as sf

    from langchain_mlflow_cost.spark import otel_spans, scan, sum_up, unity_catalog

    kind = "map<string, string>" if attributes == "map" else "variant"
    event = f"array<struct<name: string, time_unix_nano: bigint, attributes: {kind}>>"
    span = (
        f"trace_id string, span_id string, parent_span_id string, name string, start_time_unix_nano bigint, "
        f"end_time_unix_nano bigint, status struct<code: string, message: string>, attributes {kind}, events {event}"
    )
    otel = tables.spans.select("trace_id", sf.from_json("content", span).alias("each")).select(
        "trace_id", "each.span_id", "each.parent_span_id", "each.name", "each.start_time_unix_nano",
        "each.end_time_unix_nano", "each.status", "each.attributes", "each.events",
    )  # fmt: skip
    spans = otel.groupBy("trace_id").agg(sf.collect_list(sf.struct(*otel.columns)).alias("spans"))
    maps = [
        table.groupBy(sf.col("request_id").alias("trace_id")).agg(
            sf.map_from_entries(sf.collect_list(sf.struct("key", "value"))).alias(name)
        )
        for name, table in (("tags", tables.tags), ("trace_metadata", tables.metadata))
    ]
    info = tables.info.select(
        sf.col("request_id").alias("trace_id"), "client_request_id", sf.col("status").alias("state"),
        sf.timestamp_millis("timestamp_ms").alias("request_time"), sf.col("request_preview").alias("request"),
        sf.col("response_preview").alias("response"),
    )  # fmt: skip
    assessments = tables.assessments.groupBy("trace_id").agg(
        sf.collect_list(
            sf.struct("assessment_id", "name", "rationale", sf.struct(sf.col("value").alias("value")).alias("feedback"))
        ).alias("assessments")
    )
    unified = info
    for each in (spans, *maps, assessments):
        unified = unified.join(each, "trace_id", "left")

    def finds(frame: Any) -> Any:
        return {tuple(row) for row in frame.where("channel not in ('assessments', 'previews')").collect()}

    assert finds(scan(unity_catalog(unified), STRICT)) == finds(scan(tables, STRICT))
    assert finds(scan(otel_spans(otel), STRICT)) == finds(scan(tables.spans, STRICT))
    assert {row.channel for row in scan(unity_catalog(unified), STRICT).collect()} >= {"assessments", "previews"}
    found, expected = (
        {row.user: row.cost_usd for row in sum_up(each, "user").collect()} for each in (unity_catalog(unified), tables)
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_prices_of_a_moment(tables: Any) -> None:
    """`all_calls`, `models` and `at` mean what they mean to the command."""
    from langchain_mlflow_cost.spark import price_changes

    long_ago = datetime(2024, 6, 1, tzinfo=UTC)
    none = price_changes(tables, {}, models=["no such model"]).collect()
    left = price_changes(tables, {}).collect()
    dearer = price_changes(
        tables, {"prices": {"overrides": {UNKNOWN: {"input": "4", "output": "16"}}}}, models=[UNKNOWN], at=long_ago
    ).collect()

    assert none == []
    assert {(row.calls, row.model) for row in left} == {(1, None)}
    assert len(dearer) == 6
    assert {row.before_usd for row in dearer} == {None}


def test_the_page(spark: Any, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/spark.md says of files is done as it stands there, over a store without an assessment or a price."""
    monkeypatch.chdir(tmp_path)
    graph(("work", lambda state: {"messages": [Chat(reply=f"ask {MAIL}").invoke("whom?")]})).invoke(
        {"messages": [("user", "hi")]}, given(MlflowCostHandler())
    )
    mlflow.flush_trace_async_logging()
    (tmp_path / "observability.yaml").write_text("redact_pii: true\n")
    page = next(page for page in PAGES if page.name == "spark.md")
    names: dict[str, Any] = {"spark": spark}
    for block in [block for block in blocks(page) if block.language == "python"][:2]:
        # Spark's own process stands in another folder.
        code = block.text.replace("sqlite:///mlflow.db", store)
        for folder in ("traces", "clean", "priced"):
            code = code.replace(f'"{folder}/', f'"{tmp_path}/{folder}/')
        exec(code, names)

    clean = spark.read.parquet(f"{tmp_path}/clean/spans.parquet").collect()
    assert MAIL in str(spark.read.parquet(f"{tmp_path}/traces/spans.parquet").collect())
    assert len(clean) == len(all_traces()[0].data.spans)
    assert MAIL not in str(clean)
