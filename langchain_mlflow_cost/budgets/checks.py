"""Whether a call may be made, given what its sums hold and what their limits are.

Everything here is called with the lock of the sums held, and only looks; what it changes is the trace's own record.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.budgets.rules import (
    RESERVATION_TTL_S,
    Budget,
    BudgetEvent,
    SharedLimit,
)
from langchain_mlflow_cost.budgets.words import (
    LIMIT_PASSED,
    NO_BOUND,
    NO_PRICE,
    NO_PRICE_AFTER,
    NO_PRICE_IN_THE_END,
    passed_words,
    reached_words,
    refusal_reason,
    unpriced_words,
)
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.money import EXACT, ZERO, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langchain_mlflow_cost.budgets.rules import SharedAnswer
    from langchain_mlflow_cost.budgets.sums import Held, Reservation, Sum, Sums

_AFTER: Final = "no further call in this trace, after: "

Task = tuple[Hashable, Hashable]
"""A task of a graph, and the step that it is of."""


def NO_TASK() -> Task:  # noqa: N802 - a default
    """Say that a call is made in no graph."""
    return None, None


class Question(Exception):  # noqa: N818 - it is no error: the call waits for an answer
    """A budget with `on_exceeded: interrupt` stands before a call: somebody may add to its limit."""

    def __init__(self, refusal: BudgetExceededError, event: BudgetEvent, held: Held) -> None:
        super().__init__()
        self.refusal = refusal
        """To raise where nobody can be asked, or the answer adds nothing."""
        self.event = event
        self.held = held
        """Of the call, in the sum that stands before it."""

    def asked(self) -> dict[str, Any]:
        """The interrupt's value: plain, for a checkpoint keeps it."""
        event = self.event
        return {
            "budget": event.budget,
            "sum": float(event.sum),
            "limit": float(event.limit),
            "unit": event.unit,
            "node": event.node,
            "reason": self.refusal.reason,
            "answer": {"add_usd": "USD"} if event.unit == "USD" else {"add_tokens": "tokens"},
        }


@dataclass(slots=True)
class Broken:
    """Why all further calls of a trace are refused."""

    budget: Budget
    sum: Sum
    reason: str
    """Of the first refusal."""


@dataclass(slots=True)
class TraceState:
    """What lives as long as one trace."""

    used_s: float
    sums: Sums = field(default_factory=dict)
    open: set[Reservation] = field(default_factory=set)
    told: set[tuple[Sum, Budget | str]] = field(default_factory=set)
    broken: Broken | None = None
    """The budget that refused or stopped a call of this trace: from then on all calls are refused."""

    asked_in: dict[Hashable, Hashable] = field(default_factory=dict)
    """The tasks that wait for an answer, with the step that each is of."""

    resumed_by: Hashable = None
    """The invocation that goes on after an interrupt."""


def _refusal(node: str, broken: Broken, reason: str, *, without: Held | None = None) -> BudgetExceededError:
    counted, budget = broken.sum, broken.budget
    mine_usd, mine_tokens = (ZERO, 0) if without is None else (without.usd, without.tokens)
    return BudgetExceededError(
        budget=broken.sum.words,
        limit_usd=_limit_usd(budget, counted),
        spent_usd=counted.really_usd(),
        reserved_usd=EXACT.subtract(EXACT.subtract(counted.reserved_usd, counted.running_usd), mine_usd),
        limit_tokens=_limit_tokens(budget, counted),
        spent_tokens=counted.really_tokens(),
        reserved_tokens=counted.reserved_tokens - counted.running_tokens - mine_tokens,
        scope=budget.scope,
        per=budget.per,
        node=node,
        reason=reason,
    )


def _limit_usd(budget: Budget, counted: Sum) -> Decimal | None:
    limit = budget.max_cost_usd
    return EXACT.add(limit, counted.added_usd) if limit is not None and budget.on_exceeded == "interrupt" else limit


def _limit_tokens(budget: Budget, counted: Sum) -> int | None:
    limit = budget.max_total_tokens
    return limit + counted.added_tokens if limit is not None and budget.on_exceeded == "interrupt" else limit


def check_closed(
    state: TraceState,
    held: Sequence[Held],
    reservation: Reservation,
    task: Callable[[], Task],
    resumed_by: Callable[[], Hashable] | None,
) -> None:
    """Raise where no call of this kind can be made in the trace, whatever is left. The lock is held."""
    broken = state.broken
    if broken is not None and not _goes_on(state, resumed_by):
        here, step = task() if state.asked_in else (None, None)
        if here is None or here in state.asked_in or step not in state.asked_in.values():
            # Where one waits for an answer too: the application has swallowed the interrupt.
            raise _refusal(reservation.node, broken, f"{_AFTER}{broken.reason}")
        # A task beside the one that waits: it waits as well, for an error of it would end them all.
        for each in held:
            if each.sum is broken.sum:
                refusal = _refusal(reservation.node, broken, broken.reason)
                raise Question(refusal, event_of(refusal), each)
    for each in held:
        for budget in each.group.stops:
            reason = _closed_by(budget, reservation)
            if reason is not None:
                raise _refuse(state, each, budget, reason)


def shared_limits(held: Held) -> tuple[SharedLimit, ...]:
    """What can refuse a call in a sum that a store keeps."""
    return tuple(
        SharedLimit(
            budget.max_cost_usd,
            budget.max_total_tokens,
            *_needs(budget, held.reservation),
            may_grow=budget.on_exceeded == "interrupt",
        )
        for budget in held.group.stops
    )


def _needs(budget: Budget, reservation: Reservation) -> tuple[Decimal, int]:
    """What a call must find: its prompt's part, or all that it can cost."""
    if budget.reserve == "worst_case":
        return reservation.hold_usd(is_worst=True), reservation.hold_tokens(is_worst=True)
    return reservation.prompt_usd, reservation.prompt_tokens


def _closed_by(budget: Budget, reservation: Reservation) -> str | None:
    is_worst = budget.reserve == "worst_case"
    if budget.max_cost_usd is not None:
        if reservation.estimate_usd is None:
            if budget.unpriced == "raise" or is_worst:
                return NO_PRICE.format("unpriced: raise" if budget.unpriced == "raise" else "reserve: worst_case")
        elif is_worst and reservation.worst_usd is None and reservation.paid:
            return NO_BOUND
    if is_worst and budget.max_total_tokens is not None and reservation.worst_tokens is None:
        return NO_BOUND
    return None


def check_sums(state: TraceState, reservation: Reservation, held: Iterable[Held], now_s: float) -> None:
    """Raise where one of the sums refuses the call. The lock is held.

    The call may be held in a sum already: by another handler, or by this one, which asked a store. That does not count.
    """
    for each in held:
        for budget in each.group.stops:
            if _refuses(each, budget, reservation):
                _lapse(each.sum, now_s, reservation)
                if _refuses(each, budget, reservation):
                    raise _refuse(state, each, budget, _reason(each, budget, reservation))


def _refuses(held: Held, budget: Budget, reservation: Reservation) -> bool:
    counted = held.sum
    usd, tokens = counted.reserved_usd, counted.reserved_tokens
    mine = counted.open.get(reservation.call)
    if mine is not None:
        usd, tokens = EXACT.subtract(usd, mine.usd), tokens - mine.tokens
    needs_usd, needs_tokens = _needs(budget, reservation)
    limit = _limit_usd(budget, counted)
    if limit is not None:
        usd = EXACT.add(counted.spent_usd, usd)
        if usd > limit or (usd == limit and reservation.paid) or EXACT.add(usd, needs_usd) > limit:
            return True
    most = _limit_tokens(budget, counted)
    if most is None:
        return False
    tokens += counted.spent_tokens
    return tokens >= most or tokens + needs_tokens > most


def _reason(held: Held, budget: Budget, reservation: Reservation) -> str:
    counted, mine = held.sum, held.sum.open.get(reservation.call)
    needs_usd, needs_tokens = _needs(budget, reservation)
    calls = len(counted.open) - (mine is not None)
    usd = counted.reserved_usd if mine is None else EXACT.subtract(counted.reserved_usd, mine.usd)
    tokens = counted.reserved_tokens - (0 if mine is None else mine.tokens)
    return refusal_reason(
        (counted.spent_usd, usd, _limit_usd(budget, counted), needs_usd),
        (counted.spent_tokens, tokens, _limit_tokens(budget, counted), needs_tokens),
        calls=calls,
        is_worst=budget.reserve == "worst_case",
    )


def _refuse(state: TraceState, held: Held, budget: Budget, reason: str) -> BudgetExceededError | Question:
    """Close the trace to all further calls, and return the error to raise. The lock is held."""
    node = held.reservation.node
    broken = Broken(budget, held.sum, reason)
    refusal = _refusal(node, broken, reason, without=held.sum.open.get(held.reservation.call))
    if budget.on_exceeded == "interrupt":
        return Question(refusal, event_of(refusal), held)
    state.broken = state.broken or broken
    return refusal


def _goes_on(state: TraceState, resumed_by: Callable[[], Hashable] | None) -> bool:
    """Whether the trace waited for an answer, and an invocation in it goes on now. The lock is held."""
    if not state.asked_in or resumed_by is None:
        return False
    resumed = resumed_by()
    if resumed is None or resumed == state.resumed_by:
        return False
    state.resumed_by, state.broken = resumed, None
    state.asked_in.clear()
    return True


def _lapse(counted: Sum, now_s: float, asking: Reservation) -> None:
    """Keep nothing back any more for calls that were left, or that nothing was heard of for long.

    What they are known to cost stays.
    """
    for old in [each.reservation for each in counted.open.values()]:
        if old.call != asking.call and (old.seen_s < now_s - RESERVATION_TTL_S or is_over(old)):
            for each in old.held:
                each.sum.free(each)
                each.hold_usd, each.hold_tokens = ZERO, 0
                each.sum.hold(each)


def is_over(reservation: Reservation) -> bool:
    """Whether the code that made a call was left, and nobody told of its end."""
    return reservation.is_over is not None and reservation.is_over() is True


def take_over(state: TraceState, reservation: Reservation, held: Sequence[Held], answer: SharedAnswer) -> None:
    """Take the store's figures for this process's, and raise where it refused. The lock is held."""
    broken: tuple[Held, Budget, str] | None = None
    for each, figures in zip(held, answer.sums, strict=True):
        counted = each.sum
        counted.spent_usd, counted.spent_tokens = figures.spent_usd, figures.spent_tokens
        counted.added_usd, counted.added_tokens = figures.added_usd, figures.added_tokens
        if answer.admitted:
            continue
        for budget in each.group.stops:
            needs_usd, needs_tokens = _needs(budget, reservation)
            usd = (figures.spent_usd, figures.reserved_usd, _limit_usd(budget, counted), needs_usd)
            tokens = (figures.spent_tokens, figures.reserved_tokens, _limit_tokens(budget, counted), needs_tokens)
            reason = refusal_reason(usd, tokens, calls=None, is_worst=budget.reserve == "worst_case")
            # The store counts whole nano-USD: should the exact figures not refuse, its word stands.
            if broken is None or (reason and not broken[2]):
                broken = each, budget, reason
    if broken is None:
        return
    each, budget, reason = broken
    figures = answer.sums[held.index(each)]
    error = _refuse(state, each, budget, reason or "nothing is left")
    refusal = error.refusal if isinstance(error, Question) else error
    refusal = BudgetExceededError(
        **{
            **vars(refusal),
            "spent_usd": figures.spent_usd,
            "reserved_usd": figures.reserved_usd,
            "spent_tokens": figures.spent_tokens,
            "reserved_tokens": figures.reserved_tokens,
        }
    )
    raise Question(refusal, event_of(refusal), each) if isinstance(error, Question) else refusal


def stopped(state: TraceState, held: Held) -> BudgetExceededError | None:
    """Return why a stream must be stopped: what is really spent is beyond a limit. The lock is held."""
    counted = held.sum
    for budget in held.group.stops:
        limit, most = _limit_usd(budget, counted), _limit_tokens(budget, counted)
        if (limit is not None and counted.really_usd() > limit) or (
            most is not None and counted.really_tokens() > most
        ):
            broken = Broken(budget, counted, LIMIT_PASSED)
            state.broken = state.broken or broken
            return _refusal(held.reservation.node, broken, LIMIT_PASSED, without=None)
    return None


def close_unpriced(state: TraceState, held: Iterable[Held], reservation: Reservation) -> None:
    """Refuse what comes after a call without a price. This one is made and paid. The lock is held."""
    for each in held:
        for budget in each.group.budgets:
            if budget.max_cost_usd is not None and budget.unpriced == "raise":
                reason = NO_PRICE_AFTER if reservation.estimate_usd is None else NO_PRICE_IN_THE_END
                state.broken = state.broken or Broken(budget, each.sum, reason)


def reached(state: TraceState, held: Iterable[Held]) -> tuple[list[str], list[BudgetEvent]]:
    """Return what to say of budgets that only warn, and of fractions of limits, each once. The lock is held."""
    notices: list[str] = []
    events: list[BudgetEvent] = []
    for each in held:
        if not each.group.tells:
            continue
        counted = each.sum
        spent_usd, spent_tokens = counted.really_usd(), counted.really_tokens()
        for budget in each.group.budgets:
            for unit, spent, limit in (
                ("USD", spent_usd, _limit_usd(budget, counted)),
                ("tokens", Decimal(spent_tokens), _limit_tokens(budget, counted)),
            ):
                if limit is None:
                    continue
                if not budget.refuses and spent > limit and (counted, unit) not in state.told:
                    state.told.add((counted, unit))
                    notices.append(passed_words(counted.words, spent, limit, unit))
                for fraction in budget.warn_at:
                    mark = unit, limit, fraction
                    # Of a limit of 0 every fraction is reached before anything is spent.
                    if mark in counted.told or not spent or spent < EXACT.multiply(fraction, limit):
                        continue
                    counted.told.add(mark)
                    notices.append(reached_words(counted.words, spent, limit, unit, fraction))
                    events.append(
                        BudgetEvent(
                            budget=counted.words,
                            sum=plain(spent),
                            limit=Decimal(limit),
                            unit=unit,  # type: ignore[arg-type]
                            fraction=float(fraction),
                            node=each.reservation.node,
                            scope=budget.scope,
                            per=budget.per,
                            reserved=plain(counted.reserved_usd) if unit == "USD" else Decimal(counted.reserved_tokens),
                        )
                    )
    return notices, events


def event_of(refusal: BudgetExceededError) -> BudgetEvent:
    """What `on_budget` is told of a refusal: in tokens where only those are limited, or nearer their limit."""
    by_usd = by_tokens = None
    if refusal.limit_usd is not None:
        by_usd = float(EXACT.divide(refusal.spent_usd, refusal.limit_usd)) if refusal.limit_usd else 1.0
    if refusal.limit_tokens is not None:
        by_tokens = refusal.spent_tokens / refusal.limit_tokens if refusal.limit_tokens else 1.0
    in_tokens = by_usd is None or (by_tokens is not None and by_tokens > by_usd)
    limit = refusal.limit_tokens if in_tokens else refusal.limit_usd
    return BudgetEvent(
        budget=refusal.budget,
        sum=Decimal(refusal.spent_tokens) if in_tokens else refusal.spent_usd,
        limit=Decimal(limit or 0),
        unit="tokens" if in_tokens else "USD",
        fraction=(by_tokens if in_tokens else by_usd) or 0.0,
        node=refusal.node,
        refused=True,
        scope=refusal.scope,
        per=refusal.per,
        reserved=Decimal(refusal.reserved_tokens) if in_tokens else refusal.reserved_usd,
    )


def unpriced(state: TraceState, held: Iterable[Held]) -> list[str]:
    """Return what to say of a call that budgets cannot count, once for each budget in a trace. The lock is held."""
    new = []
    for each in held:
        warns = any(budget.max_cost_usd is not None and budget.unpriced == "warn" for budget in each.group.budgets)
        if warns and (each.sum, "unpriced") not in state.told:
            state.told.add((each.sum, "unpriced"))
            new.append(each.sum.words)
    return [unpriced_words(new)] if new else []
