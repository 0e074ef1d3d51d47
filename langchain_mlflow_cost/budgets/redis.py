"""Budgets of sessions, users and tags over processes and machines: their sums in Redis (extra `redis`).

One script on the server (`redis_script`) does everything, so a check and its reservation are one step for all
processes, and each model call costs two round trips: one before it, one after.

Redis away. A call waits `TIMEOUT_S` for the connection and `TIMEOUT_S` for the answer, at most, and as long again where
the first answer after good ones was late; the time that a name server takes comes on top, so use an address where that
matters. After two failures in a row nothing is asked for a pause, which doubles up to `PAUSE_S`; then one call asks.
Until Redis is back, each process holds the budget by itself, going on from the last sum that it saw: the limit still
stops every process, and all together can spend up to (limit minus what was spent) once per process. Refusing everything
instead would stop the users' graphs for a failure that is not theirs; counting nothing would lift a budget that was
asked for. What is spent meanwhile is kept, each call under its own name; a thread sends it as soon as Redis is back,
and what is left when the process ends is sent then.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import threading
import time
import weakref
from collections import OrderedDict, deque
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_mlflow_cost.budgets.redis_client import open_client
from langchain_mlflow_cost.budgets.redis_script import SCRIPT, SHA
from langchain_mlflow_cost.budgets.rules import (
    RESERVATION_TTL_S,
    SharedAnswer,
    SharedFigures,
    SharedSum,
)
from langchain_mlflow_cost.money import EXACT, readable
from langchain_mlflow_cost.notices import Once, warn_or_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_mlflow_cost.budgets.rules import SharedCall

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 0.25
PAUSE_S: Final = 15.0
FIRST_PAUSE_S: Final = 0.5
SESSION_TTL_S: Final = 32 * 24 * 3600.0
"""A sum that no call was counted in for so long starts at 0 again: longer than a month."""

DONE_TTL_S: Final = 7 * 24 * 3600.0
"""So long a settlement is known to be carried out, where the process never said that it has heard of it."""

MAX_UNSENT: Final = 10_000
"""Calls that are kept while Redis is away; what is beyond is lost, with an error in the log."""

EXIT_S: Final = 2.0
"""How long the end of a process may wait for its last settlements."""

_MOST_AT_ONCE: Final = 200
"""Settlements of one sum in one request."""

_NANO: Final = Decimal(10) ** 9
_NONE: Final[dict[str, Any]] = {}


class _Settlement(NamedTuple):
    """What a call came to, and Redis has not confirmed."""

    usd: Decimal
    tokens: int
    reserved_s: float
    adds: bool = False
    """It is no call: it adds to the limits."""

    @property
    def is_cost(self) -> bool:
        """Whether a cost is lost with it: a refused or failed call is settled at nothing."""
        return bool(self.usd or self.tokens)


class RedisSums:
    """The sums of sessions, users and tags in one Redis (a `rules.SharedSums`). Thread safe.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        timeout_s: For the connection, and again for each answer.
        pause_s: For so long, at most, nothing is asked of a Redis that failed.
        retry_s: The first wait of the thread that sends what is unsent; None: only calls send it.
        reservation_ttl_s: A reservation that is not settled lapses after so long.
        session_ttl_s: An unused sum is forgotten after so long.
        max_unsent: Calls that are kept while Redis is away.
        clock: Seconds, monotonic; only for the pause. The server's clock decides what lapses.
        client: Of redis-py, with `decode_responses`; made from the URL unless given.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        pause_s: float = PAUSE_S,
        retry_s: float | None = FIRST_PAUSE_S,
        reservation_ttl_s: float = RESERVATION_TTL_S,
        session_ttl_s: float = SESSION_TTL_S,
        max_unsent: int = MAX_UNSENT,
        clock: Callable[[], float] = time.monotonic,
        client: Any = None,
    ) -> None:
        self._name, opened = open_client(url, timeout_s=timeout_s, decode_responses=True)
        self._client: Any = client or opened
        import redis.exceptions as errors  # noqa: PLC0415 - an extra, loaded by now

        self._script_missing = errors.NoScriptError
        self._refused = errors.ResponseError
        # These are the server's own state, not the request's fault: it is as good as away.
        self._unready = (
            errors.ReadOnlyError,
            errors.BusyLoadingError,
            errors.ClusterDownError,
            errors.OutOfMemoryError,
        )
        self._late = errors.TimeoutError
        self._ttls = {
            "call_ttl_ms": int(reservation_ttl_s * 1000),
            "session_ttl_ms": int(session_ttl_s * 1000),
            "done_ttl_ms": int(DONE_TTL_S * 1000),
        }
        self._heard_after_s = reservation_ttl_s
        self._pause_s = pause_s
        self._retry_s = retry_s
        self._max_unsent = max_unsent
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._is_away = False
        self._away_until_s = 0.0
        self._ahead_s = 0.0
        """How far the server's clock is ahead of this one."""
        self._told = Once(logger)
        self._unsent: dict[SharedSum, OrderedDict[str, _Settlement]] = {}
        self._heard: dict[SharedSum, deque[tuple[float, str]]] = {}
        """Settlements that are confirmed, and that the server may forget after a while."""
        self._sender: threading.Thread | None = None
        _OPENED.add(self)

    def now_s(self) -> float:
        """Tell the server's time, from what it said last."""
        return time.time() + self._ahead_s

    def reserve(self, sums: Sequence[tuple[SharedSum, SharedCall]], *, call: str, paid: bool) -> SharedAnswer | None:
        """Check all sums and reserve in all or none, in one round trip; None where Redis is away."""
        request = {"call": call, "paid": paid}
        is_first = self._failures == 0
        answer = self._ask([each for each, _ in sums], request, [held for _, held in sums])
        if answer is None and is_first and self._failures == 1 and not self._is_away:
            # One late answer is no reason to go alone: what this call holds has the same name, and is held once.
            answer = self._ask([each for each, _ in sums], request, [held for _, held in sums])
        if answer is None:
            return None
        figures = [answer[at : at + 6] for at in range(3, len(answer), 6)]
        return SharedAnswer(
            answer[0] == 1,
            tuple(
                SharedFigures(_usd(spent), _usd(held), int(used), int(held_tokens), _usd(added), int(added_tokens))
                for spent, held, used, held_tokens, added, added_tokens in figures
            ),
        )

    def settle(
        self, sums: Sequence[SharedSum], *, call: str, actual_usd: Decimal, actual_tokens: int, reserved_s: float
    ) -> None:
        """Replace a reservation by what the call cost, in one round trip; kept for later where Redis is away."""
        self._keep_and_send(sums, call, _Settlement(actual_usd, actual_tokens, reserved_s))

    def add(self, sums: Sequence[SharedSum], *, grant: str, usd: Decimal, tokens: int) -> None:
        """Add to the limits of these sums, in one round trip; kept for later where Redis is away."""
        self._keep_and_send(sums, f"grant:{grant}", _Settlement(usd, tokens, self.now_s(), adds=True))

    def _keep_and_send(self, sums: Sequence[SharedSum], name: str, settlement: _Settlement) -> None:
        with self._lock:
            for each in sums:
                self._unsent.setdefault(each, OrderedDict())[name] = settlement
            lost = self._bound()
        if lost:
            logger.error("Redis at %s is away for too long: the costs of %d calls were lost", self._name, lost)
        if self._ask(sums, {}) is None:
            self._start_sender()

    def send_rest(self, within_s: float = EXIT_S) -> None:
        """Send what is unsent, whatever pause there is; what is left then is lost, with an error in the log."""
        until_s = time.monotonic() + within_s
        while self._unsent and time.monotonic() < until_s:
            if not self._send_some(until_s):
                time.sleep(0.05)
        with self._lock:
            unsent = (each for calls in self._unsent.values() for each in calls.items())
            rest = {call: settlement.usd for call, settlement in unsent if settlement.is_cost}
        if rest:
            usd = readable(sum(rest.values(), Decimal(0)))
            logger.error("Redis at %s is away: the costs of %d calls, %s USD, were lost", self._name, len(rest), usd)

    # --- one request ------------------------------------------------------------------------------------------------

    def _ask(
        self,
        sums: Sequence[SharedSum],
        what: dict[str, Any],
        calls: Sequence[SharedCall] = (),
        *,
        at_once: bool = False,
    ) -> list[Any] | None:
        """Send what is unsent for these sums and a request; None where Redis is away. Never raises."""
        if not sums:
            return None
        with self._lock:
            if self._is_away and not at_once:
                if self._clock() < self._away_until_s:
                    return None
                # This call finds out whether Redis is back; the ones beside it do not wait.
                self._away_until_s = self._clock() + self._pause_s
            sent = {each: dict(islice(self._unsent.get(each, _NONE).items(), _MOST_AT_ONCE)) for each in sums}
            heard = {each: self._old_news(each) for each in sums}
        asked: list[dict[str, Any]] = [
            {
                "per": each.per or "",
                # Lists, for cjson cannot tell an empty list from an empty mapping.
                "settle": [
                    [call, _nano(done.usd), str(done.tokens), repr(done.reserved_s), int(done.adds)]
                    for call, done in sent[each].items()
                ],
                "heard": heard[each],
                "limits": [],
            }
            for each in sums
        ]
        for each, held in zip(asked, calls, strict=False):
            each["hold"], each["hold_tokens"] = _nano(held.hold_usd), str(held.hold_tokens)
            each["limits"] = [
                [
                    "-" if limit.usd is None else _nano(limit.usd),
                    "-" if limit.tokens is None else str(limit.tokens),
                    _nano(limit.needs_usd),
                    str(limit.needs_tokens),
                    int(limit.may_grow),
                ]
                for limit in held.limits
            ]
        keys = [key for each in sums for key in sum_keys(each)]
        try:
            answer: list[Any] = self._run(keys, json.dumps({"sums": asked, **what, **self._ttls}))
        except Exception as error:  # noqa: BLE001 - whatever redis-py raises, the user's graph goes on; it is told below
            self._put_back(heard)
            self._failed(error)
            return None
        self._succeeded(sent, float(answer[1]) + float(answer[2]) / 1e6)
        return answer

    def _run(self, keys: list[str], request: str) -> Any:
        try:
            return self._client.evalsha(SHA, len(keys), *keys, request)
        except self._script_missing:  # A new or restarted server: once.
            return self._client.eval(SCRIPT, len(keys), *keys, request)

    def _succeeded(self, sent: dict[SharedSum, dict[str, _Settlement]], server_s: float) -> None:
        now_s = self._clock()
        with self._lock:
            was_away, self._is_away, self._failures = self._is_away, False, 0
            self._ahead_s = server_s - time.time()
            for each, figures in sent.items():
                unsent = self._unsent.get(each)
                for call in figures:
                    if unsent is not None and unsent.pop(call, None) is not None:
                        self._heard.setdefault(each, deque(maxlen=1_000)).append((now_s, call))
                if unsent is not None and not unsent:
                    del self._unsent[each]
            while len(self._heard) > self._max_unsent:
                self._heard.pop(next(iter(self._heard)))
        if was_away:
            logger.info("Redis at %s is back: budgets are kept by all processes together again", self._name)

    def _old_news(self, each: SharedSum) -> list[str]:
        """Take the settlements that were confirmed so long ago that no handler of this process settles them again."""
        news, found = self._heard.get(each), []
        while news and news[0][0] <= self._clock() - self._heard_after_s:
            found.append(news.popleft()[1])
        if news is not None and not news:
            del self._heard[each]
        return found

    def _put_back(self, heard: dict[SharedSum, list[str]]) -> None:
        with self._lock:
            for each, calls in heard.items():
                if calls:
                    news = self._heard.setdefault(each, deque(maxlen=1_000))
                    news.extendleft((float("-inf"), call) for call in reversed(calls))

    def _failed(self, error: Exception) -> None:
        if isinstance(error, self._refused) and not isinstance(error, self._unready):
            # The server answers, and cannot do it: a key of ours holds something else. The type is all that is told.
            cause = str(error).partition(" ")[0]
            if self._told.is_new(("refused", cause)):
                logger.error(
                    "Redis at %s cannot keep a budget's sum (%s): a key that begins with %s holds something else, or "
                    "the user may not use it; until that is mended, each process holds the budget by itself",
                    *(self._name, cause if cause.isupper() else type(error).__name__, _PREFIX),
                )
            return
        with self._lock:
            self._failures += 1
            was_away, is_late = self._is_away, isinstance(error, self._late)
            self._is_away = was_away or self._failures > 1 or not is_late
            pause_s = min(self._pause_s, FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10))
            self._away_until_s = self._clock() + pause_s
            is_away = self._is_away
        if was_away or not is_away:
            return
        # The type only: a message can quote the URL, and that a password.
        notice = (
            f"Redis at {self._name} is away ({type(error).__name__}): until it is back, each process holds the budgets "
            f"in it by itself, from the last sums that it saw; it is asked again every {self._pause_s:g} s at least"
        )
        if self._told.is_new("away"):
            warn_or_log(notice, logger, RuntimeWarning)
        else:
            logger.warning("%s", notice)

    # --- what is unsent ---------------------------------------------------------------------------------------------

    def _bound(self) -> int:
        """Forget the oldest calls beyond the bound, each in all its sums, and tell how many. The lock is held."""
        lost = set()
        while sum(map(len, self._unsent.values())) > self._max_unsent:
            name = next(iter(next(iter(self._unsent.values()))))
            for each in [each for each, calls in self._unsent.items() if name in calls]:
                if self._unsent[each].pop(name).is_cost:
                    lost.add(name)
                if not self._unsent[each]:
                    del self._unsent[each]
        return len(lost)

    def _send_some(self, until_s: float = float("inf")) -> bool:
        """Send the settlements of some sums, each alone, for one that Redis refuses must not keep the others.

        Returns:
            Whether Redis took any.
        """
        with self._lock:
            sums = list(self._unsent)[:100]
        took = False
        for each in sums:
            if time.monotonic() >= until_s:
                break
            if self._ask([each], {}, at_once=True) is not None:
                took = True
            elif self._failures:
                break
        return took

    def _start_sender(self) -> None:
        if self._retry_s is None:
            return
        with self._lock:
            if self._sender is not None and self._sender.is_alive():
                return
            self._sender = threading.Thread(
                target=_send_until_done, args=(weakref.ref(self), self._retry_s), name="budget-settlements", daemon=True
            )
        with contextlib.suppress(RuntimeError):  # The interpreter ends: `send_rest` takes over.
            self._sender.start()


def _send_until_done(known: weakref.ref[RedisSums], wait_s: float) -> None:
    """Send what is unsent, in waits that double, until nothing is left or nobody has the sums any more."""
    wait = threading.Event().wait
    while True:
        wait(wait_s)
        sums = known()
        if sums is None:
            return
        while sums._send_some():  # noqa: SLF001 - its own thread
            pass
        if not sums._unsent:  # noqa: SLF001 - as above
            return
        wait_s = min(wait_s * 2, sums._pause_s)  # noqa: SLF001 - as above
        del sums


def open_redis(url: str) -> RedisSums:
    """Return this process's sums in the Redis of that URL: one client for all handlers, and one pause.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """
    with _OPENING:
        if url not in _OPEN:
            _OPEN[url] = RedisSums(url)
        return _OPEN[url]


_OPENING = threading.Lock()
_OPEN: dict[str, RedisSums] = {}
_OPENED: weakref.WeakSet[RedisSums] = weakref.WeakSet()


@atexit.register
def _send_all_rest() -> None:
    for sums in list(_OPENED):
        sums.send_rest()


_PREFIX: Final = "langchain_mlflow_cost:budget:"


def sum_keys(shared: SharedSum) -> tuple[str, str]:
    """Return the keys of a sum: the hash, and the sorted set of what lapses. Deleting both starts it again at 0.

    The owner's id is hashed, for it can be a person's. Braces keep its keys in one slot of a cluster.
    """
    hashed = hashlib.sha256(shared.owner.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    key = f"{_PREFIX}{{{hashed}}}:"
    if shared.node is None:
        key += shared.scope
    else:
        in_scope = "" if shared.scope == "session" else f"{shared.scope}:"
        node = shared.node.encode("utf-8", "backslashreplace").decode()
        key += f"{in_scope}{'only' if shared.is_exact else 'node'}:{node}"
    key += f":per {shared.per}" if shared.per else ""
    return key, f"{key}:lapses"


def _nano(usd: Decimal) -> str:
    return str(int(EXACT.to_integral_value(EXACT.multiply(usd, _NANO))))


def _usd(nano: str) -> Decimal:
    return EXACT.divide(Decimal(nano), _NANO)
