"""Stored traces read row by row from MLflow's SQL store, and written again: no public function changes a stored span.

Read in MLflow 3.15 to 3.17: `trace_info`, `trace_tags`, `trace_request_metadata`, `assessments`, and `spans`, whose
`content` is the span as JSON text and whose `name` says its name again. SQLite and PostgreSQL answer; no other is
asked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import MetaData, bindparam, create_engine, select, text

from langchain_mlflow_cost.adapters import trace_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FIELDS: Final = ("request_preview", "response_preview", "client_request_id", "session_id", "trace_name")
"""Columns of `trace_info` with a text."""
ASSESSED: Final = ("name", "value", "error", "rationale", "assessment_metadata")
"""Columns of `assessments` with a text."""


class StoredTrace(NamedTuple):
    """One trace as its rows have it."""

    trace_id: str
    timestamp_ms: int
    spans: list[dict[str, Any]]
    fields: dict[str, str | None]
    tags: dict[str, str]
    metadata: dict[str, str]
    assessments: dict[str, dict[str, str | None]]
    has_spans_in_files: bool = False
    """Whether its spans are in `traces.json`, and in no row."""


class StoredTraces:
    """One store's traces.

    Args:
        tracking_uri: One of which `trace_tables.has_tables` is true.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._engine = create_engine(tracking_uri)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        tables = MetaData()
        tables.reflect(self._engine, only=lambda name, _: name in _TABLES)
        self._info, self._tags, self._metadata, self._spans = (tables.tables[name] for name in _TABLES[:4])
        self._assessments = tables.tables.get("assessments")
        self._fields = [name for name in FIELDS if name in self._info.c]

    def close(self) -> None:
        """Let its connections go."""
        self._engine.dispose()

    def pages(
        self, experiments: Sequence[str], *, after: tuple[int, str] | None, since_ms: int | None, until_ms: int | None
    ) -> Iterator[list[StoredTrace]]:
        """Each trace, the earliest first, a hundred at a time.

        Args:
            experiments: Their ids.
            after: Only those behind this one: when it began, and its id.
            since_ms: Only those that began then or later.
            until_ms: And before then.
        """
        info = self._info
        while True:
            query = select(info).where(info.c.experiment_id.in_([int(each) for each in experiments]))
            if since_ms is not None:
                query = query.where(info.c.timestamp_ms >= since_ms)
            if until_ms is not None:
                query = query.where(info.c.timestamp_ms < until_ms)
            if after is not None:
                moment, trace_id = after
                later = (info.c.timestamp_ms == moment) & (info.c.request_id > trace_id)
                query = query.where((info.c.timestamp_ms > moment) | later)
            with self._engine.connect() as connection:
                found = connection.execute(query.order_by(info.c.timestamp_ms, info.c.request_id).limit(100)).all()
                page = list(self._whole(connection, found))
            if not page:
                return
            after = (page[-1].timestamp_ms, page[-1].trace_id)
            yield page

    def _whole(self, connection: Any, infos: Sequence[Any]) -> Iterator[StoredTrace]:
        ids = [each.request_id for each in infos]
        spans = _by_trace(connection, self._spans, "trace_id", ids)
        tags = _by_trace(connection, self._tags, "request_id", ids)
        metadata = _by_trace(connection, self._metadata, "request_id", ids)
        assessed = {} if self._assessments is None else _by_trace(connection, self._assessments, "trace_id", ids)
        for info in infos:
            trace_id = info.request_id
            own_tags = {row.key: row.value for row in tags.get(trace_id, ())}
            own_spans = [json.loads(row.content) for row in spans.get(trace_id, ()) if row.content]
            yield StoredTrace(
                trace_id,
                int(info.timestamp_ms),
                own_spans,
                {name: getattr(info, name) for name in self._fields},
                own_tags,
                {row.key: row.value for row in metadata.get(trace_id, ())},
                {
                    row.assessment_id: {name: getattr(row, name) for name in ASSESSED if name in row._fields}
                    for row in assessed.get(trace_id, ())
                },
                not own_spans and trace_fields.has_spans_in_files(own_tags.get(trace_fields.SPANS_LOCATION)),
            )

    def rewrite(self, before: StoredTrace, after: StoredTrace) -> None:
        """Write a trace again, in one step: what is changed of it, and nothing else.

        Args:
            before: As it was read.
            after: As it is to be, with the same spans in the same order.
        """
        with self._engine.begin() as connection:
            self._overwrite_what_goes(connection)
            for old, new in zip(before.spans, after.spans, strict=True):
                if old != new:
                    self._rewrite_span(connection, before.trace_id, old, new)
            self._update(connection, self._info, {"request_id": before.trace_id}, before.fields, after.fields)
            for table, olds, news in (
                (self._tags, before.tags, after.tags),
                (self._metadata, before.metadata, after.metadata),
            ):
                for key, value in news.items():
                    where = {"request_id": before.trace_id, "key": key}
                    self._update(connection, table, where, {"value": olds[key]}, {"value": value})
            for each, fields in after.assessments.items():
                where = {"assessment_id": each}
                self._update(connection, self._assessments, where, before.assessments[each], fields)

    def _rewrite_span(self, connection: Any, trace_id: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        # The column has the id as hexadecimal digits, the JSON in base64 (3.17) or the same.
        table = self._spans
        rows = connection.execute(select(table.c.span_id, table.c.content).where(table.c.trace_id == trace_id)).all()
        for row in rows:
            if json.loads(row.content).get("span_id") == old.get("span_id"):
                written = {"content": json.dumps(new, ensure_ascii=False), "name": new["name"]}
                known = {"content": row.content, "name": old["name"]}
                self._update(connection, table, {"trace_id": trace_id, "span_id": row.span_id}, known, written)

    def _update(
        self, connection: Any, table: Any, where: Mapping[str, str], old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> None:
        changed = {name: value for name, value in new.items() if value != old.get(name)}
        if changed:
            query = table.update()
            for name, value in where.items():
                query = query.where(table.c[name] == bindparam(f"is_{name}", value))
            connection.execute(query.values(**changed))

    def _overwrite_what_goes(self, connection: Any) -> None:
        """Let SQLite write zeros over what is replaced."""
        if self.is_sqlite:
            connection.execute(text("PRAGMA secure_delete = ON"))


_TABLES: Final = ("trace_info", "trace_tags", "trace_request_metadata", "spans", "assessments")


def _by_trace(connection: Any, table: Any, column: str, ids: Sequence[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in connection.execute(select(table).where(table.c[column].in_(ids))):
        found.setdefault(getattr(row, column), []).append(row)
    return found
