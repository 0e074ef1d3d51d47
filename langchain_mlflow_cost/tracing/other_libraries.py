"""Calls that LangChain knows nothing of: spans of other libraries, or of the user, below a governed run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.spans import SpanAttributeKey, SpanType, fields_of, replace_fields, write_raw
from langchain_mlflow_cost.attributes import CHAT_MODEL, EMBEDDING, MODEL_TYPES, loaded
from langchain_mlflow_cost.pricing.ledger import Totals
from langchain_mlflow_cost.pricing.reported import request_of_names, result_of_counts
from langchain_mlflow_cost.tracing.admission import (
    COUNT_PREFIXES,
    KIND_KEY,
    MODEL_KINDS,
    MODEL_OPERATIONS,
    OPERATION_KEY,
    TOOL_KIND,
    TOOL_NAME_KEYS,
    TOOL_OPERATION,
)
from langchain_mlflow_cost.tracing.calls import ModelCall, cost_attributes, settle_made_tool, written_json
from langchain_mlflow_cost.tracing.sums import sum_attributes
from langchain_mlflow_cost.tracing.unclaimed import find_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.runs import Run

_MODELS = (SpanAttributeKey.MODEL, "gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_PROVIDERS = (SpanAttributeKey.MODEL_PROVIDER, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
_NOTHING = {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.0}


def count_span(span: GuardedSpan) -> None:
    """Count the call that a span stands for: of a model by the usage written in it, of a tool by its name."""
    run = span.lmc_state.owner or span.lmc_state.account
    if _is_model(span):
        _count_model(run, span)
    elif run is not None and _is_tool(span):
        _count_tool(run, span)


def _count_model(run: Run | None, span: GuardedSpan) -> None:
    if run is None:
        # Outside any invocation, and nobody governs it: the store prices it, and must go on adding the trace up.
        span.lmc_state.trace.is_shared = True
        return
    if _is_below_a_model(span):
        # Counted above; without a cost of its own MLflow's store would price it once more.
        write_raw(span, {SpanAttributeKey.LLM_COST: written_json(_NOTHING)})
        return
    attributes = span.attributes or {}
    counts = _counts_of(attributes)
    model = _first_text(attributes, _MODELS)
    if not counts or model is None:
        return
    request = request_of_names(_first_text(attributes, _PROVIDERS), model)
    result = result_of_counts(counts, request)
    if run is span.lmc_state.account:
        find_session(run, span)
    is_embedding = _is_embedding(attributes)
    settled = ModelCall(run, request, key=span.context.span_id).settle_made(
        result, _totals_of_spans_around(span), operation="embeddings" if is_embedding else "chat"
    )
    totals = Totals()
    totals.add(settled.call)
    written = cost_attributes(settled, request, lambda name: span.lmc_state.text(name, "names"))
    # What the library wrote itself stays as it is, but for what the store would price an unpriced call by.
    for key in (SpanAttributeKey.MODEL, SpanAttributeKey.MODEL_PROVIDER, SpanAttributeKey.CHAT_USAGE):
        if key in attributes:
            written.pop(key, None)
    if loaded(attributes.get(SpanAttributeKey.SPAN_TYPE)) not in MODEL_TYPES:
        # As MLflow's store has it for spans that tell their type by another convention.
        written[SpanAttributeKey.SPAN_TYPE] = written_json(EMBEDDING if is_embedding else CHAT_MODEL)
    if settled.priced.cost is None:
        fields = fields_of(span)[0]
        fields.pop(SpanAttributeKey.CHAT_USAGE, None)
        fields.pop(SpanAttributeKey.LLM_COST, None)
        fields = {key: value for key, value in fields.items() if not key.startswith(COUNT_PREFIXES)}
        replace_fields(span, attributes=fields)
    write_raw(span, {**written, **sum_attributes(totals)})


def _is_embedding(attributes: Mapping[str, Any]) -> bool:
    return (
        attributes.get(OPERATION_KEY) == "embeddings"
        or attributes.get(KIND_KEY) == "EMBEDDING"
        or loaded(attributes.get(SpanAttributeKey.SPAN_TYPE)) == EMBEDDING
    )


def _count_tool(run: Run, span: GuardedSpan) -> None:
    """Count the fee of a tool's call, once: not where its own run of LangChain's, or another span of it, is above."""
    tool, above = _tool_of(span), span.lmc_state.parent
    while above is not None and above.lmc_state.is_foreign:
        if _is_tool(above) and _tool_of(above) == tool:
            return
        above = above.lmc_state.parent
    if any(each.tool == tool for each in run.lineage()):
        return
    usd = settle_made_tool(run, tool, _totals_of_spans_around(span), key=span.context.span_id)
    if usd is not None:
        write_raw(span, {keys.TOOL_USD: repr(float(usd))})


def _is_tool(span: GuardedSpan) -> bool:
    attributes = span.attributes or {}
    return bool(
        loaded(attributes.get(SpanAttributeKey.SPAN_TYPE)) == SpanType.TOOL
        or loaded(attributes.get(OPERATION_KEY)) == TOOL_OPERATION
        or loaded(attributes.get(KIND_KEY)) == TOOL_KIND
    )


def _tool_of(span: GuardedSpan) -> str:
    return _first_text(span.attributes or {}, TOOL_NAME_KEYS) or span.name.removeprefix(f"{TOOL_OPERATION} ")


def _is_model(span: GuardedSpan) -> bool:
    attributes = span.attributes or {}
    return (
        loaded(attributes.get(SpanAttributeKey.SPAN_TYPE)) in MODEL_TYPES
        or loaded(attributes.get(OPERATION_KEY)) in MODEL_OPERATIONS
        or loaded(attributes.get(KIND_KEY)) in MODEL_KINDS
    )


def _counts_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The counts of tokens that a span tells: as MLflow's own autolog does, else by another convention."""
    counts = loaded(attributes.get(SpanAttributeKey.CHAT_USAGE))
    if isinstance(counts, dict):
        return counts
    return {key: value for key, value in attributes.items() if key.startswith(COUNT_PREFIXES)}


def _first_text(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((text for key in keys if isinstance(text := loaded(attributes.get(key)), str) and text), None)


def _is_below_a_model(span: GuardedSpan) -> bool:
    """Whether the same call is counted above: LangChain's model run, or another library's span around its client's."""
    if span.lmc_state.is_in_model:
        return True
    above = span.lmc_state.parent
    while above is not None and above.lmc_state.is_foreign:
        if _is_model(above):
            return True
        above = above.lmc_state.parent
    return False


def _totals_of_spans_around(span: GuardedSpan) -> list[Totals]:
    """The sums of the spans above that are no runs of LangChain's, up to the first that is, and the span's own."""
    around: list[Totals] = []
    above: GuardedSpan | None = span
    while above is not None and above.lmc_state.is_foreign:
        around.append(above.lmc_state.totals)
        above = above.lmc_state.parent
    return around
