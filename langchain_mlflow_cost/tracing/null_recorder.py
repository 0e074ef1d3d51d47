"""The recorder for an MLflow that is not as expected: structure and costs by its public API alone, no payload at all.

Without the guard nobody can promise what a span holds, so nothing is put into one. Spans of the user's own code and of
other libraries are emptied as far as MLflow's public span processors can. Where MLflow is missing altogether, runs
are only counted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.tracing.runs import RUNS, Governor, Run, enrol, join, open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from langchain_mlflow_cost.policy.node_policy import Kind

log = logging.getLogger("langchain_mlflow_cost")


class NoScope:
    """Stands where a guarded invocation has its held spans."""

    price_foreign = None
    holding = False


def install() -> None:
    """Empty every span that MLflow makes from now on, and keep its own LangChain tracer out."""
    try:
        import mlflow.langchain  # noqa: PLC0415 - it may be missing or broken: that is what this module is for

        mlflow.langchain.autolog(disable=True)
        _hook()
    except Exception as error:  # noqa: BLE001 - as above
        log.debug("no MLflow to be emptied: %s", type(error).__name__)


def _hook() -> None:
    """Put the emptying last among the user's own span processors: `reset` and `set_tracking_uri` drop all of them."""
    import mlflow  # noqa: PLC0415 - as above
    from mlflow.tracing.config import get_config  # noqa: PLC0415 - as above

    known = list(get_config().span_processors or [])
    if _empty not in known:
        mlflow.tracing.configure(span_processors=[*known, _empty])


def _empty(span: Any) -> None:
    try:
        span.set_inputs(None)
        span.set_outputs(None)
        for key in span.attributes:
            if not key.startswith(("mlflow.", "cost.", "policy.")):
                span.set_attribute(key, None)
        # There is no public way to take events, links, files or a status message back. That these fields may be
        # elsewhere in this MLflow is why the rest of the package is not in use.
        inner = span._span  # noqa: SLF001
        inner._events = inner._new_events()  # noqa: SLF001
        inner._links = inner._new_links(())  # noqa: SLF001
        inner._status = type(inner._status)(inner._status.status_code)  # noqa: SLF001
        span._attachments.clear()  # noqa: SLF001
        span._links.clear()  # noqa: SLF001
    except Exception as error:  # noqa: BLE001 - no payload goes before structure
        import mlflow  # noqa: PLC0415 - as above

        log.warning("langchain_mlflow_cost cannot empty spans (%s): tracing is switched off", type(error).__name__)
        mlflow.tracing.disable()


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
    known = RUNS.get(run_id)
    if known is not None:
        if join(known, governor):
            known.announce()
        return None
    run = open_run(governor, run_id, RUNS.get(parent_run_id), kind, name, metadata, NoScope)  # type: ignore[arg-type]
    if not enrol(run, finish):
        return None
    try:
        import mlflow  # noqa: PLC0415 - as above

        if run.parent is None:
            _hook()
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


write_payload = write_details = add_event = flush_attributes = hear = ignore
