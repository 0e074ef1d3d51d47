"""Every order in which three processes reserve, settle, break off and crash; lost and late messages; windows; lapses.

The processes are real `Budgets` over a real Redis. Only the wire is not: it loses a request or an answer, or carries a
request out later, where a test says so.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.redis import RedisSums, sum_keys
from langchain_mlflow_cost.budgets.rules import Budget, Estimate, SharedSum
from langchain_mlflow_cost.budgets.sums import Reservation, SessionSums
from langchain_mlflow_cost.errors import BudgetExceededError

if TYPE_CHECKING:
    from redis_server import RedisServer

redis = pytest.importorskip("redis", reason="redis-py is not installed: pip install langchain-mlflow-cost[redis]")

D = Decimal
LIMIT = D(1)
PROMPT = D("0.1")


class Wire:
    """A redis-py client whose requests or answers can be lost, or carried out after others."""

    def __init__(self, client: Any) -> None:
        self.fault = "none"
        self.waiting: list[Callable[[], Any]] = []
        self._client = client

    def evalsha(self, *args: Any) -> Any:
        fault, self.fault = self.fault, "none"
        if fault == "request lost":
            raise redis.exceptions.TimeoutError
        if fault == "request late":
            self.waiting.append(lambda: self._carry_out(args))
            raise redis.exceptions.TimeoutError
        answer = self._client.evalsha(*args)
        if fault == "answer lost":
            raise redis.exceptions.TimeoutError
        return answer

    def _carry_out(self, args: Any) -> None:
        self._client.evalsha(*args)

    def eval(self, *args: Any) -> Any:
        return self._client.eval(*args)


@dataclass
class Process:
    """A process: all that a kill takes away."""

    server: RedisServer
    client: Any
    per: str | None = None
    wire: Wire = field(init=False)
    store: RedisSums = field(init=False)
    budgets: Budgets = field(init=False)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.wire = Wire(self.client)
        url = self.server.url
        self.store = RedisSums(url, retry_s=None, clock=lambda: self.now_s, client=self.wire)
        budget = Budget(max_cost_usd=LIMIT, scope="session", per=self.per, store=url)  # type: ignore[arg-type]
        self.budgets = Budgets([budget], open_store=lambda _: self.store, sessions=SessionSums())

    def reserve(self, session: str, expected: Decimal) -> Reservation | BudgetExceededError:
        self.now_s += 16  # No pause keeps a story from its next message.
        try:
            return self.budgets.reserve(
                trace=uuid.uuid4(), node="n", session=session, estimate=Estimate(expected, PROMPT, 10, 5)
            )
        except BudgetExceededError as refusal:
            return refusal

    def settle(self, call: Reservation, usd: Decimal) -> None:
        self.now_s += 16
        self.budgets.settle(call, usd, 10)


@pytest.fixture
def client(redis_server: RedisServer) -> Any:
    return redis_server.client()


# --- all orders, exactly -------------------------------------------------------------------------------------------

STEPS = {"settle": D("0.3"), "settle high": D("0.7"), "break off": D(0), "crash": None}
EXPECTED = D("0.4")


def orders(lengths: list[int]) -> Iterator[tuple[int, ...]]:
    """All ways to merge so many steps of each process."""
    if not any(lengths):
        yield ()
    for who, left in enumerate(lengths):
        if left:
            rest = [each - (other == who) for other, each in enumerate(lengths)]
            yield from ((who, *more) for more in orders(rest))


@pytest.mark.nightly
@pytest.mark.parametrize("ends", list(itertools.combinations_with_replacement(STEPS, 3)), ids="-".join)
def test_all_orders_of_three_processes(redis_server: RedisServer, client: Any, ends: tuple[str, ...]) -> None:
    """Whatever the order: a call is made exactly if there is room for it, and the sum is what the calls have cost.

    Each process makes a call, ends it in its way, and makes another one.
    """
    processes = [Process(redis_server, client) for _ in range(3)]
    for order in orders([3, 3, 3]):
        session = uuid.uuid4().hex
        spent = D(0)
        held: dict[int | str, tuple[Reservation, Decimal]] = {}
        step = [0, 0, 0]
        for who in order:
            step[who] += 1
            if step[who] != 2:
                fits = spent + sum(each[1] for each in held.values()) < LIMIT
                fits &= spent + sum(each[1] for each in held.values()) + PROMPT <= LIMIT
                told = processes[who].reserve(session, EXPECTED)
                assert fits == isinstance(told, Reservation), (order, spent, held)
                if isinstance(told, Reservation):
                    held[who] = told, EXPECTED
            elif who in held and STEPS[ends[who]] is not None:
                usd = STEPS[ends[who]]
                assert usd is not None
                processes[who].settle(held.pop(who)[0], usd)
                spent += usd
            # A crashed process leaves its reservation to lapse: it is held on.
            elif who in held:
                held[f"{who} crashed"] = held.pop(who)
        figures = client.hmget(sum_keys(SharedSum(session))[0], "spent", "reserved")
        in_flight = sum(each[1] for each in held.values())

        assert [spent * 10**9, in_flight * 10**9] == [D(figure or 0) for figure in figures], order
        client.delete(*sum_keys(SharedSum(session)))


# --- stories with faults -------------------------------------------------------------------------------------------

FAULTS = st.sampled_from(["none", "none", "none", "request lost", "answer lost", "request late"])
WHO = st.integers(0, 2)
USD = st.integers(0, 12).map(lambda n: D(n) / 10)


@dataclass
class Known:
    """What a story knows of a call."""

    who: int
    reservation: Reservation
    window: int
    usd: Decimal | None = None
    is_lost: bool = False
    """Its process crashed before the settlement was confirmed: nobody can say whether it counts."""


class Stories(RuleBasedStateMachine):
    """Three processes, a wire with faults, and the truth beside them."""

    server: RedisServer
    per: str | None

    def __init__(self) -> None:
        super().__init__()
        self.client = self.server.client()
        self.session = uuid.uuid4().hex
        self.shared = SharedSum(self.session, per=self.per)
        self.calls: list[Known] = []
        self.window = 0
        self.late: list[Callable[[], Any]] = []
        self.had_fault = False

    @initialize()
    def begin(self) -> None:
        self.processes = [Process(self.server, self.client, self.per) for _ in range(3)]

    def figures(self) -> tuple[Decimal, Decimal]:
        spent, held = self.client.hmget(sum_keys(self.shared)[0], "spent", "reserved")
        return D(spent or 0) / 10**9, D(held or 0) / 10**9

    @rule(who=WHO, fault=FAULTS, expected=USD)
    def reserve(self, who: int, fault: str, expected: Decimal) -> None:
        process = self.processes[who]
        process.wire.fault = fault
        self.had_fault |= fault != "none"
        before = self.figures()
        told = process.reserve(self.session, expected)
        self.late += process.wire.waiting
        process.wire.waiting = []
        if isinstance(told, Reservation):
            self.calls.append(Known(who, told, self.window))
        if not self.had_fault:
            held = sum(before)
            paid = expected > 0 or PROMPT > 0
            assert isinstance(told, Reservation) == (held + PROMPT <= LIMIT and (held < LIMIT or not paid))

    @precondition(lambda self: any(each.usd is None for each in self.calls))
    @rule(data=st.data(), fault=FAULTS, usd=USD)
    def settle(self, data: st.DataObject, fault: str, usd: Decimal) -> None:
        known = data.draw(st.sampled_from([each for each in self.calls if each.usd is None]))
        process = self.processes[known.who]
        process.wire.fault = fault
        self.had_fault |= fault != "none"
        process.settle(known.reservation, usd)
        known.usd = usd
        self.late += process.wire.waiting
        process.wire.waiting = []

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def arrives_late(self, data: st.DataObject) -> None:
        self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))()

    @rule(who=WHO)
    def crash(self, who: int) -> None:
        store = self.processes[who].store
        unsent = {call for calls in store._unsent.values() for call in calls}
        for known in self.calls:
            if known.who == who:
                if known.usd is None:
                    known.usd, known.is_lost = D(0), True
                elif known.reservation.call in unsent:
                    known.is_lost = True
        self.processes[who] = Process(self.server, self.client, self.per)
        self.had_fault = True

    @rule()
    def lapse(self) -> None:
        """As if the reservations were ten minutes old."""
        lapses = sum_keys(self.shared)[1]
        for call in self.client.zrange(lapses, 0, -1):
            if self.client.hget(sum_keys(self.shared)[0], call) != "done":
                self.client.zadd(lapses, {call: 0})
        self.had_fault = True

    @precondition(lambda self: self.per is not None and not self.late)
    @rule()
    def a_new_window(self) -> None:
        """As if all that is known was a window ago: processes first send what they have, so that none waits."""
        for process in self.processes:
            process.now_s += 1000
            process.store.send_rest(1)
        key = sum_keys(self.shared)[0]
        window = self.client.hget(key, "window")
        if window is None:
            return
        self.client.hset(key, "window", int(window) - 1)
        for call, held in self.client.hgetall(key).items():
            if held.count(":") == 2 and held.endswith(f":{window}"):
                self.client.hset(key, call, f"{held.rpartition(':')[0]}:{int(window) - 1}")
        for known in self.calls:
            if known.usd is None:
                # Its process thinks that it reserved it now; the server knows better, unless the reservation lapsed.
                known.is_lost = True
        self.window += 1
        self.had_fault = True

    @invariant()
    def nothing_is_negative(self) -> None:
        assert min(self.figures()) >= 0

    def teardown(self) -> None:
        for arrive in self.late:
            arrive()
        for process in self.processes:
            process.wire.fault = "none"
            process.now_s += 1000
            process.store.send_rest(5)
            assert not process.store._unsent
            # Whoever asks first in a new window makes it begin.
            process.reserve(self.session, D(0))
        here = [each for each in self.calls if each.usd is not None and each.window == self.window]
        certain = sum((each.usd or D(0) for each in here if not each.is_lost), D(0))
        possible = certain + sum((each.usd or D(0) for each in self.calls if each.is_lost), D(0))
        spent, held = self.figures()

        assert certain <= spent <= possible
        if not self.had_fault:
            in_flight = [each.reservation for each in self.calls if each.usd is None]
            assert len(in_flight) <= 10 * len(self.calls)
            assert held >= sum(each.hold_usd(is_worst=False) for each in in_flight)


@pytest.mark.filterwarnings("ignore:Redis at")
@pytest.mark.parametrize("per", [None, "day"])
def test_no_story_loses_or_doubles(redis_server: RedisServer, per: str | None) -> None:
    """After any story, what calls have cost is in the sum, once; without a fault a call is made where there is room."""
    story = type("Story", (Stories,), {"server": redis_server, "per": per})
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
