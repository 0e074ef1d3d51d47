"""What a span says of all that is below it: sums of calls and fees, and which models and tools were called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.tracing.beside import without_private

if TYPE_CHECKING:
    from langchain_mlflow_cost.pricing.ledger import Totals
    from langchain_mlflow_cost.tracing.span_state import SpanState


def sum_attributes(totals: Totals) -> dict[str, str]:
    """The sums of a span as attributes."""
    return {key: repr(value) for key, value in totals.attributes().items()}


def called_attributes(state: SpanState, totals: Totals) -> dict[str, str]:
    """The models and tools that were called in a span, by name; to be asked when all private text is known.

    `mlflow.llm.model` would say it too, but MLflow counts the spans, and adds up their times, by that attribute.

    Args:
        state: Of the span.
        totals: Of the span and all below it.
    """
    written = {}
    for key, names in ((keys.MODELS, totals.models), (keys.TOOLS, totals.tools)):
        if names:
            written[key] = state.hidden(names) if state.hides(key) else _as_json(state, names)
    return written


def _as_json(state: SpanState, names: tuple[str, ...]) -> str:
    clean = (_without_private(state, name, state.name(name)) for name in names)
    return orjson.dumps(list(dict.fromkeys(filter(None, clean)))).decode()


def _without_private(state: SpanState, name: str, clean: str) -> str:
    # Names that the program itself gives are no secret, whoever else may have said them.
    return clean if name in state.trace.own_names else without_private(state, clean)
