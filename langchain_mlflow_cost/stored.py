"""What a stored trace cost, read back from its spans."""

from __future__ import annotations

import logging
import math
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.bounded import within
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import without_credentials
from langchain_mlflow_cost.pricing.ledger import Call, Ledger
from langchain_mlflow_cost.pricing.summary import CostSummary
from langchain_mlflow_cost.tracking_stores import database_file_of, is_server, why_unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow.entities import Trace

log = logging.getLogger("langchain_mlflow_cost")


def cost_summary(trace_id: str | None = None) -> CostSummary:
    """Add up what the spans of a stored trace say, after everything that is still queued has been written.

    The figures come from the attributes that this library writes (`cost.*`, beside `mlflow.llm.model` and
    `policy.node`) of the spans of model calls. MLflow's own sum, `mlflow.trace.cost`, is not asked.

    Args:
        trace_id: MLflow's id, such as `tr-4f2a...`; None for the latest trace of the active experiment.

    Returns:
        USD and tokens, in total and per node: the same figures as `MlflowCostHandler.summary`, to a relative 1e-9. An
        empty summary, and a warning, if there is no such trace or the store cannot be read. Nothing is raised,
        whatever the state of MLflow.
    """
    try:
        trace = within(limits().summary_s, lambda: _read(trace_id))
    except TimeoutError:
        return _nothing(trace_id, f"the store did not answer within {limits().summary_s:g} s")
    except Exception as error:  # a store that is away must not break the caller's program
        log.debug("reading the trace failed", exc_info=error)
        return _nothing(trace_id, f"it could not be read ({type(error).__name__})")
    if trace is None:
        return _nothing(trace_id, "the store has none")
    return summary_of(trace.info.trace_id, ((span.span_type, span.attributes) for span in trace.data.spans))


def _read(trace_id: str | None) -> Trace | None:
    import mlflow  # noqa: PLC0415 - it may be missing

    from langchain_mlflow_cost.adapters.store_calls import flush_traces  # noqa: PLC0415 - as above

    uri = mlflow.get_tracking_uri()
    flush_traces(uri)
    file = database_file_of(uri)
    fault = why_unusable(uri) if is_server(uri) or (file is not None and not file.exists()) else None
    if fault is not None:
        # MLflow would try for minutes.
        raise ConnectionError(f"{without_credentials(uri)} {fault}")
    if trace_id is not None:
        trace: Trace | None = mlflow.get_trace(trace_id, silent=True)
        return trace
    found = mlflow.search_traces(max_results=1, order_by=["timestamp_ms DESC"], return_type="list")
    return found[0] if found else None


def _nothing(trace_id: str | None, why: str) -> CostSummary:
    warnings.warn(f"no cost summary for trace {trace_id or '(the latest)'}: {why}", UserWarning, stacklevel=3)
    return CostSummary(trace_id=trace_id or "")


def summary_of(trace_id: str, spans: Iterable[tuple[str | None, Mapping[str, Any]]]) -> CostSummary:
    """Add up spans, given as their type and attributes; pure."""
    ledger, stopped_by = Ledger(), None
    for span_type, attributes in spans:
        stopped_by = stopped_by or attributes.get(keys.STOPPED_BY)
        if span_type in keys.MODEL_TYPES and number_in(attributes.get("cost.llm_calls")):
            ledger.add(call_of_span(attributes))
        if keys.ATTEMPT in attributes:
            ledger.add_retry(str(attributes.get("policy.node") or ""))
        if keys.TOOL_USD in attributes:
            ledger.add_fee(str(attributes.get("policy.node") or ""), fee_of_span(attributes))
    return ledger.summary(trace_id, stopped_by=None if stopped_by is None else str(stopped_by))


def call_of_span(attributes: Mapping[str, Any]) -> Call:
    """The call that a stored model span stands for."""
    priced = "cost.total_usd" in attributes
    return Call(
        node=str(attributes.get("policy.node") or ""),
        model=str(attributes.get("mlflow.llm.model") or ""),
        input_tokens=int(number_in(attributes.get("cost.input_tokens"))),
        output_tokens=int(number_in(attributes.get("cost.output_tokens"))),
        input_usd=_usd(attributes.get("cost.input_usd")) if priced else None,
        output_usd=_usd(attributes.get("cost.output_usd")) if priced else None,
        cached=bool(number_in(attributes.get("cost.cached_calls"))),
        estimated=bool(attributes.get(keys.ESTIMATED)),
    )


def fee_of_span(attributes: Mapping[str, Any]) -> Decimal:
    """What the call of a tool that a stored span stands for cost."""
    return _usd(attributes.get(keys.TOOL_USD))


def number_in(value: Any) -> float:
    """A number of an attribute or of metadata, 0 where it is none."""
    # Attributes come back parsed or as text, by MLflow's version.
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _usd(value: Any) -> Decimal:
    return Decimal(repr(number_in(value)))
