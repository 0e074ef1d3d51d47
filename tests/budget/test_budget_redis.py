"""Session budgets over processes, against a real redis-server."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from fakes import Clock

from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.redis import FIRST_PAUSE_S, PAUSE_S, TIMEOUT_S, RedisSums, open_redis, sum_keys
from langchain_mlflow_cost.budgets.rules import Budget, Estimate, SharedAnswer, SharedCall, SharedLimit, SharedSum
from langchain_mlflow_cost.budgets.sums import Reservation, SessionSums
from langchain_mlflow_cost.errors import BudgetExceededError, PolicyError
from langchain_mlflow_cost.tracing.session_store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis_server import RedisServer

pytest.importorskip("redis", reason="redis-py is not installed: pip install langchain-mlflow-cost[redis]")

D = Decimal


def rule(limit: str, **fields: Any) -> Budget:
    node = fields.pop("node", None)
    budget = Budget(max_cost_usd=D(limit), scope="session", store="redis://the-store", **fields)
    return budget if node is None else budget.in_nodes(node)


def process(store: RedisSums, *rules: Budget) -> Budgets:
    """Budgets as another process has them: nothing is shared but the store."""
    return Budgets(rules, open_store=lambda _: store, sessions=SessionSums())


def reserve(
    to: Budgets,
    session: str,
    estimate: str | None = "0.1",
    *,
    prompt: str | None = None,
    trace: str = "t",
    node: str = "n",
) -> Reservation:
    return to.reserve(
        trace=trace,
        node=node,
        session=session,
        estimate=Estimate(None if estimate is None else D(estimate), None if prompt is None else D(prompt)),
    )


def spend(to: Budgets, session: str, usd: str, **where: Any) -> None:
    to.settle(reserve(to, session, usd, **where), D(usd))


def ask(store: RedisSums, session: str, call: str, hold: str, *, limit: str = "1") -> SharedAnswer | None:
    """Reserve for a call by its name, without a process around it."""
    limits = (SharedLimit(D(limit), None, D(0), 0, may_grow=False),)
    return store.reserve([(SharedSum(session), SharedCall(D(hold), 0, limits))], call=call, paid=True)


def tell(store: RedisSums, session: str, call: str, usd: str) -> None:
    """Settle a call by its name."""
    store.settle([SharedSum(session)], call=call, actual_usd=D(usd), actual_tokens=0, reserved_s=store.now_s())


# One sum for all processes.


def test_spent_elsewhere(redis_server: RedisServer, session: str) -> None:
    """What one process spends in a session is spent for the others, to the nano-USD."""
    one, two = (process(RedisSums(redis_server.url), rule("1")) for _ in range(2))
    spend(one, session, "0.999999999")
    spend(two, session, "0.000000001")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(one, session)

    assert ("session", D(1)) == (caught.value.budget, caught.value.spent_usd)


def test_in_flight_elsewhere(redis_server: RedisServer, session: str) -> None:
    """What is in flight in one process is reserved for the others."""
    one, two = (process(RedisSums(redis_server.url), rule("1")) for _ in range(2))
    reserve(one, session, "1")

    with pytest.raises(BudgetExceededError):
        reserve(two, session)


@pytest.mark.parametrize(
    ("spent", "estimate", "prompt"),
    [
        pytest.param("0.999999999", "0.1", None, id="just under the limit"),
        pytest.param("0.9", "5", "0.1", id="a prompt that takes all that is left"),
        pytest.param("1", "0", None, id="a free call at the limit"),
    ],
)
def test_admitted(redis_server: RedisServer, session: str, spent: str, estimate: str, prompt: str | None) -> None:
    """The server admits what the process itself would."""
    checked = process(RedisSums(redis_server.url), rule("1"))
    spend(checked, session, spent)

    assert not reserve(checked, session, estimate, prompt=prompt).settled


@pytest.mark.parametrize(
    ("spent", "estimate", "prompt", "reason"),
    [
        pytest.param("1", "0.1", None, "the limit is used up", id="at the limit"),
        pytest.param("0.9", "5", "0.100000001", "its prompt alone", id="a prompt just too large for what is left"),
        pytest.param("1.000000001", "0", None, "the limit is used up", id="a free call beyond it"),
        pytest.param("1", None, None, "the limit is used up", id="an unpriced call at the limit"),
    ],
)
def test_refused(
    redis_server: RedisServer, session: str, spent: str, estimate: str | None, prompt: str | None, reason: str
) -> None:
    """The server refuses what the process itself would, and the error says the same."""
    checked = process(RedisSums(redis_server.url), rule("1"))
    spend(checked, session, spent)

    with pytest.raises(BudgetExceededError, match=reason):
        reserve(checked, session, estimate, prompt=prompt)


def test_nodes_in_a_session(redis_server: RedisServer, session: str) -> None:
    """A node's budget over a session counts that node's calls only, and both refuse for themselves."""
    checked = process(RedisSums(redis_server.url), rule("1"), rule("0.5", node="a"))
    spend(checked, session, "0.5", node="a/b")
    spend(checked, session, "0.4", node="c")

    with pytest.raises(BudgetExceededError, match='budget of node "a" in session: '):
        reserve(checked, session, node="a")


def test_two_limits_are_one_sum(redis_server: RedisServer, session: str) -> None:
    """A limit that warns and one that refuses share a session's sum, and it is counted once."""
    checked = process(RedisSums(redis_server.url), rule("0.5", on_exceeded="warn"), rule("1"))
    with pytest.warns(UserWarning, match="limit 0.5 USD, spent 0.6 USD"):
        spend(checked, session, "0.6")
    spend(checked, session, "0.4")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked, session)

    assert D(1) == caught.value.spent_usd


def test_a_changed_limit_keeps_the_sum(redis_server: RedisServer, session: str) -> None:
    """A new limit applies to what is already spent."""
    spend(process(RedisSums(redis_server.url), rule("10")), session, "1")

    with pytest.raises(BudgetExceededError):
        reserve(process(RedisSums(redis_server.url), rule("1")), session)


def test_a_refused_call_reserves_nothing(redis_server: RedisServer, session: str) -> None:
    """A call that the server refuses leaves nothing reserved, there or in this process's other budgets."""
    own = Budget(max_cost_usd=D("0.5"), scope="session")
    checked = process(RedisSums(redis_server.url), rule("1"), own)
    with pytest.raises(BudgetExceededError):
        reserve(checked, session, "0.4", prompt="3", trace="one")
    spend(checked, session, "0.4", trace="two")
    held = redis_server.client().hget(sum_keys(SharedSum(session))[0], "reserved")

    assert (reserve(checked, session, "0.1", prompt="0.1", trace="three").settled, held) == (False, "0")


def test_a_stream_is_stopped_by_what_others_spent(redis_server: RedisServer, session: str) -> None:
    """A stream is stopped when it passes what the session had left when the stream began."""
    one, two = (process(RedisSums(redis_server.url), rule("1")) for _ in range(2))
    spend(one, session, "0.6")
    stream = reserve(two, session, "0.1")
    two.grow(stream, D("0.4"))

    with pytest.raises(BudgetExceededError, match="stream"):
        two.grow(stream, D("0.5"))


def test_settled_once(redis_server: RedisServer, session: str) -> None:
    """A call whose settlement arrives twice is counted once."""
    store = RedisSums(redis_server.url)
    ask(store, session, "c", "0.5")
    for _ in range(2):
        tell(store, session, "c", "0.3")
    answer = ask(store, session, "d", "0.5")

    assert answer is not None
    assert (D("0.3"), D(0)) == answer.sums[0][:2]


def test_two_handlers_count_a_call_once(redis_server: RedisServer, session: str) -> None:
    """A call that handlers with different limits on one session are told of is reserved and counted once."""
    store = RedisSums(redis_server.url)
    handlers = [process(store, rule(limit)) for limit in ("1", "2")]
    held = [
        each.reserve(trace="t", node="n", session=session, estimate=Estimate(D(3)), call=session) for each in handlers
    ]
    figures = [redis_server.client().hget(sum_keys(SharedSum(session))[0], "reserved")]
    for each, reservation in zip(handlers, held, strict=True):
        each.settle(reservation, D("0.4"))
    figures += redis_server.client().hmget(sum_keys(SharedSum(session))[0], "reserved", "spent")

    assert figures == ["3000000000", "0", "400000000"]


def made(to: Budgets, session: str, usd: str = "0.15") -> Reservation:
    """A call that another library made, and that is heard of when it is over."""
    return to.reserve(trace="t", node="n", session=session, estimate=Estimate(D(usd)), call="span 7", is_made=True)


@pytest.mark.parametrize("sums", ["in one process", "in two"])
@pytest.mark.parametrize("order", ["both reserve first", "one settles first"])
def test_a_made_call_is_counted_once(redis_server: RedisServer, session: str, order: str, sums: str) -> None:
    """Two handlers with one store count a call that was made already once, whoever comes when, and never refuse it."""
    store, shared = RedisSums(redis_server.url), SessionSums()
    one, other = (
        Budgets(
            [rule("0.1")],
            open_store=lambda _: store,
            sessions=shared if sums == "in one process" else SessionSums(),
        )
        for _ in range(2)
    )
    if order == "both reserve first":
        held = [(each, made(each, session)) for each in (one, other)]
        for each, reservation in held:
            each.settle(reservation, D("0.15"))
    else:
        for each in (one, other):
            each.settle(made(each, session), D("0.15"))

    assert ["150000000", "0"] == redis_server.client().hmget(sum_keys(SharedSum(session))[0], "spent", "reserved")
    for each in (one, other):
        with pytest.raises(BudgetExceededError, match=r"spent 0\.15 USD"):
            reserve(each, session)


@pytest.mark.filterwarnings("ignore:Redis at")
def test_a_made_call_is_kept_while_redis_is_away(own_redis_server: RedisServer, session: str) -> None:
    """Nothing is raised, and it is counted once Redis is back."""
    clock = Clock()
    checked = process(RedisSums(own_redis_server.url, clock=clock), rule("0.1"))
    checked.settle(made(checked, session), D("0.15"))
    with pytest.raises(BudgetExceededError):
        reserve(checked, session)
    own_redis_server.start()
    clock.now_s += PAUSE_S
    with pytest.raises(BudgetExceededError):
        reserve(checked, session, trace="later")

    assert "150000000" == own_redis_server.client().hget(sum_keys(SharedSum(session))[0], "spent")


def test_an_ended_trace_gives_up(redis_server: RedisServer, session: str) -> None:
    """A call that never ends holds nothing once its trace has ended; a late end is counted, without what was before."""
    one, two = (process(RedisSums(redis_server.url), rule("1")) for _ in range(2))
    lost = reserve(one, session, "1")
    one.grow(lost, D("0.2"))
    one.end_trace("t")
    spend(two, session, "0.5")
    one.settle(lost, D("0.5"))

    with pytest.raises(BudgetExceededError) as caught:
        reserve(two, session)

    assert D(1) == caught.value.spent_usd


@pytest.mark.parametrize("usd", ["1000000", "0.000000001"])
def test_large_and_small_sums(redis_server: RedisServer, session: str, usd: str) -> None:
    """A million USD and a nano-USD are both counted exactly."""
    checked = process(RedisSums(redis_server.url), rule("5000000"))
    for _ in range(3):
        spend(checked, session, usd)
    with pytest.raises(BudgetExceededError) as caught:
        reserve(checked, session, prompt="5000000")

    assert D(usd) * 3 == caught.value.spent_usd


# Keys.


def test_keys_expire(redis_server: RedisServer, session: str) -> None:
    """A session that is not used is forgotten: all its keys expire, 32 days after its last call."""
    checked = process(RedisSums(redis_server.url), rule("1"))
    spend(checked, session, "0.1")
    left_s = [redis_server.client().ttl(key) for key in sum_keys(SharedSum(session))]

    assert all(32 * 86400 - 60 <= each <= 32 * 86400 for each in left_s)


def test_the_session_is_not_in_the_keys(redis_server: RedisServer, session: str) -> None:
    """A thread id can be a person's name: it is in no key."""
    spend(process(RedisSums(redis_server.url), rule("1")), session, "0.1")

    assert not redis_server.client().keys(f"*{session}*")


def test_keys_of_a_session_share_a_slot() -> None:
    """In a cluster the keys of one session are on one node, for one script reads them all."""
    sums = [SharedSum("s", node, per=per) for node in (None, "a{b}c") for per in (None, "day")]
    tags = {key[key.index("{") : key.index("}")] for each in sums for key in sum_keys(each)}

    assert len(tags) == 1


def test_a_crashed_process_holds_nothing_for_long(redis_server: RedisServer, session: str) -> None:
    """A reservation that nobody settles lapses on the server's clock; should it be settled after all, it counts."""
    crashed = RedisSums(redis_server.url, reservation_ttl_s=0)
    ask(crashed, session, "lost", "1")
    other = RedisSums(redis_server.url)
    answer = ask(other, session, "next", "0.1")
    tell(crashed, session, "lost", "0.7")
    after = ask(other, session, "last", "0.1")

    assert answer is not None
    assert after is not None
    assert (True, D(0), D("0.7")) == (answer.admitted, answer.sums[0].reserved_usd, after.sums[0].spent_usd)


# Many processes.

PROCESSES = 3

_start: Any
"""The barrier of a worker."""


def _meet(start: Any) -> None:
    """Give a worker the barrier, which a task cannot carry."""
    global _start  # noqa: PLW0603
    _start = start


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that begin their tasks at the same moment."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, spawn, initializer=_meet, initargs=(spawn.Barrier(PROCESSES),)) as pool:
        yield pool


def _spend_until_refused(url: str, session: str) -> tuple[int, Decimal | None]:
    checked = process(RedisSums(url, timeout_s=30), rule("1"))
    _start.wait()
    for made in range(100):
        try:
            spend(checked, session, "0.01", trace=str(made))
        except BudgetExceededError as error:
            return made, error.spent_usd + error.reserved_usd
    return 100, None


def test_processes_stop_together(processes: ProcessPoolExecutor, redis_server: RedisServer, session: str) -> None:
    """Processes that spend from one session at once make exactly the calls that it pays, and each is told."""
    tasks = [processes.submit(_spend_until_refused, redis_server.url, session) for _ in range(PROCESSES)]
    outcomes = [task.result() for task in tasks]

    assert sum(made for made, _ in outcomes) == 100
    assert {spent for _, spent in outcomes} == {D(1)}


def _reserve(url: str, session: str) -> bool:
    checked = process(RedisSums(url, timeout_s=30), rule("0.5"))
    _start.wait()
    try:
        reserve(checked, session, "0.25")
    except BudgetExceededError:
        return False
    return True


def test_processes_reserve_together(processes: ProcessPoolExecutor, redis_server: RedisServer, session: str) -> None:
    """Of processes that ask at once for one call each, as many pass as the limit has room for."""
    tasks = [processes.submit(_reserve, redis_server.url, session) for _ in range(PROCESSES)]
    admitted = [task.result() for task in tasks]

    assert sorted(admitted) == [False, True, True]


def test_threads_of_one_client(redis_server: RedisServer, session: str) -> None:
    """Threads that share a client make exactly the calls that the session pays."""
    checked = process(RedisSums(redis_server.url, timeout_s=30), rule("1"))
    start = threading.Barrier(8)

    def work(n: int) -> int:
        start.wait()
        for made in range(50):
            try:
                spend(checked, session, "0.01", trace=f"{n}-{made}")
            except BudgetExceededError:
                return made
        return 50

    with ThreadPoolExecutor(8) as pool:
        made = sum(pool.map(work, range(8)))

    assert made == 100


# Redis away.


def test_each_process_holds_the_budget_alone(own_redis_server: RedisServer, session: str) -> None:
    """Without Redis a process goes on from the last sum that it saw, and stops at the limit by itself."""
    own_redis_server.start()
    one, two = (process(RedisSums(own_redis_server.url), rule("1")) for _ in range(2))
    spend(one, session, "0.5")
    spend(two, session, "0.3")
    own_redis_server.stop()
    with pytest.warns(RuntimeWarning, match="is away"):
        spend(two, session, "0.2", trace="a")

    with pytest.raises(BudgetExceededError) as caught:
        reserve(two, session)

    assert D(1) == caught.value.spent_usd


def test_away_from_the_beginning(own_redis_server: RedisServer, session: str) -> None:
    """A process that never reached Redis still holds the budget for its own calls."""
    checked = process(RedisSums(own_redis_server.url), rule("1"))
    with pytest.warns(RuntimeWarning, match="is away"):
        spend(checked, session, "1")

    with pytest.raises(BudgetExceededError):
        reserve(checked, session)


@pytest.mark.filterwarnings("ignore:Redis at")
def test_what_was_spent_meanwhile_is_added(own_redis_server: RedisServer, session: str) -> None:
    """What processes spend while Redis is away counts for all as soon as it is back, each call once."""
    own_redis_server.start()
    clock = Clock()
    one, two = (process(RedisSums(own_redis_server.url, clock=clock), rule("1")) for _ in range(2))
    running = reserve(one, session, "0.2")
    own_redis_server.stop()
    one.settle(running, D("0.1"))
    for _ in range(3):
        spend(one, session, "0.1")
        spend(two, session, "0.1")
    own_redis_server.start()
    clock.now_s += PAUSE_S
    spend(one, session, "0.1")
    spend(two, session, "0.1")
    own_figures = own_redis_server.client().hmget(sum_keys(SharedSum(session))[0], "spent", "reserved")

    assert own_figures == ["900000000", "0"]


@pytest.mark.filterwarnings("ignore:Redis at")
def test_a_failure_is_not_repeated_for_each_call(own_redis_server: RedisServer, session: str) -> None:
    """After a failure nothing is asked for a pause, so that a graph is not slowed at each of its calls."""
    clock = Clock()
    store = RedisSums(own_redis_server.url, clock=clock, retry_s=None)
    checked = process(store, rule("1"))
    spend(checked, session, "0.1")
    own_redis_server.start()
    clock.now_s += FIRST_PAUSE_S - 0.1
    spend(checked, session, "0.1")
    before = own_redis_server.client().exists(*sum_keys(SharedSum(session)))
    clock.now_s += 0.1
    spend(checked, session, "0.1")
    after = own_redis_server.client().hget(sum_keys(SharedSum(session))[0], "spent")

    assert (before, after) == (0, "300000000")


def test_one_warning_for_an_outage(
    own_redis_server: RedisServer, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage is told of once, through warnings alone, without the URL's password."""
    clock = Clock()
    url = own_redis_server.url.replace("redis://", "redis://:hunter2@")
    checked = process(RedisSums(url, clock=clock), rule("1"))
    with caplog.at_level("INFO"), pytest.warns(RuntimeWarning, match=r"Redis at 127\.0\.0\.1:\d+ is away") as caught:  # noqa: PT031 - one warning for all of it
        for _ in range(3):
            spend(checked, session, "0.1")
            clock.now_s += PAUSE_S

    assert (len(caught), caplog.records, "hunter2" in str(caught[0].message)) == (1, [], False)


def test_a_server_that_does_not_answer_costs_a_bounded_time(session: str) -> None:
    """A server that takes the connection and says nothing delays one call by the two timeouts at most."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        checked = process(RedisSums(f"redis://127.0.0.1:{silent.getsockname()[1]}"), rule("1"))
        begin = time.perf_counter()
        with pytest.warns(RuntimeWarning, match="is away"):  # noqa: PT031 - one warning for all of it
            for _ in range(20):
                spend(checked, session, "0.01")
        took_s = time.perf_counter() - begin

    # Room for a loaded machine: without the pause it would be 40 waits.
    assert took_s < 10 * TIMEOUT_S


@pytest.mark.filterwarnings("ignore:Redis at")
def test_a_server_that_refuses_counts_as_away(redis_server: RedisServer, session: str) -> None:
    """An error of the server's, such as a key that holds something else, never reaches the graph."""
    redis_server.client().set(sum_keys(SharedSum(session))[0], "not a hash")
    checked = process(RedisSums(redis_server.url), rule("1"))
    spend(checked, session, "1")

    with pytest.raises(BudgetExceededError):
        reserve(checked, session)


@pytest.mark.filterwarnings("ignore:Redis at")
def test_what_is_kept_for_later_is_bounded(
    own_redis_server: RedisServer, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that stays away does not fill the memory: the oldest session's figures are lost, and the log says so."""
    checked = process(RedisSums(own_redis_server.url, max_unsent=2, retry_s=None), rule("1"))
    for n in range(3):
        spend(checked, f"{session}{n}", "0.1", trace=str(n))

    assert [record.levelname for record in caplog.records] == ["ERROR"]


# Opening.


def test_a_script_that_the_server_lost(redis_server: RedisServer, session: str) -> None:
    """A server that forgot the script gets it again, and nothing is lost."""
    checked = process(RedisSums(redis_server.url), rule("1"))
    spend(checked, session, "0.5")
    redis_server.client().script_flush()
    spend(checked, session, "0.5")

    with pytest.raises(BudgetExceededError):
        reserve(checked, session)


def test_one_client_for_all_handlers(redis_server: RedisServer) -> None:
    """Handlers with the same URL share a client, and with it the pause after a failure."""
    assert open_redis(redis_server.url) is open_redis(redis_server.url)


@pytest.mark.parametrize(
    "url", ["hunter2", "http://:hunter2@h", "redis://:hunter2@h:port/0", "redis://h/0?socket_timeout=hunter2"]
)
def test_a_wrong_url(url: str) -> None:
    """A URL that is none of a Redis is an error when the policy is used, and is not quoted."""
    with pytest.raises(PolicyError, match="redis://HOST:PORT/DB") as caught:
        open_redis(url)

    assert "hunter2" not in str(caught.value)


def test_a_wrong_session_store_is_named_as_it_is() -> None:
    """The same of `session_store`, which another part opens: the message says which setting it is."""
    with pytest.raises(PolicyError, match="`session_store` is not the URL of a Redis: expected redis://HOST") as caught:
        SessionStore("redis://h/0?socket_timeout=hunter2", b"key")

    assert "hunter2" not in str(caught.value)


@pytest.mark.nightly
def test_without_the_extra() -> None:
    """Without redis-py the module can be imported, and opening a store names the extra to install."""
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from langchain_mlflow_cost.budgets.redis import open_redis\n"
        "open_redis('redis://localhost')"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)

    assert 'a budget\'s `store` needs an extra: pip install "langchain-mlflow-cost[redis]"' in done.stderr
