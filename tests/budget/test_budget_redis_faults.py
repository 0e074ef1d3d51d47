"""What Redis, the network and processes do to a budget: late answers, outages, exits, kills, clocks, wrong keys."""

from __future__ import annotations

import itertools
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from fakes import Clock

from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.redis import FIRST_PAUSE_S, PAUSE_S, RedisSums, sum_keys
from langchain_mlflow_cost.budgets.rules import (
    RESERVATION_TTL_S,
    Budget,
    Estimate,
    SharedCall,
    SharedLimit,
    SharedSum,
    window_of,
)
from langchain_mlflow_cost.budgets.sums import Reservation, SessionSums
from langchain_mlflow_cost.errors import BudgetExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis_server import RedisServer

pytest.importorskip("redis", reason="redis-py is not installed: pip install langchain-mlflow-cost[redis]")

D = Decimal


def rule(limit: str, scope: str = "session", **fields: Any) -> Budget:
    return Budget(max_cost_usd=D(limit), scope=scope, store="redis://the-store", **fields)


def process(store: RedisSums, *rules: Budget, **more: Any) -> Budgets:
    """Budgets as another process has them: nothing is shared but the store."""
    return Budgets(rules, open_store=lambda _: store, sessions=SessionSums(), **more)


def reserve(to: Budgets, session: str, usd: str = "0.01", **where: Any) -> Reservation:
    return to.reserve(
        trace=uuid.uuid4().hex, node="n", session=session, owners=where, estimate=Estimate(D(usd), D(0), 10, 5)
    )


def spend(to: Budgets, session: str, usd: str = "0.01", **where: Any) -> None:
    to.settle(reserve(to, session, usd, **where), D(usd), 10)


def spent(server: RedisServer, shared: SharedSum) -> Decimal:
    return D(server.client().hget(sum_keys(shared)[0], "spent") or 0) / 10**9


class Proxy:
    """A proxy before a Redis that can hold answers back, drop them, and count what passes."""

    def __init__(self, port: int) -> None:
        self.answers = 0
        self.late_every = 0
        """Each such answer comes `late_s` late; 0 for none."""
        self.late_s = 0.0
        self.drops = False
        """Requests are carried out, and their answers lost."""
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listening.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_answer:
                    self.answers += 1
                    if self.drops:
                        continue
                    if self.late_every and self.answers % self.late_every == 0:
                        time.sleep(self.late_s)
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            each.close()

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    made = Proxy(redis_server.port)
    yield made
    made.close()


def at_once(work: Callable[[Proxy], None], proxies: list[Proxy]) -> None:
    """Let each proxy's process work in a thread of its own, to their ends."""
    threads = [threading.Thread(target=work, args=(each,)) for each in proxies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for each in proxies:
        each.close()


# --- late answers, lost answers ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Redis at")
def test_late_answers_open_nothing(redis_server: RedisServer, session: str) -> None:
    """Three processes behind a Redis that answers one request in four too late make the calls that there is money for.

    100 calls are paid. A call whose answer is late goes on from the last sum that its process saw, so a few more pass.
    """
    proxies = [Proxy(redis_server.port) for _ in range(3)]
    for each in proxies:
        each.late_every, each.late_s = 4, 0.8
    made: list[int] = []

    def work(proxy: Proxy) -> None:
        store = RedisSums(proxy.url, timeout_s=0.25)  # what is not kept back is in time on a busy machine, too
        budgets = process(store, rule("0.3"))
        while True:
            try:
                spend(budgets, session, "0.003")
            except BudgetExceededError:
                store.send_rest(10)
                return
            made.append(1)

    at_once(work, proxies)

    assert 100 <= len(made) <= 110
    assert D("0.003") * len(made) == spent(redis_server, SharedSum(session))


def test_latency_changes_nothing(redis_server: RedisServer, session: str) -> None:
    """Two processes a tenth of a second away from their Redis make exactly the calls that there is money for."""
    proxies = [Proxy(redis_server.port) for _ in range(2)]
    made: list[int] = []

    def work(proxy: Proxy) -> None:
        proxy.late_every, proxy.late_s = 1, 0.1
        budgets = process(RedisSums(proxy.url, timeout_s=5), rule("1"))
        while True:
            try:
                spend(budgets, session, "0.2")
            except BudgetExceededError:
                return
            made.append(1)

    at_once(work, proxies)

    assert 5 == len(made)
    assert D(1) == spent(redis_server, SharedSum(session))


@pytest.mark.filterwarnings("ignore:Redis at")
def test_a_full_server_opens_nothing(own_redis_server: RedisServer, session: str) -> None:
    """A Redis without memory is as good as away: the process holds the budget, and sends what it spent later."""
    own_redis_server.start()
    store = RedisSums(own_redis_server.url, retry_s=None)
    budgets = process(store, rule("1"))
    spend(budgets, session, "0.5")
    own_redis_server.client().config_set("maxmemory", "1")
    spend(budgets, session, "0.5")
    with pytest.raises(BudgetExceededError):
        reserve(budgets, session)
    own_redis_server.client().config_set("maxmemory", "0")
    store.send_rest(10)

    assert D(1) == spent(own_redis_server, SharedSum(session))


@pytest.mark.filterwarnings("ignore:Redis at")
@pytest.mark.parametrize("later_s", [1.0, RESERVATION_TTL_S * 3])
def test_a_lost_confirmation_counts_nothing_twice(
    redis_server: RedisServer, proxy: Proxy, session: str, later_s: float
) -> None:
    """A settlement that was carried out and not confirmed is sent again, and is counted once, however late."""
    clock = Clock()
    store = RedisSums(proxy.url, timeout_s=0.1, retry_s=None, clock=clock, reservation_ttl_s=0.05)
    budgets = process(store, rule("10"))
    call = reserve(budgets, session, "1")
    proxy.drops = True
    budgets.settle(call, D(1))
    once = spent(redis_server, SharedSum(session))
    time.sleep(0.1)
    # Another process makes what has lapsed go.
    spend(process(RedisSums(redis_server.url), rule("10")), session, "1")
    proxy.drops = False
    clock.now_s += later_s + PAUSE_S
    spend(budgets, session, "1")

    assert (D(1), D(3)) == (once, spent(redis_server, SharedSum(session)))


@pytest.mark.filterwarnings("ignore:Redis at")
def test_what_is_unsent_goes_out_by_itself(own_redis_server: RedisServer, session: str) -> None:
    """Spending is sent as soon as Redis is back, though this process makes no further call."""
    budgets = process(RedisSums(own_redis_server.url, retry_s=0.05), rule("10"))
    spend(budgets, session, "1")
    spend(budgets, session, "1")
    own_redis_server.start()
    deadline = time.monotonic() + 20
    while spent(own_redis_server, SharedSum(session)) != 2 and time.monotonic() < deadline:
        threading.Event().wait(0.05)

    assert 2 == spent(own_redis_server, SharedSum(session))


def test_settlements_that_are_heard_of_are_forgotten(redis_server: RedisServer, session: str) -> None:
    """The server keeps a call's name until the process has heard of its settlement, and not for ever."""
    clock = Clock()
    budgets = process(RedisSums(redis_server.url, clock=clock), rule("10"))
    for _ in range(50):
        spend(budgets, session)
    key = sum_keys(SharedSum(session))[0]
    before = redis_server.client().hlen(key)
    clock.now_s += RESERVATION_TTL_S
    spend(budgets, session)

    assert before >= 50
    assert redis_server.client().hlen(key) < 10


# --- processes that end --------------------------------------------------------------------------------------------

SHORT_LIVED = """
import sys
from decimal import Decimal
from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.redis import open_redis
from langchain_mlflow_cost.budgets.rules import Budget, Estimate
from langchain_mlflow_cost.errors import BudgetExceededError

url, session, calls, how = sys.argv[1:5]
budgets = Budgets([Budget(max_cost_usd=1, scope="session", store=url)], open_store=open_redis)
made = 0
for trace in range(int(calls)):
    try:
        call = budgets.reserve(trace=trace, node="n", session=session, estimate=Estimate(Decimal("0.2")))
    except BudgetExceededError:
        break
    made += 1
    budgets.settle(call, Decimal("0.2"))
print(made, flush=True)
if how == "hang":
    sys.stdin.read()
"""


def start(url: str, session: str, calls: int, how: str = "end") -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", SHORT_LIVED, url, session, str(calls), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def made_by(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    return int(child.stdout.readline())


def test_short_processes_lose_nothing(redis_server: RedisServer, proxy: Proxy, session: str) -> None:
    """Processes that end at once after a late answer leave what they spent: four of three calls make five of 0.2."""
    made = 0
    for number in range(4):
        proxy.late_every, proxy.late_s = 3 + number % 2, 0.4
        child = start(proxy.url, session, 3)
        made += made_by(child)
        child.communicate(timeout=60)

    assert 5 <= made <= 6
    assert D("0.2") * made == spent(redis_server, SharedSum(session))


def test_a_killed_process_leaves_what_it_spent(own_redis_server: RedisServer, session: str) -> None:
    """`kill -9` loses no settled call, nor does one of the server itself, which keeps an AOF."""
    own_redis_server.start()
    child = start(own_redis_server.url, session, 2, "hang")
    made = made_by(child)
    child.kill()
    child.communicate()
    own_redis_server.stop()
    own_redis_server.start()
    after = start(own_redis_server.url, session, 10)

    assert (2, 3) == (made, made_by(after))
    after.communicate(timeout=60)


@pytest.mark.filterwarnings("ignore:Redis at")
def test_a_stopped_server_is_waited_for_once(own_redis_server: RedisServer, session: str) -> None:
    """A server under SIGSTOP costs a bounded time; what is spent meanwhile is there when it goes on, each call once."""
    own_redis_server.start()
    assert own_redis_server.process is not None
    store = RedisSums(own_redis_server.url, timeout_s=0.1, retry_s=0.05)
    budgets = process(store, rule("10"))
    spend(budgets, session, "1")
    own_redis_server.process.send_signal(signal.SIGSTOP)
    begin = time.perf_counter()
    for _ in range(20):
        spend(budgets, session, "0.1")
    took_s = time.perf_counter() - begin
    own_redis_server.process.send_signal(signal.SIGCONT)
    store.send_rest(20)

    assert took_s < 3
    assert 3 == spent(own_redis_server, SharedSum(session))


@pytest.mark.filterwarnings("ignore:Redis at")
def test_lost_calls_are_counted_once(
    own_redis_server: RedisServer, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that is lost in two sums is one lost call, and one that cost nothing is none; the rest is told at the end."""
    store = RedisSums(own_redis_server.url, max_unsent=6, retry_s=None)
    checked = process(store, rule("9"), rule("9", scope="user"))
    for n in range(6):
        made = reserve(checked, f"{session}{n}", user=session)
        checked.settle(made, *((D(0), 0) if n == 1 else (D("0.1"), 10)))
    store.send_rest(0)

    assert ["the costs of 1 calls were lost"] * 2 + ["the costs of 3 calls, 0.3 USD, were lost"] == [
        re.search("the costs of .*", record.getMessage())[0] for record in caplog.records if record.levelname == "ERROR"
    ]


# --- keys and clocks -----------------------------------------------------------------------------------------------


def test_a_key_of_another_type_is_told_once(
    redis_server: RedisServer, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that holds something else is an error in the log, once, and no outage: other sessions go on."""
    redis_server.client().set(sum_keys(SharedSum(session))[0], "not a hash")
    budgets = process(RedisSums(redis_server.url), rule("1"))
    for _ in range(3):
        spend(budgets, session, "0.3")
    spend(budgets, f"{session}2", "0.5")
    with pytest.raises(BudgetExceededError):  # noqa: PT012 - the first may still pass
        for _ in range(2):
            spend(budgets, session, "0.3")

    assert ["ERROR"] == [record.levelname for record in caplog.records]
    assert "WRONGTYPE" in caplog.text
    assert D("0.5") == spent(redis_server, SharedSum(f"{session}2"))


@pytest.mark.parametrize("per", ["hour", "day", "month"])
def test_the_servers_clock_decides(redis_server: RedisServer, session: str, per: str) -> None:
    """A sum starts anew when the server's window does, whatever the clock of a process says."""
    budgets = [
        process(RedisSums(redis_server.url), rule("1", per=per), wall_clock=lambda at=at: at) for at in (0.0, 4e9)
    ]
    for each in budgets:
        spend(each, session, "0.5")
    key = sum_keys(SharedSum(session, per=per))[0]
    window = int(redis_server.client().hget(key, "window"))
    server_s = redis_server.client().time()[0]
    with pytest.raises(BudgetExceededError, match=f"budget of session per {per}: the limit is used up"):
        spend(budgets[0], session, "0.5")
    # As if all that was a window ago.
    redis_server.client().hset(key, "window", window - 1)
    spend(budgets[1], session, "0.25")

    assert window in (window_of(per, server_s), window_of(per, server_s - 5))
    assert D("0.25") == spent(redis_server, SharedSum(session, per=per))


def test_a_call_counts_in_the_window_it_was_reserved_in(redis_server: RedisServer, session: str) -> None:
    """A call that ends after its window has no part in the next one; nor does its reservation."""
    one, two = (process(RedisSums(redis_server.url), rule("1", per="day")) for _ in range(2))
    key = sum_keys(SharedSum(session, per="day"))[0]
    late = reserve(one, session, "0.9")
    client = redis_server.client()
    name, held = next((k, v) for k, v in client.hgetall(key).items() if v.startswith("900000000:"))
    yesterday = int(client.hget(key, "window")) - 1
    client.hset(key, mapping={"window": yesterday, name: f"900000000:10:{yesterday}"})
    spend(two, session, "0.5")
    one.settle(late, D("0.9"))
    spend(two, session, "0.1")

    assert held.startswith("900000000:")
    assert D("0.6") == spent(redis_server, SharedSum(session, per="day"))
    assert "0" == client.hget(key, "reserved")


@pytest.mark.parametrize(
    ("year", "month", "day"), [(1970, 1, 1), (2024, 2, 29), (2026, 11, 27), (2026, 12, 31), (2027, 1, 1), (2100, 3, 1)]
)
def test_months_are_the_calendars(redis_server: RedisServer, year: int, month: int, day: int) -> None:
    """The server's arithmetic and this process's come to the same month, on both sides of its edges."""
    import calendar

    from langchain_mlflow_cost.budgets.redis_script import SCRIPT

    civil = SCRIPT[SCRIPT.index("local function window") : SCRIPT.index("local function add")]
    start_s = calendar.timegm((year, month, day, 0, 0, 0))
    for at in (start_s, start_s + 86_399, start_s - 1):
        if at >= 0:
            told = redis_server.client().eval(f"{civil} return window('month', tonumber(ARGV[1]))", 0, str(at))

            assert window_of("month", at) == told


def test_users_and_tags_over_processes(redis_server: RedisServer, session: str) -> None:
    """Sums of users, tags and nodes in them are kept by all processes, each under its own key, without the id."""
    rules = (rule("1", "user", per="month"), rule("2", "tag:team"), rule("9", "user").in_nodes("n"))
    one, two = (process(RedisSums(redis_server.url), *rules) for _ in range(2))
    for each in (one, two):
        spend(each, session, "0.5", **{"user": session, "tag:team": f"{session}t"})
    with pytest.raises(BudgetExceededError) as caught:
        spend(one, session, "0.5", **{"user": session, "tag:team": f"{session}t"})
    keys = redis_server.client().keys("*")

    assert ("user per month", "user", "month") == (caught.value.budget, caught.value.scope, caught.value.per)
    assert (
        D(1)
        == spent(redis_server, SharedSum(session, "n", "user"))
        == spent(redis_server, SharedSum(f"{session}t", scope="tag:team"))
    )
    assert not [key for key in keys if session in key]


def test_what_was_added_holds_for_all(redis_server: RedisServer, session: str) -> None:
    """What an interrupt's answer adds in one process is there for the others, once, and only where limits ask."""
    store = RedisSums(redis_server.url)
    for _ in range(2):
        store.add([SharedSum(session)], grant="one", usd=D(1), tokens=5)
    asks = SharedLimit(D(1), None, D("1.5"), 0, may_grow=True)
    raises = asks._replace(may_grow=False)
    answers = [
        RedisSums(redis_server.url).reserve(
            [(SharedSum(session), SharedCall(D("1.5"), 0, (limit,)))], call=uuid.uuid4().hex, paid=True
        )
        for limit in (raises, asks)
    ]

    assert [False, True] == [answer is not None and answer.admitted for answer in answers]
    assert [D(1), D(1)] == [answer.sums[0].added_usd for answer in answers if answer is not None]


# --- what it costs -------------------------------------------------------------------------------------------------


@contextmanager
def commands_of(server: RedisServer) -> Iterator[list[int]]:
    """How many commands the server was sent while the block ran."""
    client, counted = server.client(), [0]
    before = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    yield counted
    counted[0] = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before


def test_two_round_trips_a_call(redis_server: RedisServer, session: str) -> None:
    """However many budgets of sessions, users and tags there are, a call takes one request before it and one after."""
    budgets = process(
        RedisSums(redis_server.url),
        *(rule("9"), rule("8", "user", per="day"), rule("7", "tag:team"), rule("6").in_nodes("n")),
    )
    who = {"user": session, "tag:team": session}
    spend(budgets, session, **who)
    with commands_of(redis_server) as counted:
        for _ in range(10):
            spend(budgets, session, **who)

    assert [20] == counted


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:Redis at")
def test_the_pause_doubles(session: str) -> None:
    """A Redis that stays away is asked after half a second, one, two, and so on up to 15, not at each call."""
    asked: list[float] = []
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.01)
        store = RedisSums(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.01, retry_s=None, clock=clock)
        budgets = process(store, rule("100"))
        for _ in range(2000):
            clock.now_s += 0.05
            spend(budgets, session)
            try:
                while True:
                    silent.accept()[0].close()
                    asked.append(clock.now_s)
            except TimeoutError:
                pass
    between = (after - before for before, after in itertools.pairwise(asked))
    gaps = [gap for gap in between if gap > FIRST_PAUSE_S / 2]

    assert gaps == sorted(gaps)
    assert max(gaps) <= PAUSE_S + 0.1
    assert len(asked) < 20
