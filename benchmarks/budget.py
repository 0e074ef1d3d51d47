"""Microseconds that budgets add to a model call: one `reserve` and one `settle`, in process and through Redis.

    python benchmarks/budget.py [--calls 20000]

Prints a table. In process it is the least CPU time of 90 stretches, since the rest of a busy machine's tells of others;
with Redis or several threads the median of nine rounds by the clock. The Redis rows need redis-py and a `redis-server`,
which is started on a free loopback port; without one they are left out, with the reason.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING

from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.rules import Budget, Estimate, SharedSums
from langchain_mlflow_cost.budgets.sums import SessionSums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = Decimal(10**6)
ESTIMATE, ACTUAL = Estimate(Decimal("0.0123"), Decimal("0.0023"), 1500, 500), Decimal("0.00345")
USER = {"user": "jane"}
RUN, CALLS = uuid.uuid4().hex, count()
"""A call is named by its run's id, so that none has to be made here."""
ROUNDS = 9


def budgets(*rules: Budget, store: SharedSums | None = None) -> Budgets:
    return Budgets(rules, open_store=lambda _: store, sessions=SessionSums())  # type: ignore[arg-type, return-value]


def call(checked: Budgets, trace: int = 0, session: str = "s") -> None:
    reservation = checked.reserve(
        trace=trace, node="team/researcher", session=session, owners=USER, estimate=ESTIMATE, call=f"{RUN}{next(CALLS)}"
    )
    checked.settle(reservation, ACTUAL, 700)


def median_us(action: Callable[[], None], calls: int) -> float:
    return statistics.median(_rounds(action, calls, time.perf_counter))


def least_us(action: Callable[[], None], calls: int) -> float:
    # In short stretches, some of which nobody disturbs.
    return min(figure for _ in range(10) for figure in _rounds(action, calls // 20, time.thread_time))


def _rounds(action: Callable[[], None], calls: int, clock: Callable[[], float]) -> list[float]:
    rounds = []
    for _ in range(ROUNDS):
        begin = clock()
        for _ in range(calls):
            action()
        rounds.append((clock() - begin) / calls * 1e6)
    return rounds


def row(what: str, figure: float, unit: str = "us") -> None:
    print(f"| {what} | {figure:.1f} {unit} |", flush=True)


def in_process(calls: int) -> None:
    one = budgets(Budget(max_cost_usd=LIMIT))
    row("one budget of scope trace", least_us(lambda: call(one), calls))
    three = budgets(
        Budget(max_cost_usd=LIMIT),
        Budget(max_cost_usd=LIMIT, scope="node"),
        Budget(max_cost_usd=LIMIT, scope="session"),
    )
    row("three: trace, node, session", least_us(lambda: call(three), calls))
    traces = count()

    def whole_trace() -> None:
        trace = next(traces)
        call(three, trace, f"session-{trace}")
        three.end_trace(trace)

    figure = least_us(whole_trace, calls)
    row("three, each call a new trace and a new session, with `end_trace`", figure)

    stream = one.reserve(trace=0, node="n", estimate=ESTIMATE)
    row("`grow`, per token of a stream", least_us(lambda: one.grow(stream, ACTUAL), calls))
    # 200 open calls: what others hold must not make a call slower.
    for _ in range(200):
        one.reserve(trace=0, node="n", estimate=ESTIMATE)
    row("one budget, 200 calls in flight", least_us(lambda: call(one), calls))

    start = threading.Barrier(8)

    def work(_: int) -> None:
        start.wait()
        for _ in range(calls // 8):
            call(three)

    with ThreadPoolExecutor(8) as pool:
        begin = time.perf_counter()
        list(pool.map(work, range(8)))
        row("three, 8 threads at once: time by calls", (time.perf_counter() - begin) / (calls // 8 * 8) * 1e6)


def memory() -> None:
    checked = budgets(Budget(max_cost_usd=LIMIT, scope="session"))
    tracemalloc.start()
    for n in range(10_000):
        call(checked, n, f"session-{n}")
        checked.end_trace(n)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    row("memory of 10,000 sessions", held / 2**20, "MiB")


@contextmanager
def redis_server() -> Iterator[int | None]:
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if "Ready to accept connections" in line:
            break
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


def through_redis(calls: int) -> None:
    try:
        import redis

        from langchain_mlflow_cost.budgets.redis import PAUSE_S, TIMEOUT_S, RedisSums
    except ImportError as error:
        print(f"Redis left out: {error}", file=sys.stderr)
        return
    rule = Budget(max_cost_usd=LIMIT, scope="session", store="redis://")
    with redis_server() as port:
        if port is None:
            print("Redis left out: there is no redis-server", file=sys.stderr)
            return
        client = redis.Redis(port=port)
        row("redis: a bare PING, twice", median_us(lambda: client.ping() and client.ping() and None, calls))
        checked = budgets(rule, store=RedisSums(f"redis://127.0.0.1:{port}/0"))
        row("redis: one budget of scope session (two round trips)", median_us(lambda: call(checked), calls))
        sessions = count()
        windows = (None, "hour", "day", "month")
        five = [rule, *(rule.model_copy(update={"scope": "user", "per": per}) for per in windows)]
        checked = budgets(*five, store=RedisSums(f"redis://127.0.0.1:{port}/0"))
        call(checked)
        before = _requests(client)
        row("redis: five budgets, of session and user", median_us(lambda: call(checked), calls))
        row("redis: requests a call", (_requests(client) - before) / (calls * ROUNDS), "")
        row("redis: each call a new session", median_us(lambda: call(checked, 0, f"s{next(sessions)}"), calls))
        size = client.memory_usage(_first_key(client)) or 0
        row("redis: a session with one call, its hash", float(size), "bytes")

    warnings.simplefilter("ignore")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = budgets(rule, store=RedisSums(f"redis://127.0.0.1:{silent.getsockname()[1]}"))
        begin = time.perf_counter()
        call(away)
        row(f"redis silent: first call (timeouts {TIMEOUT_S:g} s)", (time.perf_counter() - begin) * 1e3, "ms")
        row(f"redis silent: calls in the {PAUSE_S:g} s after it", median_us(lambda: call(away), 200))


def _requests(client: object) -> int:
    stats = client.info("commandstats")  # type: ignore[attr-defined]
    return int(stats["cmdstat_evalsha"]["calls"])


def _first_key(client: object) -> bytes:
    keys = client.scan_iter(match="*:session", count=1)  # type: ignore[attr-defined]
    first: bytes = next(iter(keys))
    return first


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--calls", type=int, default=5000, help="calls in a round, in process")
    calls = arguments.parse_args().calls
    print("| reserve and settle of one call | |\n| --- | ---: |")
    in_process(calls)
    memory()
    through_redis(max(calls // 20, 50))


if __name__ == "__main__":
    main()
