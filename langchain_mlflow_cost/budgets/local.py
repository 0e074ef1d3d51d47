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

import contextlib
import logging
import threading
import time
import uuid
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Literal, Protocol

from langchain_mlflow_cost.errors import BudgetExceededError, PolicyError
from langchain_mlflow_cost.node_patterns import NodePattern
from langchain_mlflow_cost.nodes import lineage, parsed_path

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

logger = logging.getLogger(__name__)

RESERVATION_TTL_S = 600.0
"""A reservation that nothing was heard of for so long no longer counts: its call was cancelled without an event.

The OpenAI and Anthropic clients give up after 600 s as well (`DEFAULT_TIMEOUT`, openai 2.x, anthropic 0.7x).
"""

TRACE_IDLE_S = 24 * 3600.0
"""A trace that never said that it ended is forgotten after so long without a model call."""

MAX_SESSIONS = 10_000
"""Sessions whose sums one process remembers, and as many again whose budget is used up."""

_ZERO = Decimal(0)
# The caller's thread may have a decimal context of six digits or one that traps; sums must not depend on it.
_EXACT = Context(prec=60)


# The one definition of a budget's fields: `policy` validates a user's settings and imports this class for the result.
@dataclass(frozen=True, slots=True)
class BudgetRule:
    """One budget of a policy, checked and with its defaults filled in."""

    max_cost_usd: Decimal
    """The limit. 0 lets only calls pass that are known to be free."""

    scope: Literal["trace", "node", "session"] = "trace"
    """What has a sum of its own: a trace; every node of a trace; a session, over its traces.

    As in `CostSummary.node_breakdown`, a call belongs to its innermost node.
    """

    on_exceeded: Literal["raise", "warn"] = "raise"
    unpriced: Literal["warn", "raise"] = "warn"
    """What a call means whose model has no price: a warning, or a refusal."""

    node: str | None = None
    """In a node's entry: the entry's pattern. Only the calls of such a node and of all inside it count, and each node
    that the entry is for has a sum of its own.
    """

    store: str | None = field(default=None, repr=False)  # A URL can hold a password.
    """Where the sums of `scope: session` are kept for all processes, such as `redis://host:6379/0`. None: here."""


@dataclass(frozen=True, slots=True)
class SharedSum:
    """A sum that several processes keep together."""

    session: str
    node: str | None
    """Path of the node whose calls count; None where all calls of the session do."""

    limit_usd: Decimal | None = None
    """The lowest limit that refuses a call; None where the budgets on this sum only warn."""


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """What a store said to a reservation."""

    admitted: bool
    spent_usd: tuple[Decimal, ...]
    """Per sum, in the order asked."""

    reserved_usd: tuple[Decimal, ...]
    """Per sum: for the calls in flight in all processes, without the one that asks."""


class SharedSums(Protocol):
    """Sums outside this process. No method raises; each takes one round trip and a bounded time."""

    def reserve(
        self, sums: Sequence[SharedSum], *, call: str, hold_usd: Decimal, prompt_usd: Decimal, paid: bool
    ) -> SharedAnswer | None:
        """Check all sums as `refusal` does, and reserve in all of them or in none.

        Args:
            sums: All of one session.
            call: Names the call to `settle`.
            hold_usd: Reserved until the call is settled.
            prompt_usd: As for `refusal`.
            paid: As for `refusal`.

        Returns:
            The answer, or None where the store is away; then the call may or may not be reserved.
        """

    def settle(self, sums: Sequence[SharedSum], *, call: str, actual_usd: Decimal) -> None:
        """Replace the call's reservation, if there is one, by what it cost; a second time changes nothing.

        Where the store is away, the figure is kept and sent with the next request for this session.
        """


def refusal(held_usd: Decimal, limit_usd: Decimal, prompt_usd: Decimal, *, paid: bool) -> str | None:
    """Say why a call cannot be made; None where it can.

    Args:
        held_usd: Spent, and reserved for the calls in flight.
        limit_usd: The budget.
        prompt_usd: What the prompt of the call alone costs.
        paid: The call is not known to be free, so it is refused where nothing is left.
    """
    if held_usd > limit_usd or (paid and held_usd == limit_usd):
        return "nothing is left"
    if _EXACT.add(held_usd, prompt_usd) > limit_usd:
        return f"the prompt alone costs about {prompt_usd:f} USD"
    return None


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
    running_usd: Decimal = _ZERO
    """What a stream is known to have cost so far."""

    given_up_usd: Decimal = _ZERO
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

    rule: BudgetRule
    node: str | None
    words: str
    spent_usd: Decimal = _ZERO
    reserved_usd: Decimal = _ZERO
    running_usd: Decimal = _ZERO
    """The part of `reserved_usd` that streams have really spent by now."""

    open: dict[str, Reservation] = field(default_factory=dict)
    """The calls in flight, by their names."""

    def held_usd(self) -> Decimal:
        return _EXACT.add(self.spent_usd, self.reserved_usd)

    def hold(self, reservation: Reservation) -> None:
        self.open[reservation.call] = reservation
        self.reserved_usd = _EXACT.add(self.reserved_usd, reservation.held_usd())
        self.running_usd = _EXACT.add(self.running_usd, reservation.running_usd)

    def free(self, reservation: Reservation) -> None:
        if self.open.get(reservation.call) is reservation:
            del self.open[reservation.call]
            self.reserved_usd = _EXACT.subtract(self.reserved_usd, reservation.held_usd())
            self.running_usd = _EXACT.subtract(self.running_usd, reservation.running_usd)

    def passed(self) -> bool:
        """Tell whether what is really spent is beyond the limit, estimates left out."""
        return _EXACT.add(self.spent_usd, self.running_usd) > self.rule.max_cost_usd

    def used_up(self) -> bool:
        return self.rule.on_exceeded == "raise" and self.spent_usd >= self.rule.max_cost_usd


_Sums = dict[tuple[BudgetRule, str | None], _Sum]


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
            limit_usd=broken.rule.max_cost_usd,
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
        rules: All budgets of the policy: the top level's, and those of its nodes' entries (with `node`).
        open_store: Opens the store that `BudgetRule.store` names.
        sessions: Where sums of `scope: session` are kept; one for the process unless told otherwise.
        clock: Seconds, monotonic.

    Raises:
        PolicyError: A store is named for a scope that has none, or cannot be opened.
        PatternError: A node's entry is no pattern.
    """

    def __init__(
        self,
        rules: Sequence[BudgetRule],
        *,
        open_store: Callable[[str], SharedSums] | None = None,
        sessions: SessionSums | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        rules = tuple(dict.fromkeys(rules))
        self._any = bool(rules)
        self._top = tuple(rule for rule in rules if rule.node is None)
        self._entries = [(NodePattern.parse(rule.node), rule) for rule in rules if rule.node is not None]
        self._stores: dict[str, SharedSums] = {}
        for rule in rules:
            if rule.store is None:
                continue
            if rule.scope != "session":
                raise PolicyError(f"budget: a store keeps the sums of scope `session`, not of scope `{rule.scope}`")
            if open_store is None:
                raise PolicyError("budget: nothing was given that can open its store")
            self._stores[rule.store] = open_store(rule.store)
        self._sessions = sessions or _PROCESS
        self._lock = self._sessions.lock
        self._clock = clock
        self._plans: dict[str, list[tuple[BudgetRule, str | None]]] = {}
        self._traces: OrderedDict[Hashable, _Trace] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether there is any budget; without one, nothing needs to be estimated."""
        return self._any

    def reserve(
        self,
        *,
        trace: Hashable,
        node: str,
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
            session: The `thread_id`. Without one, the session is this trace alone.
            estimate_usd: What prompt and answer are expected to cost. None: the model has no price.
            prompt_usd: The part of it that is certain to be paid: the prompt's.
            model: Named in messages about a missing price.
            call: Tells this call from all others, as its run id does. Handlers with an equal session budget, or with
                one store, that are told of the same call count it once.

        Raises:
            BudgetExceededError: The call must not be made. Nothing is reserved, and every further call of this trace
                is refused as well.
        """
        estimate, prompt, now_s = _known(estimate_usd), _known(prompt_usd) or _ZERO, self._clock()
        reservation = Reservation(trace, node, session, estimate, prompt, max(estimate or _ZERO, prompt), now_s)
        if call is not None:
            reservation.call = str(call)
        if not self._any:
            return reservation
        plan = self._plan(node)
        with self._lock:
            state = self._state(trace, now_s)
            sums = tuple(self._sum(state, rule, path, session) for rule, path in plan)
            if state.broken is not None:
                raise state.refuse(node, state.broken, state.reason)
            if estimate is None:
                for each in sums:
                    if each.rule.unpriced == "raise":
                        raise state.refuse(node, each, f"{_named(model)} has no price (`unpriced: raise`)")
            sums = tuple(each for each in sums if reservation.call not in each.open)
            local = [each for each in sums if session is None or each.rule.store is None]
            _check(state, reservation, local, now_s)
            for each in sums:
                each.hold(reservation)
            reservation.sums = sums
            state.open.add(reservation)
            notices = _unpriced(state, sums, model) if estimate is None else []
        if len(local) < len(sums):
            notices += self._reserve_shared(state, reservation, now_s)
        _tell(notices)
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
                if error is None and each.rule.on_exceeded == "raise" and each.passed():
                    error = state.refuse(reservation.node, each, "a stream was stopped when it passed the limit")
            notices = _passed(state, reservation.sums)
        _tell(notices)
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
            cost = max(reservation.estimate_usd or _ZERO, reservation.running_usd) if actual is None else actual
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
                        if each.rule.unpriced == "raise":
                            state.refuse(
                                reservation.node, each, "a call turned out to have no price (`unpriced: raise`)"
                            )
        for store, sums in reservation.shared:
            store.settle(sums, call=reservation.call, actual_usd=owed)
        _tell(notices)

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

    def _plan(self, node: str) -> list[tuple[BudgetRule, str | None]]:
        """Return each budget that a call in this node counts in, with the node that the sum is of, if it is one's."""
        plan = self._plans.get(node)
        if plan is None:
            owners: dict[BudgetRule, str | None] = {rule: node if rule.scope == "node" else None for rule in self._top}
            for path in lineage(node):
                for pattern, rule in self._entries:
                    if pattern.covers(parsed_path(path)):
                        # The outermost node that the entry is for: what runs inside is under the entry, too.
                        owners.setdefault(rule, node if rule.scope == "node" else path)
            plan = list(owners.items())
            if len(self._plans) >= MAX_SESSIONS:  # Nodes that are named after data must not fill the memory.
                self._plans.clear()
            self._plans[node] = plan
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

    def _sum(self, state: _Trace, rule: BudgetRule, path: str | None, session: str | None) -> _Sum:
        scoped = session if rule.scope == "session" else None
        sums = state.sums if scoped is None else self._sessions.of(scoped)
        found = sums.get((rule, path))
        if found is None:
            words = [] if path is None else [f'node "{path}"' if path else "the calls outside any node"]
            words += [] if scoped is None else [f'session "{scoped}"']
            found = sums[rule, path] = _Sum(rule, path, " in ".join(words) or "trace")
        return found

    def _spend(self, reservation: Reservation, cost_usd: Decimal) -> Decimal:
        """Count what a call cost, and return what was not counted before. The lock is held."""
        owed = _EXACT.subtract(cost_usd, reservation.given_up_usd)
        for each in reservation.sums:
            each.free(reservation)
            each.spent_usd = _EXACT.add(each.spent_usd, owed)
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

    def _reserve_shared(self, state: _Trace, reservation: Reservation, now_s: float) -> list[str]:
        """Ask the stores, whose sums no lock of this process guards, and return what there is to tell."""
        notices: list[str] = []
        for url, store in self._stores.items():
            sums = [each for each in reservation.sums if each.rule.store == url]
            if not sums:
                continue
            # Budgets with different limits share a sum there: it is reserved once.
            by_node: dict[str | None, list[_Sum]] = {}
            for each in sums:
                by_node.setdefault(each.node, []).append(each)
            asked = [SharedSum(reservation.session or "", node, _limit(same)) for node, same in by_node.items()]
            answer = store.reserve(
                asked,
                call=reservation.call,
                hold_usd=reservation.hold_usd,
                prompt_usd=reservation.prompt_usd,
                paid=reservation.paid,
            )
            try:
                with self._lock:
                    if answer is None:
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
                self.settle(reservation, _ZERO)
                raise
            reservation.shared.append((store, asked))
        return notices


def _check(state: _Trace, reservation: Reservation, sums: Iterable[_Sum], now_s: float) -> None:
    """Raise where one of the sums refuses the call. The lock is held, and the call holds nothing in them yet."""
    for each in sums:
        if each.rule.on_exceeded == "warn":
            continue
        limit, prompt, paid = each.rule.max_cost_usd, reservation.prompt_usd, reservation.paid
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
        old.hold_usd = _ZERO
        for each in old.sums:
            each.hold(old)


def _take_over(state: _Trace, reservation: Reservation, groups: list[list[_Sum]], answer: SharedAnswer) -> None:
    """Take the store's figures for this process's, and raise where it refused. The lock is held."""
    broken = None
    for same, spent, reserved in zip(groups, answer.spent_usd, answer.reserved_usd, strict=True):
        held = _EXACT.add(spent, reserved)
        for each in same:
            each.spent_usd = spent
            if answer.admitted or each.rule.on_exceeded == "warn":
                continue
            reason = refusal(held, each.rule.max_cost_usd, reservation.prompt_usd, paid=reservation.paid)
            # The store counts whole nano-USD: should the exact figures not refuse, its word stands.
            if broken is None or (reason and not broken[2]):
                broken = each, held, reason
    if broken is not None:
        raise state.refuse(reservation.node, broken[0], broken[2] or "nothing is left", broken[1])


def _limit(sums: list[_Sum]) -> Decimal | None:
    return min((each.rule.max_cost_usd for each in sums if each.rule.on_exceeded == "raise"), default=None)


def _passed(state: _Trace, sums: Iterable[_Sum]) -> list[str]:
    """Return what to say of budgets that only warn, once for each in a trace. The lock is held."""
    notices = []
    for each in sums:
        if each.rule.on_exceeded == "warn" and each.passed() and (each, "passed") not in state.told:
            state.told.add((each, "passed"))
            spent = _EXACT.add(each.spent_usd, each.running_usd)
            notices.append(
                f"budget of {each.words} exceeded: limit {each.rule.max_cost_usd:f} USD, spent {spent:f} USD"
            )
    return notices


def _unpriced(state: _Trace, sums: Iterable[_Sum], model: str) -> list[str]:
    """Return what to say of a call that budgets cannot count, once for each budget in a trace. The lock is held."""
    new = [each for each in sums if each.rule.unpriced == "warn" and (each, "unpriced") not in state.told]
    state.told.update((each, "unpriced") for each in new)
    words = ", ".join(each.words for each in new)
    return [f"budget of {words} does not count {_named(model)}: it has no price"] if new else []


def _tell(notices: Iterable[str]) -> None:
    """Warn the developer and the operator; the lock is not held, for both may run anybody's code."""
    for notice in notices:
        logger.warning(notice)
        # With `-W error` a warning is an exception, and would cost a reservation its end.
        with contextlib.suppress(Warning):
            warnings.warn(notice, UserWarning, stacklevel=3)


def _named(model: str) -> str:
    return f'model "{model}"' if model else "a model"


def _known(usd: Decimal | None) -> Decimal | None:
    """Return the figure, or None for one that no call can cost."""
    return usd if usd is not None and usd.is_finite() and usd >= 0 else None
