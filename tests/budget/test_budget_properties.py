"""What holds for every order of calls, streams and ends, in one process and in Redis."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.rules import Budget, Estimate
from langchain_mlflow_cost.budgets.sums import Reservation, SessionSums
from langchain_mlflow_cost.errors import BudgetExceededError

if TYPE_CHECKING:
    from redis_server import RedisServer

D = Decimal
LIMIT = D(1)

# Thousandths of the limit, so that sums often meet it exactly.
USD = st.integers(0, 1200).map(lambda n: D(n) / 1000)
FINE_USD = st.decimals(0, 2, places=12)


@dataclass
class Call:
    """One call of a story: what was thought of it, what it cost, and when it ends among the others."""

    estimate: Decimal
    prompt: Decimal
    actual: Decimal
    ends_after: int
    reservation: Reservation | None = field(default=None)


def calls(usd: st.SearchStrategy[Decimal]) -> st.SearchStrategy[list[Call]]:
    return st.lists(st.builds(Call, usd, usd, usd, st.integers(0, 4)), max_size=20)


def tell(budgets: Budgets, story: list[Call], session: str | None = None) -> list[str]:
    """Run a story, and return what became of each call: each has a trace of its own, so that none closes the next."""
    outcomes = []
    for now, call in enumerate(story):
        for earlier in story[:now]:
            if earlier.reservation is not None and now - story.index(earlier) > earlier.ends_after:
                budgets.settle(earlier.reservation, earlier.actual)
        try:
            call.reservation = budgets.reserve(
                trace=now, node="n", session=session, estimate=Estimate(call.estimate, call.prompt)
            )
        except BudgetExceededError as error:
            outcomes.append(f"{error.spent_usd + error.reserved_usd:f} {error.reason}")
        else:
            outcomes.append("admitted")
    return outcomes


def in_process() -> Budgets:
    return Budgets([Budget(max_cost_usd=LIMIT, scope="session")], sessions=SessionSums())


def held(story: list[Call], now: int) -> tuple[Decimal, Decimal]:
    """Work out what is spent and what is reserved before a call, the slow way."""
    spent = reserved = D(0)
    for then, call in enumerate(story[:now]):
        if call.reservation is not None:
            if now - then > call.ends_after:
                spent += call.actual
            else:
                reserved += max(call.estimate, call.prompt)
    return spent, reserved


@given(calls(USD))
def test_admitted_exactly_when_there_is_room(story: list[Call]) -> None:
    """A call passes where spent and reserved leave something, and room for its prompt; whatever came before."""
    outcomes = tell(in_process(), story, "s")
    expected = []
    for now, call in enumerate(story):
        before = sum(held(story, now))
        paid = call.estimate > 0 or call.prompt > 0
        expected.append(before + call.prompt <= LIMIT and (before < LIMIT or not paid))

    assert expected == [outcome == "admitted" for outcome in outcomes]


@given(calls(FINE_USD))
def test_overshoot_is_what_was_running(story: list[Call]) -> None:
    """When a call is admitted, what is spent is within the limit: only calls that run already can pass it."""
    budgets = in_process()
    tell(budgets, story, "s")
    admitted = [now for now, call in enumerate(story) if call.reservation is not None]

    assert all(held(story, now)[0] <= LIMIT for now in admitted)


@given(st.lists(FINE_USD, max_size=15), st.randoms(use_true_random=False))
def test_order_changes_nothing(costs: list[Decimal], random: object) -> None:
    """Whatever order calls end in, exactly what they cost is spent and nothing stays reserved."""
    budgets = Budgets([Budget(max_cost_usd=D(1000))], sessions=SessionSums())
    ends = [(budgets.reserve(trace="t", node="n", estimate=Estimate(D(1))), cost) for cost in costs]
    random.shuffle(ends)  # type: ignore[attr-defined]
    for call, cost in ends:
        budgets.grow(call, cost / 2)
        budgets.settle(call, cost)
    with pytest.raises(BudgetExceededError) as caught:
        budgets.reserve(trace="t", node="n", estimate=Estimate(D(1000), D(1001)))

    assert sum(costs) == caught.value.spent_usd


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls(USD))
def test_redis_answers_as_the_process_does(redis_server: RedisServer, story: list[Call]) -> None:
    """The check on the server and the one in this process come to the same, figure by figure."""
    from langchain_mlflow_cost.budgets.redis import RedisSums

    store = RedisSums(redis_server.url, timeout_s=30)
    shared = Budgets(
        [Budget(max_cost_usd=LIMIT, scope="session", store="redis://")],
        open_store=lambda _: store,
        sessions=SessionSums(),
    )
    here = tell(in_process(), [Call(c.estimate, c.prompt, c.actual, c.ends_after) for c in story], "s")
    there = tell(shared, story, uuid.uuid4().hex)

    assert [_plain(outcome) for outcome in here] == [_plain(outcome) for outcome in there]


def _plain(outcome: str) -> tuple[Decimal | str, ...]:
    # Only the process itself knows how many calls are in flight.
    first, *rest = re.sub(r"\d+ calls? in flight", "calls in flight", outcome).split(maxsplit=1)
    return (first, *rest) if first == "admitted" else (Decimal(first), *rest)
