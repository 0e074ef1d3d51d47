"""The tables in which MLflow's SQL store keeps traces, and the questions to them that are answered where they are.

Read in MLflow 3.15 to 3.17: `trace_info`, `trace_tags`, `trace_request_metadata`, `experiments`, and `spans`, whose
`content` is JSON text with every attribute as JSON text in a string. SQLite and PostgreSQL answer; no other is asked.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, inspect, text

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.trace_fields import (
    LANGCHAIN_TAGS,
    METADATA_FIELDS,
    QUARTER_MS,
    SPAN_FIELDS,
    SPANS_LOCATION,
    TAG_FIELDS,
    has_spans_in_files,
    texts_in,
)
from langchain_mlflow_cost.tracking_stores import dialect_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

DIALECTS: Final = ("sqlite", "postgresql")
"""Those whose JSON functions are known here, as the beginning of a tracking URI."""

_PLAIN_FIELDS: Final = {"quarter": f"c.timestamp_ms / {QUARTER_MS}", "tool": "s.name", "trace": "c.request_id"}
_OWN_COLUMNS: Final = {"session": "session_id", "trace_name": "trace_name"}
"""Fields that have a column of `trace_info` from MLflow 3.17 on, and are metadata and a tag before."""
_SUMS: Final = (
    "calls",
    "cached_calls",
    "unpriced_calls",
    "estimated_calls",
    "input_tokens",
    "output_tokens",
    "input_usd",
    "output_usd",
    "estimated_usd",
    "tool_usd",
    "retries",
)
_MODEL_TYPES: Final = ", ".join(f"'{kind}'" for kind in sorted(keys.MODEL_TYPES))


def has_tables(tracking_uri: str) -> bool:
    """Whether a store's tables can be asked."""
    return dialect_of(tracking_uri) in DIALECTS


class TraceTables:
    """One store's tables, read and never written.

    Args:
        tracking_uri: One of which `has_tables` is true.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._engine = create_engine(tracking_uri)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        columns = {each["name"] for each in inspect(self._engine).get_columns("trace_info")}
        self._columns = {field: name for field, name in _OWN_COLUMNS.items() if name in columns}

    @contextmanager
    def _asked(self, sql: str, parameters: Mapping[str, Any]) -> Iterator[Any]:
        with self._engine.connect() as connection:
            yield _rows(connection, sql, parameters)

    def facts(self, chosen: Chosen) -> tuple[int, int | None, int | None]:
        """How many traces there are, and when the first and the last of them began (milliseconds since the epoch)."""
        sql = f"WITH {chosen.sql} SELECT COUNT(*), MIN(timestamp_ms), MAX(timestamp_ms) FROM chosen"
        with self._asked(sql, chosen.parameters) as rows:
            count, first, last = next(iter(rows))
        return int(count), first, last

    def with_spans_in_files(self, chosen: Chosen) -> list[str]:
        """The ids of traces whose spans are in files, so that no sum of these tables has their calls."""
        sql = f"""WITH {chosen.sql} SELECT c.request_id, t.value FROM chosen c
            LEFT JOIN trace_tags t ON t.request_id = c.request_id AND t.key = :spans_location
            WHERE NOT EXISTS (SELECT 1 FROM spans s WHERE s.trace_id = c.request_id)"""
        with self._asked(sql, {**chosen.parameters, "spans_location": SPANS_LOCATION}) as rows:
            return [str(trace_id) for trace_id, location in rows if has_spans_in_files(location)]

    def with_calls(self, chosen: Chosen) -> int:
        """How many traces have a model call of this library."""
        sql = f"""WITH {chosen.sql} SELECT COUNT(DISTINCT c.request_id) FROM chosen c
            JOIN spans s ON s.trace_id = c.request_id
            WHERE s.type IN ({_MODEL_TYPES}) AND {self._contains("s.content", "cost.llm_calls")}"""
        with self._asked(sql, chosen.parameters) as rows:
            return int(next(iter(rows))[0])

    def stops(self, chosen: Chosen) -> dict[str, int]:
        """How many traces each budget stopped, by its words."""
        sql = f"""WITH {chosen.sql} SELECT m.value, COUNT(*) FROM chosen c
            JOIN trace_request_metadata m ON m.request_id = c.request_id AND m.key = :stopped_by
            GROUP BY m.value ORDER BY COUNT(*) DESC, m.value"""
        with self._asked(sql, {**chosen.parameters, "stopped_by": keys.STOPPED_BY}) as rows:
            return {str(words): int(count) for words, count in rows}

    def tag_names(self, chosen: Chosen, most: int = 1_000) -> set[str]:
        """Names of tags and metadata of the user's, and of LangChain's tags, as far as that many rows tell."""
        sql = f"""WITH {chosen.sql}, named AS (
                SELECT t.key, t.value, t.request_id FROM trace_tags t
                UNION ALL SELECT m.key, m.value, m.request_id FROM trace_request_metadata m
            ) SELECT DISTINCT n.key, CASE WHEN n.key = :langchain_tags THEN n.value END
            FROM named n JOIN chosen c ON c.request_id = n.request_id LIMIT {most}"""
        found: set[str] = set()
        with self._asked(sql, {**chosen.parameters, "langchain_tags": LANGCHAIN_TAGS}) as rows:
            for key, value in rows:
                if key == LANGCHAIN_TAGS:
                    found.update(texts_in(value))
                elif not str(key).startswith(("mlflow.", "cost.")):
                    found.add(str(key))
        return found

    def sums(
        self, chosen: Chosen, raw: Sequence[str], *, top: int | None = None
    ) -> Iterator[tuple[tuple[str | None, ...], dict[str, Any]]]:
        """Sums of calls and fees, for each combination of the raw fields' values.

        Args:
            chosen: Which traces.
            raw: Fields: those above, `quarter`, `tool`, `experiment`, `trace`, and `tag:NAME`.
            top: Only so many, the dearest.
        """
        inner, parameters = self._spans(chosen, raw)
        names = ", ".join(f"f{number}" for number in range(len(raw)))
        sums = ", ".join(f"SUM({name})" for name in _SUMS)
        models = ", ".join(self._all(each) for each in ("model", "unpriced_model"))
        sql = f"""{inner} SELECT {names}{"," if raw else ""}
                COUNT(DISTINCT CASE WHEN calls > 0 THEN trace END), {models}, {sums}
            FROM counted WHERE calls + retries > 0 OR tool_usd > 0 {f"GROUP BY {names}" if raw else ""}"""
        if top is not None:
            sql += f" ORDER BY SUM(input_usd + output_usd + tool_usd) DESC, {names or 1} LIMIT {int(top)}"
        with self._asked(sql, parameters) as rows:
            for row in rows:
                values = tuple(_plain(name, value) for name, value in zip(raw, row, strict=False))
                traces, models, unpriced, *numbers = row[len(raw) :]
                told = dict(zip(_SUMS, (number or 0 for number in numbers), strict=True))
                yield values, {"traces": traces, "models": _names(models), "unpriced_models": _names(unpriced), **told}

    def usages(self, chosen: Chosen, raw: Sequence[str]) -> Iterator[tuple[tuple[str | None, ...], str, float | None]]:
        """Of each call that the provider answered: the raw fields' values, `cost.usage`, and USD if it is priced.

        `cost.usage` is empty where none is stored: by 0.1, and by other libraries.
        """
        inner, parameters = self._spans(chosen, raw)
        names = "".join(f"f{number}, " for number in range(len(raw)))
        sql = f"""{inner} SELECT {names} bill, CASE WHEN unpriced_calls = 0 THEN input_usd + output_usd END
            FROM counted WHERE calls > 0 AND cached_calls = 0"""
        with self._asked(sql, parameters) as rows:
            for *values, usage, usd in rows:
                told = tuple(_plain(name, value) for name, value in zip(raw, values, strict=True))
                yield told, str(usage or ""), usd

    def _spans(self, chosen: Chosen, raw: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """A table `counted` with a row for each call, its raw fields as `f0`, `f1`, ..., and what is to be added up."""
        is_tool = "tool" in raw
        joins: list[str] = []
        parameters = dict(chosen.parameters)
        columns = [self._column(name, number, joins, parameters) + f" AS f{number}" for number, name in enumerate(raw)]
        attempts = "node" in raw and not is_tool
        kinds = "s.type = 'TOOL'" if is_tool else f"s.type IN ({_MODEL_TYPES}, 'TOOL')"
        if attempts:
            kinds += f" OR {self._contains('s.content', keys.ATTEMPT)}"
        has_answer = f"{self._number('cost.llm_calls')} > 0"
        is_call = "s.type = 'TOOL'" if is_tool else f"s.type IN ({_MODEL_TYPES}) AND {has_answer}"
        own_fee = f"CASE WHEN s.type = 'TOOL' THEN {self._number(keys.TOOL_USD)} ELSE 0 END"
        total, into, out = (self._number(f"cost.{part}_usd") for part in ("total", "input", "output"))
        fee = f"({total} - {into} - {out})" if is_tool else own_fee
        inner = f"""WITH {chosen.sql}, told AS (
            SELECT c.request_id AS trace, {"".join(f"{column}, " for column in columns)}
                CASE WHEN {is_call} THEN 1 ELSE 0 END AS calls,
                {self._number("cost.cached_calls")} AS cached_calls,
                CASE WHEN {self._attribute("cost.total_usd")} IS NULL THEN 1 ELSE 0 END AS unpriced_calls,
                {self._number("cost.estimated_calls")} AS estimated_calls,
                {self._number("cost.input_tokens")} AS input_tokens,
                {self._number("cost.output_tokens")} AS output_tokens,
                {into} AS input_usd, {out} AS output_usd, {fee} AS fee,
                CASE WHEN {self._attribute(keys.ATTEMPT)} IS NULL THEN 0 ELSE 1 END AS attempts,
                {self._attribute(keys.USAGE)} AS bill, {self._attribute(keys.MODEL)} AS model
            FROM chosen c JOIN spans s ON s.trace_id = c.request_id {self._parsed()} {" ".join(joins)}
            WHERE {kinds}
        ), counted AS (
            SELECT trace, {"".join(f"f{number}, " for number in range(len(raw)))} calls, bill,
                CASE WHEN calls > 0 THEN model END AS model,
                CASE WHEN calls > 0 AND unpriced_calls > 0 THEN model END AS unpriced_model,
                calls * cached_calls AS cached_calls,
                {"0" if is_tool else "calls * unpriced_calls"} AS unpriced_calls,
                calls * estimated_calls AS estimated_calls,
                calls * {"1" if is_tool else "(1 - cached_calls)"} * input_tokens AS input_tokens,
                calls * {"1" if is_tool else "(1 - cached_calls)"} * output_tokens AS output_tokens,
                calls * input_usd AS input_usd, calls * output_usd AS output_usd,
                calls * estimated_calls * (input_usd + output_usd) AS estimated_usd,
                COALESCE(fee, 0) AS tool_usd, {"attempts" if attempts else "0"} AS retries
            FROM told
        )"""
        return inner, parameters

    def _column(self, name: str, number: int, joins: list[str], parameters: dict[str, Any]) -> str:
        if name in SPAN_FIELDS:
            return self._attribute(SPAN_FIELDS[name])
        if name in _PLAIN_FIELDS:
            return _PLAIN_FIELDS[name]
        if name == "experiment":
            joins.append(f"LEFT JOIN experiments e{number} ON e{number}.experiment_id = c.experiment_id")
            return f"e{number}.name"
        key = METADATA_FIELDS.get(name) or TAG_FIELDS.get(name) or name.removeprefix("tag:")
        tag, metadata = f"t{number}.value", f"m{number}.value"
        parameters[f"key{number}"] = key
        for alias, table in ((f"t{number}", "trace_tags"), (f"m{number}", "trace_request_metadata")):
            joins.append(
                f"LEFT JOIN {table} {alias} ON {alias}.request_id = c.request_id AND {alias}.key = :key{number}"
            )
        if name in METADATA_FIELDS or name in TAG_FIELDS:
            told = metadata if name in METADATA_FIELDS else tag
            if name not in self._columns:
                return told
            joins.append(f"JOIN trace_info i{number} ON i{number}.request_id = c.request_id")
            return f"COALESCE(i{number}.{self._columns[name]}, {told})"
        # A tag or metadata key; LangChain's tags, a JSON list, have no value, and stand under their own name.
        parameters |= {f"listed{number}": json.dumps(key, ensure_ascii=False), f"langchain{number}": LANGCHAIN_TAGS}
        joins.append(
            f"LEFT JOIN trace_request_metadata l{number} ON l{number}.request_id = c.request_id"
            f" AND l{number}.key = :langchain{number}"
        )
        is_listed = self._contains_parameter(f"l{number}.value", f"listed{number}")
        return f"COALESCE(NULLIF({tag}, ''), NULLIF({metadata}, ''), CASE WHEN {is_listed} THEN :key{number} END)"

    # --- what the two dialects write differently --------------------------------------------------------------------

    def _parsed(self) -> str:
        # Parsed once a row: behind OFFSET 0 PostgreSQL does not put the expression where its parts are used.
        lateral = "CROSS JOIN LATERAL (SELECT s.content::jsonb -> 'attributes' AS a OFFSET 0) j"
        return "" if self._is_sqlite else lateral

    def _attribute(self, key: str) -> str:
        if self._is_sqlite:
            return f"""json_extract(s.content, '$.attributes."{key}"')"""
        return f"(j.a ->> '{key}')"

    def _number(self, key: str) -> str:
        told = self._attribute(key)
        if self._is_sqlite:
            return f"COALESCE(CAST({told} AS REAL), 0)"
        is_number = f"{told} ~ '^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?$'"
        return f"(CASE WHEN {is_number} THEN {told}::double precision ELSE 0 END)"

    def _all(self, column: str) -> str:
        return f"json_group_array(DISTINCT {column})" if self._is_sqlite else f"json_agg(DISTINCT {column})"

    def _contains(self, column: str, word: str) -> str:
        return f"instr({column}, '\"{word}\"') > 0" if self._is_sqlite else f"strpos({column}, '\"{word}\"') > 0"

    def _contains_parameter(self, column: str, name: str) -> str:
        return f"instr({column}, :{name}) > 0" if self._is_sqlite else f"strpos({column}, :{name}) > 0"


class Chosen:
    """Which traces, as the table `chosen`.

    Args:
        experiments: Their ids.
        since_ms: Of those that began then or later, milliseconds since the epoch.
        until_ms: And before then.
        status: `OK`, `ERROR`, ...
        most: The latest so many.
    """

    def __init__(
        self,
        experiments: Sequence[str],
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        status: str | None = None,
        most: int | None = None,
    ) -> None:
        wanted = {"since": since_ms, "until": until_ms, "status": status}
        # As numbers in the text: an id that is none raises here.
        tests = [f"experiment_id IN ({', '.join(str(int(each)) for each in experiments)})"]
        tests += ["timestamp_ms >= :since"] if since_ms is not None else []
        tests += ["timestamp_ms < :until"] if until_ms is not None else []
        tests += ["status = :status"] if status is not None else []
        latest = f" ORDER BY timestamp_ms DESC, request_id LIMIT {int(most)}" if most is not None else ""
        self.sql = f"""chosen AS (SELECT request_id, timestamp_ms, experiment_id FROM trace_info
            WHERE {" AND ".join(tests)}{latest})"""
        self.parameters = {name: value for name, value in wanted.items() if value is not None}


def _rows(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> Any:
    return connection.execution_options(yield_per=1_000).execute(text(sql), dict(parameters))


def _plain(name: str, value: Any) -> str | None:
    """A raw field's value as text; a span's attributes are JSON."""
    if value is None:
        return None
    if name in SPAN_FIELDS:
        try:
            return str(json.loads(value))
        except (ValueError, TypeError):
            return str(value)
    return str(int(value)) if name == "quarter" else str(value)


def _names(told: Any) -> tuple[str, ...]:
    """Names in a list that the store made of JSON texts; PostgreSQL's driver has parsed it."""
    found = json.loads(told) if isinstance(told, str) else told or []
    return tuple(sorted(str(_plain("model", each)) for each in found if each))
