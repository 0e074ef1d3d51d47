"""What Spark's workers do with the rows of traces: pandas frames in, pandas frames out, and a trace at a time between.

Nothing here imports Spark. What is done to a trace is what one machine does: `StoredPolicy`, `correction_of`, the sums
of reports.
"""

from __future__ import annotations

import json
import pickle
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
import pandas as pd

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.adapters.stored_spans import with_attributes
from langchain_mlflow_cost.adapters.trace_fields import METADATA_FIELDS, TAG_FIELDS
from langchain_mlflow_cost.adapters.trace_rewriting import ASSESSED, FIELDS
from langchain_mlflow_cost.reports.dimensions import dimensions
from langchain_mlflow_cost.reports.pages import counted_spans
from langchain_mlflow_cost.reports.plain_traces import PlainInfo, PlainTrace, plain_trace
from langchain_mlflow_cost.reports.query import labels_of
from langchain_mlflow_cost.reports.reprice import Correction, Prices, correction_of, is_running
from langchain_mlflow_cost.reports.sums import NUMBERS, Sums
from langchain_mlflow_cost.tracing.stored_trace import Beside, Finding, StoredPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, tzinfo

    from langchain_mlflow_cost.policy.settings import Policy

UNREADABLE: Final = "UNREADABLE"
"""Instead of an entity: a span whose `content` is no JSON."""
_MOST_ROWS: Final = 2_000
_MOST_CHARS: Final = 8_000_000
"""Of a frame that is given back."""

Row = tuple[Any, ...]


class Rows(NamedTuple):
    """One trace as its rows have it."""

    trace_id: str
    spans: dict[str, dict[str, Any]]
    """By the id that the table has, which need not be the JSON's."""
    unreadable: list[str]
    """Ids of the spans that are no JSON."""
    info: dict[str, str]
    tags: dict[str, str]
    metadata: dict[str, str]
    assessments: dict[str, dict[str, str | None]]

    @property
    def beside(self) -> Beside:
        """What stands beside its spans."""
        fields: dict[str, str | None] = {name: self.info[name] for name in FIELDS if name in self.info}
        return Beside(fields, self.tags, self.metadata, self.assessments)

    @property
    def plain(self) -> PlainTrace:
        """To be asked as MLflow's own is."""
        roots = [span for span in self.spans.values() if not span.get("parent_span_id")]
        has_ended = all(span.get("end_time_unix_nano") for span in roots)
        started_ns = min((int(span.get("start_time_unix_nano") or 0) for span in self.spans.values()), default=0)
        info = PlainInfo(
            trace_id=self.trace_id,
            experiment_id=self.info.get("experiment_id", ""),
            timestamp_ms=int(self.info.get("timestamp_ms") or started_ns // 1_000_000),
            state=self.info.get("status") or ("OK" if has_ended else "IN_PROGRESS"),
            # From MLflow 3.17 on these two have columns of their own.
            trace_metadata=_with(METADATA_FIELDS["session"], self.info.get("session_id"), self.metadata),
            tags=_with(TAG_FIELDS["trace_name"], self.info.get("trace_name"), self.tags),
        )
        return plain_trace(info, list(self.spans.values()))


def _with(key: str, value: str | None, told: dict[str, str]) -> dict[str, str]:
    return told if value is None else {key: value, **told}


def traces_in(frames: Iterable[pd.DataFrame]) -> Iterator[Rows]:
    """Put traces together, whose rows follow one another."""
    rows = (row for frame in frames for row in zip(*(frame[name].tolist() for name in _COLUMNS), strict=True))
    for trace_id, group in groupby(rows, key=itemgetter(0)):
        found = Rows(trace_id, {}, [], {}, {}, {}, {})
        for _, kind, key, value in group:
            # pandas 3 has NaN for what is missing, pandas 2 None.
            if isinstance(value, str):
                _add(found, kind, key, value)
        yield found


_COLUMNS: Final = ("trace_id", "kind", "key", "value")


def _add(found: Rows, kind: str, key: str, value: str) -> None:
    if kind == "span":
        span = keys.loaded(value)
        if isinstance(span, dict):
            found.spans[key] = {**span, "attributes": _as_text(span.get("attributes"))}
        else:
            found.unreadable.append(key)
    elif kind == "info":
        found.info.update(json.loads(value))
    elif kind == "assessment":
        told = json.loads(value)
        found.assessments[key] = {name: told[name] for name in ASSESSED if name in told}
    else:
        (found.tags if kind == "tag" else found.metadata)[key] = value


def _as_text(attributes: Any) -> dict[str, Any]:
    """Attributes as MLflow stores them, each JSON text: Databricks' `VARIANT` may have parsed them."""
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in (attributes or {}).items()
    }


def _frames(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    held: list[Row] = []
    chars = 0
    for row in rows:
        held.append(row)
        chars += sum(len(value) for value in row if isinstance(value, str))
        if len(held) >= _MOST_ROWS or chars >= _MOST_CHARS:
            yield pd.DataFrame(held, columns=list(columns), dtype=object)
            held, chars = [], 0
    if held:
        yield pd.DataFrame(held, columns=list(columns), dtype=object)


# --- scan, redact -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _stored_policy(policy: bytes) -> StoredPolicy:
    # A worker serves many tasks, each of which is told the policy anew.
    return StoredPolicy(pickle.loads(policy))  # noqa: S301 - written by the program that started this worker


def findings(policy: bytes, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """What the policy would have kept out: a row a trace, entity, channel and node."""

    def rows() -> Iterator[Row]:
        for trace in traces_in(frames):
            cleaned = _stored_policy(policy).clean(list(trace.spans.values()), trace.beside)
            for found, count in cleaned.found.items():
                yield (trace.trace_id, *found, count)
            if trace.unreadable:
                yield (trace.trace_id, *Finding(UNREADABLE, "content", ""), len(trace.unreadable))

    return _frames(rows(), ("trace_id", *Finding._fields, "count"))


def redacted(policy: bytes, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """All rows as the policy would have had them."""

    def rows() -> Iterator[Row]:
        for trace in traces_in(frames):
            cleaned = _stored_policy(policy).clean(list(trace.spans.values()), trace.beside)
            for key, span in zip(trace.spans, cleaned.spans, strict=True):
                yield trace.trace_id, "span", key, _json(span), {"name": span["name"]}
            beside = cleaned.beside
            yield trace.trace_id, "info", "", None, _given(beside.fields)
            for kind, pairs in (("tag", beside.tags), ("metadata", beside.metadata)):
                for key, value in pairs.items():
                    yield trace.trace_id, kind, key, value, None
            for key, fields in beside.assessments.items():
                yield trace.trace_id, "assessment", key, None, _given(fields)

    return _frames(rows(), (*_COLUMNS, "fields"))


def _given(fields: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _json(span: Mapping[str, Any]) -> str:
    return json.dumps(span, ensure_ascii=False)


# --- prices -----------------------------------------------------------------------------------------------------------


class PriceQuestion(NamedTuple):
    """Which calls are priced again, and by what: as it goes to a worker."""

    policy: bytes
    at: datetime | None
    only_unpriced: bool
    models: frozenset[str]


@lru_cache(maxsize=4)
def _prices(question: PriceQuestion) -> Prices:
    policy: Policy = pickle.loads(question.policy)  # noqa: S301 - as above
    return Prices(policy.price_book(catalogue_rates), question.at, question.only_unpriced, question.models)


def _corrections(question: PriceQuestion, frames: Iterable[pd.DataFrame]) -> Iterator[tuple[Rows, Correction]]:
    """Each trace that has ended, and what is to be changed in it."""
    for trace in traces_in(frames):
        plain = trace.plain
        if not is_running(plain):
            yield trace, correction_of(plain, _prices(question))


def price_changes(question: PriceQuestion, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """A row for each call that costs something else now, and one for each reason for which calls stay as they are."""

    def rows() -> Iterator[Row]:
        for trace, found in _corrections(question, frames):
            for call in found.calls:
                before = None if call.before_usd is None else float(call.before_usd)
                yield trace.trace_id, call.model, before, float(call.now_usd), 1, None
            for reason, count in found.left.items():
                yield trace.trace_id, None, None, None, count, reason

    return _frames(rows(), ("trace_id", "model", "before_usd", "now_usd", "calls", "left_because"))


def repriced(question: PriceQuestion, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The rows that are to be others."""

    def rows() -> Iterator[Row]:
        for trace, found in _corrections(question, frames):
            for key, span in trace.spans.items():
                changed = found.spans.get(str(span.get("span_id")))
                if changed is not None:
                    made = with_attributes(span, changed)
                    yield trace.trace_id, "span", key, _json(made), _costs(made)
            for key, value in found.metadata.items():
                yield trace.trace_id, "metadata", key, value, None

    return _frames(rows(), (*_COLUMNS, "fields"))


def _costs(span: Mapping[str, Any]) -> dict[str, str]:
    told = keys.loaded(span["attributes"].get(keys.LLM_COST))
    return {name: repr(usd) for name, usd in told.items()} if isinstance(told, dict) else {}


# --- sums -------------------------------------------------------------------------------------------------------------


def counted(
    by: str, zone: tzinfo, experiments: Mapping[str, str] | None, frames: Iterable[pd.DataFrame]
) -> Iterator[pd.DataFrame]:
    """What each span adds to the sums: the labels of its group, numbers, the model that answered."""
    asked = dimensions(by, zone) if by else ()
    raw = tuple(dict.fromkeys(name for each in asked for name in each.raw))

    def rows() -> Iterator[Row]:
        for trace in traces_in(frames):
            plain = trace.plain
            names = experiments or {plain.info.experiment_id: plain.info.experiment_id}
            for values, numbers, model in counted_spans(plain, raw, names):
                labels = labels_of(asked, raw, values)
                unpriced = model if numbers.get("unpriced_calls") else ""
                yield (
                    trace.trace_id,
                    *labels,
                    *(numbers.get(name, 0) for name in ADDED),
                    model or None,
                    unpriced or None,
                )

    return _frames(rows(), ("trace_id", *(each.name for each in asked), *ADDED, "_model", "_unpriced_model"))


def as_fields(by: tuple[str, ...], frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Sums with the figures that a report tells of them."""
    figures = (*NUMBERS, "models", "unpriced_models")
    for frame in frames:
        columns = [frame[name].tolist() for name in (*by, *figures)]
        told = []
        for row in zip(*columns, strict=True):
            sums = Sums(**{name: _plain(value) for name, value in zip(figures, row[len(by) :], strict=True)})
            told.append({**dict(zip(by, row, strict=False)), **sums.as_fields()})
        yield pd.DataFrame(told, columns=[*by, *Sums().as_fields()], dtype=object)


def _plain(value: Any) -> Any:
    return tuple(sorted(value)) if hasattr(value, "__iter__") else value


ADDED: Final = tuple(name for name in NUMBERS if name != "traces")
"""What is added up; traces are counted."""
