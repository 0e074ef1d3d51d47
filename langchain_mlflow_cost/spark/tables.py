"""The tables in which MLflow and Databricks keep traces, as rows that Spark can put together by trace, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Final

from pyspark.sql import functions as sf

from langchain_mlflow_cost.adapters.trace_rewriting import ASSESSED, FIELDS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

SPAN, INFO, TAG, METADATA, ASSESSMENT = "span", "info", "tag", "metadata", "assessment"
ROW: Final = "trace_id string, kind string, key string, value string"
"""A row of any of the tables, as it goes to the workers: a span by its id with its JSON, a tag by its name, ..."""
CHANGED: Final = f"{ROW}, fields map<string, string>"
"""And as it comes back: `fields` are columns of the row beside that."""

_FACTS: Final = ("experiment_id", "timestamp_ms", "status")
_COSTS: Final = ("input_cost", "output_cost", "total_cost")
_SPAN_FIELDS: Final = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "start_time_unix_nano",
    "end_time_unix_nano",
    "status",
    "attributes",
    "events",
    "links",
)


@dataclass(frozen=True)
class Tables:
    """What a store keeps of traces, in the columns of MLflow's SQL tables. Further columns stay as they are."""

    spans: DataFrame
    """`spans`: `trace_id`, `span_id`, `content` (the span as JSON), `name`."""
    info: DataFrame | None = None
    """`trace_info`: `request_id`, `experiment_id`, `timestamp_ms`, `status`, `request_preview`, ..."""
    tags: DataFrame | None = None
    """`trace_tags`: `request_id`, `key`, `value`."""
    metadata: DataFrame | None = None
    """`trace_request_metadata`: `request_id`, `key`, `value`."""
    assessments: DataFrame | None = None
    """`assessments`: `assessment_id`, `trace_id`, `value`, `rationale`, ..."""


def tables_of(traces: DataFrame | Tables) -> Tables:
    """The spans alone as tables."""
    return traces if isinstance(traces, Tables) else Tables(traces)


def rows_of(tables: Tables) -> DataFrame:
    """All rows in one form (`ROW`), those of a trace together, spans in the order of their ids."""
    parts = [tables.spans.select(*_row("trace_id", SPAN, sf.col("span_id"), sf.col("content")))]
    if tables.info is not None:
        said = _json_of(tables.info, (*FIELDS, *_FACTS))
        parts.append(tables.info.select(*_row("request_id", INFO, sf.lit(""), said)))
    for kind, table in ((TAG, tables.tags), (METADATA, tables.metadata)):
        if table is not None:
            parts.append(table.select(*_row("request_id", kind, sf.col("key"), sf.col("value"))))
    if tables.assessments is not None:
        said = _json_of(tables.assessments, ASSESSED)
        parts.append(tables.assessments.select(*_row("trace_id", ASSESSMENT, sf.col("assessment_id"), said)))
    rows = reduce(lambda one, other: one.unionByName(other), parts)
    return rows.repartition("trace_id").sortWithinPartitions("trace_id", "kind", "key")


def _row(trace_id: str, kind: str, key: Column, value: Column) -> list[Column]:
    return [
        sf.col(trace_id).alias("trace_id"),
        sf.lit(kind).alias("kind"),
        key.cast("string").alias("key"),
        value.alias("value"),
    ]


def _json_of(table: DataFrame, names: tuple[str, ...]) -> Column:
    return sf.to_json(sf.struct(*(sf.col(name).cast("string").alias(name) for name in names if name in table.columns)))


def with_redacted(tables: Tables, changed: DataFrame) -> Tables:
    """The tables with the texts that the workers gave in place of their own.

    Args:
        tables: As they were.
        changed: All of their rows, in the form `CHANGED`. A span that could not be read has no value.
    """
    is_kept = sf.col("content").isNull()
    columns = {"content": _new()}
    if "name" in tables.spans.columns:
        columns["name"] = sf.when(is_kept, sf.col("name")).otherwise(_field("name"))
    made = replace(tables, spans=_joined(tables.spans, changed, SPAN, ("trace_id", "span_id"), columns))
    if tables.info is not None:
        made = replace(made, info=_fields_in(tables.info, changed, INFO, ("request_id",), FIELDS))
    if tables.assessments is not None:
        by = ("trace_id", "assessment_id")
        made = replace(made, assessments=_fields_in(tables.assessments, changed, ASSESSMENT, by, ASSESSED))
    for name, kind in (("tags", TAG), ("metadata", METADATA)):
        table = getattr(tables, name)
        if table is not None:
            made = replace(made, **{name: _joined(table, changed, kind, ("request_id", "key"), {"value": _new()})})
    return made


def with_prices(tables: Tables, changed: DataFrame) -> Tables:
    """The tables with what the workers changed in place of their own.

    Args:
        tables: As they were.
        changed: Those of their rows that are to be others, in the form `CHANGED`, and metadata that are to be added.
    """
    is_kept = _new().isNull()
    columns = {"content": sf.coalesce(_new(), sf.col("content"))}
    for name in _COSTS:
        if name in tables.spans.columns:
            columns[name] = sf.when(is_kept, sf.col(name)).otherwise(_field(name).cast("double"))
    made = replace(tables, spans=_joined(tables.spans, changed, SPAN, ("trace_id", "span_id"), columns))
    if tables.metadata is not None:
        value = {"value": sf.coalesce(_new(), sf.col("value"))}
        made = replace(
            made, metadata=_joined(tables.metadata, changed, METADATA, ("request_id", "key"), value, how="full")
        )
    return made


def _new() -> Column:
    return sf.col("_value")


def _field(name: str) -> Column:
    return sf.col("_fields").getItem(name)


def _fields_in(
    table: DataFrame, changed: DataFrame, kind: str, by: tuple[str, ...], names: tuple[str, ...]
) -> DataFrame:
    columns = {name: _field(name) for name in names if name in table.columns}
    return _joined(table, changed, kind, by, columns)


def _joined(
    table: DataFrame, changed: DataFrame, kind: str, by: tuple[str, ...], columns: dict[str, Column], how: str = "left"
) -> DataFrame:
    """A table with some columns as they are to be, and all others, in their order and of their types."""
    keys = (sf.col("trace_id"), sf.col("key"))
    mine = changed.where(sf.col("kind") == kind).select(
        *(key.alias(name) for key, name in zip(keys, by, strict=False)),
        sf.col("value").alias("_value"),
        sf.col("fields").alias("_fields"),
    )
    return table.join(mine, list(by), how).select(
        *(columns[name].alias(name) if name in columns else sf.col(name) for name in table.columns)
    )


def otel_spans(spans: DataFrame) -> DataFrame:
    """Spans of a Databricks table `<prefix>_otel_spans` in the columns of MLflow's table `spans`.

    Args:
        spans: `attributes` may be a `MAP` or a `VARIANT`.
    """
    fields = sf.struct(*(sf.col(name) for name in _SPAN_FIELDS if name in spans.columns))
    return spans.select(
        "trace_id",
        "span_id",
        *(
            name
            for name in ("parent_span_id", "name", "start_time_unix_nano", "end_time_unix_nano")
            if name in spans.columns
        ),
        sf.to_json(fields).alias("content"),
    )


def unity_catalog(traces: DataFrame) -> Tables:
    """What a Databricks view `<prefix>_trace_unified` tells of traces, in the columns of MLflow's tables.

    Args:
        traces: One row a trace, with `trace_id`, `request_time`, `state`, `request`, `response`, `client_request_id`,
            `trace_metadata`, `tags`, `spans` and `assessments`; those that it does not have are left out.
    """
    has = set(traces.columns).__contains__
    trace_id = sf.col("trace_id")
    spans = traces.select(trace_id.alias("_of"), sf.explode("spans").alias("span")).select("_of", "span.*")
    spans = otel_spans(spans.withColumn("trace_id", sf.col("_of")).drop("_of"))
    facts = {
        "timestamp_ms": ("request_time", "unix_millis(cast(request_time AS timestamp))"),
        "status": ("state", "state"),
        "request_preview": ("request", "request"),
        "response_preview": ("response", "response"),
        "client_request_id": ("client_request_id", "client_request_id"),
    }
    told = [sf.expr(sql).alias(field) for field, (name, sql) in facts.items() if has(name)]
    assessments = None
    if has("assessments"):
        each = traces.select(trace_id, sf.explode("assessments").alias("each"))
        inside = each.select("each.*").columns
        texts = {
            "value": ("feedback", "expectation"),
            "rationale": ("rationale",),
            "assessment_metadata": ("metadata",),
        }
        said = [
            sf.coalesce(*(_text_of(each, name) for name in names if name in inside)).alias(column)
            for column, names in texts.items()
            if any(name in inside for name in names)
        ]
        assessments = each.select("trace_id", sf.col("each.assessment_id").alias("assessment_id"), *said)
    return Tables(
        spans,
        info=traces.select(trace_id.alias("request_id"), *told),
        tags=_pairs(traces, "tags") if has("tags") else None,
        metadata=_pairs(traces, "trace_metadata") if has("trace_metadata") else None,
        assessments=assessments,
    )


def _pairs(traces: DataFrame, name: str) -> DataFrame:
    return traces.select(sf.col("trace_id").alias("request_id"), sf.explode(name))


def _text_of(each: DataFrame, name: str) -> Column:
    """A field of an assessment as text: as it is, or as JSON where it has parts of its own."""
    column = sf.col(f"each.{name}")
    is_text = dict(each.select(column.alias("it")).dtypes)["it"] == "string"
    return column if is_text else sf.to_json(column)
