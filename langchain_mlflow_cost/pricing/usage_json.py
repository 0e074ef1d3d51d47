"""A priced call's whole bill as small JSON, from which it can be priced again: the attribute `cost.usage`.

    {"provider":"openai","model":"gpt-4o","answered":"gpt-4o-2024-08-06","at":"2026-11-27T10:00:00Z",
     "input":86,"cache_read":1920,"output":236,"reasoning":64}

Classes are disjoint and those of `rates.TOKEN_CLASSES`, in tokens; `uses` holds what is billed per use, `bill` USD.
What is 0 or a default is left out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.pricing.rates import OUTPUT_CLASSES, TOKEN_CLASSES, classes_of
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_mlflow_cost.pricing.book import PricedCall

_FIELDS: Final = {
    # Classes that are no field of Usage by themselves: a total less its parts, or a part of two others.
    "input": (),
    "output": (),
    "cache_read_audio": ("cache_read", "input_audio", "cache_read_audio"),
}


def usage_json(request: CallRequest, result: CallResult, priced: PricedCall, *, at: datetime | None = None) -> str:
    """Write down all that the price of a call depends on but the prices themselves.

    Args:
        request: What was asked for.
        result: What came back.
        priced: What it cost: its model, where neither of the others names one.
        at: When it was priced, now if None; prices change by the day and the hour.
    """
    moment = (at or datetime.now(UTC)).astimezone(UTC)
    model = request.model or result.response_model or priced.model
    told: dict[str, Any] = {
        "provider": request.provider or result.provider,
        "model": model,
        "answered": result.response_model if result.response_model != model else None,
        "host": request.host,
        "at": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "tier": result.service_tier or request.service_tier,
        "speed": result.speed or request.speed,
        "region": result.region or request.region,
        "search_preview": request.is_search_preview,
        "cached": result.cached,
        "estimated": result.estimated,
        "bill": None if result.billed_usd is None else str(result.billed_usd),
        **({} if result.usage is None else {"usage": True, **_written(result.usage)}),
        "side_calls": [{"model": side, **_written(usage)} for side, usage in result.side_calls],
    }
    if any(name in told for name in TOKEN_CLASSES):
        del told["usage"]  # Only a usage of nothing at all needs to be told from none.
    return json.dumps(_short(told), separators=(",", ":"), ensure_ascii=False)


def call_of_usage_json(text: str) -> tuple[CallRequest, CallResult, datetime]:
    """Read back what `usage_json` wrote, so that `PriceBook.price(request, result, at=at)` gives the same cost.

    Raises:
        ValueError: The text is not what `usage_json` writes.
    """
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError(f"expected the JSON of a call's usage, found {type(told).__name__}")  # noqa: TRY004 - what the text says
    try:
        at = datetime.strptime(told["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        has_usage = "usage" in told or any(name in told for name in TOKEN_CLASSES)
        request = CallRequest(
            provider=told.get("provider"),
            model=told.get("model"),
            service_tier=told.get("tier"),
            host=told.get("host"),
            speed=told.get("speed"),
            region=told.get("region"),
            is_search_preview=bool(told.get("search_preview")),
        )
        result = CallResult(
            usage=_read(told) if has_usage else None,
            response_model=told.get("answered"),
            billed_usd=None if "bill" not in told else Decimal(told["bill"]),
            cached=bool(told.get("cached")),
            estimated=bool(told.get("estimated")),
            side_calls=tuple((each.get("model"), _read(each)) for each in told.get("side_calls", ())),
        )
    except (KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise ValueError(f"no usage of a call that can be priced ({type(error).__name__})") from error
    return request, result, at


def _written(usage: Usage) -> dict[str, Any]:
    return {**dict(classes_of(usage)), "uses": dict(usage.fees)}


def _read(told: Mapping[str, Any]) -> Usage:
    counts: dict[str, int] = {"input_tokens": 0, "output_tokens": 0}
    for name in TOKEN_CLASSES:
        count = told.get(name, 0)
        if count:
            counts["output_tokens" if name in OUTPUT_CLASSES else "input_tokens"] += count
            for field in _FIELDS.get(name, (name,)):
                counts[field] = counts.get(field, 0) + count
    return Usage(**counts, fees=tuple(sorted(told.get("uses", {}).items())))


def _short(told: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing, in what is nested too."""
    short: dict[str, Any] = {}
    for name, value in told.items():
        if isinstance(value, list):
            value = [_short(each) for each in value]  # noqa: PLW2901
        if value is True or (value and value is not False):
            short[name] = value
    return short
