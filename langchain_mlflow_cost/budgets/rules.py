"""What a budget is, when it refuses a call, and what a store outside this process has to do for it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Protocol, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.money import ZERO, as_written, readable
from langchain_mlflow_cost.notices import nearest, printable
from langchain_mlflow_cost.written import SETTINGS, Expanded, Fraction, Usd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

RESERVATION_TTL_S: Final = 600.0
"""A reservation that nothing was heard of for so long no longer counts: its call was cancelled without an event.

The OpenAI and Anthropic clients give up after 600 s as well (`DEFAULT_TIMEOUT`, openai 2.x, anthropic 0.7x).
"""


SCOPES: Final = ("trace", "node", "session", "user", "tag:NAME")
_TAG: Final = "tag:"


def _known_scope(scope: str) -> str:
    name = scope.removeprefix(_TAG)
    if scope in SCOPES[:-1] or (name != scope and name and name == name.strip()):
        return scope
    near = nearest(scope, SCOPES)
    remedy = f'; did you mean "{near}"?' if near else ""
    raise ValueError(f"expected trace, node, session, user or tag:NAME, found {printable(scope, most=40)}{remedy}")


def _as_fractions(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


def _store_that_can_be_opened(url: str | None) -> str | None:
    if url is not None:
        check_store(url)
    return url


StoreUrl: TypeAlias = Annotated[Expanded, AfterValidator(_store_that_can_be_opened)]
"""The URL of a Redis that can be asked for here; `${VAR}` filled in."""


def check_limits(max_cost_usd: Decimal | None, max_total_tokens: int | None) -> None:
    """See that a budget has a limit.

    Raises:
        ValueError: It has none.
    """
    if max_cost_usd is None and max_total_tokens is None:
        raise ValueError("needs a limit; add max_cost_usd (USD) or max_total_tokens")


class Budget(BaseModel):
    """One limit on what model calls may cost, as it is written and as it is kept."""

    model_config = SETTINGS

    max_cost_usd: Usd | None = None
    """The limit, in USD."""

    max_total_tokens: Annotated[int, Field(ge=0, le=10**15)] | None = None
    """The limit, in tokens of prompts and answers; those of answers from LangChain's cache do not count. With
    `max_cost_usd` beside it, each of the two can refuse."""

    scope: Annotated[str, AfterValidator(_known_scope)] = "trace"
    """What has a sum of its own: each `trace`, each `node` of a trace, each `session` (`thread_id`), each `user`, or
    each value of the run metadata's NAME (`tag:NAME`)."""

    per: Literal["hour", "day", "month"] | None = None
    """For session, user and tag: the sum starts anew with each (UTC). A call counts in the one it was reserved in."""

    warn_at: Annotated[tuple[Annotated[Fraction, Field(gt=0)], ...], BeforeValidator(_as_fractions)] = ()
    """Fractions of the limit, above 0, at which one warning is given, and `on_budget` called: `[0.5, 0.8]`."""

    on_exceeded: Literal["raise", "warn", "interrupt"] = "raise"
    """Refuse the call; make it and warn; or ask with LangGraph's `interrupt`."""

    unpriced: Literal["warn", "raise"] = "warn"
    """What to do about a call whose model has no known price."""

    reserve: Literal["expected", "worst_case"] = "expected"
    """What a call in flight holds: its prompt, and as much answer as such calls had so far, or as it can have."""

    store: StoreUrl = Field(default=None, repr=False)
    """For session, user and tag over processes: `redis://host:6379/0`. `${VAR}` is an environment variable."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_limits(self.max_cost_usd, self.max_total_tokens)
        for key in ("store", "per"):
            if getattr(self, key) is not None and not self.outlives_traces:
                raise ValueError(
                    f"{key} is for scope: session, user or tag:NAME, found scope: {self.scope}; leave one of them out"
                )
        return self

    @property
    def outlives_traces(self) -> bool:
        """Whether its sums belong to a session, a user or a tag."""
        return self.scope not in ("trace", "node")

    @property
    def refuses(self) -> bool:
        """Whether it stops calls, and does not only warn."""
        return self.on_exceeded != "warn"

    def in_words(self) -> str:
        """Say what is limited: `$0.5 a trace`, `10,000 tokens a user per day`."""
        usd = [] if self.max_cost_usd is None else [f"${readable(self.max_cost_usd)}"]
        tokens = [] if self.max_total_tokens is None else [f"{self.max_total_tokens:,} tokens"]
        return f"{' or '.join(usd + tokens)} a {self.scope}" + (f" per {self.per}" if self.per else "")

    def kept_in(self, store: str | None) -> Self:
        """Return it with a store for what outlives traces, where it names none."""
        if store is None or self.store is not None or not self.outlives_traces:
            return self
        return type(self).model_construct(**{**dict(self), "store": store})

    def in_nodes(self, pattern: str) -> NodeBudget:
        """Return the budget of an entry of `nodes`."""
        return NodeBudget.model_construct(**dict(self), node=pattern)  # Checked already, its variables are filled in.


class NodeBudget(Budget):
    """A budget of an entry of `nodes`.

    Only the calls of a node that the entry is for, and of all inside it, count; each such node has a sum of its own.
    """

    node: str
    """The entry's pattern."""


def window_of(per: str | None, now_s: float) -> int:
    """Number the hour, day or month (UTC) of a time, in seconds since 1970; 0 for a sum that never starts anew."""
    match per:
        case None:
            return 0
        case "month":
            date = time.gmtime(now_s)
            return date.tm_year * 12 + date.tm_mon
        case _:
            return int(now_s // (3600 if per == "hour" else 86_400))


class Estimate(NamedTuple):
    """What a call may use and cost, before it is made."""

    usd: Decimal | None
    """What prompt and answer are expected to cost; None: the model has no price."""

    prompt_usd: Decimal | None = None
    """The part of it that is certain to be paid: the prompt's."""

    tokens: int = 0
    """What prompt and answer are expected to use."""

    prompt_tokens: int = 0
    most_usd: Decimal | None = None
    """What the call can cost at most; None where nothing bounds it."""

    most_tokens: int | None = None


def added_by(answer: object) -> tuple[Decimal, int]:
    """Read what the answer to an interrupt adds to a limit: USD and tokens, 0 where it adds none."""
    if not isinstance(answer, Mapping):
        return ZERO, 0
    usd, tokens = as_written(answer.get("add_usd")), as_written(answer.get("add_tokens"))
    return max(usd or ZERO, ZERO), max(int(tokens or 0), 0)


@dataclass(frozen=True, slots=True)
class BudgetEvent:
    """What `on_budget` is called with: a sum has reached a fraction of its limit (`warn_at`), or a call was refused."""

    budget: str
    """Which, in words and without an id: `trace`, `node "research"`, `user per month`."""

    sum: Decimal
    """What is spent under it, in `unit`."""

    limit: Decimal
    """In `unit`."""

    unit: Literal["USD", "tokens"]
    fraction: float
    """The one of `warn_at` that is reached; at a refusal, what part of the limit is spent."""

    node: str
    """The path of the node whose call it was; `""` outside any node."""

    refused: bool = False
    """The call was refused, or a stream stopped."""

    scope: str = "trace"
    per: str | None = None
    reserved: Decimal = ZERO
    """Held for the calls in flight beside it, in `unit`."""


class SharedLimit(NamedTuple):
    """One budget that refuses calls of a shared sum."""

    usd: Decimal | None
    tokens: int | None
    needs_usd: Decimal
    """What the call must find: its prompt's price, or with `reserve: worst_case` all that it can cost."""

    needs_tokens: int
    may_grow: bool
    """Whether what an interrupt's answer added counts (`on_exceeded: interrupt`)."""


@dataclass(frozen=True, slots=True)
class SharedSum:
    """A sum that several processes keep together."""

    owner: str
    """The session's, user's or tag's own id."""

    node: str | None = None
    """Path of the node whose calls count; None where all calls of the owner do."""

    scope: str = "session"
    per: str | None = None
    is_exact: bool = False
    """Only the node's own calls count, not those of nodes inside it."""


class SharedCall(NamedTuple):
    """What a call holds in a shared sum until it is settled, and what can refuse it there."""

    hold_usd: Decimal
    hold_tokens: int
    limits: tuple[SharedLimit, ...]


class SharedFigures(NamedTuple):
    """A shared sum, without the call that asks."""

    spent_usd: Decimal
    reserved_usd: Decimal
    spent_tokens: int
    reserved_tokens: int
    added_usd: Decimal
    added_tokens: int


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """What a store said to a reservation."""

    admitted: bool
    sums: tuple[SharedFigures, ...]
    """In the order asked."""


class SharedSums(Protocol):
    """Sums outside this process. No method raises; each takes one round trip and a bounded time."""

    def now_s(self) -> float:
        """Tell the store's time, in seconds since 1970, from what it said last; no round trip."""

    def reserve(self, sums: Sequence[tuple[SharedSum, SharedCall]], *, call: str, paid: bool) -> SharedAnswer | None:
        """Check all sums as a process checks its own, and reserve in all of them or in none.

        Args:
            sums: With what the call holds in each.
            call: Names the call to `settle`.
            paid: The call is not known to be free, so it is refused where nothing is left.

        Returns:
            The answer, or None where the store is away; then the call may or may not be reserved.
        """

    def settle(
        self, sums: Sequence[SharedSum], *, call: str, actual_usd: Decimal, actual_tokens: int, reserved_s: float
    ) -> None:
        """Replace the call's reservation, if there is one, by what it cost; a second time changes nothing.

        Where the store is away, the figure is kept, and sent as soon as it is back.

        Args:
            sums: Those that it was reserved in.
            call: As for `reserve`.
            actual_usd: What it cost.
            actual_tokens: What it used.
            reserved_s: When it was reserved, by `now_s`: a sum with a window counts it there.
        """

    def add(self, sums: Sequence[SharedSum], *, grant: str, usd: Decimal, tokens: int) -> None:
        """Add to the limits of these sums that may grow; a second time under the same name changes nothing."""


NEEDS_EXTRA: Final = '{} needs an extra: pip install "langchain-mlflow-cost[redis]"'
NO_REDIS_URL: Final = "{} is not the URL of a Redis: expected redis://HOST:PORT/DB, rediss://... or unix://PATH"
STORE: Final = "a budget's `store`"
_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})


def check_store(url: str, setting: str = STORE) -> None:
    """Find out whether a store could be opened, without opening it or importing redis-py.

    Args:
        url: As it was written.
        setting: Where, for the message.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """
    try:
        parts = urlsplit(url)
        is_redis = parts.scheme in _SCHEMES and "://" in url and (parts.port is None or parts.scheme != "unix")
    except ValueError:  # A port that is no number; the message would quote it, and it can be a password's end.
        is_redis = False
    if not is_redis:
        raise PolicyError(NO_REDIS_URL.format(setting))
    if importlib.util.find_spec("redis") is None:
        raise PolicyError(NEEDS_EXTRA.format(setting))
