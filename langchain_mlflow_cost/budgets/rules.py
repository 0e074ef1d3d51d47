"""What a budget is, when it refuses a call, and what a store outside this process has to do for it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.money import EXACT, readable
from langchain_mlflow_cost.written import SETTINGS, Expanded, Usd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

RESERVATION_TTL_S: Final = 600.0
"""A reservation that nothing was heard of for so long no longer counts: its call was cancelled without an event.

The OpenAI and Anthropic clients give up after 600 s as well (`DEFAULT_TIMEOUT`, openai 2.x, anthropic 0.7x).
"""


class Budget(BaseModel):
    """One limit on what model calls may cost, as it is written and as it is kept."""

    model_config = SETTINGS

    max_cost_usd: Usd
    """The limit, in USD."""

    scope: Literal["trace", "node", "session"] = "trace"
    """What has a sum of its own: each trace, each node of a trace, or each session (`thread_id`)."""

    on_exceeded: Literal["raise", "warn"] = "raise"
    """Refuse the call, or make it and warn."""

    unpriced: Literal["warn", "raise"] = "warn"
    """What to do about a call whose model has no known price."""

    store: Expanded = Field(default=None, repr=False)
    """For `scope: session` over several processes: `redis://host:6379/0`. `${VAR}` is an environment variable."""

    @field_validator("store")
    @classmethod
    def _can_be_opened(cls, value: str | None) -> str | None:
        if value is not None:
            check_store(value)
        return value

    @model_validator(mode="after")
    def _store_is_for_sessions(self) -> Self:
        if self.store is not None and self.scope != "session":
            raise ValueError(f"store is for scope: session, found scope: {self.scope}; leave one of them out")
        return self

    def in_nodes(self, pattern: str) -> NodeBudget:
        """Return the budget of an entry of `nodes`."""
        return NodeBudget.model_construct(**dict(self), node=pattern)  # Checked already, its variables are filled in.


class NodeBudget(Budget):
    """A budget of an entry of `nodes`.

    Only the calls of a node that the entry is for, and of all inside it, count; each such node has a sum of its own.
    """

    node: str
    """The entry's pattern."""


def refusal(held_usd: Decimal, limit_usd: Decimal, prompt_usd: Decimal, *, paid: bool) -> str | None:
    """Say why a call cannot be made; None where it can.

    Args:
        held_usd: Spent, and reserved for the calls in flight.
        limit_usd: The budget.
        prompt_usd: What the prompt of the call alone costs.
        paid: The call is not known to be free, so it is refused where nothing is left.
    """
    if held_usd > limit_usd or (paid and held_usd == limit_usd):
        return "nothing is left"
    if EXACT.add(held_usd, prompt_usd) > limit_usd:
        return f"the prompt alone costs about {readable(prompt_usd)} USD"
    return None


@dataclass(frozen=True, slots=True)
class SharedSum:
    """A sum that several processes keep together."""

    session: str
    node: str | None
    """Path of the node whose calls count; None where all calls of the session do."""

    limit_usd: Decimal | None = None
    """The lowest limit that refuses a call; None where the budgets on this sum only warn."""


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """What a store said to a reservation."""

    admitted: bool
    spent_usd: tuple[Decimal, ...]
    """Per sum, in the order asked."""

    reserved_usd: tuple[Decimal, ...]
    """Per sum: for the calls in flight in all processes, without the one that asks."""


class SharedSums(Protocol):
    """Sums outside this process. No method raises; each takes one round trip and a bounded time."""

    def reserve(
        self, sums: Sequence[SharedSum], *, call: str, hold_usd: Decimal, prompt_usd: Decimal, paid: bool
    ) -> SharedAnswer | None:
        """Check all sums as `refusal` does, and reserve in all of them or in none.

        Args:
            sums: All of one session.
            call: Names the call to `settle`.
            hold_usd: Reserved until the call is settled.
            prompt_usd: As for `refusal`.
            paid: As for `refusal`.

        Returns:
            The answer, or None where the store is away; then the call may or may not be reserved.
        """

    def settle(self, sums: Sequence[SharedSum], *, call: str, actual_usd: Decimal) -> None:
        """Replace the call's reservation, if there is one, by what it cost; a second time changes nothing.

        Where the store is away, the figure is kept and sent with the next request for this session.
        """


NEEDS_EXTRA: Final = 'a budget\'s `store` needs an extra: pip install "langchain-mlflow-cost[redis]"'
NO_REDIS_URL: Final = (
    "a budget's `store` is not the URL of a Redis: expected redis://HOST:PORT/DB, rediss://... or unix://PATH"
)
_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})


def check_store(url: str) -> None:
    """Find out whether a store could be opened, without opening it or importing redis-py.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """
    try:
        parts = urlsplit(url)
        is_redis = parts.scheme in _SCHEMES and "://" in url and (parts.port is None or parts.scheme != "unix")
    except ValueError:  # A port that is no number; the message would quote it, and it can be a password's end.
        is_redis = False
    if not is_redis:
        raise PolicyError(NO_REDIS_URL)
    if importlib.util.find_spec("redis") is None:
        raise PolicyError(NEEDS_EXTRA)
