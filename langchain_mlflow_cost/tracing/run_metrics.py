"""The sums of an invocation as metrics of the MLflow run that was active when it began (not LangChain's)."""

from __future__ import annotations

import logging
import sys
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.pricing.ledger import Totals

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain_mlflow_cost.tracing.runs import Run

log = logging.getLogger("langchain_mlflow_cost")

_KEPT_RUNS = 1_000
_lock = threading.Lock()
_sums: OrderedDict[str, tuple[Decimal, int]] = OrderedDict()


def note_active_run(run: Run) -> None:
    """Remember which MLflow run is active, if any; it may be over when the invocation ends in another thread."""
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow is not None else None
    if active is not None:
        run.trace.metric_runs[run] = active.info.run_id


def log_sums(run: Run) -> None:
    """Log the sums of all invocations below that MLflow run so far, without waiting for the store."""
    trace = run.trace
    mlflow_run = trace.metric_runs.pop(run, None)
    if mlflow_run is None:
        return
    with _lock:
        trace.metrics_logged[run] = mlflow_run, Totals()
        _log_more(run)
        if not (trace.late or trace.is_waiting):
            del trace.metrics_logged[run]


def log_late_sums(run: Run) -> None:
    """Log what has been added to an invocation since its end, when a run ends that outlived it."""
    *_, root = run.lineage()
    with _lock:
        if root in root.trace.metrics_logged:
            _log_more(root)


def _log_more(root: Run) -> None:
    """Add what a root has come to since it was logged last to its MLflow run's sums. The lock is held."""
    mlflow_run, before = root.trace.metrics_logged[root]
    now = replace(root.totals)
    root.trace.metrics_logged[root] = mlflow_run, now
    usd, tokens = _sums.pop(mlflow_run, (ZERO, 0))
    usd = EXACT.add(usd, EXACT.subtract(now.total_usd, before.total_usd))
    tokens += now.tokens().total_tokens - before.tokens().total_tokens
    _sums[mlflow_run] = (usd, tokens)
    while len(_sums) > _KEPT_RUNS:
        _sums.popitem(last=False)
    import mlflow  # noqa: PLC0415 - it is loaded already: a run of it was active

    # In the lock: what is logged last is what counts.
    mlflow.log_metrics({"total_cost_usd": float(usd), "total_tokens": tokens}, run_id=mlflow_run, synchronous=False)
