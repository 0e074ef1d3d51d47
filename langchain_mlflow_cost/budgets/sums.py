"""What budgets have counted: one sum for each trace, node, session, user or tag, whatever the limits on it.

Nothing here decides anything: `local` does.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.money import EXACT, ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from decimal import Decimal

    from langchain_mlflow_cost.budgets.rules import Budget, SharedSum, SharedSums

logger = logging.getLogger(__name__)

MAX_SESSIONS = 10_000
"""Sessions, users and tags whose sums one process remembers, and as many again whose budget is used up."""


class SumKey(NamedTuple):
    """Which of the sums of one trace, session, user or tag it is."""

    scope: str
    node: str | None
    """Path of the node whose calls count; None where all do."""
    is_exact: bool
    """Only the node's own calls count, not those of nodes inside it."""
    per: str | None
    store: str | None


@dataclass(eq=False, slots=True)
class Group:
    """The budgets of one handler that share a sum."""

    key: SumKey = field(repr=False)
    """It has the URL of a store, and that can hold a password."""
    budgets: tuple[Budget, ...]
    stops: tuple[Budget, ...]
    """Those that refuse calls."""
    tells: bool
    """Some of them warn, or call back."""
    lowest_usd: Decimal | None
    """The lowest limit of those."""
    lowest_tokens: int | None
    is_worst: bool
    """What a call holds is what it can cost at most."""
    words: str
    """Which sum it is, for people; no id in it."""
    words_alone: str
    """The same where the owner is unknown, and the trace stands in for it."""


@dataclass(eq=False, slots=True)
class Held:
    """What one call holds in one sum."""

    reservation: Reservation
    sum: Sum
    group: Group
    hold_usd: Decimal
    hold_tokens: int
    usd: Decimal = ZERO
    """In the sum now: what is held back, or what is spent where that is more by now."""
    tokens: int = 0
    running_usd: Decimal = ZERO
    running_tokens: int = 0


@dataclass(eq=False, slots=True)
class Reservation:
    """One model call in flight, from `Budgets.reserve` to `Budgets.settle`."""

    call: str
    """Its name, the same in all handlers that count it."""

    trace: Hashable
    node: str
    owners: Mapping[str, str]
    """The ids of session, user and tags, by scope."""

    estimate_usd: Decimal | None
    """What prompt and answer are expected to cost; None: the model has no price."""

    prompt_usd: Decimal
    estimate_tokens: int
    prompt_tokens: int
    worst_usd: Decimal | None
    """What it can cost at most; None where nothing bounds it."""

    worst_tokens: int | None
    seen_s: float
    running_usd: Decimal = ZERO
    """What a stream is known to have cost so far."""

    running_tokens: int = 0
    given_up_usd: Decimal = ZERO
    """What counted as spent when the trace ended before the call."""

    given_up_tokens: int = 0
    settled: bool = False
    held: tuple[Held, ...] = field(default=(), repr=False)
    shared: list[tuple[SharedSums, list[SharedSum], float]] = field(default_factory=list)
    """The stores that know of it, the sums there, and when it was reserved by the store's clock."""

    is_over: Callable[[], bool | None] | None = field(default=None, repr=False)
    """Whether the code that made the call was left, by an error that LangChain does not tell; None: nobody knows."""

    @property
    def paid(self) -> bool:
        """Whether the call is not known to be free."""
        return self.estimate_usd is None or self.estimate_usd > 0 or self.prompt_usd > 0

    def hold_usd(self, *, is_worst: bool) -> Decimal:
        """Tell what is to be kept back for it."""
        expected = max(self.estimate_usd or ZERO, self.prompt_usd)
        return expected if not is_worst or self.worst_usd is None else max(self.worst_usd, expected)

    def hold_tokens(self, *, is_worst: bool) -> int:
        """Tell what is to be kept back for it."""
        expected = max(self.estimate_tokens, self.prompt_tokens)
        return expected if not is_worst or self.worst_tokens is None else max(self.worst_tokens, expected)


@dataclass(eq=False, slots=True)
class Sum:
    """What has been counted in one trace, node, session, user or tag."""

    words: str
    window: int = 0
    spent_usd: Decimal = ZERO
    reserved_usd: Decimal = ZERO
    running_usd: Decimal = ZERO
    """The part of `reserved_usd` that streams have really spent by now."""

    spent_tokens: int = 0
    reserved_tokens: int = 0
    running_tokens: int = 0
    added_usd: Decimal = ZERO
    """What answers to interrupts have added to the limits of `on_exceeded: interrupt`."""

    added_tokens: int = 0
    lowest_usd: Decimal | None = None
    """The lowest limit that refuses calls, of all that were seen on it."""

    lowest_tokens: int | None = None
    open: dict[str, Held] = field(default_factory=dict)
    """The calls in flight, by their names."""

    told: set[Any] = field(default_factory=set)

    def note_limits(self, group: Group) -> None:
        """Remember the lowest limits on it."""
        usd, tokens = group.lowest_usd, group.lowest_tokens
        if usd is not None and (self.lowest_usd is None or usd < self.lowest_usd):
            self.lowest_usd = usd
        if tokens is not None and (self.lowest_tokens is None or tokens < self.lowest_tokens):
            self.lowest_tokens = tokens

    def hold(self, held: Held) -> None:
        """Keep back what a call holds."""
        reservation = held.reservation
        self.open[reservation.call] = held
        running_usd, running_tokens = reservation.running_usd, reservation.running_tokens
        held.usd, held.tokens = held.hold_usd, held.hold_tokens
        if running_tokens or running_usd:
            held.running_usd, held.running_tokens = running_usd, running_tokens
            held.usd, held.tokens = max(held.usd, running_usd), max(held.tokens, running_tokens)
            self.running_usd = EXACT.add(self.running_usd, running_usd)
            self.running_tokens += running_tokens
        self.reserved_usd = EXACT.add(self.reserved_usd, held.usd)
        self.reserved_tokens += held.tokens

    def free(self, held: Held) -> None:
        """Give back what a call holds; a second time changes nothing."""
        if self.open.get(held.reservation.call) is not held:
            return
        del self.open[held.reservation.call]
        self.reserved_usd = EXACT.subtract(self.reserved_usd, held.usd)
        self.reserved_tokens -= held.tokens
        if held.running_usd or held.running_tokens:
            self.running_usd = EXACT.subtract(self.running_usd, held.running_usd)
            self.running_tokens -= held.running_tokens

    def really_usd(self) -> Decimal:
        """Tell what is really spent, estimates left out."""
        return EXACT.add(self.spent_usd, self.running_usd)

    def really_tokens(self) -> int:
        """Tell what is really used, estimates left out."""
        return self.spent_tokens + self.running_tokens

    def is_used_up(self) -> bool:
        """Whether one of the limits that were seen on it refuses what costs anything."""
        return (self.lowest_usd is not None and self.spent_usd >= self.lowest_usd) or (
            self.lowest_tokens is not None and self.spent_tokens >= self.lowest_tokens
        )


Sums = dict[SumKey, Sum]
Owner = tuple[str, str]
"""A scope, and an id in it."""


class SessionSums:
    """The sums of sessions, users and tags in this process, shared by all handlers: often each invocation has its own.

    At most `max_sessions` of them are remembered; the least recently used goes first, and its sum starts again at 0.
    Those whose budget is used up are not among them: `max_sessions` of those are kept apart, and one that has to go is
    logged.
    """

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self.lock = threading.Lock()
        """Guards these sums, and the traces of every `Budgets` over them: a call is checked against both at once."""

        self._max = max_sessions
        self._open: OrderedDict[Owner, Sums] = OrderedDict()
        self._used_up: OrderedDict[Owner, Sums] = OrderedDict()
        self._made: OrderedDict[tuple[Sum, str], None] = OrderedDict()
        self._interrupted: OrderedDict[str, Sums] = OrderedDict()

    def of(self, owner: Owner) -> Sums:
        """Return the owner's sums, as the most recently used. The lock is held."""
        for owners in (self._open, self._used_up):
            if owner in owners:
                owners.move_to_end(owner)
                return owners[owner]
        self._make_room(self._open)
        return self._open.setdefault(owner, {})

    def sort(self, owner: Owner) -> None:
        """Put the owner where it belongs after its sums have changed. The lock is held."""
        for here, there, used_up in ((self._open, self._used_up, True), (self._used_up, self._open, False)):
            sums = here.get(owner)
            if sums is not None and any(each.is_used_up() for each in sums.values()) == used_up:
                self._make_room(there)
                there[owner] = here.pop(owner)
                return

    def is_new(self, counting: Sum, call: str) -> bool:
        """Whether a call that was made already is not in a sum yet; from now on it is. The lock is held."""
        if (counting, call) in self._made:
            return False
        self._made[counting, call] = None
        while len(self._made) > limits().made_calls:
            self._made.popitem(last=False)
        return True

    def keep_interrupted(self, thread: str, sums: Sums) -> None:
        """Keep a trace's sums for the invocation that resumes it. The lock is held."""
        self._interrupted[thread] = {**self._interrupted.pop(thread, {}), **sums}
        while len(self._interrupted) > self._max:
            self._interrupted.popitem(last=False)

    def interrupted(self, thread: str | None, *, goes_on: bool) -> Sums | None:
        """Return the sums of the trace that a thread was interrupted in. The lock is held.

        Args:
            thread: LangGraph's `thread_id`.
            goes_on: It is resumed; else a new invocation begins in its place, and the old one's sums are forgotten.
        """
        if thread is None or not self._interrupted:
            return None
        return self._interrupted.get(thread) if goes_on else self._interrupted.pop(thread, None) and None

    def _make_room(self, owners: OrderedDict[Owner, Sums]) -> None:
        for _ in range(len(owners)):
            if len(owners) < self._max:
                return
            owner, sums = owners.popitem(last=False)
            if any(each.open for each in sums.values()):
                owners[owner] = sums  # A call in flight has yet to be counted in it.
            elif owners is self._used_up:
                logger.warning("over %d sessions have used up their budget; the oldest of them starts anew", self._max)


PROCESS = SessionSums()
