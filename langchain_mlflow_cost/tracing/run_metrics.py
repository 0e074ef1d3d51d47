"""The sums of an invocation as metrics of the MLflow run that was active when it began (not LangChain's)."""

from __future__ import annotations

import logging
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_mlflow_cost.tracing.runs import Run

log = logging.getLogger("langchain_mlflow_cost")

_KEPT_RUNS = 1_000
_lock = threading.Lock()
_sums: OrderedDict[str, tuple[float, int]] = OrderedDict()


def note_active_run(run: Run) -> None:
    """Remember which MLflow run is active, if any; it may be over when the invocation ends in another thread."""
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow is not None else None
    if active is not None:
        run.trace.metric_runs[run] = active.info.run_id


def log_sums(run: Run) -> None:
    """Log the sums of all invocations below that MLflow run so far, without waiting for the store."""
    mlflow_run = run.trace.metric_runs.pop(run, None)
    if mlflow_run is None:
        return
    totals = run.totals
    with _lock:
        usd, tokens = _sums.pop(mlflow_run, (0.0, 0))
        usd += float(totals.total_usd)
        tokens += totals.input_tokens + totals.output_tokens
        _sums[mlflow_run] = (usd, tokens)
        while len(_sums) > _KEPT_RUNS:
            _sums.popitem(last=False)
    import mlflow  # noqa: PLC0415 - it is loaded already: a run of it was active

    mlflow.log_metrics({"total_cost_usd": usd, "total_tokens": tokens}, run_id=mlflow_run, synchronous=False)
