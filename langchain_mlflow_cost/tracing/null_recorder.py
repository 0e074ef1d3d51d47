"""The recorder for an MLflow that is not as expected: structure and costs by its public API alone, no payload at all.

Without the guard nobody can promise what a span holds, so nothing is put into one. Spans of the user's own code and of
other libraries are emptied as far as MLflow's public span processors can. Where MLflow is missing altogether, runs
are only counted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters import emptying
from langchain_mlflow_cost.notices import warn
from langchain_mlflow_cost.tracing.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_mlflow_cost.tracing.runs import Run

log = logging.getLogger("langchain_mlflow_cost")


class NullRecorder(Recorder):
    """Records structure and sums alone.

    Args:
        fault: What is wrong with MLflow.
    """

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def destination(self) -> str:
        """Where traces go, for the operator."""
        return f"no payload is stored ({self.fault})"

    def install(self, handler_class: type) -> type:
        """Empty every span that MLflow makes from now on, keep its own LangChain tracer out, and say so."""
        warn(
            f"langchain_mlflow_cost cannot use this MLflow ({self.fault}): costs and budgets work, "
            "no payload is stored. Install mlflow 3.15 or later.",
            RuntimeWarning,
        )
        try:
            import mlflow.langchain  # noqa: PLC0415 - it may be missing or broken: that is what this module is for

            mlflow.langchain.autolog(disable=True)
            emptying.empty_spans()
        except Exception as error:  # noqa: BLE001 - as above
            log.debug("no MLflow to be emptied: %s", type(error).__name__)
        return handler_class

    def _open_span(
        self,
        run: Run,
        span_type: str,
        metadata: Mapping[str, Any],  # noqa: ARG002 - nothing is written
        tags: Sequence[str],  # noqa: ARG002
        *,
        inherits: bool,  # noqa: ARG002
    ) -> None:
        try:
            import mlflow  # noqa: PLC0415 - as above

            if run.parent is None:
                emptying.empty_spans()
            parent = run.parent.span if run.parent is not None else None
            run.span = mlflow.start_span_no_context(run.name, span_type, parent_span=parent)
            run.trace.trace_id = run.span.trace_id
        except Exception as error:  # noqa: BLE001 - as above
            log.debug("no span: %s", type(error).__name__)

    def _end_span(
        self,
        run: Run,
        *,
        error: BaseException | None,
        outputs: Any,  # noqa: ARG002 - nothing is written
        has_outputs: bool,  # noqa: ARG002
    ) -> None:
        if run.span is None:
            return
        try:
            written: dict[str, Any] = dict(run.totals.attributes())
            if run.tool_usd is not None:
                written[keys.TOOL_USD] = float(run.tool_usd)
            if run.attempt > 1:
                written[keys.ATTEMPT] = run.attempt
            if run.parent is None and run.trace.stopped_by is not None:
                written[keys.STOPPED_BY] = run.trace.stopped_by
            written["policy.node"] = run.node
            written["policy.artifact_level"] = "minimal"
            written["policy.log_prompts"] = False
            run.span.end(attributes=written, status="ERROR" if error is not None else "OK")
        except Exception as failure:  # noqa: BLE001 - as above
            log.debug("no end: %s", type(failure).__name__)
