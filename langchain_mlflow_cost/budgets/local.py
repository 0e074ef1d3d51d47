"""Budgets: which model call may still be made, given what is spent and what is already in flight.

A *sum* belongs to one budget and to one trace, one node of a trace, or one session. Before a call, its estimate
is reserved in every sum that it counts in; when it ends, the real figure takes the estimate's place. A call is
refused where

- the sum (spent and reserved) has reached the limit, or
- the prompt alone would carry the sum beyond the limit.

The estimate of the *answer* never refuses the call itself: it is mostly far too high (`max_tokens` is a ceiling that
few answers come near), and a budget of 1 USD that refuses its first call helps nobody. It is what the calls beside it
see, so that parallel branches cannot all pass the check at once. Thus a sum overshoots its limit by no more than the
calls that were already running.

Nothing here knows LangChain or MLflow. Money is `Decimal` USD.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_mlflow_cost.budgets.rules import RESERVATION_TTL_S, Budget, NodeBudget, SharedSum, refusal
from langchain_mlflow_cost.errors import BudgetExceededError, PolicyError
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.money import EXACT, ZERO, readable
from langchain_mlflow_cost.node_patterns import NodePattern, PatternIndex
from langchain_mlflow_cost.nodes import bare, beginnings, parsed_path, path_text
from langchain_mlflow_cost.notices import tell_both

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from decimal import Decimal

    from langchain_mlflow_cost.budgets.rules import SharedAnswer, SharedSums
    from langchain_mlflow_cost.nodes import NodePath

logger = logging.getLogger(__name__)

TRACE_IDLE_S = 24 * 3600.0
"""A trace that never said that it ended is forgotten after so long without a model call."""

MAX_SESSIONS = 10_000
"""Sessions whose sums one process remembers, and as many again whose budget is used up."""


@dataclass(eq=False, slots=True)
class Reservation:
    """One model call in flight, from `Budgets.reserve` to `Budgets.settle`."""

    trace: Hashable
    node: str
    session: str | None
    estimate_usd: Decimal | None
    prompt_usd: Decimal
    hold_usd: Decimal
    """Kept back for the call; 0 once nothing was heard of it for `RESERVATION_TTL_S`."""

    seen_s: float
    running_usd: Decimal = ZERO
    """What a stream is known to have cost so far."""

    given_up_usd: Decimal = ZERO
    """What counted as spent when the trace ended before the call."""

    settled: bool = False
    sums: tuple[_Sum, ...] = field(default=(), repr=False)
    call: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The call's name, the same in all handlers that count it."""

    shared: list[tuple[SharedSums, list[SharedSum]]] = field(default_factory=list)

    @property
    def paid(self) -> bool:
        """Whether the call is not known to be free."""
        return self.estimate_usd is None or self.hold_usd > 0

    def held_usd(self) -> Decimal:
        """Return what is kept back, or what is spent where that is more by now."""
        return max(self.hold_usd, self.running_usd)


@dataclass(eq=False, slots=True)
class _Sum:
    """What one budget has counted in one trace, node or session."""

    budget: Budget
    node: str | None
    words: str
    spent_usd: Decimal = ZERO
    reserved_usd: Decimal = ZERO
    running_usd: Decimal = ZERO
    """The part of `reserved_usd` that streams have really spent by now."""

    open: dict[str, Reservation] = field(default_factory=dict)
    """The calls in flight, by their names."""

    def held_usd(self) -> Decimal:
        return EXACT.add(self.spent_usd, self.reserved_usd)

    def hold(self, reservation: Reservation) -> None:
        self.open[reservation.call] = reservation
        self.reserved_usd = EXACT.add(self.reserved_usd, reservation.held_usd())
        self.running_usd = EXACT.add(self.running_usd, reservation.running_usd)

    def free(self, reservation: Reservation) -> None:
        if self.open.get(reservation.call) is reservation:
            del self.open[reservation.call]
            self.reserved_usd = EXACT.subtract(self.reserved_usd, reservation.held_usd())
            self.running_usd = EXACT.subtract(self.running_usd, reservation.running_usd)

    def passed(self) -> bool:
        """Tell whether what is really spent is beyond the limit, estimates left out."""
        return EXACT.add(self.spent_usd, self.running_usd) > self.budget.max_cost_usd

    def used_up(self) -> bool:
        return self.budget.on_exceeded == "raise" and self.spent_usd >= self.budget.max_cost_usd


_Sums = dict[tuple[Budget, str | None], _Sum]


@dataclass(slots=True)
class _Trace:
    """What lives as long as one trace."""

    used_s: float
    sums: _Sums = field(default_factory=dict)
    open: set[Reservation] = field(default_factory=set)
    told: set[tuple[_Sum, str]] = field(default_factory=set)
    broken: _Sum | None = None
    """The budget that refused or stopped a call of this trace: from then on all calls are refused."""

    reason: str = ""

    def refuse(self, node: str, broken: _Sum, reason: str, held_usd: Decimal | None = None) -> BudgetExceededError:
        """Close the trace to all further calls, and return the error to raise."""
        if self.broken is None:
            self.broken, self.reason = broken, f"no further call in this trace, after: {reason}"
        return BudgetExceededError(
            budget=broken.words,
            limit_usd=broken.budget.max_cost_usd,
            spent_usd=broken.held_usd() if held_usd is None else held_usd,
            node=node,
            reason=reason,
        )


class SessionSums:
    """The sums of `scope: session` in this process, shared by all handlers: often each invocation has its own.

    Handlers share a session's sum where their policies hold an equal budget. At most `max_sessions` sessions are
    remembered; the least recently used goes first, and its sum starts again at 0. Sessions whose budget is used up are
    not among them: `max_sessions` of those are kept apart, and one that has to go is logged.
    """

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self.lock = threading.Lock()
        """Guards these sums, and the traces of every `Budgets` over them: a call is checked against both at once."""

        self._max = max_sessions
        self._open: OrderedDict[str, _Sums] = OrderedDict()
        self._used_up: OrderedDict[str, _Sums] = OrderedDict()
        self._made: OrderedDict[tuple[_Sum, str], None] = OrderedDict()

    def of(self, session: str) -> _Sums:
        """Return the session's sums, as the most recently used. The lock is held."""
        for sessions in (self._open, self._used_up):
            if session in sessions:
                sessions.move_to_end(session)
                return sessions[session]
        self._make_room(self._open)
        return self._open.setdefault(session, {})

    def sort(self, session: str) -> None:
        """Put the session where it belongs after its sums have changed. The lock is held."""
        for here, there, used_up in ((self._open, self._used_up, True), (self._used_up, self._open, False)):
            sums = here.get(session)
            if sums is not None and any(each.used_up() for each in sums.values()) == used_up:
                self._make_room(there)
                there[session] = here.pop(session)
                return

    def is_new(self, counting: _Sum, call: str) -> bool:
        """Whether a call that was made already is not in a sum yet; from now on it is. The lock is held."""
        if (counting, call) in self._made:
            return False
        self._made[counting, call] = None
        while len(self._made) > limits().made_calls:
            self._made.popitem(last=False)
        return True

    def _make_room(self, sessions: OrderedDict[str, _Sums]) -> None:
        for _ in range(len(sessions)):
            if len(sessions) < self._max:
                return
            session, sums = sessions.popitem(last=False)
            if any(each.open for each in sums.values()):
                sessions[session] = sums  # A call in flight has yet to be counted in it.
            elif sessions is self._used_up:
                logger.warning("over %d sessions have used up their budget; the oldest of them starts anew", self._max)


_PROCESS = SessionSums()


class Budgets:
    """The budgets of one handler. Thread safe; never waits; does no I/O while it holds its lock.

    Args:
        budgets: All budgets of the policy: the top level's, and those of its nodes' entries.
        open_store: Opens the store that `Budget.store` names.
        sessions: Where sums of `scope: session` are kept; one for the process unless told otherwise.
        clock: Seconds, monotonic.

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
        self._sessions = sessions or _PROCESS
        self._lock = self._sessions.lock
        self._clock = clock
        self._plans: dict[NodePath, list[tuple[Budget, str | None]]] = {}
        self._traces: OrderedDict[Hashable, _Trace] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether there is any budget; without one, nothing needs to be estimated."""
        return self._any

    def reserve(
        self,
        *,
        trace: Hashable,
        node: str,
        path: NodePath | None = None,
        session: str | None = None,
        estimate_usd: Decimal | None,
        prompt_usd: Decimal | None = None,
        model: str = "",
        call: Hashable = None,
        is_made: bool = False,
    ) -> Reservation:
        """Ask whether a call may be made, and reserve its estimate until it is settled.

        Args:
            trace: The invocation; budgets of scope `trace` and `node` have a sum for each.
            node: Path of the innermost node, `""` outside any node.
            path: The same with the graphs in it that entries may leave out; None if there are none.
            session: The `thread_id`. Without one, the session is this trace alone.
            estimate_usd: What prompt and answer are expected to cost. None: the model has no price.
            prompt_usd: The part of it that is certain to be paid: the prompt's.
            model: Named in messages about a missing price.
            call: Tells this call from all others, as its run id does. Handlers with an equal session budget, or with
                one store, that are told of the same call count it once.
            is_made: The call was made already, by another library: it is counted and never refused, and nothing is
                raised. What it used up refuses the calls after it. A call with a name is counted once however late the
                other handlers are told of it.

        Raises:
            BudgetExceededError: The call must not be made. Nothing is reserved, and every further call of this trace
                is refused as well.
        """
        estimate, prompt, now_s = _known(estimate_usd), _known(prompt_usd) or ZERO, self._clock()
        reservation = Reservation(trace, node, session, estimate, prompt, max(estimate or ZERO, prompt), now_s)
        if call is not None:
            reservation.call = str(call)
        if not self._any:
            return reservation
        plan = self._plan(parsed_path(node) if path is None else path)
        with self._lock:
            state = self._state(trace, now_s)
            sums = tuple(self._sum(state, budget, path, session) for budget, path in plan)
            closed = _closed(state, sums, reservation, model)
            if closed is not None and not is_made:
                raise closed
            sums = tuple(each for each in sums if reservation.call not in each.open)
            if is_made:
                sums = tuple(each for each in sums if self._sessions.is_new(each, reservation.call))
            local = [each for each in sums if session is None or each.budget.store is None]
            if not is_made:
                _check(state, reservation, local, now_s)
            for each in sums:
                each.hold(reservation)
            reservation.sums = sums
            state.open.add(reservation)
            notices = _unpriced(state, sums, model) if estimate is None else []
        if len(local) < len(sums):
            notices += self._reserve_shared(state, reservation, now_s, is_made=is_made)
        for notice in notices:
            tell_both(notice, logger)
        return reservation

    def grow(self, reservation: Reservation, running_usd: Decimal) -> None:
        """Tell what a stream has cost so far, from its beginning.

        Raises:
            BudgetExceededError: What is really spent has passed a limit: the stream must be stopped, and every further
                call of this trace is refused. The stream still has to be settled.
        """
        running = _known(running_usd)
        if running is None or not reservation.sums:
            return
        error = None
        with self._lock:
            state = self._traces.get(reservation.trace)
            if state is None or reservation not in state.open:
                return
            for each in reservation.sums:
                each.free(reservation)
            reservation.running_usd, reservation.seen_s = running, self._clock()
            for each in reservation.sums:
                each.hold(reservation)
                if error is None and each.budget.on_exceeded == "raise" and each.passed():
                    error = state.refuse(reservation.node, each, "a stream was stopped when it passed the limit")
            notices = _passed(state, reservation.sums)
        for notice in notices:
            tell_both(notice, logger)
        if error is not None:
            raise error

    def settle(self, reservation: Reservation, actual_usd: Decimal | None) -> None:
        """Replace the reservation by what the call cost. Never raises; a second time changes nothing.

        Args:
            reservation: Of this call; its trace may have ended before it.
            actual_usd: 0 for a failed or cached call. None: the call turned out to have no price, and counts as it was
                estimated, or not at all where that was unknown as well.
        """
        actual = _known(actual_usd)
        with self._lock:
            if reservation.settled:
                return
            reservation.settled = True
            cost = max(reservation.estimate_usd or ZERO, reservation.running_usd) if actual is None else actual
            owed = self._spend(reservation, cost)
            notices = []
            state = self._traces.get(reservation.trace)
            if state is not None:
                state.open.discard(reservation)
                notices = _passed(state, reservation.sums)
                if actual is None and reservation.estimate_usd is not None:
                    notices += _unpriced(state, reservation.sums, "")
                    for each in reservation.sums:
                        # This call is made and paid; only the ones after it can still be refused.
                        if each.budget.unpriced == "raise":
                            state.refuse(
                                reservation.node, each, "a call turned out to have no price (`unpriced: raise`)"
                            )
        for store, sums in reservation.shared:
            store.settle(sums, call=reservation.call, actual_usd=owed)
        for notice in notices:
            tell_both(notice, logger)

    def end_trace(self, trace: Hashable) -> None:
        """Forget the trace, and give up its calls that have not ended: a cancelled `ainvoke` never will.

        Of such a call, a session counts what `grow` was told; should it be settled after all, the rest as well.
        """
        with self._lock:
            state = self._traces.pop(trace, None)
            given_up = [] if state is None else self._give_up(state)
        for reservation, call in given_up:
            for store, sums in reservation.shared:
                store.settle(sums, call=call, actual_usd=reservation.given_up_usd)

    def _plan(self, path: NodePath) -> list[tuple[Budget, str | None]]:
        """Return each budget that a call in this node counts in, with the node that the sum is of, if it is one's."""
        plan = self._plans.get(path)
        if plan is None:
            node = path_text(path)
            owners: dict[Budget, str | None] = {
                budget: node if budget.scope == "node" else None for budget in self._top
            }
            # Without the names of agents first: an entry that knows of none has one sum for all of them.
            for names in dict.fromkeys((bare(path), path)):
                for beginning in beginnings(names):
                    for pattern, budget in self._entries.candidates(beginning):
                        if pattern.covers(beginning):
                            # The outermost node that the entry is for: what runs inside is under the entry, too.
                            owner = node if budget.scope == "node" else path_text(beginning, is_whole=True)
                            owners.setdefault(budget, owner)
            plan = list(owners.items())
            if len(self._plans) >= limits().remembered_nodes:
                self._plans.clear()
            self._plans[path] = plan
        return plan

    def _state(self, trace: Hashable, now_s: float) -> _Trace:
        state = self._traces.get(trace)
        if state is None:
            while self._traces and next(iter(self._traces.values())).used_s < now_s - TRACE_IDLE_S:
                self._give_up(self._traces.popitem(last=False)[1])
            state = self._traces[trace] = _Trace(now_s)
        state.used_s = now_s
        self._traces.move_to_end(trace)
        return state

    def _sum(self, state: _Trace, budget: Budget, path: str | None, session: str | None) -> _Sum:
        scoped = session if budget.scope == "session" else None
        sums = state.sums if scoped is None else self._sessions.of(scoped)
        found = sums.get((budget, path))
        if found is None:
            words = [] if path is None else [f'node "{path}"' if path else "the calls outside any node"]
            words += [] if scoped is None else [f'session "{scoped}"']
            found = sums[budget, path] = _Sum(budget, path, " in ".join(words) or "trace")
        return found

    def _spend(self, reservation: Reservation, cost_usd: Decimal) -> Decimal:
        """Count what a call cost, and return what was not counted before. The lock is held."""
        owed = EXACT.subtract(cost_usd, reservation.given_up_usd)
        for each in reservation.sums:
            each.free(reservation)
            each.spent_usd = EXACT.add(each.spent_usd, owed)
        if reservation.session is not None:
            self._sessions.sort(reservation.session)
        return owed

    def _give_up(self, state: _Trace) -> list[tuple[Reservation, str]]:
        """Count the calls in flight as far as they got, and return them with their names in the stores."""
        given_up = []
        for reservation in state.open:
            self._spend(reservation, reservation.running_usd)
            given_up.append((reservation, reservation.call))
            reservation.given_up_usd = reservation.running_usd
            # A store takes one figure for a name; a late one needs another.
            reservation.call += ":late"
        return given_up

    def _reserve_shared(self, state: _Trace, reservation: Reservation, now_s: float, *, is_made: bool) -> list[str]:
        """Ask the stores, whose sums no lock of this process guards, and return what there is to tell."""
        notices: list[str] = []
        for url, store in self._stores.items():
            sums = [each for each in reservation.sums if each.budget.store == url]
            if not sums:
                continue
            # Budgets with different limits share a sum there: it is reserved once.
            by_node: dict[str | None, list[_Sum]] = {}
            for each in sums:
                by_node.setdefault(each.node, []).append(each)
            # Without a limit, the store refuses nothing.
            asked = [
                SharedSum(reservation.session or "", node, None if is_made else _limit(same))
                for node, same in by_node.items()
            ]
            answer = store.reserve(
                asked,
                call=reservation.call,
                hold_usd=reservation.hold_usd,
                prompt_usd=reservation.prompt_usd,
                paid=reservation.paid,
            )
            try:
                with self._lock:
                    if answer is None and is_made:
                        pass  # It is held here, and sent once it is settled.
                    elif answer is None:
                        # What this process saw last goes on alone: the store's figures, and its own calls since.
                        for each in sums:
                            each.free(reservation)
                        _check(state, reservation, sums, now_s)
                        for each in sums:
                            each.hold(reservation)
                    else:
                        _take_over(state, reservation, list(by_node.values()), answer)
                    notices += _passed(state, sums)
            except BudgetExceededError:
                if answer is None:
                    reservation.shared.append((store, asked))
                self.settle(reservation, ZERO)
                raise
            reservation.shared.append((store, asked))
        return notices


def _closed(state: _Trace, sums: Iterable[_Sum], reservation: Reservation, model: str) -> BudgetExceededError | None:
    """Return why no call of this kind can be made in the trace, whatever is left. The lock is held."""
    if state.broken is not None:
        return state.refuse(reservation.node, state.broken, state.reason)
    if reservation.estimate_usd is None:
        for each in sums:
            if each.budget.unpriced == "raise":
                return state.refuse(reservation.node, each, f"{_named(model)} has no price (`unpriced: raise`)")
    return None


def _check(state: _Trace, reservation: Reservation, sums: Iterable[_Sum], now_s: float) -> None:
    """Raise where one of the sums refuses the call. The lock is held, and the call holds nothing in them yet."""
    for each in sums:
        if each.budget.on_exceeded == "warn":
            continue
        limit, prompt, paid = each.budget.max_cost_usd, reservation.prompt_usd, reservation.paid
        if refusal(each.held_usd(), limit, prompt, paid=paid) is None:
            continue
        _lapse(each, now_s)
        reason = refusal(each.held_usd(), limit, prompt, paid=paid)
        if reason is not None:
            raise state.refuse(reservation.node, each, reason)


def _lapse(held: _Sum, now_s: float) -> None:
    """Keep nothing back any more for calls that nothing was heard of for long; what they are known to cost stays."""
    for old in [each for each in held.open.values() if each.seen_s < now_s - RESERVATION_TTL_S and each.hold_usd]:
        for each in old.sums:
            each.free(old)
        old.hold_usd = ZERO
        for each in old.sums:
            each.hold(old)


def _take_over(state: _Trace, reservation: Reservation, groups: list[list[_Sum]], answer: SharedAnswer) -> None:
    """Take the store's figures for this process's, and raise where it refused. The lock is held."""
    broken = None
    for same, spent, reserved in zip(groups, answer.spent_usd, answer.reserved_usd, strict=True):
        held = EXACT.add(spent, reserved)
        for each in same:
            each.spent_usd = spent
            if answer.admitted or each.budget.on_exceeded == "warn":
                continue
            reason = refusal(held, each.budget.max_cost_usd, reservation.prompt_usd, paid=reservation.paid)
            # The store counts whole nano-USD: should the exact figures not refuse, its word stands.
            if broken is None or (reason and not broken[2]):
                broken = each, held, reason
    if broken is not None:
        raise state.refuse(reservation.node, broken[0], broken[2] or "nothing is left", broken[1])


def _limit(sums: list[_Sum]) -> Decimal | None:
    return min((each.budget.max_cost_usd for each in sums if each.budget.on_exceeded == "raise"), default=None)


def _passed(state: _Trace, sums: Iterable[_Sum]) -> list[str]:
    """Return what to say of budgets that only warn, once for each in a trace. The lock is held."""
    notices = []
    for each in sums:
        if each.budget.on_exceeded == "warn" and each.passed() and (each, "passed") not in state.told:
            state.told.add((each, "passed"))
            spent = EXACT.add(each.spent_usd, each.running_usd)
            notices.append(
                f"budget of {each.words} exceeded: limit {readable(each.budget.max_cost_usd)} USD, "
                f"spent {readable(spent)} USD"
            )
    return notices


def _unpriced(state: _Trace, sums: Iterable[_Sum], model: str) -> list[str]:
    """Return what to say of a call that budgets cannot count, once for each budget in a trace. The lock is held."""
    new = [each for each in sums if each.budget.unpriced == "warn" and (each, "unpriced") not in state.told]
    state.told.update((each, "unpriced") for each in new)
    words = ", ".join(each.words for each in new)
    return [f"budget of {words} does not count {_named(model)}: it has no price"] if new else []


def _named(model: str) -> str:
    return f'model "{model}"' if model else "a model"


def _known(usd: Decimal | None) -> Decimal | None:
    """Return the figure, or None for one that no call can cost."""
    return usd if usd is not None and usd.is_finite() and usd >= 0 else None
