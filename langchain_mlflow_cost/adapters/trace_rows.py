"""Rows of MLflow's SQL store that belong to a trace: found, counted and deleted where no public function does it.

Read in MLflow 3.15 to 3.17. Tables and columns are asked of the database itself: those with a `trace_id` or
`request_id` belong to a trace by that; the others that name one are below. SQLite and PostgreSQL answer; no other is
asked.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlflow.tracing.constant import TraceMetadataKey, TraceTagKey
from sqlalchemy import bindparam, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from langchain_mlflow_cost.adapters import trace_fields
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.sqlite_files import why_unwritable
from langchain_mlflow_cost.tracking_stores import database_file_of, is_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Engine

TRACES: Final = "trace_info"
_BY_TRACE: Final = ("trace_id", "request_id")
_NAMED: Final = (
    # table, column, and what else must hold for its value to be a trace's id
    ("entity_associations", "source_id", "source_type = 'trace'"),
    ("entity_associations", "destination_id", "destination_type = 'trace'"),
    ("review_queue_items", "item_id", "item_type = 'trace'"),
    ("inputs", "source_id", "source_type = 'TRACE'"),
    ("inputs", "destination_id", "destination_type = 'TRACE'"),
)
_ROLLUPS: Final = {
    "sql_trace_metric_daily_rollups": "trace_metric",
    "sql_span_cost_daily_rollups": "span_cost",
    "sql_assessment_daily_rollups": "assessment",
}
_QUEUE: Final = "sql_trace_rollup_rebuild_queue"
_ENDED_JOBS: Final = "status IN (2, 3, 4, 5)"
"""Succeeded, failed, timed out or cancelled, in MLflow's `JobStatus`."""
OWN_METRICS: Final = ("total_cost_usd", "total_tokens")
"""What this library logs to the MLflow run in which a trace was made."""
_TEXTS: Final = re.compile(r"CHAR|TEXT|CLOB|JSON|BLOB|BYTEA", re.IGNORECASE)
_DAY_MS: Final = 86_400_000


class StillReadError(Exception):
    """Another program reads the database, so that old pages stay; the message is in the database's words."""


class Row(NamedTuple):
    """A trace, as far as it is needed to delete it."""

    trace_id: str
    experiment_id: str
    timestamp_ms: int
    location: str | None
    spans_location: str | None
    run_id: str | None


class TraceRows:
    """One store's tables.

    Args:
        tracking_uri: Of a SQLite or PostgreSQL database.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.is_sqlite = is_sqlite(tracking_uri)
        self._file = database_file_of(tracking_uri)
        options = {"timeout": limits().store_lock_s} if self.is_sqlite else {}
        self._engine: Engine = create_engine(tracking_uri, connect_args=options)
        self._texts: dict[str, list[str]] = {}
        self._columns: dict[str, set[str]] = {}
        for (_, table), columns in inspect(self._engine).get_multi_columns().items():
            self._columns[table] = {each["name"] for each in columns}
            self._texts[table] = [each["name"] for each in columns if _TEXTS.search(str(each["type"]))]

    @property
    def is_mlflow(self) -> bool:
        """Whether these are tables of MLflow's."""
        return TRACES in self._columns

    @property
    def version(self) -> str:
        """Of the database's program."""
        return f"{self._engine.dialect.name} {'.'.join(map(str, self._engine.dialect.server_version_info or ()))}"

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # --- finding ----------------------------------------------------------------------------------------------------

    def rows(self, ids: Sequence[str]) -> list[Row]:
        """What is known of these traces, as far as they are there."""
        sql = f"""SELECT i.request_id, i.experiment_id, i.timestamp_ms, a.value, s.value, r.value FROM trace_info i
            LEFT JOIN trace_tags a ON a.request_id = i.request_id AND a.key = '{trace_fields.ARTIFACT_LOCATION}'
            LEFT JOIN trace_tags s ON s.request_id = i.request_id AND s.key = '{trace_fields.SPANS_LOCATION}'
            LEFT JOIN trace_request_metadata r ON r.request_id = i.request_id
                AND r.key = '{TraceMetadataKey.SOURCE_RUN}'
            WHERE i.request_id IN :ids"""
        found = []
        with self._engine.connect() as connection:
            for some in _in_pieces(ids):
                for trace_id, experiment, began, *rest in _run(connection, sql, ids=some):
                    found.append(Row(str(trace_id), str(experiment), int(began), *rest))
        return found

    def before(self, experiments: Sequence[str], before_ms: int, keep: int) -> list[str]:
        """Traces that began before then, but for the latest so many of each experiment; the first one first."""
        found: list[str] = []
        with self._engine.connect() as connection:
            for experiment in experiments:
                sql = """SELECT request_id, timestamp_ms FROM trace_info WHERE experiment_id = :experiment
                    ORDER BY timestamp_ms DESC, request_id"""
                rows = _run(connection, sql, experiment=int(experiment)).fetchall()
                found += [str(row[0]) for row in reversed(rows[keep:]) if row[1] < before_ms]
        return found

    def with_value(self, experiments: Sequence[str], keys: Sequence[str], values: Sequence[str]) -> list[str]:
        """Traces with a tag, metadata or session that is one of these values."""
        asked = [
            f"SELECT request_id FROM {table} WHERE key IN :keys AND value IN :values"
            for table in ("trace_tags", "trace_request_metadata")
        ]
        own = {TraceMetadataKey.TRACE_SESSION: "session_id", TraceTagKey.TRACE_NAME: "trace_name"}
        asked += [
            f"SELECT request_id FROM trace_info WHERE {column} IN :values"
            for key, column in own.items()
            if key in keys and column in self._columns[TRACES]
        ]
        found: set[str] = set()
        with self._engine.connect() as connection:
            for sql in asked:
                parameters = {"values": list(values)} | ({"keys": list(keys)} if ":keys" in sql else {})
                found.update(str(row[0]) for row in _run(connection, sql, parameters))
            return self._of(connection, found, experiments)

    def lists(self, experiments: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Traces whose session is a JSON list (MLflow 3.18), and the list."""
        asked = [f"SELECT request_id, value FROM trace_request_metadata WHERE key = '{TraceMetadataKey.TRACE_SESSION}'"]
        if "session_id" in self._columns[TRACES]:
            asked.append("SELECT request_id, session_id FROM trace_info WHERE session_id IS NOT NULL")
        with self._engine.connect() as connection:
            for sql in asked:
                rows = [(str(a), str(b)) for a, b in _run(connection, sql) if str(b).startswith("[")]
                known = set(self._of(connection, {a for a, _ in rows}, experiments))
                yield from ((a, b) for a, b in rows if a in known)

    def with_text(self, experiments: Sequence[str], needles: Sequence[bytes]) -> list[str]:
        """Traces that have one of these spellings in a row of theirs."""
        found: set[str] = set()
        with self._engine.connect() as connection:
            for table, column in self._trace_columns():
                sql = self._holding(table, column, self._texts[table], needles)
                if sql is not None:
                    found.update(str(row[0]) for row in _run(connection, *sql) if row[0] is not None)
            return self._of(connection, found, experiments)

    def records_with_text(self, needles: Sequence[bytes]) -> dict[str, list[str]]:
        """Records of evaluation datasets that have one of these spellings, by dataset."""
        table = "evaluation_dataset_records"
        sql = self._holding(table, "dataset_id, dataset_record_id", self._texts.get(table, []), needles)
        return self._records(*sql) if sql is not None else {}

    def records_of(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Records of evaluation datasets that were made from these traces, by dataset."""
        if "evaluation_dataset_records" not in self._columns:
            return {}
        found: dict[str, list[str]] = {}
        for some in _in_pieces(ids):
            sql = "SELECT dataset_id, dataset_record_id FROM evaluation_dataset_records WHERE source_id IN :ids"
            for dataset, records in self._records(sql, {"ids": some}).items():
                found.setdefault(dataset, []).extend(records)
        return found

    def _records(self, sql: str, parameters: Mapping[str, Any]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        with self._engine.connect() as connection:
            for dataset, record in _run(connection, sql, parameters):
                found.setdefault(str(dataset), []).append(str(record))
        return found

    def _of(self, connection: Connection, ids: set[str], experiments: Sequence[str]) -> list[str]:
        """Those of these traces that are in the experiments, the first one first."""
        wanted, found = {int(each) for each in experiments}, []
        for some in _in_pieces(sorted(ids)):
            sql = "SELECT request_id, experiment_id, timestamp_ms FROM trace_info WHERE request_id IN :ids"
            found += [(row[2], str(row[0])) for row in _run(connection, sql, ids=some) if row[1] in wanted]
        return [trace_id for _, trace_id in sorted(found)]

    def _trace_columns(self) -> Iterator[tuple[str, str]]:
        for table, columns in self._columns.items():
            yield from ((table, column) for column in _BY_TRACE if column in columns)

    def _holding(
        self, table: str, what: str, columns: Sequence[str], needles: Sequence[bytes]
    ) -> tuple[str, dict[str, Any]] | None:
        """A query for the rows that hold one of the needles."""
        usable = [each for each in needles if self.is_sqlite or b"\0" not in each]
        if not columns or not usable:
            return None
        names = {f"n{number}": self._needle(each) for number, each in enumerate(usable)}
        tests = [self._holds(column, name) for column in columns for name in names]
        return f"SELECT DISTINCT {what} FROM {table} WHERE {' OR '.join(tests)}", names

    def _needle(self, spelled: bytes) -> Any:
        return spelled if self.is_sqlite else spelled.decode("utf-8", "replace")

    def _holds(self, column: str, name: str) -> str:
        # As bytes, in which a NUL ends nothing.
        if self.is_sqlite:
            return f'instr(CAST("{column}" AS BLOB), :{name}) > 0'
        return f'strpos("{column}"::text, :{name}) > 0'

    # --- counting and deleting --------------------------------------------------------------------------------------

    def count(self, ids: Sequence[str]) -> dict[str, int]:
        """How many rows of each table belong to these traces."""
        counts: dict[str, int] = {}
        with self._engine.connect() as connection:
            for some in _in_pieces(ids):
                for table, test in self._belonging():
                    number = int(_run(connection, f"SELECT COUNT(*) FROM {table} WHERE {test}", ids=some).scalar() or 0)
                    if number:
                        counts[table] = counts.get(table, 0) + number
        return counts

    def sweep(self, ids: Sequence[str]) -> dict[str, int]:
        """Delete the rows that are left of these traces, and jobs about them that have ended."""
        counts: dict[str, int] = {}
        with self._engine.begin() as connection:
            for some in _in_pieces(ids):
                for table, test in sorted(self._belonging(), key=lambda each: each[0] == TRACES):
                    if table == "inputs" and "input_tags" in self._columns:
                        inner = f"SELECT input_uuid FROM inputs WHERE {test}"
                        _run(connection, f"DELETE FROM input_tags WHERE input_uuid IN ({inner})", ids=some)
                    number = _run(connection, f"DELETE FROM {table} WHERE {test}", ids=some).rowcount
                    if number > 0:
                        counts[table] = counts.get(table, 0) + number
            jobs = self._jobs_about(connection, set(ids))
            for some in _in_pieces(jobs):
                _run(connection, "DELETE FROM jobs WHERE id IN :ids", ids=some)
            if jobs:
                counts["jobs"] = len(jobs)
        return counts

    def _belonging(self) -> Iterator[tuple[str, str]]:
        for table, column in self._trace_columns():
            yield table, f"{column} IN :ids"
        for table, column, test in _NAMED:
            if column in self._columns.get(table, ()):
                yield table, f"{column} IN :ids AND {test}"

    def _jobs_about(self, connection: Connection, ids: set[str]) -> list[str]:
        if not {"id", "params", "result", "status"} <= self._columns.get("jobs", set()):
            return []
        rows = _run(connection, f"SELECT id, params, result FROM jobs WHERE {_ENDED_JOBS}")
        names = [json.dumps(each) for each in ids]
        # In a list of ids, or in a list that is a string.
        names += [json.dumps(each)[1:-1] for each in names]
        return [str(job) for job, *told in rows if any(name in f"{told[0]} {told[1]}" for name in names)]

    def own_metrics(self, runs: Sequence[str], ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """Of these MLflow runs, those whose sums are of these traces alone, and those that have other traces, too."""
        gone, sql = set(ids), "SELECT request_id FROM trace_request_metadata WHERE key = :key AND value = :run"
        alone: list[str] = []
        shared: list[str] = []
        with self._engine.connect() as connection:
            for run in runs:
                sums = "SELECT COUNT(*) FROM metrics WHERE run_uuid = :run AND key IN :keys"
                if not _run(connection, sums, run=run, keys=OWN_METRICS).scalar():
                    continue
                others = {str(row[0]) for row in _run(connection, sql, key=TraceMetadataKey.SOURCE_RUN, run=run)} - gone
                (shared if others else alone).append(run)
        return alone, shared

    def delete_metrics(self, runs: Sequence[str]) -> int:
        """Delete this library's metrics of these MLflow runs, and say of how many sums."""
        number = 0
        with self._engine.begin() as connection:
            for some in _in_pieces(runs):
                for table in ("metrics", "latest_metrics"):
                    sql = f"DELETE FROM {table} WHERE run_uuid IN :runs AND key IN :keys"
                    number += _run(connection, sql, runs=some, keys=OWN_METRICS).rowcount * (table == "latest_metrics")
        return number

    @property
    def has_rollups(self) -> bool:
        """Whether MLflow keeps sums of days here, of all traces of a day."""
        with self._engine.connect() as connection:
            return any(
                _run(connection, f"SELECT 1 FROM {table} LIMIT 1").first()
                for table in _ROLLUPS
                if table in self._columns
            )

    def days_of(self, ids: Sequence[str]) -> set[tuple[int, str]]:
        """Experiments and days (UTC) that sums of these traces stand under."""
        found = set()
        with self._engine.connect() as connection:
            for some in _in_pieces(ids):
                sql = "SELECT experiment_id, timestamp_ms FROM trace_info WHERE request_id IN :ids"
                found.update(_run(connection, sql, ids=some).fetchall())
                sql = "SELECT experiment_id, start_time_unix_nano / 1000000 FROM spans WHERE trace_id IN :ids"
                found.update(_run(connection, sql, ids=some).fetchall())
        return {(int(a), f"{datetime.fromtimestamp(int(b) // 1000, UTC):%Y-%m-%d}") for a, b in found}

    def delete_rollups(self, days: set[tuple[int, str]]) -> int:
        """Delete the sums of these days, and leave word for MLflow's server to make them anew."""
        number = 0
        with self._engine.begin() as connection:
            for experiment, day in sorted(days):
                for table, family in _ROLLUPS.items():
                    key = {"experiment": experiment, "day": day}
                    where = f"experiment_id = :experiment AND rollup_day = {self._day()}"
                    deleted = _run(connection, f"DELETE FROM {table} WHERE {where}", key).rowcount
                    if deleted > 0:
                        number += deleted
                        known = f"SELECT 1 FROM {_QUEUE} WHERE {where} AND rollup_family = '{family}'"
                        asked = f"SELECT :experiment, {self._day()}, '{family}' WHERE NOT EXISTS ({known})"
                        columns = "(experiment_id, rollup_day, rollup_family)"
                        _run(connection, f"INSERT INTO {_QUEUE} {columns} {asked}", key)
        return number

    def _day(self) -> str:
        return ":day" if self.is_sqlite else "CAST(:day AS DATE)"

    # --- the store's own bytes --------------------------------------------------------------------------------------

    def try_to_write(self) -> str | None:
        """Whether rows can be deleted here now; what is in the way, in the database's words, or None."""
        if self._file is not None:
            return why_unwritable(self._file, wait_s=limits().store_lock_s)
        try:
            with self._engine.connect() as connection:
                asked = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"
                if _run(connection, asked).scalar():
                    return "it is read-only"
        except DBAPIError as error:
            return str(error.orig).strip()
        return None

    def compact(self) -> str:
        """Give the bytes of deleted rows back to the system; what was done, in the database's words.

        Raises:
            DBAPIError: It is locked, or its disk is full.
            StillReadError: Another connection still reads old pages.
        """
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if self.is_sqlite:
                # A write-ahead log holds old pages; a journal that another program keeps holds the last ones.
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.exec_driver_sql("VACUUM")
                if connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar():
                    raise StillReadError("the write-ahead log is locked by a reader")
                return "VACUUM"
            connection.exec_driver_sql(f"SET lock_timeout = '{limits().store_lock_s:g}s'")
            tables = [each for each in self._written() if self._is_own(connection, each)]
            for table in tables:
                connection.exec_driver_sql(f'VACUUM (FULL) "{table}"')
            return f"VACUUM FULL {', '.join(tables)}"

    def _written(self) -> list[str]:
        own = {table for table, _ in self._belonging()} | set(_ROLLUPS)
        own |= {"evaluation_dataset_records", "metrics", "latest_metrics", "jobs", "input_tags"}
        return sorted(own & set(self._columns))

    def _is_own(self, connection: Connection, table: str) -> bool:
        owned = "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(:table)"
        return bool(_run(connection, owned, table=f'"{table}"').scalar())

    def not_compacted(self) -> list[str]:
        """Tables with rows of traces that belong to somebody else, who alone may compact them (PostgreSQL)."""
        if self.is_sqlite:
            return []
        with self._engine.connect() as connection:
            return [each for each in self._written() if not self._is_own(connection, each)]

    def values(self) -> Iterator[tuple[str, bytes]]:
        """Every text in every table, as bytes, under the name of its table and column."""
        for table in self._texts:
            yield from self._values(table)

    def values_of(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """The same of what belongs to these traces, and of records of evaluation datasets made from them."""
        records = "evaluation_dataset_records"
        made = [(records, "source_id IN :ids")] if records in self._columns else []
        for some in _in_pieces(ids):
            for table, test in (*self._belonging(), *made):
                yield from self._values(table, f" WHERE {test}", ids=some)

    def _values(self, table: str, where: str = "", **parameters: Any) -> Iterator[tuple[str, bytes]]:
        columns = self._texts[table]
        if not columns:
            return
        kind = 'CAST("{}" AS BLOB)' if self.is_sqlite else '"{}"::text'
        sql = f'SELECT {", ".join(kind.format(column) for column in columns)} FROM "{table}"{where}'
        with self._engine.connect() as connection:
            for row in _run(connection.execution_options(yield_per=500), sql, **parameters):
                for column, value in zip(columns, row, strict=True):
                    if value is not None:
                        told = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
                        yield f"{table}.{column}", told


def _run(connection: Connection, sql: str, known: Mapping[str, Any] | None = None, **parameters: Any) -> Any:
    parameters = {**(known or {}), **parameters}
    statement = text(sql)
    for name, value in parameters.items():
        if isinstance(value, list | tuple):
            statement = statement.bindparams(bindparam(name, expanding=True))
    return connection.execute(statement, parameters)


def _in_pieces(ids: Sequence[str], size: int = 500) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])
