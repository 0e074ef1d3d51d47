"""Whether what was spent is within what a test allows, and how that is told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.node_patterns import NodePattern
from langchain_mlflow_cost.nodes import parsed_path
from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.testing.spent import NodeSpent, Spent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

SAME = 1e-9
"""Two sums are the same up to this part: they are added up in another order."""


def check_limits(
    spent: Spent,
    *,
    node: str | None = None,
    max_usd: float | str | Decimal | None = None,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    allow_unpriced: bool = False,
) -> None:
    """Compare with what is allowed.

    Args:
        spent: What was.
        node: Only nodes that this pattern means, written as in the policy's `nodes`.
        max_usd: At most.
        max_calls: Of models that answered.
        max_tokens: Input and output.
        allow_unpriced: Whether calls may have no price.

    Raises:
        AssertionError: More was spent, something has no price, or nothing is there that could have been meant.
        ValueError: The node's pattern can mean none, or a limit is none.
    """
    limits = {
        name: _limit(name, value)
        for name, value in (("max_usd", max_usd), ("max_calls", max_calls), ("max_tokens", max_tokens))
    }
    if not spent.traces:
        raise AssertionError("no trace was begun: was the handler passed to the run, and is its policy enabled?")
    meant = sorted(spent.nodes if node is None else _meant(node, spent, is_none_allowed=max_calls == 0))
    where = "all nodes" if node is None else f"node {node!r}"
    models = sorted({model for name in meant for model in spent.unpriced.get(name, ())})
    if models and not allow_unpriced:
        raise AssertionError(
            f"no price is known for {', '.join(models)} ({where}), so nobody knows what it cost; give it one with "
            f"prices.overrides or prices.aliases in the policy, or pass allow_unpriced=True\n{_table(spent)}"
        )
    total = NodeSpent()
    for name in meant:
        each = spent.nodes[name]
        total.usd += each.usd
        total.calls += each.calls
        total.input_tokens += each.input_tokens
        total.output_tokens += each.output_tokens
    over = [
        f"{_written(found)} {unit}, {_written(most)} allowed"
        for found, most, unit in (
            (total.usd, limits["max_usd"], "USD"),
            (total.calls, limits["max_calls"], "model calls"),
            (total.tokens, limits["max_tokens"], "tokens"),
        )
        if most is not None and found > most * (1 + SAME)
    ]
    if over:
        raise AssertionError(f"{where}: {'; '.join(over)}\n{_table(spent)}")


def _limit(name: str, value: float | str | Decimal | None) -> float | None:
    """A limit as a number: nothing is more than `nan` or `inf`, so that they would hold for ever."""
    try:
        number = None if value is None else value if isinstance(value, int) else float(value)
        is_limit = number is None or 0 <= float(number) < math.inf
    except (TypeError, ValueError, OverflowError):
        is_limit = False
    if not is_limit:
        raise ValueError(f"{name}: expected a number, 0 or more, not {str(value)[:40]}")
    return number


def _meant(node: str, spent: Spent, *, is_none_allowed: bool) -> Iterable[str]:
    pattern = NodePattern.parse(node)
    found = [name for name in spent.nodes if pattern.specificity(parsed_path(name) if name else ()) is not None]
    if found or is_none_allowed:
        return found
    names = [name for name in spent.nodes if name]
    near = nearest(node, names)
    hint = f"did you mean {near!r}?" if near else f"there were {', '.join(map(repr, sorted(names))) or 'none'}"
    # A limit on what nobody ran would hold for ever.
    raise AssertionError(f"no model was called in node {node!r}; {hint}")


def _written(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else readable(number)


def _table(spent: Spent) -> str:
    rows = [
        (name or "(outside nodes)", f"{each.calls:,}", f"{each.tokens:,}", readable(each.usd))
        for name, each in sorted(spent.nodes.items(), key=lambda item: -item[1].usd)
    ]
    heads = ("node", "calls", "tokens", "USD")
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    lines = []
    for row in (heads, *rows):
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *others)))
    return "\n".join(lines)
