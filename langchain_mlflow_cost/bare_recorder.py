"""The recorder for an MLflow that is not as expected: structure and costs by its public API alone, no payload at all.

Without the guard nobody can promise what a span holds, so nothing is put into one. Spans of the user's own code and of
other libraries are emptied as far as MLflow's public span processors can. Where MLflow is missing altogether, runs
are only counted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.runs import RUNS, Governor, Run, open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from langchain_mlflow_cost.enforcement import Kind

log = logging.getLogger("langchain_mlflow_cost")


class NoScope:
    """Stands where a guarded invocation has its held spans."""

    price_foreign = None


def install() -> None:
    """Empty every span that MLflow makes, and stand in for its tracer, as far as its public API goes."""
    try:
        import mlflow  # noqa: PLC0415 - it may be missing or broken: that is what this module is for

        mlflow.tracing.configure(span_processors=[_empty])
    except Exception as error:  # noqa: BLE001 - as above
        log.debug("no MLflow to be emptied: %s", type(error).__name__)


def _empty(span: Any) -> None:
    span.set_inputs(None)
    span.set_outputs(None)
    for key in span.attributes:
        if not key.startswith(("mlflow.", "cost.", "policy.")):
            span.set_attribute(key, None)


def begin(
    governor: Governor,
    *,
    run_id: UUID,
    parent_run_id: UUID | None,
    kind: Kind,
    span_type: str,
    name: str,
    metadata: Mapping[str, Any] | None,
    tags: Sequence[str] | None = None,  # noqa: ARG001 - the interface of `recorder`
) -> Run | None:
    """Open the run's record, and its span if MLflow can."""
    if run_id in RUNS:
        return None
    run = open_run(governor, run_id, RUNS.get(parent_run_id), kind, name, metadata, NoScope)  # type: ignore[arg-type]
    known, stale = RUNS.add(run)
    for root in stale:
        for lost in (*RUNS.below(root), root):
            finish(lost, error=None)
    if known is not run:
        return None
    try:
        import mlflow  # noqa: PLC0415 - as above

        parent = run.parent.span if run.parent is not None else None
        run.span = mlflow.start_span_no_context(name, span_type, parent_span=parent)
    except Exception as error:  # noqa: BLE001 - as above
        log.debug("no span: %s", type(error).__name__)
    run.announce()
    return run


def finish(
    run: Run,
    *,
    error: BaseException | None,
    outputs: Any = None,  # noqa: ARG001 - nothing is written
    has_outputs: bool = False,  # noqa: ARG001
    abandoned: bool = False,  # noqa: ARG001
) -> None:
    """End the run's span with its sums."""
    if run.run_id not in RUNS:
        return
    RUNS.remove(run)
    if run.span is not None:
        try:
            written = {key: value for key, value in run.attributes.items() if key.startswith("cost.")}
            written.update(run.totals.attributes())
            written["policy.node"] = run.node
            written["policy.artifact_level"] = "minimal"
            written["policy.log_prompts"] = False
            run.span.end(attributes=written, status="ERROR" if error is not None else "OK")
        except Exception as failure:  # noqa: BLE001 - as above
            log.debug("no end: %s", type(failure).__name__)
    run.close()


def ignore(*_: Any, **__: Any) -> None:
    """Do nothing: for what would write a payload."""


write_payload = write_details = add_event = flush_attributes = hear = hear_text = ignore
