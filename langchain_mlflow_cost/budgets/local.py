"""Budgets: which model call may still be made, given what is spent and what is already in flight.

Before a call, what it is expected to cost is reserved in every sum that it counts in; when it ends, the real figure
takes its place. A call is refused where

- the sum (spent and reserved) has reached the limit, or
- the prompt alone would carry the sum beyond the limit, or, with `reserve: worst_case`, all that the call can cost.

What is expected of the *answer* never refuses the call itself. It is what the calls beside it see, so that parallel
branches cannot all pass the check at once. Thus a sum overshoots its limit by no more than the calls that were already
running; with `worst_case`, not at all.

Nothing here knows LangChain or MLflow. Money is `Decimal` USD.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
import weakref
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from langchain_mlflow_cost.budgets.checks import (
    NO_TASK,
    Broken,
    Question,
    TraceState,
    check_closed,
    check_sums,
    close_unpriced,
    event_of,
    is_over,
    reached,
    shared_limits,
    stopped,
    take_over,
    unpriced,
)
from langchain_mlflow_cost.budgets.rules import Budget, NodeBudget, SharedCall, SharedSum, window_of
from langchain_mlflow_cost.budgets.sums import PROCESS, Group, Held, Reservation, SessionSums, Sum, SumKey
from langchain_mlflow_cost.budgets.words import absent_words, scope_words
from langchain_mlflow_cost.errors import BudgetExceededError, PolicyError
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.node_patterns import NodePattern, PatternIndex
from langchain_mlflow_cost.nodes import bare, beginnings, parsed_path, path_text
from langchain_mlflow_cost.notices import Once, call_back, warn_or_log

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from langchain_mlflow_cost.budgets.checks import Task
    from langchain_mlflow_cost.budgets.rules import BudgetEvent, Estimate, SharedSums
    from langchain_mlflow_cost.nodes import NodePath

__all__ = ["Budgets", "Question", "Reservation", "SessionSums"]

logger = logging.getLogger(__name__)

TRACE_IDLE_S: Final = 24 * 3600.0
"""A trace that never said that it ended is forgotten after so long without a model call."""

_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
_TOLD: Final = Once(logger)


class _GivenUp(NamedTuple):
    """A call that was left before its end, and what is to be counted of it now."""

    reservation: Reservation
    call: str
    usd: Decimal
    tokens: int


class Budgets:
    """The budgets of one handler. Thread safe; never waits; does no I/O while it holds its lock.

    Args:
        budgets: All budgets of the policy: the top level's, and those of its nodes' entries.
        open_store: Opens the store that `Budget.store` names.
        sessions: Where sums of sessions, users and tags are kept; one for the process unless told otherwise.
        clock: Seconds, monotonic.
        wall_clock: Seconds since 1970, for `Budget.per` without a store.
        on_budget: Called at a fraction of `warn_at` and at a refusal; what it raises is logged.

    Raises:
        PolicyError: A store cannot be opened.
        PatternError: A node's entry is no pattern.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        *,
        open_store: Callable[[str], SharedSums] | None = None,
        sessions: SessionSums | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        on_budget: Callable[[BudgetEvent], None] | None = None,
    ) -> None:
        budgets = tuple(dict.fromkeys(budgets))
        self._any = bool(budgets)
        self._top = tuple(budget for budget in budgets if not isinstance(budget, NodeBudget))
        self._entries = PatternIndex(
            (NodePattern.parse(budget.node), budget) for budget in budgets if isinstance(budget, NodeBudget)
        )
        self._stores: dict[str, SharedSums] = {}
        for budget in budgets:
            if budget.store is None:
                continue
            if open_store is None:
                raise PolicyError("budget: nothing was given that can open its store")
            self._stores[budget.store] = open_store(budget.store)
        self.owner_scopes = tuple(dict.fromkeys(budget.scope for budget in budgets if budget.outlives_traces))
        """The scopes whose owner a call has to name: `session`, `user`, `tag:NAME`."""
        self.needs_worst = any(budget.reserve == "worst_case" for budget in budgets)
        """Whether some budget holds what a call can cost at most."""
        self._sessions = sessions or PROCESS
        self._lock = self._sessions.lock
        self._clock = clock
        self._wall_clock = wall_clock
        self._on_budget = on_budget
        self._once = Once(logger)
        self._plans: dict[NodePath, list[Group]] = {}
        self._traces: OrderedDict[Hashable, TraceState] = OrderedDict()
        self._ended: weakref.WeakKeyDictionary[Hashable, TraceState] = weakref.WeakKeyDictionary()
        """Of traces that have ended, as long as there is anything that could go on in them."""

    def __bool__(self) -> bool:
        """Tell whether there is any budget; without one, nothing needs to be estimated."""
        return self._any

    # --- before a call ----------------------------------------------------------------------------------------------

    def reserve(  # noqa: C901 - one question, in the order in which it must be asked
        self,
        *,
        trace: Hashable,
        node: str,
        path: NodePath | None = None,
        session: str | None = None,
        owners: Mapping[str, str] = _NOBODY,
        estimate: Estimate,
        call: Hashable = None,
        is_made: bool = False,
        is_over: Callable[[], bool | None] | None = None,
        resumed_by: Callable[[], Hashable] | None = None,
        task: Callable[[], Task] = NO_TASK,
    ) -> Reservation:
        """Ask whether a call may be made, and reserve what it is expected to cost until it is settled.

        Args:
            trace: The invocation; budgets of scope `trace` and `node` have a sum for each.
            node: Path of the innermost node, `""` outside any node.
            path: The same with the graphs in it that entries may leave out; None if there are none.
            session: The `thread_id`. Without one, the session is this trace alone.
            owners: The ids of user and tags, by scope; likewise.
            estimate: What the call may use and cost.
            call: Tells this call from all others, as its run id does. Handlers that count in the same sums, and are
                told of the same call, count it once.
            is_made: The call was made already, by another library: it is counted and never refused, and nothing is
                raised. What it used up refuses the calls after it. A call with a name is counted once however late the
                other handlers are told of it.
            is_over: Whether the code that makes the call has been left; asked before another call is refused.
            resumed_by: Names the invocation that goes on after an interrupt, if the call is in one.
            task: The graph's task that the call is made in, and its step.

        Raises:
            BudgetExceededError: The call must not be made. Nothing is reserved, and every further call of this trace
                is refused as well.
            Question: It must not be made unless somebody adds to the limit.
        """
        now_s, usd, prompt_usd = self._clock(), _known(estimate.usd), _known(estimate.prompt_usd) or ZERO
        if session is not None and self.owner_scopes:
            owners = {**owners, "session": session} if owners else {"session": session}
        tokens, prompt_tokens, most_usd, most_tokens = estimate[2:]
        reservation = Reservation(
            uuid.uuid4().hex if call is None else str(call),
            *(trace, node, owners, usd, prompt_usd, tokens, prompt_tokens, _known(most_usd), most_tokens, now_s),
        )
        reservation.is_over = is_over
        if not self._any:
            return reservation
        groups = self._plan(parsed_path(node) if path is None else path)
        notices: list[str] = []
        try:
            with self._lock:
                state = self._state(trace, now_s, session, resumed_by)
                held = [self._held(state, group, reservation, notices) for group in groups]
                if is_made and usd is None:
                    close_unpriced(state, held, reservation)
                if not is_made:
                    check_closed(state, held, reservation, task, resumed_by)
                    check_sums(state, reservation, [each for each in held if not self._is_shared(each)], now_s)
                new = [each for each in held if reservation.call not in each.sum.open]
                if is_made:
                    new = [each for each in new if self._sessions.is_new(each.sum, reservation.call)]
                for each in new:
                    each.sum.hold(each)
                reservation.held = tuple(new)
                state.open.add(reservation)
                if usd is None:
                    notices += unpriced(state, new)
            if self._stores and any(self._is_shared(each) for each in held):
                notices += self._reserve_shared(state, reservation, held, now_s, is_made=is_made)
        except BudgetExceededError as refusal:
            self._tell(event_of(refusal))
            raise
        for notice in notices:
            warn_or_log(notice, logger)
        return reservation

    def wait_for_answer(self, question: Question, thread: str | None, task: Task) -> None:
        """Note that a task was interrupted: its trace makes no further call, and what resumes it goes on with its sums.

        Args:
            question: Of the call that waits.
            thread: LangGraph's `thread_id`, by which it is resumed.
            task: As for `reserve`.
        """
        with self._lock:
            state = self._known(question.held.reservation.trace)
            if state is not None:
                state.asked_in[task[0]] = task[1]
                self._close(state, question)
                if thread is not None:
                    self._sessions.keep_interrupted(thread, state.sums)
        self._tell(question.event)

    def refuse_answer(self, question: Question) -> BudgetExceededError:
        """Close the trace for good, and return the error to raise."""
        with self._lock:
            state = self._known(question.held.reservation.trace)
            if state is not None:
                self._close(state, question)
        self._tell(question.event)
        return question.refusal

    def add_to_limit(self, question: Question, usd: Decimal, tokens: int) -> None:
        """Add to the limit that stands before a call, for the rest of its sum; then it may be asked again."""
        held = question.held
        with self._lock:
            held.sum.added_usd = EXACT.add(held.sum.added_usd, usd)
            held.sum.added_tokens += tokens
            state = self._known(held.reservation.trace)
            if state is not None:
                state.broken = None
                state.asked_in.clear()
        store = self._store_of(held)
        if store is not None:
            store.add([_shared(held)], grant=uuid.uuid4().hex, usd=usd, tokens=tokens)

    def _close(self, state: TraceState, question: Question) -> None:
        held = question.held
        budget = next(each for each in held.group.stops if each.on_exceeded == "interrupt")
        if state.broken is None:
            state.broken = Broken(budget, held.sum, question.refusal.reason)

    # --- while it runs, and after -----------------------------------------------------------------------------------

    def grow(self, reservation: Reservation, running_usd: Decimal | None, running_tokens: int = 0) -> None:
        """Tell what a stream has cost so far, from its beginning.

        Raises:
            BudgetExceededError: What is really spent has passed a limit: the stream must be stopped, and every further
                call of this trace is refused. The stream still has to be settled.
        """
        running = _known(running_usd)
        if (running is None and not running_tokens) or not reservation.held:
            return
        error = None
        with self._lock:
            state = self._known(reservation.trace)
            if state is None or reservation not in state.open:
                return
            for each in reservation.held:
                each.sum.free(each)
            reservation.running_usd = reservation.running_usd if running is None else running
            reservation.running_tokens, reservation.seen_s = running_tokens, self._clock()
            for each in reservation.held:
                each.sum.hold(each)
                if error is None:
                    error = stopped(state, each)
            notices, events = reached(state, reservation.held)
        self._say(notices, events)
        if error is not None:
            self._tell(event_of(error))
            raise error

    def settle(self, reservation: Reservation, actual_usd: Decimal | None, actual_tokens: int = 0) -> None:
        """Replace the reservation by what the call cost. Never raises; a second time changes nothing.

        Args:
            reservation: Of this call; its trace may have ended before it.
            actual_usd: 0 for a failed or cached call. None: the call turned out to have no price, and counts as it was
                estimated, or not at all where that was unknown as well.
            actual_tokens: What it used; 0 likewise.
        """
        actual = _known(actual_usd)
        notices: list[str] = []
        events: list[BudgetEvent] = []
        with self._lock:
            if reservation.settled:
                return
            reservation.settled = True
            cost = max(reservation.estimate_usd or ZERO, reservation.running_usd) if actual is None else actual
            owed_usd, owed_tokens = self._spend(reservation, cost, actual_tokens)
            state = self._known(reservation.trace)
            if state is not None:
                state.open.discard(reservation)
                notices, events = reached(state, reservation.held)
                if actual is None and reservation.estimate_usd is not None:
                    notices += unpriced(state, reservation.held)
                    close_unpriced(state, reservation.held, reservation)
        for store, sums, reserved_s in reservation.shared:
            store.settle(
                sums, call=reservation.call, actual_usd=owed_usd, actual_tokens=owed_tokens, reserved_s=reserved_s
            )
        self._say(notices, events)

    def end_trace(self, trace: Hashable) -> None:
        """Give up the calls of a trace that have not ended: a cancelled `ainvoke` never will.

        Of such a call, a session counts what `grow` was told; should it be settled after all, the rest as well. The
        sums stay as long as somebody has the trace: a thread that outlives it is within the same limits.
        """
        with self._lock:
            state = self._known(trace)
            if self._traces.pop(trace, None) is not None and state is not None:
                with contextlib.suppress(TypeError):  # a name: nobody could tell when it is forgotten
                    self._ended[trace] = state
            given_up = [] if state is None else self._give_up(state.open)
        _settle_in_stores(given_up)

    def _known(self, trace: Hashable) -> TraceState | None:
        state = self._traces.get(trace)
        if state is None and self._ended:
            with contextlib.suppress(TypeError):
                state = self._ended.get(trace)
        return state

    # --- which sums -------------------------------------------------------------------------------------------------

    def _plan(self, path: NodePath) -> list[Group]:
        """Return the budgets that a call in this node counts in, by their sums."""
        plan = self._plans.get(path)
        if plan is not None:
            return plan
        node = path_text(path)
        owners: dict[Budget, str | None] = {budget: node if budget.scope == "node" else None for budget in self._top}
        # Without the names of agents first: an entry that knows of none has one sum for all of them.
        for names in dict.fromkeys((bare(path), path)):
            for beginning in beginnings(names):
                for pattern, entry in self._entries.candidates(beginning):
                    if pattern.covers(beginning):
                        # The outermost node that the entry is for: what runs inside is under the entry, too.
                        own = node if entry.scope == "node" else path_text(beginning, is_whole=True)
                        owners.setdefault(entry, own)
        by_sum: dict[SumKey, list[Budget]] = {}
        for budget, owner in owners.items():
            # A limit does not make a sum: budgets that count the same calls share one, in all handlers.
            scope = "trace" if budget.scope == "node" else budget.scope
            key = SumKey(scope, owner, budget.scope == "node", budget.per, budget.store)
            by_sum.setdefault(key, []).append(budget)
        plan = [_group(key, budgets) for key, budgets in by_sum.items()]
        if len(self._plans) >= limits().remembered_nodes:
            self._plans.clear()
        return self._plans.setdefault(path, plan)

    def _state(
        self, trace: Hashable, now_s: float, thread: str | None, resumed_by: Callable[[], Hashable] | None
    ) -> TraceState:
        state = self._known(trace)
        if state is None:
            while self._traces and next(iter(self._traces.values())).used_s < now_s - TRACE_IDLE_S:
                self._give_up(self._traces.popitem(last=False)[1].open)
            state = self._traces[trace] = TraceState(now_s)
            resumed = None if resumed_by is None else resumed_by()
            kept = self._sessions.interrupted(thread, goes_on=resumed is not None)
            if kept is not None:
                state.sums, state.resumed_by = dict(kept), resumed
        state.used_s = now_s
        if trace in self._traces:
            self._traces.move_to_end(trace)
        return state

    def _held(self, state: TraceState, group: Group, reservation: Reservation, notices: list[str]) -> Held:
        key = group.key
        owner = None if key.scope == "trace" else reservation.owners.get(key.scope)
        sums = state.sums if owner is None else self._sessions.of((key.scope, owner))
        found = sums.get(key)
        window = 0
        if key.per is not None:
            now_s = self._wall_clock() if key.store is None else self._stores[key.store].now_s()
            window = window_of(key.per, now_s)
        if found is None or found.window < window:
            is_alone = owner is None and key.scope != "trace"
            found = sums[key] = Sum(group.words_alone if is_alone else group.words, window)
            if is_alone and _TOLD.is_new(("absent", key.scope)):
                notices.append(absent_words(key.scope))
        if owner is not None:
            found.note_limits(group)
        return Held(
            reservation,
            found,
            group,
            reservation.hold_usd(is_worst=group.is_worst),
            reservation.hold_tokens(is_worst=group.is_worst),
        )

    def _store_of(self, held: Held) -> SharedSums | None:
        key = held.group.key
        return self._stores[key.store] if key.store is not None and key.scope in held.reservation.owners else None

    def _is_shared(self, held: Held) -> bool:
        return held.group.key.store is not None and held.group.key.scope in held.reservation.owners

    # --- counting ---------------------------------------------------------------------------------------------------

    def _spend(self, reservation: Reservation, cost_usd: Decimal, tokens: int) -> tuple[Decimal, int]:
        """Count what a call cost, and return what was not counted before. The lock is held."""
        owed_usd = EXACT.subtract(cost_usd, reservation.given_up_usd)
        owed_tokens = tokens - reservation.given_up_tokens
        for each in reservation.held:
            each.sum.free(each)
            each.sum.spent_usd = EXACT.add(each.sum.spent_usd, owed_usd)
            each.sum.spent_tokens += owed_tokens
        if self.owner_scopes:
            for owner in reservation.owners.items():
                self._sessions.sort(owner)
        return owed_usd, owed_tokens

    def _give_up(self, open_calls: Iterable[Reservation]) -> list[_GivenUp]:
        """Count the calls in flight as far as they got, and return what the stores are to be told. The lock is held."""
        given_up = []
        for reservation in tuple(open_calls):
            owed_usd, owed_tokens = self._spend(reservation, reservation.running_usd, reservation.running_tokens)
            given_up.append(_GivenUp(reservation, reservation.call, owed_usd, owed_tokens))
            reservation.given_up_usd, reservation.given_up_tokens = reservation.running_usd, reservation.running_tokens
            # A store takes one figure for a name; a late one needs another.
            reservation.call += ":late"
            state = self._known(reservation.trace)
            if state is not None:
                state.open.discard(reservation)
        return given_up

    # --- whether it may be made -------------------------------------------------------------------------------------

    def _reserve_shared(
        self, state: TraceState, reservation: Reservation, held: Sequence[Held], now_s: float, *, is_made: bool
    ) -> list[str]:
        """Ask the stores, whose sums no lock of this process guards, and return what there is to tell."""
        notices: list[str] = []
        for url, store in self._stores.items():
            asked = [each for each in held if each.group.key.store == url and self._is_shared(each)]
            mine = [each for each in asked if each in reservation.held]
            if is_made:
                asked = mine
            if not asked:
                continue
            sums = [_shared(each) for each in asked]
            calls = [
                SharedCall(each.hold_usd, each.hold_tokens, () if is_made else shared_limits(each)) for each in asked
            ]
            reserved_s = store.now_s()
            request = list(zip(sums, calls, strict=True))
            answer = store.reserve(request, call=reservation.call, paid=reservation.paid)
            if answer is not None and not answer.admitted and self._give_back_left(asked):
                # Calls of this process that nobody waits for any more held what this one needs.
                answer = store.reserve(request, call=reservation.call, paid=reservation.paid)
            entry = (store, [_shared(each) for each in mine], reserved_s)
            try:
                with self._lock:
                    if answer is None and is_made:
                        pass  # It is held here, and sent once it is settled.
                    elif answer is None:
                        # What this process saw last goes on alone: the store's figures, and its own calls since.
                        check_sums(state, reservation, asked, now_s)
                    else:
                        take_over(state, reservation, asked, answer)
                    more, events = reached(state, asked)
                    notices += more
            except (BudgetExceededError, Question):
                if mine and answer is None:
                    reservation.shared.append(entry)
                self.settle(reservation, ZERO)
                raise
            if mine:
                reservation.shared.append(entry)
            self._say((), events)
        return notices

    def _give_back_left(self, asked: Sequence[Held]) -> bool:
        """Give back, here and in the stores, what calls hold that were left without an event; tell whether any was."""
        with self._lock:
            left = {
                each.reservation
                for held in asked
                for each in held.sum.open.values()
                if each.reservation is not held.reservation and is_over(each.reservation)
            }
            given_up = self._give_up(left)
        _settle_in_stores(given_up)
        return bool(given_up)

    # --- telling ----------------------------------------------------------------------------------------------------

    def _say(self, notices: Iterable[str], events: Iterable[BudgetEvent]) -> None:
        for notice in notices:
            warn_or_log(notice, logger)
        for event in events:
            self._tell(event)

    def _tell(self, event: BudgetEvent) -> None:
        if self._on_budget is not None:
            call_back(self._on_budget, event, "on_budget", self._once)


def _group(key: SumKey, budgets: Sequence[Budget]) -> Group:
    stops = tuple(budget for budget in budgets if budget.refuses)
    scope = budgets[0].scope
    return Group(
        key,
        tuple(budgets),
        stops,
        tells=len(stops) < len(budgets) or any(budget.warn_at for budget in budgets),
        lowest_usd=min((each.max_cost_usd for each in stops if each.max_cost_usd is not None), default=None),
        lowest_tokens=min((each.max_total_tokens for each in stops if each.max_total_tokens is not None), default=None),
        is_worst=any(budget.reserve == "worst_case" for budget in stops),
        words=scope_words(scope, key.node, key.per),
        words_alone=scope_words("trace", key.node, None),
    )


def _shared(held: Held) -> SharedSum:
    key = held.group.key
    return SharedSum(held.reservation.owners[key.scope], key.node, key.scope, key.per, key.is_exact)


def _settle_in_stores(given_up: Iterable[_GivenUp]) -> None:
    for reservation, call, usd, tokens in given_up:
        for store, sums, reserved_s in reservation.shared:
            store.settle(sums, call=call, actual_usd=usd, actual_tokens=tokens, reserved_s=reserved_s)


def _known(usd: Decimal | None) -> Decimal | None:
    """Return the figure, or None for one that no call can cost."""
    return usd if usd is not None and usd.is_finite() and usd >= ZERO else None
