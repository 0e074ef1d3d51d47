"""What every recorder does with runs: opens and ends them in the right order, and counts what hears of no end.

There are two: `GuardedRecorder` writes spans through the guard; `NullRecorder` keeps structure and costs alone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import weakref
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.messages import merged_chunks
from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.notices import Once, printable
from langchain_mlflow_cost.tracing import run_metrics
from langchain_mlflow_cost.tracing.calls import settle_tool
from langchain_mlflow_cost.tracing.runs import RUNS, make_run
from langchain_mlflow_cost.tracing.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from langchain_mlflow_cost.policy.node_policy import Kind
    from langchain_mlflow_cost.pricing.rates import ModelRates
    from langchain_mlflow_cost.tracing.calls import Settled
    from langchain_mlflow_cost.tracing.handler_state import HandlerState
    from langchain_mlflow_cost.tracing.runs import Run

log = logging.getLogger("langchain_mlflow_cost")

_FAULTS: Final = Once(log)


class Recorder:
    """Turns runs into spans. What it does not override writes nothing; no fault of MLflow's gets out of it."""

    fault: str | None = None
    """Why no payload is recorded; None where all is well."""

    # --- set-up -----------------------------------------------------------------------------------------------------

    def install(self, handler_class: type) -> type:
        """Make ready for a handler, and return the class that it shall have."""
        return handler_class

    def watch_prompts(self) -> None:
        """Hear which prompts of MLflow's registry are loaded."""

    def destination(self) -> str:
        """Where traces go, for the operator."""
        return "nothing is stored"

    def switch_autolog_on(self) -> None:
        """Call `mlflow.langchain.autolog()` where it is off."""

    def govern_everywhere(self, state: HandlerState | None) -> None:
        """Put what no other handler governs under one, in the whole process; under none any more if None."""

    def catalogue_rates(self, provider: str | None, model: str) -> ModelRates | None:  # noqa: ARG002 - no list here
        """The last place to look for a price: MLflow's own list."""
        return None

    def most_answer_tokens(self, provider: str | None, model: str) -> int | None:  # noqa: ARG002 - as above
        """What one answer of a model can have at most."""
        return None

    # --- runs -------------------------------------------------------------------------------------------------------

    def begin(
        self,
        state: HandlerState,
        *,
        run_id: UUID,
        parent_run_id: UUID | None,
        kind: Kind,
        span_type: str,
        name: str,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str] | None,
    ) -> Run | None:
        """Open the run's record and span.

        Returns:
            None if the run is recorded already: a handler that is attached twice is told of it twice.
        """
        known = RUNS.get(run_id)
        if known is not None:
            if not state.is_everywhere and known.add_handler(state):
                self._reapply_policy(known)
                state.add_trace(known.trace)
            return None
        parent, inherits = self._parent_of(parent_run_id)
        trace = self._trace_around(parent_run_id, inherits=inherits) if parent is None else parent.trace
        run = make_run(state, run_id, parent, kind, name, metadata, trace)
        run.told_parent = parent_run_id
        run.declare_names()
        latest = RUNS.latest_call(run.place)
        if latest is not None and parent is not None and parent in latest.lineage() and latest.place.is_over():
            # Cancelled or timed out: LangChain tells nothing of it, and what begins in its node now is behind it.
            self.break_off(latest, CancelledError())
        opened, surplus = RUNS.add(run)
        for root in surplus:
            self._let_go(root)
        if opened is not run:
            return None
        run.begin_task(metadata)
        _note_beginning(run)
        try:
            self._open_span(run, span_type, metadata or {}, tags or (), inherits=inherits)
        except Exception as error:  # noqa: BLE001 - a store that is broken must cost neither the sums nor the budget
            _tell_fault("langchain_mlflow_cost could not start a span (%s); costs and budgets go on", error)
        for each in run.handlers:
            if parent is None or each not in parent.handlers:
                each.add_trace(trace)
        return run

    def end(self, run: Run, *, error: BaseException | None, outputs: Any = None, has_outputs: bool = False) -> None:
        """End a run, what is below it first."""
        if error is not None:
            run.note_failure()
        below = self._under_way_below(run)
        if run.parent is None or run in run.trace.late:
            outliving = {child for child in below if child.is_under_way_elsewhere()}
            for child in below:
                if not outliving.isdisjoint(child.lineage()):
                    # A task or thread that outlives the root ends with its own cost. Till then the sum is not final.
                    run.trace.late.add(child)
                elif child.call is not None:
                    # In a sequence the root's end comes before a stream's error.
                    self.break_off(child, GeneratorExit())
                else:
                    self._finish(child, error=None)
        elif any(child.call is not None and not child.is_under_way_elsewhere() for child in below):
            # The end of a stream that was closed early comes after that of the chain around it: wait for its cost.
            run.outcome = functools.partial(self._finish, run, error=error, outputs=outputs, has_outputs=has_outputs)
            return
        self._finish(run, error=error, outputs=outputs, has_outputs=has_outputs)
        if run.parent is None:
            run_metrics.log_sums(run)
        parent = run.parent
        while parent is not None and parent.outcome is not None and not RUNS.below(parent):
            ending, parent.outcome = parent.outcome, None
            ending()
            parent = parent.parent

    def _under_way_below(self, run: Run) -> list[Run]:
        """The open runs below one, innermost first, once the calls that were cancelled or timed out have ended."""
        if not run.children:
            return []
        for child in RUNS.below(run):
            if child.call is not None and child.place.is_over():
                self.break_off(child, CancelledError())
        return RUNS.below(run)

    def watch_call(self, run: Run) -> None:
        """Break a model's call off if nothing was heard of its end when its task is done, or goes on to another run."""
        RUNS.note_call(run)
        task = run.place.task
        if task is not None:
            task.add_done_callback(functools.partial(self._task_is_done, weakref.ref(run)))

    def _task_is_done(self, known: weakref.ref[Run], _: Any) -> None:
        run = known()
        if run is None or not run.is_open:
            return
        try:
            if run.place.is_over():
                self.break_off(run, CancelledError())
        except Exception as error:  # noqa: BLE001 - nobody but the event loop would hear of it
            _tell_fault("langchain_mlflow_cost could not end a call that was cancelled (%s)", error)

    def break_off(self, run: Run, error: BaseException, response: Any = None) -> None:
        """End a model's run that gave no answer, or will hear of no end; `response` is LangChain's beside the error."""
        call = run.call
        text = ""
        if call is not None:
            text = "".join(call.chunks)
            self.remember_private(run, text)
            self.remember_private(run, merged_chunks(call.heard))
            self.remember_private(run, response)
            if isinstance(error, Exception):
                # A provider's error may quote what it was told.
                self.remember_private(run, error)
            self.write_call(run, call.break_off(error, response))
        outputs = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": None}]}
        self.end(run, error=error, outputs=outputs, has_outputs=bool(text))

    def _finish(
        self,
        run: Run,
        *,
        error: BaseException | None,
        outputs: Any = None,
        has_outputs: bool = False,
        was_let_go: bool = False,
    ) -> None:
        if run.run_id not in RUNS:
            return
        RUNS.remove(run)
        run.trace.late.discard(run)
        if run.tool is not None:
            settle_tool(run, error)
        if run.trace.metrics_logged and run.open_above() is None:
            with contextlib.suppress(Exception):  # a store that is away must not keep the span from ending
                run_metrics.log_late_sums(run)
        try:
            self._end_span(run, error=error, outputs=outputs, has_outputs=has_outputs and not was_let_go)
        finally:
            run.close()
            if run.parent is None:
                run.trace.roots.discard(run)
                if not run.trace.roots:
                    self._end_trace(run.trace)
                tell_sums(run)
                for state in run.handlers:
                    state.entries.end_invocation()

    def _let_go(self, root: Run) -> None:
        """End the spans of a root that was idle for longest; what begins below it later is counted all the same."""
        root.trace.keeps_budgets = True
        for lost in (*RUNS.below(root), root):
            try:
                if lost.call is not None:
                    # It may be under way and answer yet: its cost is estimated, and what was reserved given back.
                    self.break_off(lost, GeneratorExit())
                else:
                    self._finish(lost, error=None, was_let_go=True)
            except Exception as error:  # noqa: BLE001 - another's invocation must not keep this one from beginning
                _tell_fault("langchain_mlflow_cost could not end a lost run (%s)", error)
            lost.span = lost.state = None
            RUNS.let_go(lost)
        # A store that is away must not keep the next invocation from beginning.
        with contextlib.suppress(Exception):
            run_metrics.log_sums(root)

    # --- what a recorder adds ---------------------------------------------------------------------------------------

    def _parent_of(self, parent_run_id: UUID | None) -> tuple[Run | None, bool]:
        """The run above, and whether a root may continue what is active in MLflow's context."""
        return RUNS.parent(parent_run_id), False

    def _trace_around(self, parent_run_id: UUID | None, *, inherits: bool) -> Trace:  # noqa: ARG002 - nothing is around
        """The trace that a root begins in."""
        return Trace()

    def _reapply_policy(self, run: Run) -> None:
        """Judge what is in a run's span once more, by the policies of all its handlers."""

    def _open_span(
        self, run: Run, span_type: str, metadata: Mapping[str, Any], tags: Sequence[str], *, inherits: bool
    ) -> None:
        """Start the run's span, if there is to be one."""

    def _end_span(self, run: Run, *, error: BaseException | None, outputs: Any, has_outputs: bool) -> None:
        """End it with its sums."""

    def _end_trace(self, trace: Trace) -> None:
        """Let go of what lives as long as a trace."""
        trace.close()

    # --- what is written, and what is remembered --------------------------------------------------------------------

    def write_start(self, run: Run, inputs: Any, details: Mapping[str, Any]) -> None:
        """Write what a run began with, as far as the policy keeps it."""

    def write_model_start(self, run: Run, prompt: Any, params: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Write what a model was asked, as far as the policy keeps it."""

    def write_inputs(self, run: Run, inputs: Any) -> None:
        """Write the inputs once more: they were a stream at the start."""

    def write_call(self, run: Run, settled: Settled | None) -> None:
        """Write what a model's call cost, if it is counted, and how it streamed."""

    def add_event(self, run: Run, name: str, attributes: Mapping[str, Any]) -> None:
        """Add an event as far as the policy lets it through."""

    def remember_private(self, run: Run, said: Any) -> None:
        """Remember what a model was told or said, if its node is private."""

    def remember_given(self, run: Run, given: Any) -> None:
        """Remember what a node was given, if it is private: what it returns beyond that is private, too."""

    def remember_returned(self, run: Run, returned: Any) -> None:
        """Remember what a private node or its tools returned or raised that it was not given."""

    def note_declared(self, run: Run, params: Any) -> None:
        """Remember the names that the program declares in the parameters of a model's call."""

    def remember_prompt(self, run: Run, prompt: Any, params: Mapping[str, Any]) -> None:
        """Remember what a model was sent, if its node is private; and what is a public node's own, if it is not."""


def _note_beginning(run: Run) -> None:
    """Let its trace and its MLflow run know of a run above which nothing is open."""
    if run.parent is None:
        run.trace.add_root(run)
        run_metrics.note_active_run(run)
    elif run.open_above() is None and not RUNS.was_let_go(run.parent):
        # It begins in a thread that its trace waits for.
        run.trace.late.add(run)


def tell_sums(root: Run) -> None:
    """Tell the operator what an invocation has come to, in one line."""
    if not log.isEnabledFor(logging.INFO):
        return
    totals, stopped_by = root.totals, root.trace.stopped_by
    told = f"{totals.llm_calls:,} model calls"
    told += f", {totals.estimated_calls:,} estimated" if totals.estimated_calls else ""
    told += f", {totals.unpriced_calls:,} without a price" if totals.unpriced_calls else ""
    log.info(
        "%s: %s tokens, %s USD (%s)%s",
        f"trace {root.trace.trace_id}" if root.trace.trace_id else "an invocation without a trace",
        f"{totals.input_tokens + totals.output_tokens:,}",
        readable(totals.total_usd) if totals.priced else "unknown",
        told,
        f", stopped by the budget of {printable(stopped_by)}" if stopped_by else "",
    )


def _tell_fault(text: str, error: Exception) -> None:
    name = type(error).__name__  # its message may quote a payload
    _FAULTS.log((text, name), text, name)
