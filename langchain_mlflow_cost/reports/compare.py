"""What got dearer, and why: a change in USD, split into calls, tokens a call, price and cache without a rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_mlflow_cost.reports.sums import Sums

if TYPE_CHECKING:
    from langchain_mlflow_cost.reports.sums import Report


@dataclass(frozen=True, slots=True)
class Change:
    """All in USD. The four effects add up to the change (logarithmic mean Divisia index, Ang 2005)."""

    before_usd: float
    now_usd: float
    calls: float
    """More or fewer calls; also all of what is new or gone."""
    tokens_a_call: float
    """Longer or shorter prompts and answers."""
    price: float
    """Dearer or cheaper tokens: other models, other rates, another mix of classes, fees per use and of tools."""
    cache: float
    """More or less of the prompts read from the provider's cache."""

    @property
    def change_usd(self) -> float:
        """Now less before."""
        return self.now_usd - self.before_usd


def changes(before: Report, now: Report) -> list[tuple[tuple[str, ...], Change]]:
    """Each group's change, the largest first."""
    names = dict.fromkeys([*now.groups, *before.groups])
    found = [(name, _change(before.groups.get(name, Sums()), now.groups.get(name, Sums()))) for name in names]
    return sorted(found, key=lambda item: -abs(item[1].change_usd))


def _change(before: Sums, now: Sums) -> Change:
    then_usd, now_usd = before.cost_usd, now.cost_usd
    factors = [(_factors(before)), (_factors(now))]
    if then_usd <= 0 or now_usd <= 0 or not all(all(each > 0 for each in side) for side in factors):
        return Change(then_usd, now_usd, now_usd - then_usd, 0.0, 0.0, 0.0)
    # The logarithmic mean of both costs; of two that are equal it is each of them.
    mean = then_usd if now_usd == then_usd else (now_usd - then_usd) / math.log(now_usd / then_usd)
    calls, tokens, price, cache = (mean * math.log(new / old) for old, new in zip(*factors, strict=True))
    return Change(then_usd, now_usd, calls, tokens, price, cache)


def _factors(sums: Sums) -> tuple[float, float, float, float]:
    """Calls, tokens a call, USD a token had nothing been cached, the part of that which was paid: cost, multiplied."""
    tokens = sums.input_tokens + sums.output_tokens
    if not sums.calls or not tokens:
        return 0.0, 0.0, 0.0, 0.0
    uncached_usd = sums.cost_usd + _saved_usd(sums)
    return float(sums.calls), tokens / sums.calls, uncached_usd / tokens, sums.cost_usd / uncached_usd


def _saved_usd(sums: Sums) -> float:
    """What the tokens from the provider's cache would have cost more, at the price of the others."""
    plain_tokens, plain_usd = sums.tokens.get("input", 0), sums.usd.get("input", 0.0)
    if not plain_tokens or not plain_usd:
        return 0.0
    return max(0.0, sums.tokens.get("cache_read", 0) * plain_usd / plain_tokens - sums.usd.get("cache_read", 0.0))
