"""Session budgets over processes and machines: their sums in Redis (extra `redis`).

One Lua script on the server does everything, so a check and its reservation are one step for all processes, and each
model call costs two round trips: one before it, one after. A sum is a hash (`spent`, `reserved`, and a field for each
call) and a sorted set that says when a call's field lapses: a process that died holds nothing for longer than
`RESERVATION_TTL_S`. Money is whole nano-USD there, exact up to 9 million USD (Lua counts in doubles).

Redis away. A call waits `TIMEOUT_S` for the connection and `TIMEOUT_S` for the answer, at most; the time that a name
server takes comes on top, so use an address where that matters. After a failure no call asks for `PAUSE_S`, then one
does. Until Redis is back, each process holds the budget by itself, going on from the last sum that it saw: the limit
still stops every process, and all together can spend up to (limit minus what was spent) once per process. Refusing
everything instead would stop the users' graphs for a failure that is not theirs; counting nothing would lift a budget
that was asked for. What is spent meanwhile is kept and added once Redis is back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from langchain_mlflow_cost.budgets.rules import (
    NEEDS_EXTRA,
    NO_REDIS_URL,
    RESERVATION_TTL_S,
    SharedAnswer,
    SharedSum,
    check_store,
)
from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.notices import Once, tell_both

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.25
PAUSE_S = 15.0
SESSION_TTL_S = 30 * 24 * 3600.0
"""A session that made no call for so long starts at 0 again."""

MAX_UNSENT = 10_000
"""Sums for which figures are kept while Redis is away; what is beyond is lost, with an error in the log."""

_NANO = Decimal(10) ** 9

# A call's field holds what is reserved for it, and `done` once it is settled: a request that timed out may have been
# carried out all the same, so each of them can be sent twice. Amounts travel as text, for cjson prints large numbers
# with an exponent, which HINCRBY does not read.
_SCRIPT = """
local ask = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function add(sum, what, amount)
  if amount ~= 0 then redis.call('HINCRBY', sum, what, string.format('%.0f', amount)) end
end

local function free(sum, call)
  local held = redis.call('HGET', sum, call)
  if held and held ~= 'done' then add(sum, 'reserved', -tonumber(held)) end
  return held == 'done'
end

local admitted, answer, done = 1, {}, {}
for i, asked in ipairs(ask.sums) do
  local sum, lapses = KEYS[2 * i - 1], KEYS[2 * i]
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', lapses, '-inf', now)) do
    free(sum, call)
    redis.call('HDEL', sum, call)
  end
  redis.call('ZREMRANGEBYSCORE', lapses, '-inf', now)

  for _, settled in ipairs(asked.settle) do
    local call, actual = settled[1], tonumber(settled[2])
    if not free(sum, call) then
      add(sum, 'spent', actual)
      redis.call('HSET', sum, call, 'done')
      redis.call('ZADD', lapses, now + ask.call_ttl_ms, call)
    end
  end

  -- Another handler may have reserved the same call, or, where it was made already, have settled it.
  done[i] = ask.call and free(sum, ask.call)
  if ask.call and not done[i] then redis.call('HDEL', sum, ask.call) end
  local spent = tonumber(redis.call('HGET', sum, 'spent') or '0')
  local reserved = tonumber(redis.call('HGET', sum, 'reserved') or '0')
  answer[2 * i], answer[2 * i + 1] = string.format('%.0f', spent), string.format('%.0f', reserved)
  local limit, held = tonumber(asked.limit), spent + reserved
  if ask.call and limit then
    if held > limit or (ask.paid and held == limit) or held + tonumber(ask.prompt) > limit then admitted = 0 end
  end
end

for i in ipairs(ask.sums) do
  local sum, lapses = KEYS[2 * i - 1], KEYS[2 * i]
  if ask.call and admitted == 1 and not done[i] then
    redis.call('HSET', sum, ask.call, ask.hold)
    add(sum, 'reserved', tonumber(ask.hold))
    redis.call('ZADD', lapses, now + ask.call_ttl_ms, ask.call)
  end
  redis.call('PEXPIRE', sum, ask.session_ttl_ms)
  redis.call('PEXPIRE', lapses, ask.session_ttl_ms)
end
answer[1] = admitted
return answer
"""
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class _Unsent:
    """What calls of one sum have cost, and Redis has not confirmed."""

    def __init__(self) -> None:
        self.sent: dict[str, Decimal] = {}
        """Call to USD: a request with it has failed, but may have been carried out."""

        self._waiting: tuple[str, Decimal] | None = None

    def add(self, call: str, usd: Decimal) -> None:
        """Add to what was never sent. However long Redis is away, that is one figure under one call's name.

        The reservations of the other calls, if Redis has them, are left to lapse.
        """
        first, waiting = self._waiting or (call, ZERO)
        self._waiting = first, EXACT.add(waiting, usd)

    def send(self) -> dict[str, Decimal]:
        """Return all of it, as sent from now on."""
        if self._waiting is not None:
            call, usd = self._waiting
            self.sent[call] = usd
            self._waiting = None
        return dict(self.sent)

    def is_empty(self) -> bool:
        """Tell whether all is confirmed."""
        return not self.sent and self._waiting is None


class RedisSums:
    """The sums of `scope: session` in one Redis (a `rules.SharedSums`). Thread safe.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        timeout_s: For the connection, and again for each answer.
        pause_s: For so long nothing is asked of a Redis that failed.
        reservation_ttl_s: A reservation that is not settled lapses after so long.
        session_ttl_s: An unused session is forgotten after so long.
        max_unsent: Sums for which figures are kept while Redis is away.
        clock: Seconds, monotonic; only for the pause. The server's clock decides what lapses.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        pause_s: float = PAUSE_S,
        reservation_ttl_s: float = RESERVATION_TTL_S,
        session_ttl_s: float = SESSION_TTL_S,
        max_unsent: int = MAX_UNSENT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_store(url)
        try:
            # Here, for redis-py is an extra, and takes 0.3 s to import (8.1: it imports numpy where that is installed).
            import redis  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError as error:
            raise PolicyError(NEEDS_EXTRA) from error
        self._script_missing = redis.exceptions.NoScriptError
        try:
            parts = urlsplit(url)
            self._name = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
            self._client: Any = redis.Redis.from_url(
                url,
                socket_connect_timeout=timeout_s,
                socket_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # redis-py's default would multiply the time that a call can wait.
                decode_responses=True,
            )
        except ValueError:  # Its message can quote the URL, and that a password.
            raise PolicyError(NO_REDIS_URL) from None
        self._ttls = {"call_ttl_ms": int(reservation_ttl_s * 1000), "session_ttl_ms": int(session_ttl_s * 1000)}
        self._pause_s = pause_s
        self._max_unsent = max_unsent
        self._clock = clock
        self._lock = threading.Lock()
        self._away_until_s: float | None = None
        self._told = Once(logger, most=1)
        self._unsent: dict[tuple[str, str | None], _Unsent] = {}

    def reserve(
        self, sums: Sequence[SharedSum], *, call: str, hold_usd: Decimal, prompt_usd: Decimal, paid: bool
    ) -> SharedAnswer | None:
        """Check all sums and reserve in all or none, in one round trip; None where Redis is away."""
        answer = self._ask(sums, {"call": call, "hold": _nano(hold_usd), "prompt": _nano(prompt_usd), "paid": paid})
        if answer is None:
            return None
        figures = [EXACT.divide(Decimal(figure), _NANO) for figure in answer[1:]]
        return SharedAnswer(answer[0] == 1, tuple(figures[::2]), tuple(figures[1::2]))

    def settle(self, sums: Sequence[SharedSum], *, call: str, actual_usd: Decimal) -> None:
        """Replace a reservation by what the call cost, in one round trip; kept for later where Redis is away."""
        with self._lock:
            for each in sums:
                unsent = self._unsent.get((each.session, each.node))
                if unsent is None:
                    if len(self._unsent) >= self._max_unsent:
                        self._unsent.pop(next(iter(self._unsent)))
                        logger.error("Redis at %s is away for too long: session costs were lost", self._name)
                    unsent = self._unsent[each.session, each.node] = _Unsent()
                unsent.add(call, actual_usd)
        self._ask(sums, {})

    def _ask(self, sums: Sequence[SharedSum], what: dict[str, Any]) -> list[Any] | None:
        """Send what is unsent for these sums and a request; None where Redis is away. Never raises."""
        with self._lock:
            if self._away_until_s is not None:
                if self._clock() < self._away_until_s:
                    return None
                # This call finds out whether Redis is back; the ones beside it do not wait.
                self._away_until_s = self._clock() + self._pause_s
            sent = {(each.session, each.node): self._unsent_for(each) for each in sums}
        keys = [key for each in sums for key in sum_keys(each.session, each.node)]
        asked = [
            {
                # Lists, for cjson cannot tell an empty list from an empty mapping.
                "settle": [[call, _nano(usd)] for call, usd in sent[each.session, each.node].items()],
                "limit": None if each.limit_usd is None else _nano(each.limit_usd),
            }
            for each in sums
        ]
        request = json.dumps({"sums": asked, **what, **self._ttls})
        try:
            answer: list[Any] = self._run(keys, request)
        except Exception as error:  # noqa: BLE001 - whatever redis-py raises, the user's graph goes on; `_away` says so
            self._away(error)
            return None
        self._is_back(sent)
        return answer

    def _run(self, keys: list[str], request: str) -> Any:
        try:
            return self._client.evalsha(_SHA, len(keys), *keys, request)
        except self._script_missing:  # A new or restarted server: once.
            return self._client.eval(_SCRIPT, len(keys), *keys, request)

    def _unsent_for(self, shared: SharedSum) -> dict[str, Decimal]:
        unsent = self._unsent.get((shared.session, shared.node))
        return {} if unsent is None else unsent.send()

    def _is_back(self, sent: dict[tuple[str, str | None], dict[str, Decimal]]) -> None:
        with self._lock:
            was_away, self._away_until_s = self._away_until_s is not None, None
            for name, figures in sent.items():
                unsent = self._unsent.get(name)
                if unsent is not None:
                    for call in figures:
                        unsent.sent.pop(call, None)
                    if unsent.is_empty():
                        del self._unsent[name]
        if was_away:
            logger.info("Redis at %s is back: session budgets are kept by all processes together again", self._name)

    def _away(self, error: Exception) -> None:
        with self._lock:
            was_away = self._away_until_s is not None
            self._away_until_s = self._clock() + self._pause_s
        if was_away:
            return
        # The type only: a message can quote the URL, and that a password.
        notice = (
            f"Redis at {self._name} is away ({type(error).__name__}): until it is back, each process holds the session "
            f"budgets by itself, from the last sums that it saw; it is asked again every {self._pause_s:g} s"
        )
        if self._told.is_new("away"):
            tell_both(notice, logger, RuntimeWarning)
        else:
            logger.warning("%s", notice)


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


def sum_keys(session: str, node: str | None) -> tuple[str, str]:
    """Return the keys of a sum: the hash, and the sorted set of what lapses. Deleting both starts it again at 0.

    The session's name is hashed, for it can be a person's. Braces keep its keys in one slot of a cluster.
    """
    hashed = hashlib.sha256(session.encode()).hexdigest()[:32]
    key = f"langchain_mlflow_cost:budget:{{{hashed}}}:" + ("session" if node is None else f"node:{node}")
    return key, f"{key}:lapses"


def _nano(usd: Decimal) -> str:
    return str(int(EXACT.to_integral_value(EXACT.multiply(usd, _NANO))))
