"""A stored trace from its plain spans alone, to be asked as MLflow's entity is: for many traces, without its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.spans import SpanAttributeKey


class Attributes(Mapping[str, Any]):
    """A span's attributes, each parsed when it is asked for: those with a payload never are.

    Args:
        raw: As stored, each value JSON text.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw

    def __getitem__(self, key: str) -> Any:
        return keys.loaded(self._raw[key])

    def __contains__(self, key: object) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


@dataclass(frozen=True, slots=True)
class PlainSpan:
    """What `mlflow.entities.Span` tells of the same span."""

    span_id: str
    parent_id: str | None
    name: str
    span_type: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class PlainInfo:
    """What `mlflow.entities.TraceInfo` tells of the same trace."""

    trace_id: str
    experiment_id: str
    timestamp_ms: int
    state: str
    trace_metadata: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PlainData:
    """Its spans."""

    spans: list[PlainSpan]


@dataclass(frozen=True, slots=True)
class PlainTrace:
    """What `mlflow.entities.Trace` tells of the same trace."""

    info: PlainInfo
    data: PlainData


def plain_trace(info: PlainInfo, spans: list[dict[str, Any]]) -> PlainTrace:
    """Put a trace together.

    Args:
        info: What is known of it beside its spans.
        spans: As MLflow stores them (`Span.to_dict()`, the column `content` of the table `spans`).
    """
    return PlainTrace(info, PlainData([_plain_span(span) for span in spans]))


def _plain_span(span: Mapping[str, Any]) -> PlainSpan:
    attributes = Attributes(span.get("attributes") or {})
    return PlainSpan(
        span_id=str(span.get("span_id")),
        parent_id=span.get("parent_span_id") or None,
        name=str(span.get("name") or ""),
        span_type=str(attributes.get(SpanAttributeKey.SPAN_TYPE) or ""),
        attributes=attributes,
    )
