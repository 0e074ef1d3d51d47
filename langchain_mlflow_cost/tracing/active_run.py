"""What stands in the context while a run is open, and answers everybody who asks there what is active.

In async code LangChain tells the end of a run in a copied context: what was put into the caller's context at the start
stays there. So not the span itself is put there, but this, which says at each question what stands for it: the span
while it is open; once it has ended, in the thread and task where its run began, the nearest open run above it, else
what was active around the invocation. In other threads and tasks it stays the ended span: what they start late is
still governed by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace as otel_trace

from langchain_mlflow_cost.adapters.active import active_span
from langchain_mlflow_cost.adapters.spans import otel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span as ApiSpan

    from langchain_mlflow_cost.adapters.spans import SdkSpan
    from langchain_mlflow_cost.tracing.runs import Run
    from langchain_mlflow_cost.tracing.trace import Trace


class ActiveRun(otel_trace.Span):
    """Stands for a run in the context.

    Args:
        run: The run.
        span: Its span.
    """

    def __init__(self, run: Run, span: SdkSpan) -> None:
        self._lmc_run = run
        self._lmc_span = span

    @property
    def lmc_trace(self) -> Trace:
        """The trace that the run is in, whatever is active here and now."""
        return self._lmc_run.trace

    def is_of(self, run: Run) -> bool:
        """Whether it stands for this run."""
        return self._lmc_run is run

    def is_below_root_of(self, trace: Trace) -> bool:
        """Whether it stands for a run of a trace that LangChain knows a parent of, though it may have ended."""
        run = self._lmc_run
        return run.trace is trace and (run.parent is not None or run.told_parent is not None)

    def resolve(self) -> ApiSpan:
        """The span that is active here and now."""
        run = self._lmc_run
        if not run.place.is_here():
            return self._lmc_span
        lineage = list(run.lineage())
        root = lineage[-1]
        if not root.is_open and not root.place.is_here():
            return self._lmc_span  # This thread or task is inside the invocation, and outlives it.
        if root.is_open and not root.place.has_left():
            for above in lineage:
                if above.span is not None and above.is_open and not above.place.is_paused_generator():
                    return otel(above.span)
        return resolved(root.place.around or otel_trace.INVALID_SPAN)

    # What OpenTelemetry and MLflow ask of what is active.

    @property  # type: ignore[misc]  # it changes with the answer, on purpose
    def __class__(self) -> Any:
        # MLflow takes a `NonRecordingSpan` for nothing, with `isinstance`.
        return type(self.resolve())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.resolve(), name)

    def end(self, end_time: int | None = None) -> None:
        """See `Span`; so are all others."""
        self.resolve().end(end_time)

    def get_span_context(self) -> Any:
        """See `Span`."""
        return self.resolve().get_span_context()

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """See `Span`."""
        self.resolve().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """See `Span`."""
        self.resolve().set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """See `Span`."""
        self.resolve().add_event(name, attributes, timestamp)

    def add_link(self, context: Any, attributes: Any = None) -> None:
        """See `Span`."""
        self.resolve().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """See `Span`."""
        self.resolve().update_name(name)

    def is_recording(self) -> bool:
        """See `Span`."""
        return self.resolve().is_recording()

    def set_status(self, status: Any, description: str | None = None) -> None:
        """See `Span`."""
        self.resolve().set_status(status, description)

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        """See `Span`."""
        self.resolve().record_exception(exception, attributes, timestamp, escaped)


def resolved(active: ApiSpan) -> ApiSpan:
    """What is really active, given what stands in a context."""
    if type(active) is ActiveRun:
        return active.resolve()
    state: Any = getattr(active, "lmc_state", None)
    if state is not None and state.owner is None and (state.is_final or state.is_held):
        return otel_trace.INVALID_SPAN  # the user's own span around an invocation is over
    return active


def active_now() -> ApiSpan:
    """The span that is active here and now; an invalid one if there is none."""
    return resolved(active_span())
