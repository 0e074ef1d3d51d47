"""What budgets say to people: no id in it, and refused where nothing is exceeded."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_mlflow_cost.money import EXACT, readable

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_PASSED: Final = "a stream was stopped when it passed the limit"
NO_PRICE: Final = "its model has no price (`{}`); set prices.overrides or prices.aliases in the policy"
NO_PRICE_AFTER: Final = "a call was made that has no price (`unpriced: raise`)"
NO_PRICE_IN_THE_END: Final = "a call turned out to have no price (`unpriced: raise`)"
NO_BOUND: Final = (
    "nothing bounds what it can cost (`reserve: worst_case`): set max_tokens on the model, and send text alone"
)

Figures = tuple[Decimal | int, Decimal | int, Decimal | int | None, Decimal | int]
"""Spent, reserved, limit, and what the call must find."""


def scope_words(scope: str, node: str | None, per: str | None) -> str:
    """Say which sum it is: `trace`, `node "research"`, `node "a" in session`, `user per day`."""
    words = [] if node is None else [f'node "{node}"' if node else "the calls outside any node"]
    if scope not in ("trace", "node"):
        words.append(scope)
    return (" in ".join(words) or "trace") + (f" per {per}" if per else "")


def refusal_reason(usd: Figures, tokens: Figures, *, calls: int | None, is_worst: bool) -> str:
    """Say why a call cannot be made, and what would free it; empty where the figures do not refuse it.

    Args:
        usd: In USD.
        tokens: In tokens.
        calls: How many are in flight beside it; None where nobody knows.
        is_worst: What it must find is all that it can cost, not its prompt alone.
    """
    for (spent, reserved, limit, needs), unit in ((usd, "USD"), (tokens, "tokens")):
        if limit is None:
            continue
        held = EXACT.add(spent, reserved)
        if spent > limit or (spent == limit and held >= limit):
            return "the limit is used up"
        flight = f"{calls:,} call{'' if calls == 1 else 's'} in flight" if calls else "calls in flight"
        if held >= limit and reserved:
            return f"what is left is reserved for {flight}, and free again as they end"
        if EXACT.add(held, needs) > limit:
            needed, left = (readable(Decimal(each)) for each in (needs, EXACT.subtract(limit, held)))
            beside = f" beside {flight}, whose end would free some" if reserved else ""
            if is_worst:
                return (
                    f"it is reserved at its most, {needed} {unit} (`reserve: worst_case`), and {left} {unit} are left"
                    f"{beside}; a lower max_tokens would fit"
                )
            uses = "costs" if unit == "USD" else "has"
            return f"its prompt alone {uses} about {needed} {unit}, and {left} {unit} are left{beside}"
    return ""


def passed_words(words: str, spent: Decimal, limit: Decimal | int, unit: str) -> str:
    """Say that a budget that only warns is passed."""
    return f"budget of {words} exceeded: limit {_amount(limit, unit)}, spent {_amount(spent, unit)}"


def reached_words(words: str, spent: Decimal, limit: Decimal | int, unit: str, fraction: Decimal) -> str:
    """Say that a fraction of a limit is reached (`warn_at`)."""
    percent = readable(EXACT.multiply(fraction, Decimal(100)))
    return f"budget of {words}: {percent} % of {_amount(limit, unit)} reached, spent {_amount(spent, unit)}"


def unpriced_words(budgets: Sequence[str]) -> str:
    """Say that budgets cannot count a call."""
    return (
        f"budget of {', '.join(budgets)} does not count a call: its model has no price; "
        "set prices.overrides or prices.aliases in the policy, or `unpriced: raise`, which refuses such calls"
    )


def absent_words(scope: str) -> str:
    """Say that a call has no owner in a scope."""
    source = {"session": "thread_id", "user": "user_id"}.get(scope, scope.removeprefix("tag:"))
    return f"budget of {scope}: a run without {source} in its metadata is limited by its trace alone"


def _amount(amount: Decimal | int, unit: str) -> str:
    return f"{readable(Decimal(amount))} {unit}"
