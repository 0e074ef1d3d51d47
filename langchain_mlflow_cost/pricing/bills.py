"""What a provider says in its response that it charged, which is the truth."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

_TICKS_PER_USD: Final = Decimal(10) ** 10
_BILL_KEYS: Final = frozenset({"cost", "cost_in_usd_ticks", "estimated_cost"})


def bill_of(response: Mapping[str, Any], raw: Mapping[str, Any], problems: list[str]) -> Decimal | None:
    """Find what the provider says that it charged.

    OpenRouter: `cost` in USD (with a key of the user's own at the maker, only OpenRouter's fee: the maker's bill is
    beside it); Perplexity: `cost.total_cost`; xAI: `cost_in_usd_ticks`, 10^10 a dollar (docs.x.ai, cost tracking);
    DeepInfra: `estimated_cost`.
    """
    if raw.keys().isdisjoint(_BILL_KEYS) and "cost" not in response:
        return None
    ticks = raw.get("cost_in_usd_ticks")
    if ticks is not None:
        usd = _money(ticks, "cost_in_usd_ticks", problems)
        return None if usd is None else usd / _TICKS_PER_USD
    cost = raw.get("cost")
    if cost is None:
        cost = response.get("cost")
    if cost is None:
        cost = raw.get("estimated_cost")
    if isinstance(cost, Mapping):
        cost = cost.get("total_cost")
    if cost is None:
        return None
    usd = _money(cost, "cost", problems)
    is_byok = raw.get("is_byok")
    if usd is None or is_byok is False:
        return usd
    details = raw.get("cost_details") or response.get("cost_details")
    upstream = details.get("upstream_inference_cost") if isinstance(details, Mapping) else None
    if upstream is None or (makers := _money(upstream, "upstream_inference_cost", problems)) is None:
        return usd
    # ChatOpenRouter drops the mark of a maker's key. OpenRouter's fee is then 5 % of the maker's bill or nothing;
    # without such a key both are the same bill, to a few per cent (0.000075 and 0.00007745).
    return usd + makers if is_byok is True or usd * 2 < makers else usd


def _money(value: Any, name: str, problems: list[str]) -> Decimal | None:
    if isinstance(value, (int, float, str, Decimal)) and not isinstance(value, bool):
        try:
            usd = Decimal(str(value))
        except InvalidOperation:
            usd = Decimal("NaN")
        if usd.is_finite() and usd >= 0:
            return usd
    problems.append(f"{name} in the response is no amount of money")
    return None
