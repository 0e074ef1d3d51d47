"""Model calls that LangChain knows nothing of: spans of another library's autolog below a governed run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import orjson

from langchain_mlflow_cost.adapters.spans import SpanAttributeKey, write_raw
from langchain_mlflow_cost.attributes import MODEL_TYPES
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage
from langchain_mlflow_cost.tracing.runs import account, cost_attribute, dumped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from langchain_mlflow_cost.pricing.ledger import Call
    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.runs import Invocation, Run


def account_span(span: GuardedSpan) -> None:
    """Price a foreign model span from the usage and model that are written in it, once, and add it up."""
    run: Run | None = span.lmc_state.owner
    if run is None or not _is_model(span):
        return
    if _below_a_model(span, run):
        # Counted above; without a cost of its own MLflow's store would price it once more.
        write_raw(span, {SpanAttributeKey.LLM_COST: dumped(_NOTHING)})
        return
    attributes = span.attributes or {}
    counts = _loaded(attributes.get(SpanAttributeKey.CHAT_USAGE))
    model = _loaded(attributes.get(SpanAttributeKey.MODEL))
    if not isinstance(counts, dict) or not isinstance(model, str):
        return
    provider = _loaded(attributes.get(SpanAttributeKey.MODEL_PROVIDER))
    request = CallRequest(provider=provider if isinstance(provider, str) else None, model=model)
    result = CallResult(usage=_usage(counts))
    accounted = account(run, request, result)
    for invocation, priced, call in accounted:
        _spend(invocation, run, call, priced.cost.total_usd if priced.cost is not None else None)
    _, priced, call = accounted[0]
    totals = type(run.totals)()
    totals.add(call)
    written: dict[str, Any] = {key: repr(value) for key, value in totals.attributes().items()}
    if priced.cost is not None:
        written[SpanAttributeKey.LLM_COST] = dumped(cost_attribute(priced.cost))
    if priced.source:
        written["cost.price_source"] = dumped(priced.source)
    write_raw(span, written)
    for invocation, _, told in accounted:
        invocation.governor.tell(told)


_NOTHING = {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.0}


def _spend(invocation: Invocation, run: Run, call: Call, usd: Decimal | None) -> None:
    """Count it under the budgets; it is made already, so a refusal only concerns the calls to come."""
    budgets = invocation.governor.budgets
    if not budgets:
        return
    with contextlib.suppress(BudgetExceededError):
        reservation = budgets.reserve(
            trace=invocation.root_id,
            node=run.node,
            session=invocation.session,
            estimate_usd=usd,
            prompt_usd=None,
            model=call.model,
        )
        budgets.settle(reservation, usd)


def _is_model(span: GuardedSpan) -> bool:
    return _loaded((span.attributes or {}).get(SpanAttributeKey.SPAN_TYPE)) in MODEL_TYPES


def _below_a_model(span: GuardedSpan, run: Run) -> bool:
    """Whether the same call is counted above: LangChain's model run, or another library's span around its client's."""
    if any(above.kind == "model" for above in run.lineage()):
        return True
    above = span.lmc_state.parent
    while above is not None and above.lmc_state.foreign:
        if _is_model(above):
            return True
        above = above.lmc_state.parent
    return False


def _usage(counts: Mapping[str, Any]) -> Usage:
    def count(key: str) -> int:
        value = counts.get(key)
        return value if isinstance(value, int) and value > 0 else 0

    return Usage(
        input_tokens=count("input_tokens"),
        output_tokens=count("output_tokens"),
        cache_read=count("cache_read_input_tokens"),
        cache_write=count("cache_creation_input_tokens"),
    )


def _loaded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
