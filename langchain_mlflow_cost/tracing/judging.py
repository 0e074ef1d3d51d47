"""Finished traces are judged in a thread of its own, as stored, by MLflow's scorers, under a budget of its own.

Judges see what the policy let through, and nothing else. No fault of theirs gets further than one warning.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from contextvars import Context
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_mlflow_cost.adapters.judges import (
    INPUT_TOKENS,
    JUDGE_COST,
    OUTPUT_TOKENS,
    current_store,
    judged_by,
    log_assessment,
    make_scorers,
    run_scorer,
    stored_trace,
)
from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.redis import open_redis
from langchain_mlflow_cost.budgets.rules import Estimate
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.policy.judges import JUDGES_SCOPE
from langchain_mlflow_cost.pricing.reported import request_of_names
from langchain_mlflow_cost.pricing.usage import CallResult, Usage
from langchain_mlflow_cost.tracing.beside import clean_assessment
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.trace import IN_JUDGE, Trace

if TYPE_CHECKING:
    from langchain_mlflow_cost.policy.judges import Judges
    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.handler_state import HandlerState

log = logging.getLogger("langchain_mlflow_cost")

MLFLOW_USD: Final = "cost.judge_mlflow_usd"
"""Of an assessment: what MLflow's own price list makes of its judge's call, where ours says otherwise."""
SOURCE: Final = "cost.price_source"

_ONCE: Final = Once(log)
_LONGEST_PAUSE_S: Final = 2.0
_LOOK_S: Final = 0.1
_ALMOST: Final = 1e-9
_LEAST_USD: Final = Decimal("0.000001")
"""What a judge's call is taken to cost before any is known: one that is free is never refused."""


class _Finished(NamedTuple):
    """A trace to be judged."""

    trace_id: str
    uri: str
    state: HandlerState
    judges: Judges


class _Bench:
    """What judges need that is made once for each policy: scorers, and their budget."""

    def __init__(self, judges: Judges) -> None:
        self.scorers = make_scorers(judges.chosen_scorers, judges.guidelines, judges.model)
        self.budgets = Budgets(() if judges.budget is None else (judges.budget.as_budget(),), open_store=open_redis)
        self.last_usd: Decimal | None = None


class Judging:
    """The queue of finished traces, and the thread that judges them, one after the other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Finished] = deque()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._benches: dict[int, tuple[Judges, _Bench | None]] = {}
        """By the settings' `id`, which stands for them as long as they are kept."""
        self._threads: dict[str, threading.Thread] = {}
        self._is_busy = False
        self._is_ending = False

    def offer(self, trace: Trace, ended: GuardedSpan) -> None:
        """Take a trace whose root has ended, if a handler of it has judges and it is in the sample; never raises."""
        if ended.parent is None and not trace.is_of_judge:
            try:
                self._offer(trace)
            except Exception as error:  # noqa: BLE001 - the user's trace ends whatever happens
                self._tell("take a trace to be judged", error)

    def _offer(self, trace: Trace) -> None:
        state = next((each for each in trace.handlers if each.policy.judges is not None), None)
        if state is None or not trace.trace_id:
            return
        judges = state.policy.judges
        assert judges is not None
        if not _is_in_sample(trace.trace_id, float(judges.sample_rate)):
            return
        with self._changed:
            if trace.trace_id in self._seen or self._is_ending:
                return
            self._seen[trace.trace_id] = None
            while len(self._seen) > limits().judged_traces:
                self._seen.popitem(last=False)
            if len(self._waiting) >= limits().traces_to_judge:
                _ONCE.log("full", "langchain_mlflow_cost: judges are slower than traces end; some are left unjudged")
                return
            self._waiting.append(_Finished(trace.trace_id, current_store(), state, judges))
            self._changed.notify_all()
            for target in (self._work, self._stand_by):
                thread = self._threads.get(target.__name__)
                if thread is None or not thread.is_alive():
                    name = f"langchain_mlflow_cost judges: {target.__name__}"
                    thread = threading.Thread(target=target, name=name, daemon=target == self._work)
                    self._threads[target.__name__] = thread
                    # Nothing of the invocation that has just ended is around what judges do.
                    Context().run(thread.start)

    def wait(self, timeout_s: float) -> bool:
        """Wait until all that was offered is judged; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._waiting or self._is_busy), timeout_s)

    def _stand_by(self) -> None:
        """Keep the process from ending while traces are judged, for a bounded time; ends when there is nothing to do.

        The judges' own thread cannot: a model that does not answer would keep the process for minutes.
        """
        until = None
        while not self.wait(_LOOK_S):
            if threading.main_thread().is_alive():
                continue
            until = until or time.monotonic() + limits().judges_exit_s
            if time.monotonic() > until:
                with self._changed:
                    left = len(self._waiting) + self._is_busy
                    self._waiting.clear()
                    self._is_ending = True
                log.warning("langchain_mlflow_cost: the process ends with %d traces not judged yet", left)
                return

    def _work(self) -> None:
        IN_JUDGE.set(True)
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._waiting, limits().judges_idle_s):
                    del self._threads["_work"]
                    return
                finished = self._waiting.popleft()
                self._is_busy = True
            try:
                self._judge(finished)
            except Exception as error:  # noqa: BLE001 - a failing judge harms nothing
                self._tell("judge a trace", error)
            finally:
                with self._changed:
                    self._is_busy = False
                    self._changed.notify_all()

    def _judge(self, finished: _Finished) -> None:
        bench = self._bench_of(finished)
        trace = None if bench is None else self._when_stored(finished)
        if bench is None or trace is None:
            return
        root = next(span for span in trace.data.spans if span.parent_id is None)
        if root.inputs is None and root.outputs is None:
            _ONCE.log("empty", "langchain_mlflow_cost: a trace is not judged whose policy stores no payloads")
            return
        known = judged_by(trace)
        for scorer in bench.scorers:
            if scorer.name in known or self._is_ending:
                continue
            try:
                self._ask(finished, bench, scorer, trace)
            except BudgetExceededError:
                _ONCE.warn("budget", "the judges' budget is used up: traces are left unjudged")
                return
            except Exception as error:  # noqa: BLE001 - the other judges are asked all the same
                self._tell(f"ask the judge {scorer.name!r}", error)

    def _bench_of(self, finished: _Finished) -> _Bench | None:
        key = id(finished.judges)
        if key not in self._benches:
            if len(self._benches) >= limits().kept_summaries:
                self._benches.clear()
            bench = None
            try:
                bench = _Bench(finished.judges)
            except Exception as error:  # noqa: BLE001 - a scorer that cannot be made judges nothing
                self._tell("make the policy's judges", error)
            self._benches[key] = (finished.judges, bench)
        return self._benches[key][1]

    def _when_stored(self, finished: _Finished) -> Any:
        until, pause_s = time.monotonic() + limits().judges_wait_s, 0.1
        while not self._is_ending:
            trace = stored_trace(finished.uri, finished.trace_id)
            if trace is not None or time.monotonic() > until:
                return trace
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return None

    def _ask(self, finished: _Finished, bench: _Bench, scorer: Any, trace: Any) -> None:
        call = f"{finished.trace_id}/{scorer.name}"
        reservation = bench.budgets.reserve(
            trace=call,
            node="",
            owners={JUDGES_SCOPE: "judges"},
            estimate=Estimate(bench.last_usd or _LEAST_USD, tokens=1),
            call=call,
        )
        usd: Decimal | None = ZERO
        tokens = 0
        try:
            for feedback in run_scorer(scorer, trace):
                if getattr(feedback, "error", None) is not None:
                    raise RuntimeError("it answered with an error")
                spent, used = _priced(finished.state, feedback)
                usd = None if spent is None or usd is None else EXACT.add(usd, spent)
                tokens += used
                # A judge may have made up what looks like somebody's number.
                clean_assessment(SpanState(finished.state.policy.for_node(()), Trace(), "root"), feedback)
                log_assessment(finished.uri, finished.trace_id, feedback)
        finally:
            bench.budgets.settle(reservation, usd, tokens)
            bench.budgets.end_trace(call)
            bench.last_usd = usd or bench.last_usd

    @staticmethod
    def _tell(what: str, error: Exception) -> None:
        # The message of the error may quote the trace, or the model's answer: its type is all that may be told.
        name = type(error).__name__
        _ONCE.log((what, name), "langchain_mlflow_cost could not %s (%s)", what, name)


def _is_in_sample(trace_id: str, rate: float) -> bool:
    """Whether a trace is one of those to judge: by its id, which is random."""
    try:
        return int(trace_id.rpartition("-")[2][:12], 16) < rate * 16**12
    except ValueError:
        return rate >= 1


def _priced(state: HandlerState, feedback: Any) -> tuple[Decimal | None, int]:
    """Write what a judge's call costs by our prices; USD, None where unknown, and tokens."""
    metadata = dict(feedback.metadata or {})
    if INPUT_TOKENS not in metadata and OUTPUT_TOKENS not in metadata:
        return ZERO, 0  # no model was asked, or nobody says so
    usage = Usage(int(metadata.get(INPUT_TOKENS) or 0), int(metadata.get(OUTPUT_TOKENS) or 0))
    provider, _, model = str(feedback.source.source_id or "").partition(":/")
    priced = state.prices.price(request_of_names(provider, model), CallResult(usage=usage))
    theirs = metadata.pop(JUDGE_COST, None)
    if priced.cost is None:
        state.warn_unpriced(priced.model)
    else:
        metadata[JUDGE_COST] = float(priced.cost.total_usd)
        metadata[SOURCE] = str(priced.source)
    ours = metadata.get(JUDGE_COST)
    if theirs is not None and (ours is None or abs(ours - float(theirs)) > _ALMOST * max(ours, float(theirs))):
        metadata[MLFLOW_USD] = float(theirs)
    feedback.metadata = metadata
    return None if priced.cost is None else priced.cost.total_usd, usage.total_tokens


JUDGING: Final = Judging()
