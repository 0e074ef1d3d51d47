"""The errors that a caller may catch.

    ValueError
      PolicyError            a bad policy, price or pattern, found when it is loaded
      UsageError             token counts that cannot be true
    RuntimeError
      BudgetExceededError    a budget with `on_exceeded: raise` stopped a model call

`BudgetExceededError` is a `RuntimeError` because LangGraph's default retry policy does not retry those
(`langgraph.types.default_retry_on`, langgraph 1.0 to 1.2): a stopped node is not run again in vain.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from langchain_mlflow_cost.money import readable
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
    """A model call was refused because it would break a budget, or one is already broken.

    Attributes:
        budget: Which budget, in words: `trace`, `node "research"`, `session "thread-7"`.
        limit_usd: Its limit, in USD, exact.
        spent_usd: USD that are spent under it, and reserved for the calls in flight.
        node: The path of the node whose call was refused; `""` outside any node.
        reason: What else there is to say, such as that the model has no price.
    """

    def __init__(self, *, budget: str, limit_usd: Decimal, spent_usd: Decimal, node: str, reason: str = "") -> None:
        """Keep the figures and compose the message from them."""
        self.budget = budget
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.node = node
        self.reason = reason
        where = f'node "{printable(node)}"' if node else "a call outside any node"
        message = (
            f"budget of {printable(budget)} exceeded: limit {readable(limit_usd)} USD, "
            f"spent and reserved {readable(spent_usd)} USD, at {where}"
        )
        super().__init__(f"{message}; {reason}" if reason else message)

    def __reduce__(self) -> tuple[partial[BudgetExceededError], tuple[()]]:
        """Travel between processes: by default an exception is made anew from its message alone."""
        fields = {name: getattr(self, name) for name in ("budget", "limit_usd", "spent_usd", "node", "reason")}
        return partial(type(self), **fields), ()
