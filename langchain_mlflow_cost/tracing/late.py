"""Spans that end after their trace's root: what has been written of the sums by then is brought up to date."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.spans import LiveSpan, add_to_ended, ended, fields_of, live_span, otel
from langchain_mlflow_cost.adapters.stored_again import storing
from langchain_mlflow_cost.tracing.beside import clean_name
from langchain_mlflow_cost.tracing.sums import called_attributes, sum_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_mlflow_cost.tracing.guard import GuardedSpan

log = logging.getLogger("langchain_mlflow_cost")


@contextlib.contextmanager
def ending_late(span: GuardedSpan) -> Iterator[None]:
    """End a span in this block: it is stored, and so are the spans above it, with their new sums; no fault gets out."""
    store = None
    try:
        late = [above for above, sums in _sums_above(span).items() if _add(above, sums)]
        own = live_span(span)
        if own is not None:
            store = storing([own, *late])
    except Exception as error:  # noqa: BLE001 - the late call itself is stored all the same
        log.warning("langchain_mlflow_cost could not bring a trace up to date (%s)", type(error).__name__)
    yield
    if store is not None:
        try:
            store()
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("langchain_mlflow_cost could not store a trace again (%s)", type(error).__name__)


def _sums_above(span: GuardedSpan) -> dict[LiveSpan, dict[str, str]]:
    """The ended spans above, and what they should say."""
    state, root = span.lmc_state, span.lmc_state.trace.ended_root
    found: dict[LiveSpan, dict[str, str]] = {}
    for run in () if state.owner is None else state.owner.lineage():
        above = run.state
        if run.kind == "model":
            continue  # Its span has its own call's cost: another task's span may be below it once it has ended.
        if run.span is not None and above is not None and ended(otel(run.span)) and run.totals.has_any:
            found[run.span] = {**sum_attributes(run.totals), **called_attributes(above, run.totals)}
    live = None if root is None else live_span(root)
    if root is not None and live is not None:
        if root.lmc_state.totals.has_any:  # A span of the user's own.
            totals = root.lmc_state.totals
            found[live] = {**sum_attributes(totals), **called_attributes(root.lmc_state, totals)}
        stopped_by = state.trace.stopped_by
        if stopped_by is not None:
            found.setdefault(live, {})[keys.STOPPED_BY] = json.dumps(clean_name(state, stopped_by))
    return found


def _add(above: LiveSpan, sums: dict[str, str]) -> bool:
    """Write attributes into a span that has ended; false if they stand there already."""
    span = otel(above)
    attributes, _, _ = fields_of(span)
    if sums.items() <= attributes.items():
        return False
    add_to_ended(span, sums)
    return True
