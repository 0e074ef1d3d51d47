"""The same questions, answered from a store's traces page by page: where only MLflow's API can be asked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.trace_fields import (
    LANGCHAIN_TAGS,
    METADATA_FIELDS,
    QUARTER_MS,
    SPAN_FIELDS,
    TAG_FIELDS,
    texts_in,
)
from langchain_mlflow_cost.reports.sums import AnsweredCall
from langchain_mlflow_cost.stored import call_of_span, fee_of_span, number_in
from langchain_mlflow_cost.trace_pages import trace_pages, traces_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflow.entities import Span, Trace

    from langchain_mlflow_cost.reports.plain_traces import PlainSpan, PlainTrace


class TracePages:
    """The traces of some experiments.

    Args:
        experiments: Names, by id.
        since_ms: Of those that began then or later, milliseconds since the epoch.
        until_ms: And before then.
        status: `OK`, `ERROR`, ...
        most: The latest so many.
        on_page: Called with the number of traces read so far.
        on_unreadable: Called with the id of a trace whose spans cannot be read: it is left out.
        only: Of all these the ones with these ids.
    """

    def __init__(
        self,
        experiments: Mapping[str, str],
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        status: str | None = None,
        most: int | None = None,
        on_page: Callable[[int], None] | None = None,
        on_unreadable: Callable[[str], None] | None = None,
        only: Sequence[str] | None = None,
    ) -> None:
        tests = [f"timestamp_ms >= {since_ms}"] if since_ms is not None else []
        tests += [f"timestamp_ms < {until_ms}"] if until_ms is not None else []
        tests += [f"status = '{status}'"] if status is not None else []
        self._filter = " AND ".join(tests) or None
        self._experiments = experiments
        self._most = most
        self._only = only
        self._on_page = on_page
        self._on_unreadable = on_unreadable
        self._unreadable: set[str] = set()
        self._with_calls = 0

    def traces(self, *, with_spans: bool = True) -> Iterator[Trace]:
        """Each, the latest first."""
        import mlflow  # noqa: PLC0415 - slow

        read, client = 0, mlflow.MlflowClient()
        pages = (
            trace_pages(
                client,
                list(self._experiments),
                with_spans=with_spans,
                most=self._most,
                on_unreadable=lambda trace: self._leave_out(str(trace.info.trace_id)),
                filter_string=self._filter,
                order_by=["timestamp_ms DESC"],
            )
            if self._only is None
            else ([each] for each in traces_named(client, self._only, on_unreadable=self._leave_out))
        )
        for page in pages:
            yield from page
            read += len(page)
            if self._on_page is not None:
                self._on_page(read)

    def _leave_out(self, trace_id: str) -> None:
        if self._on_unreadable is not None and trace_id not in self._unreadable:
            self._on_unreadable(trace_id)
        self._unreadable.add(trace_id)

    def facts(self) -> tuple[int, int | None, int | None]:
        """How many traces there are, and when the first and the last of them began (milliseconds since the epoch)."""
        times = [trace.info.timestamp_ms for trace in self.traces(with_spans=False)]
        return len(times), min(times, default=None), max(times, default=None)

    def with_calls(self) -> int:
        """How many traces have a model call of this library, as far as `sums` has read."""
        return self._with_calls

    def stops(self) -> dict[str, int]:
        """How many traces each budget stopped, by its words."""
        told = (trace.info.trace_metadata.get(keys.STOPPED_BY) for trace in self.traces(with_spans=False))
        return dict(Counter(words for words in told if words).most_common())

    def tag_names(self) -> set[str]:
        """Names of tags and metadata of the user's, and of LangChain's tags."""
        names: set[str] = set()
        for trace in self.traces(with_spans=False):
            told = (*trace.info.tags, *trace.info.trace_metadata)
            names |= {key for key in told if not key.startswith(("mlflow.", "cost.")) and key != LANGCHAIN_TAGS}
            names.update(texts_in(trace.info.trace_metadata.get(LANGCHAIN_TAGS)))
        return names

    def sums(
        self, raw: Sequence[str], *, top: int | None = None
    ) -> Iterator[tuple[tuple[str | None, ...], dict[str, Any]]]:
        """Sums of calls and fees, for each combination of the raw fields' values; or only so many, the dearest."""
        found: dict[tuple[str | None, ...], Counter[str]] = {}
        models: dict[tuple[str | None, ...], tuple[set[str], set[str]]] = {}
        self._with_calls = 0
        for trace in self.traces():
            seen: set[tuple[str | None, ...]] = set()
            for values, numbers, model in counted_spans(trace, raw, self._experiments):
                sums = found.setdefault(values, Counter())
                for name, number in numbers.items():
                    sums[name] += number
                known, unpriced = models.setdefault(values, (set(), set()))
                if model:
                    known.add(model)
                    unpriced |= {model} if numbers["unpriced_calls"] else set()
                if numbers.get("calls") and values not in seen:
                    seen.add(values)
                    sums["traces"] += 1
            self._with_calls += any(_is_call(span) for span in trace.data.spans)
        rows: list[tuple[tuple[str | None, ...], Counter[str]]] = list(found.items())
        if top is not None:
            rows = sorted(rows, key=dearest_first)
        for values, sums in rows[:top]:
            known, unpriced = models[values]
            yield values, {**sums, "models": tuple(sorted(known)), "unpriced_models": tuple(sorted(unpriced))}

    def usages(self, raw: Sequence[str]) -> Iterator[AnsweredCall]:
        """Each call that a provider answered."""
        for trace in self.traces():
            for span in trace.data.spans:
                usage = span.attributes.get(keys.USAGE) or ""
                if _is_call(span) and not span.attributes.get("cost.cached_calls"):
                    values = tuple(_value(name, trace, span, self._experiments) for name in raw)
                    usd = _usd(span.attributes, "input") + _usd(span.attributes, "output")
                    yield AnsweredCall(values, usage_text(usage), usd if "cost.total_usd" in span.attributes else None)


def counted_spans(
    trace: Trace | PlainTrace, raw: Sequence[str], experiments: Mapping[str, str]
) -> Iterator[tuple[tuple[str | None, ...], dict[str, Any], str]]:
    """What each span of a trace adds to a report's sums: the raw fields' values, numbers, the model that answered.

    Args:
        trace: With its spans.
        raw: The fields by which sums are told apart.
        experiments: Names, by id.
    """
    for span in trace.data.spans:
        numbers = _numbers(span, raw)
        if numbers is not None:
            answered = numbers.get("calls") and "tool" not in raw
            model = str(span.attributes.get(keys.MODEL) or "") if answered else ""
            yield tuple(_value(name, trace, span, experiments) for name in raw), numbers, model


def dearest_first(row: tuple[tuple[str | None, ...], Mapping[str, Any]]) -> tuple[float, tuple[str, ...]]:
    """What rows of sums are sorted by."""
    values, sums = row
    usd = sum(float(sums.get(name) or 0.0) for name in ("input_usd", "output_usd", "tool_usd"))
    return -usd, tuple(value or "" for value in values)


def usage_text(usage: Any) -> str:
    """`cost.usage` as text, in which MLflow hands it out parsed or not."""
    import json  # noqa: PLC0415

    return usage if isinstance(usage, str) else json.dumps(usage)


def _value(name: str, trace: Trace | PlainTrace, span: Span | PlainSpan, experiments: Mapping[str, str]) -> str | None:
    info = trace.info
    if name in SPAN_FIELDS:
        value = span.attributes.get(SPAN_FIELDS[name])
        return None if value is None else str(value)
    if name in METADATA_FIELDS or name in TAG_FIELDS:
        told = info.trace_metadata if name in METADATA_FIELDS else info.tags
        return told.get(METADATA_FIELDS.get(name) or TAG_FIELDS[name])
    plain = {"quarter": info.timestamp_ms // QUARTER_MS, "tool": span.name, "trace": info.trace_id}
    if name in plain:
        return str(plain[name])
    if name == "experiment":
        return experiments.get(str(info.experiment_id))
    tag = name.removeprefix("tag:")
    value = info.tags.get(tag) or info.trace_metadata.get(tag)
    # LangChain's tags have no value: they stand under their own name.
    return value or (tag if tag in texts_in(info.trace_metadata.get(LANGCHAIN_TAGS)) else None)


def _numbers(span: Span | PlainSpan, raw: Sequence[str]) -> dict[str, Any] | None:
    """What a span adds to the sums; None where it adds nothing."""
    attributes = span.attributes
    if "tool" in raw:
        if span.span_type != keys.TOOL:
            return None
        into, out, total = (_usd(attributes, part) for part in ("input", "output", "total"))
        return {
            "calls": 1,
            "cached_calls": _count(attributes, "cost.cached_calls"),
            "estimated_calls": _count(attributes, "cost.estimated_calls"),
            "input_tokens": _count(attributes, "cost.input_tokens"),
            "output_tokens": _count(attributes, "cost.output_tokens"),
            "input_usd": into,
            "output_usd": out,
            "tool_usd": total - into - out,
        }
    numbers: dict[str, Any] = {}
    if _is_call(span):
        call = call_of_span(attributes)
        into, out = float(call.input_usd or 0), float(call.output_usd or 0)
        numbers = {
            "calls": 1,
            "cached_calls": int(call.cached),
            "unpriced_calls": int(call.input_usd is None),
            "estimated_calls": int(call.estimated),
            "input_tokens": 0 if call.cached else call.input_tokens,
            "output_tokens": 0 if call.cached else call.output_tokens,
            "input_usd": into,
            "output_usd": out,
            "estimated_usd": into + out if call.estimated else 0.0,
        }
    if span.span_type == keys.TOOL and keys.TOOL_USD in attributes:
        numbers["tool_usd"] = float(fee_of_span(attributes))
    if keys.ATTEMPT in attributes and "node" in raw:
        numbers["retries"] = 1
    return numbers or None


def _is_call(span: Span | PlainSpan) -> bool:
    return span.span_type in keys.MODEL_TYPES and _count(span.attributes, "cost.llm_calls") > 0


def _count(attributes: Mapping[str, Any], key: str) -> int:
    return int(number_in(attributes.get(key)))


def _usd(attributes: Mapping[str, Any], part: str) -> float:
    return number_in(attributes.get(f"cost.{part}_usd"))
