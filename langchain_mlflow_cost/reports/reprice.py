"""Stored calls priced again: what their spans, those above them and their trace should say; nothing is written here."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.trace_fields import TRACE_COST, TRACE_USAGE
from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.pricing.ledger import Call, Totals
from langchain_mlflow_cost.pricing.usage_json import call_of_usage_json
from langchain_mlflow_cost.stored import call_of_span, fee_of_span, number_in
from langchain_mlflow_cost.tracing.calls import Settled, cost_attributes, cost_json, written_json
from langchain_mlflow_cost.tracing.sums import sum_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from decimal import Decimal

    from mlflow.entities import Span, Trace

    from langchain_mlflow_cost.pricing.book import PriceBook
    from langchain_mlflow_cost.pricing.usage import CallRequest
    from langchain_mlflow_cost.reports.plain_traces import PlainSpan, PlainTrace

NO_USAGE: Final = "without cost.usage on their span (recorded before 0.2, or by another library)"
NO_PRICE: Final = "whose model no price source knows"
UNREADABLE: Final = "whose cost.usage cannot be read"

_AS_STORED: Final = 1e-12
"""Two costs are one and the same up to this part of them: what a float keeps."""
_AGREES: Final = 1e-9
_WHOLE: Final = ""
"""Stands for the trace among the ids of its spans."""
_USD_KEYS: Final = tuple(f"cost.{part}_usd" for part in ("total", "input", "output"))


@dataclass(frozen=True, slots=True)
class Prices:
    """Which calls are priced again, and by what."""

    book: PriceBook
    at: datetime | None = None
    """By the price lists of that moment; None for those of each call's own."""
    only_unpriced: bool = True
    """Leave alone what has a price."""
    models: frozenset[str] = frozenset()
    """Only calls of these; empty for all."""


@dataclass(frozen=True, slots=True)
class NewPrice:
    """One call that costs something else now."""

    model: str
    before_usd: Decimal | None
    """None where it had no price."""
    now_usd: Decimal


@dataclass(slots=True)
class Correction:
    """What has to be written of one trace, so that all of it agrees."""

    calls: list[NewPrice] = field(default_factory=list)
    spans: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """By a span's id: attributes as JSON text, None for one that goes."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Of the trace."""
    left: Counter[str] = field(default_factory=Counter)
    """Calls that were asked for and stay as they are, by the reason."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.spans or self.metadata)


@dataclass(slots=True)
class _Delta:
    """What the calls below a span that cost something else now add to its sums."""

    input_usd: Decimal = ZERO
    output_usd: Decimal = ZERO
    newly_priced: int = 0


def correction_of(trace: Trace | PlainTrace, prices: Prices) -> Correction:
    """Price a trace's calls again, and add up what is above them.

    A call is priced by its `cost.usage` alone. Sums that do not agree with the calls, since an earlier run was
    interrupted or a trace was stored out of order, are put right as well.

    Args:
        trace: With its spans.
        prices: By what, and which calls.
    """
    found = Correction()
    spans: dict[str, Span | PlainSpan] = {str(span.span_id): span for span in trace.data.spans}
    calls: dict[str, Call] = {}
    deltas: dict[str, _Delta] = {}
    used: Counter[str] = Counter()
    for span_id, span in spans.items():
        if not _is_call(span):
            continue
        before = call_of_span(span.attributes)
        now = _priced(span, before, prices, found, used)
        calls[span_id] = now or before
        if now is None:
            continue
        for above in (_WHOLE, *_above(span, spans)):
            delta = deltas.setdefault(above, _Delta())
            for name in ("input_usd", "output_usd"):
                more = EXACT.subtract(getattr(now, name), getattr(before, name) or ZERO)
                setattr(delta, name, EXACT.add(getattr(delta, name), more))
            delta.newly_priced += before.input_usd is None
    _add_up(spans, calls, deltas, found)
    _add_up_trace(trace, calls, deltas.get(_WHOLE), found, used)
    return found


def is_running(trace: Trace | PlainTrace) -> bool:
    """Whether a trace has not ended: whoever records it writes its sums again when it does."""
    return str(getattr(trace.info.state, "value", trace.info.state)) == "IN_PROGRESS"


def _is_call(span: Span | PlainSpan) -> bool:
    # A model that calls others has theirs in its sums, and no part of its own to be told from them.
    return span.span_type in keys.MODEL_TYPES and number_in(span.attributes.get("cost.llm_calls")) == 1


def _above(span: Span | PlainSpan, spans: Mapping[str, Span | PlainSpan]) -> Iterator[str]:
    seen = {str(span.span_id)}
    while span.parent_id is not None and span.parent_id in spans and span.parent_id not in seen:
        seen.add(str(span.parent_id))
        span = spans[str(span.parent_id)]
        yield str(span.span_id)


def _priced(span: Span | PlainSpan, before: Call, prices: Prices, found: Correction, used: Counter[str]) -> Call | None:
    """The call with another price than before, noted; None where it stays as it is."""
    attributes = span.attributes
    if before.cached or (prices.only_unpriced and before.input_usd is not None):
        return None
    if prices.models and before.model not in prices.models:
        return None
    priced_again = _cost_of(attributes.get(keys.USAGE), prices)
    if isinstance(priced_again, str):
        found.left[priced_again] += 1
        return None
    request, settled = priced_again
    cost = settled.priced.cost
    if cost is None:
        found.left[NO_PRICE] += 1
        return None
    now = replace(before, input_usd=cost.input_usd, output_usd=cost.output_usd)
    if _costs_the_same(before, now):
        return None
    totals = Totals()
    totals.add(now)
    told = cost_attributes(settled, request)
    written: dict[str, str | None] = {
        key: told.get(key) for key in (keys.LLM_COST, keys.PRICE_SOURCE, keys.NOTES) if key in told or key in attributes
    }
    if keys.CHAT_USAGE in told and keys.CHAT_USAGE not in attributes:
        written[keys.CHAT_USAGE] = told[keys.CHAT_USAGE]
        used.update(json.loads(told[keys.CHAT_USAGE]))
    found.spans[str(span.span_id)] = {**written, **sum_attributes(totals)}
    was = None if before.input_usd is None else EXACT.add(before.input_usd, before.output_usd or ZERO)
    found.calls.append(NewPrice(before.model, was, cost.total_usd))
    return now


def _cost_of(usage: Any, prices: Prices) -> tuple[CallRequest, Settled] | str:
    """A call as it is settled by its usage, or why it cannot be."""
    if not usage:
        return NO_USAGE
    try:
        request, result, at = call_of_usage_json(usage)
    except ValueError:
        return UNREADABLE
    priced = prices.book.price(request, result, at=prices.at or at)
    # What is counted of it stands on its span already.
    return request, Settled(result, priced, Call("", priced.model, 0, 0, None, None), at)


def _costs_the_same(before: Call, now: Call) -> bool:
    if before.input_usd is None or before.output_usd is None or now.input_usd is None or now.output_usd is None:
        return False
    sides = ((before.input_usd, now.input_usd), (before.output_usd, now.output_usd))
    return all(math.isclose(was, usd, rel_tol=_AS_STORED) for was, usd in sides)


def _add_up(
    spans: Mapping[str, Span | PlainSpan], calls: Mapping[str, Call], deltas: Mapping[str, _Delta], found: Correction
) -> None:
    """Write the sums of the spans above the calls."""
    sums = {
        span_id: Totals()
        for span_id, span in spans.items()
        if "cost.llm_calls" in span.attributes and span_id not in calls
    }
    for span_id, span in spans.items():
        around = [each for each in (span_id, *_above(span, spans)) if each in sums]
        for each in around:
            if span_id in calls:
                sums[each].add(calls[span_id])
            if keys.TOOL_USD in span.attributes:
                sums[each].add_fee(fee_of_span(span.attributes))
    for span_id, totals in sums.items():
        attributes = spans[span_id].attributes
        # Another process counts its calls by itself, and a call may have lost its span: then only what is new is added.
        if totals.llm_calls != number_in(attributes.get("cost.llm_calls")):
            if span_id in deltas:
                found.spans[span_id] = _moved(attributes, deltas[span_id])
        elif not _agrees(attributes, totals):
            found.spans[span_id] = dict(sum_attributes(totals))


def _agrees(attributes: Mapping[str, Any], totals: Totals) -> bool:
    told = totals.attributes()
    if told["cost.unpriced_calls"] != number_in(attributes.get("cost.unpriced_calls")):
        return False
    return all(
        key not in told or (key in attributes and math.isclose(told[key], number_in(attributes[key]), rel_tol=_AGREES))
        for key in _USD_KEYS
    )


def _moved(attributes: Mapping[str, Any], delta: _Delta) -> dict[str, str | None]:
    more = {
        "cost.total_usd": EXACT.add(delta.input_usd, delta.output_usd),
        "cost.input_usd": delta.input_usd,
        "cost.output_usd": delta.output_usd,
    }
    told: dict[str, str | None] = {key: repr(number_in(attributes.get(key)) + float(usd)) for key, usd in more.items()}
    told["cost.unpriced_calls"] = repr(int(number_in(attributes.get("cost.unpriced_calls"))) - delta.newly_priced)
    return told


def _add_up_trace(
    trace: Trace | PlainTrace, calls: Mapping[str, Call], delta: _Delta | None, found: Correction, used: Counter[str]
) -> None:
    """Write what MLflow's pages show of the trace."""
    metadata = trace.info.trace_metadata
    totals = Totals()
    for span in trace.data.spans:
        if str(span.span_id) in calls:
            totals.add(calls[str(span.span_id)])
        elif keys.LLM_COST in span.attributes:
            # Of the user's own, of a model that calls others: the store has its own way to add those up.
            if delta is not None:
                found.metadata[TRACE_COST] = _moved_cost(metadata, delta)
            break
        if keys.TOOL_USD in span.attributes:
            totals.add_fee(fee_of_span(span.attributes))
    else:
        told = _loaded(metadata.get(TRACE_COST))
        if totals.has_any and totals.priced and not _is_cost(told, totals):
            found.metadata[TRACE_COST] = cost_json(totals)
    if used:
        told = _loaded(metadata.get(TRACE_USAGE))
        found.metadata[TRACE_USAGE] = written_json(dict(Counter({**told}) + used))


def _moved_cost(metadata: Mapping[str, str], delta: _Delta) -> str:
    told = _loaded(metadata.get(TRACE_COST))
    more = {
        "input_cost": delta.input_usd,
        "output_cost": delta.output_usd,
        "total_cost": EXACT.add(delta.input_usd, delta.output_usd),
    }
    return written_json({name: number_in(told.get(name)) + float(usd) for name, usd in more.items()})


def _is_cost(told: Mapping[str, Any], totals: Totals) -> bool:
    sums = (("input_cost", totals.input_usd), ("output_cost", totals.output_usd), ("total_cost", totals.total_usd))
    return all(name in told and math.isclose(number_in(told[name]), usd, rel_tol=_AGREES) for name, usd in sums)


def _loaded(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
