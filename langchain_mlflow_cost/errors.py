"""The errors that a caller may catch.

    ValueError
      PolicyError            a bad policy, price or pattern, found when it is loaded
      UsageError             token counts that cannot be true
    RuntimeError
      BudgetExceededError    a budget refused a model call, or stopped a stream

`BudgetExceededError` is a `RuntimeError` because LangGraph's default retry policy does not retry those
(`langgraph.types.default_retry_on`, langgraph 1.0 to 1.2): a stopped node is not run again in vain.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from langchain_mlflow_cost.money import ZERO, plain, readable
from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from decimal import Decimal


class PolicyError(ValueError):
    """A policy, price or pattern that cannot be used; the message names file, line, key, value and remedy.

    Attributes:
        key: The setting at fault, dotted from where its checker stands: `redaction.patterns.ticket`. None where no
            single one is, as in a file that is no YAML.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        """Keep the key, for a caller that knows in which file and line it stands."""
        self.key = key
        super().__init__(message)


class UsageError(ValueError):
    """Token counts that cannot be true, such as more cached tokens than input tokens."""


class BudgetExceededError(RuntimeError):
    """A model call was refused, or a stream stopped, by a budget. No field holds a session's, user's or tag's id.

    Attributes:
        limit_usd: The budget's limit in USD, exact; None for one that counts tokens alone.
        spent_usd: USD that are spent under it.
        reserved_usd: USD that are held for the calls in flight.
        scope: As in the policy: `trace`, `node`, `session`, `user`, `tag:NAME`.
        node: The path of the node whose call was refused; `""` outside any node.
        budget: Which budget, in words: `trace`, `node "research"`, `node "research" in session`, `user per month`.
        per: Its `hour`, `day` or `month`; None if its sum never starts anew.
        limit_tokens: Its limit in tokens; None for one that counts USD alone.
        spent_tokens: Tokens that are used under it.
        reserved_tokens: Tokens that are held for the calls in flight.
        reason: Why the call could not be made, in words.
    """

    def __init__(
        self,
        *,
        budget: str,
        limit_usd: Decimal | None,
        spent_usd: Decimal,
        node: str,
        reserved_usd: Decimal = ZERO,
        scope: str = "trace",
        per: str | None = None,
        limit_tokens: int | None = None,
        spent_tokens: int = 0,
        reserved_tokens: int = 0,
        reason: str = "",
    ) -> None:
        """Keep the figures and compose the message from them."""
        self.budget = budget
        self.limit_usd = None if limit_usd is None else plain(limit_usd)
        self.spent_usd = plain(spent_usd)
        self.reserved_usd = plain(reserved_usd)
        self.scope = scope
        self.per = per
        self.limit_tokens = limit_tokens
        self.spent_tokens = spent_tokens
        self.reserved_tokens = reserved_tokens
        self.node = node
        self.reason = reason
        where = f'at node "{printable(node)}"' if node else "outside any node"
        figures = []
        if limit_usd is not None:
            figures += [f"limit {readable(limit_usd)} USD, spent {readable(spent_usd)} USD"]
            figures += [f"reserved {readable(reserved_usd)} USD"] if reserved_usd else []
        if limit_tokens is not None:
            figures += [f"limit {limit_tokens:,} tokens, used {spent_tokens:,}"]
            figures += [f"reserved {reserved_tokens:,}"] if reserved_tokens else []
        message = f"call {where} refused by the budget of {printable(budget)}"
        super().__init__(f"{message}: {f'{reason}; ' if reason else ''}{', '.join(figures)}")

    def __reduce__(self) -> tuple[partial[BudgetExceededError], tuple[()]]:
        """Travel between processes: by default an exception is made anew from its message alone."""
        return partial(type(self), **vars(self)), ()
