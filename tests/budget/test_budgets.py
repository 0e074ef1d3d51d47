"""What a budget lets pass and what it refuses, without LangChain, MLflow or a server."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from fakes import Clock

from langchain_mlflow_cost import MlflowCostHandler, limits
from langchain_mlflow_cost.budgets.local import TRACE_IDLE_S, Budgets
from langchain_mlflow_cost.budgets.rules import RESERVATION_TTL_S, Budget, BudgetEvent, Estimate, SharedSums
from langchain_mlflow_cost.budgets.sums import Reservation, SessionSums
from langchain_mlflow_cost.errors import BudgetExceededError, PolicyError

D = Decimal


def budgets(*rules: Budget, **settings: Any) -> Budgets:
    settings.setdefault("sessions", SessionSums())
    return Budgets(rules, **settings)


def rule(limit: str, scope: Any = "trace", **fields: Any) -> Budget:
    node = fields.pop("node", None)
    budget = Budget(max_cost_usd=D(limit), scope=scope, **fields)
    return budget if node is None else budget.in_nodes(node)


def reserve(
    to: Budgets,
    estimate: str | None = "0.1",
    *,
    prompt: str | None = None,
    trace: str = "t",
    node: str = "n",
    session: str | None = None,
) -> Reservation:
    return to.reserve(
        trace=trace,
        node=node,
        session=session,
        estimate=Estimate(None if estimate is None else D(estimate), None if prompt is None else D(prompt)),
    )


def held_usd(error: BudgetExceededError) -> Decimal:
    """What the sum was that refused."""
    return error.spent_usd + error.reserved_usd


def spend(to: Budgets, usd: str, **where: Any) -> None:
    to.settle(reserve(to, usd, **where), D(usd))


# The edges of one check.


@pytest.mark.parametrize(
    ("spent", "estimate", "prompt"),
    [
        pytest.param("0", "0.1", None, id="nothing spent"),
        pytest.param("0.999999999", "0.1", None, id="just under the limit"),
        pytest.param("0", "5", None, id="a huge max_tokens alone"),
        pytest.param("0.9", "5", None, id="a huge max_tokens on what is left"),
        pytest.param("0.9", "5", "0.1", id="a prompt that takes all that is left"),
        pytest.param("1", "0", None, id="a free call at the limit"),
        pytest.param("0.5", "0", None, id="a free call below it"),
        pytest.param("0.999999999", None, None, id="an unpriced call below it"),
    ],
)
@pytest.mark.filterwarnings("ignore:budget of trace does not count")
def test_admitted(spent: str, estimate: str | None, prompt: str | None) -> None:
    """A call is made while something is left and its prompt fits in, however much its answer might cost."""
    checked = budgets(rule("1"))
    spend(checked, spent)

    assert not reserve(checked, estimate, prompt=prompt).settled


@pytest.mark.parametrize(
    ("spent", "estimate", "prompt"),
    [
        pytest.param("1", "0.1", None, id="at the limit"),
        pytest.param("1.000000001", "0.1", None, id="beyond it"),
        pytest.param("0.9", "5", "0.100000001", id="a prompt just too large for what is left"),
        pytest.param("0", "3", "3", id="a prompt larger than the budget"),
        pytest.param("0", None, "3", id="a prompt that is priced alone"),
        pytest.param("1.000000001", "0", None, id="a free call beyond it"),
        pytest.param("1", None, None, id="an unpriced call at the limit"),
    ],
)
def test_refused(spent: str, estimate: str | None, prompt: str | None) -> None:
    """A call is refused where nothing is left, or where its prompt alone would pass the limit."""
    checked = budgets(rule("1"))
    spend(checked, spent)

    with pytest.raises(BudgetExceededError):
        reserve(checked, estimate, prompt=prompt)


def test_zero_admits_only_what_is_free() -> None:
    """A budget of 0 USD lets local models pass, and nothing that costs."""
    checked = budgets(rule("0"))
    spend(checked, "0")

    with pytest.raises(BudgetExceededError):
        reserve(checked, "0.000000001")


def test_calls_in_flight_count() -> None:
    """What calls in flight are estimated to cost is not there for the calls beside them."""
    checked = budgets(rule("1"))
    reserve(checked, "0.6")
    reserve(checked, "0.4")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked, "0.01")

    assert (D(0), D("1.0")) == (caught.value.spent_usd, caught.value.reserved_usd)


def test_settling_frees_the_estimate() -> None:
    """Once a call is settled, only what it really cost counts."""
    checked = budgets(rule("1"))
    checked.settle(reserve(checked, "5"), D("0.2"))
    spend(checked, "0.7")
    first = reserve(checked, "0.1")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked, "0.1")

    assert (D("0.9"), D("0.1"), False) == (caught.value.spent_usd, caught.value.reserved_usd, first.settled)


@pytest.mark.parametrize("figure", ["0", "0.3"])
def test_settled_once(figure: str) -> None:
    """A call that is settled twice counts as it was settled first."""
    checked = budgets(rule("1"))
    call = reserve(checked, "0.5")
    checked.settle(call, D(figure))
    checked.settle(call, D(9))
    reserve(checked, "9")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked)

    assert D(figure) + 9 == held_usd(caught.value)


@pytest.mark.parametrize("figure", ["NaN", "-1", "Infinity"])
def test_impossible_figures(figure: str) -> None:
    """A figure that no call can cost is as unknown as none, in every place, and raises nowhere."""
    checked = budgets(rule("1"))
    call = reserve(checked, "0.5", prompt=figure)
    checked.grow(call, D(figure))
    with pytest.warns(UserWarning, match="no price"):
        checked.settle(call, D(figure))
    reserve(checked, "9")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked)

    assert D("9.5") == held_usd(caught.value)


def test_exact_in_any_context() -> None:
    """Sums stay exact in a thread that computes with three digits."""
    checked = budgets(rule("1.3"))
    with localcontext() as context:
        context.prec = 3
        for _ in range(10):
            spend(checked, "0.1234567891")
    spend(checked, "0.1")
    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked)

    assert D("1.334567891") == caught.value.spent_usd


def test_no_budget() -> None:
    """Without a budget everything passes, and nothing has to be estimated."""
    checked = budgets()
    call = reserve(checked, None)
    checked.grow(call, D(5))
    checked.settle(call, None)
    checked.end_trace("t")

    assert not checked


# After a refusal.


@pytest.mark.parametrize("scope", ["trace", "node", "session"])
def test_refused_for_good(scope: Any) -> None:
    """After one refusal every call of that trace is refused, in other nodes too, cheap and free ones as well."""
    checked = budgets(rule("1", scope))
    with pytest.raises(BudgetExceededError):
        reserve(checked, "3", prompt="3", session="s")
    with pytest.raises(BudgetExceededError, match="no further call in this trace") as caught:
        reserve(checked, "0", node="other", session="s")

    assert caught.value.node == "other"


def test_other_traces_go_on() -> None:
    """A refusal closes its own trace, not the ones beside it."""
    checked = budgets(rule("1"))
    with pytest.raises(BudgetExceededError):
        reserve(checked, prompt="3", trace="one")

    assert not reserve(checked, trace="two").settled


def test_refusal_reserves_nothing() -> None:
    """A call that one budget refuses takes nothing from the others."""
    sums = SessionSums()
    refusing = budgets(rule("1", "session"), rule("0.5"), sessions=sums)
    with pytest.raises(BudgetExceededError):
        reserve(refusing, "0.9", prompt="0.9", session="s", trace="one")
    spend(refusing, "0.4", session="s", trace="two")
    spend(refusing, "0.4", session="s", trace="three")
    with pytest.raises(BudgetExceededError) as caught:
        reserve(refusing, "0.4", prompt="0.4", session="s", trace="four")

    assert ("session", D("0.8")) == (caught.value.budget, caught.value.spent_usd)


def test_calls_in_flight_settle_after_a_refusal() -> None:
    """The calls that were already running when the trace was closed are still counted."""
    checked = budgets(rule("1"))
    running = reserve(checked, "1")
    with pytest.raises(BudgetExceededError):
        reserve(checked)
    checked.settle(running, D("0.25"))
    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked)

    assert D("0.25") == caught.value.spent_usd


# What has a sum of its own.


@pytest.mark.parametrize(
    ("checked", "where", "words"),
    [
        pytest.param(rule("1"), {"node": "a"}, "trace", id="trace"),
        pytest.param(rule("1", "node"), {"node": "a/b"}, 'node "a/b"', id="node"),
        pytest.param(rule("1", "node"), {"node": ""}, "the calls outside any node", id="no node"),
        pytest.param(rule("1", "session"), {"session": "x"}, "session", id="session"),
        pytest.param(rule("1", "session"), {"session": None}, "trace", id="no session"),
        pytest.param(rule("1", node="a"), {"node": "a/b"}, 'node "a"', id="entry"),
        pytest.param(
            rule("1", "session", node="a"),
            {"node": "a", "session": "x"},
            'node "a" in session',
            id="entry, session",
        ),
    ],
)
def test_named_in_the_error(checked: Budget, where: dict[str, Any], words: str) -> None:
    """The error names the budget, its limit, the sum and the node."""
    limited = budgets(checked)
    spend(limited, "1.5", **where)
    with pytest.raises(BudgetExceededError) as caught:
        reserve(limited, **where)

    error = caught.value
    assert (words, D(1), D("1.5"), where.get("node", "n")) == (
        error.budget,
        error.limit_usd,
        error.spent_usd,
        error.node,
    )


@pytest.mark.parametrize(
    ("checked", "first", "second"),
    [
        pytest.param(rule("1"), {"node": "a"}, {"node": "b/c"}, id="nodes of a trace"),
        pytest.param(rule("1", "node"), {"node": "a"}, {"node": "a"}, id="a node, twice"),
        pytest.param(
            rule("1", "session"),
            {"trace": "t", "node": "a", "session": "s"},
            {"trace": "u", "node": "b", "session": "s"},
            id="traces of a session",
        ),
        pytest.param(rule("1", node="a"), {"node": "a/b"}, {"node": "a/c/d"}, id="all inside an entry's node"),
        pytest.param(rule("1", node=r"a\/b"), {"node": r"a\/b"}, {"node": r"a\/b/c"}, id="a slash in a name"),
        pytest.param(
            rule("1", "session", node="a"),
            {"trace": "t", "node": "a", "session": "s"},
            {"trace": "u", "node": "a", "session": "s"},
            id="an entry's node in a session",
        ),
    ],
)
def test_counted_together(checked: Budget, first: dict[str, Any], second: dict[str, Any]) -> None:
    """These calls share a sum."""
    limited = budgets(checked)
    spend(limited, "1", **first)

    with pytest.raises(BudgetExceededError):
        reserve(limited, **second)


@pytest.mark.parametrize(
    ("checked", "first", "second"),
    [
        pytest.param(rule("1"), {"trace": "t"}, {"trace": "u"}, id="traces"),
        pytest.param(rule("1", "node"), {"node": "a"}, {"node": "b"}, id="nodes"),
        pytest.param(rule("1", "node"), {"node": "a/b"}, {"node": "a/c"}, id="nodes in a subgraph"),
        pytest.param(rule("1", "node"), {"trace": "t", "node": "a"}, {"trace": "u", "node": "a"}, id="a node's traces"),
        pytest.param(rule("1", "session"), {"session": "s"}, {"session": "r"}, id="sessions"),
        pytest.param(rule("1", "session"), {"trace": "t"}, {"trace": "u"}, id="traces without a session"),
        pytest.param(rule("1", node="a"), {"node": "b"}, {"node": "b/a"}, id="nodes that no entry is for"),
        pytest.param(rule("1", node="a"), {"node": "a"}, {"node": ""}, id="outside any node"),
        pytest.param(rule("1", node="a"), {"node": "a"}, {"node": r"a\/b"}, id="a slash in a name"),
        pytest.param(rule("1", "node", node="a"), {"node": "a/b"}, {"node": "a/c"}, id="nodes inside an entry's node"),
    ],
)
def test_counted_apart(checked: Budget, first: dict[str, Any], second: dict[str, Any]) -> None:
    """These calls do not share a sum."""
    limited = budgets(checked)
    spend(limited, "1", **first)

    assert not reserve(limited, **second).settled


def test_entries_with_patterns() -> None:
    """Each node that an entry's pattern is for has a sum of its own, in which all inside it counts."""
    limited = budgets(rule("1", node="worker_*"))
    spend(limited, "0.6", node="worker_1/model")
    spend(limited, "0.6", node="worker_2")
    spend(limited, "0.6", node="other")
    spend(limited, "0.6", node="worker_1")

    with pytest.raises(BudgetExceededError, match='budget of node "worker_1": '):
        reserve(limited, node="worker_1/tools")


def test_an_entry_is_for_its_node_in_any_graph() -> None:
    """An entry that is a name counts the nodes of that name in subgraphs as well, each by itself."""
    limited = budgets(rule("1", node="critic"))
    spend(limited, "1", node="critic")
    spend(limited, "0.5", node="team/critic/model")
    spend(limited, "0.5", node="team/critic")

    with pytest.raises(BudgetExceededError, match='budget of node "team/critic": '):
        reserve(limited, node="team/critic/tools")


def test_the_strictest_holds() -> None:
    """Where a call counts in several budgets, each of them can refuse it."""
    limited = budgets(rule("10"), rule("1", node="a"), rule("0.5", node="a/b"))
    spend(limited, "0.5", node="a/b")
    spend(limited, "0.4", node="a/c")

    with pytest.raises(BudgetExceededError, match='budget of node "a/b": '):
        reserve(limited, node="a/b")


def test_the_same_budget_twice() -> None:
    """A budget that stands twice in a policy counts once."""
    limited = budgets(rule("1"), rule("1"))
    spend(limited, "0.9")

    assert not reserve(limited).settled


# Warnings.


def test_warns_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """`warn` tells once for a trace, when the money is really spent, and through warnings alone."""
    warned = budgets(rule("1", on_exceeded="warn"))
    spend(warned, "1")
    with pytest.warns(UserWarning, match="budget of trace exceeded: limit 1 USD, spent 1.5 USD") as caught:  # noqa: PT031 - one warning for all of it
        spend(warned, "0.5")
        spend(warned, "0.5")

    assert (len(caught), caplog.records) == (1, [])


@pytest.mark.filterwarnings("error")
def test_estimates_warn_nobody() -> None:
    """Reservations beyond the limit are no reason to warn: the money is not spent."""
    warned = budgets(rule("1", on_exceeded="warn"))
    calls = [reserve(warned, "5", prompt="3") for _ in range(3)]
    for call in calls:
        warned.settle(call, D("0.3"))

    assert all(call.settled for call in calls)


def test_each_trace_is_warned_about() -> None:
    """The next trace that passes its limit is told of as well."""
    warned = budgets(rule("1", on_exceeded="warn"))
    with pytest.warns(UserWarning, match="exceeded") as caught:  # noqa: PT031 - one warning for all of it
        spend(warned, "2", trace="one")
        spend(warned, "2", trace="two")

    assert len(caught) == 2


def test_a_warning_never_stops_a_call(caplog: pytest.LogCaptureFixture) -> None:
    """Where warnings are errors, the call goes on, is counted, and the log tells."""
    warned = budgets(rule("1", on_exceeded="warn"), rule("3"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spend(warned, "2")
        spend(warned, "1")
    with pytest.raises(BudgetExceededError):
        reserve(warned)

    assert caplog.messages == ["budget of trace exceeded: limit 1 USD, spent 2 USD"]


# Calls without a price.


def test_unpriced_warns_once() -> None:
    """A call without a price is told of once for a trace, and goes on; a model's name may hold a person's."""
    warned = budgets(rule("1"), rule("2", "node"))
    with pytest.warns(UserWarning, match='budget of trace, node "n" does not count a call: its model has no') as caught:  # noqa: PT031 - one warning for all of it
        for _ in range(3):
            warned.settle(reserve(warned, None), None)

    assert len(caught) == 1


def test_unpriced_refused() -> None:
    """`unpriced: raise` refuses such a call, says why, and closes the trace."""
    refused = budgets(rule("1", unpriced="raise"))
    with pytest.raises(BudgetExceededError, match="model has no price"):
        reserve(refused, None)
    with pytest.raises(BudgetExceededError, match="model has no price"):
        reserve(refused, "0.01")


def test_unpriced_in_the_end_counts_as_estimated() -> None:
    """A call that was estimated and came back without a price counts as its estimate, and is told of."""
    warned = budgets(rule("1"))
    with pytest.warns(UserWarning, match="no price"):
        warned.settle(reserve(warned, "1"), None)

    with pytest.raises(BudgetExceededError):
        reserve(warned)


def test_unpriced_in_the_end_closes_the_trace() -> None:
    """With `unpriced: raise` the calls after one that came back without a price are refused."""
    refused = budgets(rule("1", unpriced="raise"))
    refused.settle(reserve(refused, "0.1"), None)

    with pytest.raises(BudgetExceededError, match="no price"):
        reserve(refused)


def test_priced_in_the_end() -> None:
    """A call whose price is only known from the response counts with it."""
    late = budgets(rule("1"))
    with pytest.warns(UserWarning, match="no price"):
        late.settle(reserve(late, None), D(1))

    with pytest.raises(BudgetExceededError):
        reserve(late)


# Streams.


def test_a_stream_is_stopped() -> None:
    """A stream may reach the limit; beyond it, it is stopped and the trace is closed."""
    checked = budgets(rule("1"))
    stream = reserve(checked, "0.1")
    checked.grow(stream, D("0.5"))
    checked.grow(stream, D(1))
    with pytest.raises(BudgetExceededError, match="a stream was stopped"):
        checked.grow(stream, D("1.000000001"))
    checked.settle(stream, D("1.000000001"))

    with pytest.raises(BudgetExceededError, match="no further call in this trace, after: a stream was stopped"):
        reserve(checked)


def test_all_streams_are_stopped() -> None:
    """Streams of one budget are stopped when together they pass its limit."""
    checked = budgets(rule("1"))
    one, two = reserve(checked, "0.1"), reserve(checked, "0.1")
    checked.grow(one, D("0.6"))
    checked.grow(two, D("0.4"))
    with pytest.raises(BudgetExceededError):
        checked.grow(two, D("0.5"))
    with pytest.raises(BudgetExceededError):
        checked.grow(one, D("0.6"))


def test_estimates_of_others_stop_no_stream() -> None:
    """A stream is stopped for what is spent, not for what other calls might cost."""
    checked = budgets(rule("1"))
    stream = reserve(checked, "0.1")
    reserve(checked, "50")
    checked.grow(stream, D("0.9"))

    assert D("0.9") == stream.running_usd


def test_a_stream_beyond_its_estimate_reserves_more() -> None:
    """What a stream has already cost is not there for other calls, also beyond its estimate."""
    checked = budgets(rule("1"))
    checked.grow(reserve(checked, "0.1"), D(1))

    with pytest.raises(BudgetExceededError):
        reserve(checked, "0.01")


def test_a_stream_warns() -> None:
    """A budget that only warns does so while the stream runs, and lets it run."""
    warned = budgets(rule("1", on_exceeded="warn"))
    stream = reserve(warned, "0.1")
    with pytest.warns(UserWarning, match="spent 1.5 USD") as caught:  # noqa: PT031 - one warning for all of it
        warned.grow(stream, D("1.5"))
        warned.grow(stream, D("1.6"))
        warned.settle(stream, D("1.7"))

    assert len(caught) == 1


def test_the_final_figure_replaces_the_running_one() -> None:
    """What a stream was thought to have cost does not stay once the real figure is there."""
    checked = budgets(rule("1"))
    stream = reserve(checked, "0.1")
    checked.grow(stream, D("0.9"))
    checked.settle(stream, D("0.2"))
    checked.grow(stream, D(7))

    assert not reserve(checked, "0.8", prompt="0.8").settled


# Calls and traces that do not end.


def test_an_ended_trace_gives_its_reservations_up() -> None:
    """A cancelled call that never ends holds nothing in its session once its trace has ended."""
    checked = budgets(rule("1", "session"))
    reserve(checked, "1", trace="one", session="s")
    checked.end_trace("one")

    assert not reserve(checked, "1", prompt="1", trace="two", session="s").settled


def test_an_ended_trace_counts_its_streams_as_far_as_they_got() -> None:
    """Of a stream that never ends, the session counts what it was known to cost."""
    checked = budgets(rule("1", "session"))
    checked.grow(reserve(checked, "0.1", trace="one", session="s"), D(1))
    checked.end_trace("one")

    with pytest.raises(BudgetExceededError):
        reserve(checked, trace="two", session="s")


def test_an_end_after_the_trace_counts_once() -> None:
    """A call that is settled after its trace counts in its session, with what was counted already taken off."""
    checked = budgets(rule("1", "session"))
    stream = reserve(checked, "0.1", trace="one", session="s")
    checked.grow(stream, D("0.7"))
    checked.end_trace("one")
    checked.grow(stream, D(5))
    checked.settle(stream, D("0.8"))
    spend(checked, "0.2", trace="two", session="s")
    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked, trace="three", session="s")

    assert D("1.0") == caught.value.spent_usd


def test_an_ended_trace_starts_anew() -> None:
    """Nothing of a trace is kept after its end; ending it twice, or one never seen, is no error."""
    checked = budgets(rule("1"))
    spend(checked, "1")
    for trace in ("t", "t", "never seen"):
        checked.end_trace(trace)

    assert not reserve(checked).settled


@pytest.mark.parametrize(("later_s", "admitted"), [(RESERVATION_TTL_S, False), (RESERVATION_TTL_S + 1, True)])
def test_an_old_reservation_lapses(later_s: float, admitted: bool) -> None:
    """A call that nothing was heard of for 10 minutes keeps nothing back; should it end, it is counted."""
    clock = Clock()
    checked = budgets(rule("1"), clock=clock)
    silent = reserve(checked, "1")
    clock.now_s += later_s
    if admitted:
        spend(checked, "0.5")
        checked.settle(silent, D("0.5"))

    with pytest.raises(BudgetExceededError):
        reserve(checked)


def test_a_stream_that_is_heard_of_does_not_lapse() -> None:
    """A long stream keeps its reservation as long as it says something."""
    clock = Clock()
    checked = budgets(rule("1"), clock=clock)
    stream = reserve(checked, "1")
    clock.now_s += RESERVATION_TTL_S
    checked.grow(stream, D("0.1"))
    clock.now_s += RESERVATION_TTL_S

    with pytest.raises(BudgetExceededError):
        reserve(checked)


@pytest.mark.parametrize(("later_s", "held"), [(TRACE_IDLE_S, True), (TRACE_IDLE_S + 1, False)])
def test_a_trace_that_never_ends_is_forgotten(later_s: float, held: bool) -> None:
    """A trace without an end is forgotten a day after its last call, and gives its session back what it held."""
    clock = Clock()
    checked = budgets(rule("1"), clock=clock)
    spend(checked, "1", trace="lost")
    clock.now_s += later_s
    spend(checked, "0.1", trace="next")
    if held:
        with pytest.raises(BudgetExceededError):
            reserve(checked, trace="lost")
    else:
        assert not reserve(checked, trace="lost").settled


# Sessions.


def test_handlers_share_sessions() -> None:
    """A handler made anew for each invocation, from an equal policy, goes on with the session's sum."""
    sums = SessionSums()
    spend(budgets(rule("1", "session"), sessions=sums), "1", session="s")

    with pytest.raises(BudgetExceededError):
        reserve(budgets(rule("1", "session"), sessions=sums), session="s")


@pytest.mark.parametrize("limit", ["1.000000001", "2", "0.5"])
def test_a_sum_belongs_to_its_session(limit: str) -> None:
    """Handlers with different limits count in one sum: a limit that differs in the ninth decimal opens no other."""
    sums = SessionSums()
    spend(budgets(rule("1", "session"), sessions=sums), "3", session="s")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(budgets(rule(limit, "session"), sessions=sums), session="s")

    assert D(3) == caught.value.spent_usd


def test_the_lowest_limit_on_a_sum_refuses() -> None:
    """Of budgets that count the same calls, the lowest refuses, and is the one that is named."""
    limited = budgets(rule("2"), rule("1"), rule("3"))
    spend(limited, "1")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(limited)

    assert (D(1), D(1)) == (caught.value.limit_usd, caught.value.spent_usd)


def test_sessions_are_shared_in_a_process() -> None:
    """Unless told otherwise, all handlers of a process share their sessions."""
    spend(Budgets([rule("1", "session")]), "1", session="shared in this process")

    with pytest.raises(BudgetExceededError):
        reserve(Budgets([rule("1", "session")]), session="shared in this process")


def test_two_handlers_count_a_call_once() -> None:
    """A call that two handlers with equal session budgets are told of is checked and counted once."""
    sums = SessionSums()
    handlers = [budgets(rule("1", "session"), sessions=sums) for _ in range(2)]
    for call in ("first", "second"):
        held = [each.reserve(trace="t", node="n", session="s", estimate=Estimate(D(3)), call=call) for each in handlers]
        for each, reservation in zip(handlers, held, strict=True):
            each.settle(reservation, D("0.5"))

    for each in handlers:
        with pytest.raises(BudgetExceededError, match="spent 1 USD"):
            reserve(each, session="s")


# Calls that another library made.


def made(to: Budgets, usd: str | None = "0.15", call: str | None = "span 7", **where: Any) -> Reservation:
    """A call that is heard of when it is over."""
    estimate = Estimate(None if usd is None else D(usd))
    return to.reserve(trace="t", node="n", session="s", estimate=estimate, call=call, is_made=True, **where)


def spent_in_session(to: Budgets) -> D:
    """What the session's sum says when a call for which nothing is left is refused."""
    with pytest.raises(BudgetExceededError) as caught:
        to.reserve(trace="other", node="n", session="s", estimate=Estimate(D(100), D(100)))
    return caught.value.spent_usd


@pytest.mark.parametrize("order", ["both reserve first", "one settles first"])
def test_a_made_call_is_counted_once(order: str) -> None:
    """Two handlers with an equal session budget that are told of one call of 0.15 count 0.15, whoever comes when."""
    sums = SessionSums()
    one, other = (budgets(rule("1", "session"), sessions=sums) for _ in range(2))
    if order == "both reserve first":
        held = [(each, made(each)) for each in (one, other)]
        for each, reservation in held:
            each.settle(reservation, D("0.15"))
    else:
        for each in (one, other):
            each.settle(made(each), D("0.15"))

    assert [D("0.15"), D("0.15")] == [spent_in_session(each) for each in (one, other)]


def test_made_calls_of_other_names_are_counted() -> None:
    """Another call is another cost; the same call is one, under whatever limit a handler counts it."""
    sums = SessionSums()
    one, other = (budgets(rule(limit, "session"), sessions=sums) for limit in ("1", "2"))
    for each in (one, other):
        for call in ("a", "b"):
            each.settle(made(each, call=call), D("0.15"))
    for _ in range(2):
        other.settle(made(other, call=None), D("0.1"))

    assert [D("0.5"), D("0.5")] == [spent_in_session(each) for each in (one, other)]


@pytest.mark.parametrize("scope", ["trace", "node", "session"])
def test_a_made_call_is_never_refused(scope: Any) -> None:
    """Beyond the limit, and after a refusal, it is counted all the same; the next call is refused."""
    checked = budgets(rule("1", scope))
    checked.settle(made(checked, "3", "a"), D(3))
    with pytest.raises(BudgetExceededError):
        checked.reserve(trace="t", node="n", session="s", estimate=Estimate(D("0.1")))
    checked.settle(made(checked, "2", "b"), D(2))
    with pytest.raises(BudgetExceededError, match="spent 5 USD"):
        checked.reserve(trace="t", node="n", session="s", estimate=Estimate(D("0.1")))


def test_a_made_call_without_a_price_closes_the_trace() -> None:
    """Where calls without a price are refused, one that was made refuses those after it."""
    checked = budgets(rule("1", unpriced="raise"))
    checked.settle(made(checked, None), None)

    with pytest.raises(BudgetExceededError, match="has no price"):
        checked.reserve(trace="t", node="n", session="s", estimate=Estimate(D("0.1")))


def test_made_calls_are_remembered_within_a_limit() -> None:
    """The names of the last ones are enough: handlers hear of a call one after the other."""
    sums = SessionSums()
    one, other = (budgets(rule("100", "session"), sessions=sums) for _ in range(2))
    with limits.replaced(made_calls=3):
        for call in range(20):
            for each in (one, other):
                each.settle(made(each, "1", str(call)), D(1))

    assert D(20) == spent_in_session(one)


def test_the_oldest_session_is_forgotten_first() -> None:
    """Beyond the bound, the session that was not used for longest starts at 0 again."""
    checked = budgets(rule("1", "session"), sessions=SessionSums(2))
    for session in ("a", "b", "a", "c"):
        spend(checked, "0.4", session=session, trace=session)
        checked.end_trace(session)
    spend(checked, "0.4", session="a", trace="again")
    with pytest.raises(BudgetExceededError):
        reserve(checked, session="a")

    assert not reserve(checked, "1", prompt="1", session="b", trace="other").settled


def test_a_used_up_session_is_not_forgotten_for_others() -> None:
    """However many other sessions come, a session whose budget is used up stays refused."""
    checked = budgets(rule("1", "session"), sessions=SessionSums(2))
    spend(checked, "1", session="used up")
    for n in range(10):
        spend(checked, "0.1", session=f"s{n}")

    with pytest.raises(BudgetExceededError):
        reserve(checked, session="used up")


def test_forgetting_a_used_up_session_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """If so many sessions are used up that one has to be forgotten, the log says so, without its name."""
    checked = budgets(rule("1", "session"), sessions=SessionSums(2))
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            spend(checked, "1", session=f"secret-{n}")

    assert caplog.messages == ["over 2 sessions have used up their budget; the oldest of them starts anew"]


def test_a_session_in_use_is_not_forgotten() -> None:
    """A session with a call in flight outlasts the bound."""
    checked = budgets(rule("1", "session"), sessions=SessionSums(1))
    call = reserve(checked, "0.1", session="in use")
    for n in range(5):
        spend(checked, "0.1", session=f"s{n}")
    checked.settle(call, D(1))

    with pytest.raises(BudgetExceededError):
        reserve(checked, session="in use")


def test_a_session_has_money_left_after_a_refusal() -> None:
    """A call that was too large for a session closes its trace; the next invocation may spend what is left."""
    checked = budgets(rule("1", "session"))
    with pytest.raises(BudgetExceededError):
        reserve(checked, prompt="3", session="s", trace="one")

    assert not reserve(checked, session="s", trace="two").settled


# Threads.


@pytest.mark.parametrize("limit", ["0.1", "0.25", "1"])
def test_branches_cannot_overrun_together(limit: str) -> None:
    """Of many branches that ask at once, as many pass as the limit has room for, and one more at most."""
    checked = budgets(rule(limit))
    branches = 32
    start = threading.Barrier(branches)

    def branch(_: int) -> Reservation | None:
        start.wait()
        try:
            return reserve(checked, "0.1")
        except BudgetExceededError:
            return None

    with ThreadPoolExecutor(branches) as pool:
        passed = [call for call in pool.map(branch, range(branches)) if call is not None]

    assert {"0.1": 1, "0.25": 3, "1": 10}[limit] == len(passed)


def test_nothing_is_lost_between_threads() -> None:
    """Calls, streams and settlements of many threads add up to the last digit."""
    checked = budgets(rule("1000", "session"), rule("1000"), rule("1000", "node"))
    threads, calls = 8, 200
    start = threading.Barrier(threads)

    def work(n: int) -> None:
        start.wait()
        for _ in range(calls):
            call = reserve(checked, "0.3", session="s")
            checked.grow(call, D("0.1"))
            checked.settle(call, D("0.123456789"))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    expected = D("0.123456789") * threads * calls
    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked, prompt="999", session="s")

    assert expected == caught.value.spent_usd


# Settings and the error.


class _Store:
    def reserve(self, *args: Any, **kwargs: Any) -> None: ...

    def settle(self, *args: Any, **kwargs: Any) -> None: ...

    def add(self, *args: Any, **kwargs: Any) -> None: ...

    def now_s(self) -> float:
        return 0.0


def _no_store(url: str) -> SharedSums:
    return _Store()


@pytest.mark.parametrize(
    ("wrong", "opener", "message"),
    [
        pytest.param(rule("1", "session", store="redis://h"), None, "nothing was given", id="no opener"),
    ],
)
def test_wrong_stores(wrong: Budget, opener: Any, message: str) -> None:
    """A store that could not be used is an error when the budgets are made."""
    with pytest.raises(PolicyError, match=message):
        budgets(wrong, open_store=opener)


def test_a_password_is_in_no_repr() -> None:
    """The URL of a store can hold a password, so a rule does not show it."""
    assert "hunter2" not in repr(rule("1", "session", store="redis://:hunter2@h"))


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_the_error_travels(travel: Any) -> None:
    """The error arrives from another process with its figures and its message."""
    error = BudgetExceededError(budget="trace", limit_usd=D(1), spent_usd=D("1E-7"), node="a", reason="why")
    arrived = travel(error)

    assert (str(error), vars(error)) == (str(arrived), vars(arrived))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            BudgetExceededError(budget="trace", limit_usd=D("1E+1"), spent_usd=D("1E-7"), node="", reason="why"),
            "call outside any node refused by the budget of trace: why; limit 10 USD, spent 0.0000001 USD",
            id="USD",
        ),
        pytest.param(
            BudgetExceededError(
                budget="user per day",
                limit_usd=None,
                spent_usd=D(1),
                limit_tokens=10_000,
                spent_tokens=9_000,
                reserved_tokens=1_500,
                node="a",
            ),
            'call at node "a" refused by the budget of user per day: limit 10,000 tokens, used 9,000, reserved 1,500',
            id="tokens",
        ),
    ],
)
def test_the_message_writes_amounts_out(error: BudgetExceededError, message: str) -> None:
    """Small sums are written as USD, not as powers of ten, and only what is limited is told."""
    assert message == str(error)


def test_the_page_has_every_field() -> None:
    """The example of `try: ... except` in docs/budgets.md shows all that the error holds."""
    page = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text(encoding="utf-8")
    error = BudgetExceededError(budget="trace", limit_usd=D(1), spent_usd=D(1), node="")

    assert [name for name in vars(error) if f"refusal.{name}" not in page] == []


# Messages.


@pytest.mark.parametrize(
    ("before", "asked", "reason"),
    [
        pytest.param([("1", True)], {"estimate": "0.1"}, "the limit is used up", id="spent"),
        pytest.param(
            [("0.6", False), ("0.5", False)],
            {"estimate": "0.1"},
            "what is left is reserved for 2 calls in flight, and free again as they end",
            id="reserved",
        ),
        pytest.param(
            [("0.6", True)],
            {"estimate": "0.7", "prompt": "0.7"},
            "its prompt alone costs about 0.7 USD, and 0.4 USD are left",
            id="prompt",
        ),
        pytest.param(
            [("0.6", False)],
            {"estimate": "0.7", "prompt": "0.7"},
            "its prompt alone costs about 0.7 USD, and 0.4 USD are left beside 1 call in flight, whose end would free "
            "some",
            id="prompt beside a call",
        ),
    ],
)
def test_refused_is_not_exceeded(before: list[tuple[str, bool]], asked: dict[str, Any], reason: str) -> None:
    """The message says why the call was refused and what would free it, and nowhere that a limit was exceeded."""
    checked = budgets(rule("1"))
    for usd, is_over in before:
        call = reserve(checked, usd)
        if is_over:
            checked.settle(call, D(usd))
    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked, **asked)

    assert reason == caught.value.reason
    assert "exceeded" not in str(caught.value)


def test_no_id_is_told(recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture) -> None:
    """A session's, user's or tag's id is in no message, field or warning."""
    seen: list[Any] = []
    limited = budgets(
        rule("1", "session", warn_at=[D("0.5")]),
        rule("1", "user", on_exceeded="warn"),
        rule("1", "tag:team", node="n"),
        on_budget=seen.append,
    )
    who: dict[str, Any] = {"owners": {"user": "jane@example.com", "tag:team": "jane's"}, "session": "jane-7"}
    limited.settle(limited.reserve(trace="t", node="n", estimate=Estimate(D(2)), **who), D(2))
    with pytest.raises(BudgetExceededError) as caught:
        limited.reserve(trace="u", node="n", estimate=Estimate(D(2)), **who)
    told = [str(caught.value), repr(vars(caught.value)), caplog.text, repr(seen), *(str(w.message) for w in recwarn)]

    assert len(recwarn) == 2
    assert not [text for text in told if "jane" in text]


# --- odd settings, and the edges of windows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        pytest.param({"warn_at": [0]}, r"budget\.warn_at\.0: expected a number above 0", id="nothing"),
        pytest.param({"warn_at": 0}, r"budget\.warn_at: expected a number above 0", id="nothing-alone"),
        pytest.param({"warn_at": [1.5]}, r"budget\.warn_at\.0: expected a number of at most 1", id="beyond"),
        pytest.param({"warn_at": ["50%"]}, r"budget\.warn_at\.0: expected a number, found", id="percent"),
        pytest.param({"scope": "tag:"}, r"budget\.scope: expected trace", id="no-name"),
        pytest.param({"scope": "tag: "}, r"budget\.scope: expected trace", id="blank-name"),
        pytest.param({"scope": "tag: team"}, r"budget\.scope: expected trace", id="blank-before-the-name"),
    ],
)
def test_odd_settings_are_told_at_load(odd: dict[str, Any], message: str) -> None:
    """What could never mean anything is an error that names the key, what it expects, and what it found."""
    with pytest.raises(PolicyError, match=message):
        MlflowCostHandler({"budget": {"max_cost_usd": 1, **odd}})


def test_a_limit_of_nothing_warns_of_nothing_spent() -> None:
    """Of a limit of 0 every fraction is reached before anything is spent: only what is spent is told."""
    heard: list[BudgetEvent] = []
    budgets = Budgets([Budget(max_cost_usd=D(0), warn_at=(D("0.5"),), on_exceeded="warn")], on_budget=heard.append)
    for usd in ("0", "0.1"):
        made = budgets.reserve(trace="t", node="n", session=None, estimate=Estimate(D(usd), D(usd)))
        told = len(heard)
        budgets.settle(made, D(usd))

    assert 0 == told
    assert [D("0.1")] == [each.sum for each in heard]


@pytest.mark.parametrize(
    ("per", "last_s", "next_s"),
    [
        # 2026-11-27 10:59:59.999 and 11:00; the last moment of the day, of the month; UTC.
        pytest.param("hour", 1795777199.999, 1795777200.0, id="hour"),
        pytest.param("day", 1795823999.999, 1795824000.0, id="day"),
        pytest.param("month", 1796083199.999, 1796083200.0, id="month"),
    ],
)
def test_edges_of_windows(per: Any, last_s: float, next_s: float) -> None:
    """The last millisecond of a window is in it and the next one is not, also for a call that spans the edge."""
    now = [last_s - 0.001]
    budgets = Budgets([Budget(max_cost_usd=D(1), scope="session", per=per)], wall_clock=lambda: now[0])

    def reserve(trace: str) -> Any:
        return budgets.reserve(trace=trace, node="n", session="edge" + per, estimate=Estimate(D(1), D(1)))

    spanning = reserve("a")
    now[0] = last_s
    with pytest.raises(BudgetExceededError):
        reserve("b")
    now[0] = next_s
    inside = reserve("c")
    budgets.settle(spanning, D(1))
    budgets.settle(inside, D("0.9"))
    with pytest.raises(BudgetExceededError) as refusal:
        reserve("d")

    assert D("0.9") == refusal.value.spent_usd
