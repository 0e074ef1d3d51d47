"""A priced call's whole bill as small JSON, from which it can be priced again: the attribute `cost.usage`.

    {"provider":"openai","model":"gpt-4o","answered":"gpt-4o-2024-08-06","at":"2026-11-27T10:00:00Z",
     "input":86,"cache_read":1920,"output":236,"reasoning":64}

Classes are disjoint and those of `rates.TOKEN_CLASSES`, in tokens; `uses` holds what is billed per use, `bill` USD.
What is 0 or a default is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from langchain_mlflow_cost.pricing.providers import is_private_host
from langchain_mlflow_cost.pricing.rates import OUTPUT_CLASSES, TOKEN_CLASSES, classes_of
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_mlflow_cost.pricing.book import PricedCall

_USAGE: Final = frozenset({"usage", "uses", *TOKEN_CLASSES})
_FIELDS: Final = {
    # Classes that are no field of Usage by themselves: a total less its parts, or a part of two others.
    "input": (),
    "output": (),
    "cache_read_audio": ("cache_read", "input_audio", "cache_read_audio"),
}


_RARE_NAMES: Final = (("tier", "service_tier"), ("speed", "speed"), ("region", "region"))
"""As they are written, and as the response and the request have them."""


@lru_cache(maxsize=16)
def _written_at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).isoformat()[:19]}Z"


def usage_json(
    request: CallRequest,
    result: CallResult,
    priced: PricedCall,
    *,
    at: datetime | None = None,
    clean: Callable[[str], str] = lambda name: name,
) -> str:
    """Write down all that the price of a call depends on but the prices themselves.

    Args:
        request: What was asked for.
        result: What came back.
        priced: What it cost: its model, where neither of the others names one.
        at: When it was priced, now if None; prices change by the day and the hour.
        clean: Redacts a name. One that it changes may keep the call from being priced again.
    """
    told, usage = _names(request, result, priced, clean), result.usage
    told["at"] = _written_at((at or datetime.now(UTC)).replace(microsecond=0))
    if request.is_search_preview:
        told["search_preview"] = True
    if result.cached:
        told["cached"] = True
    if result.estimated:
        told["estimated"] = True
    if result.billed_usd is not None:
        told["bill"] = str(result.billed_usd)
    if usage is not None:
        # Only a usage of nothing at all needs to be told from none.
        told.update(_written(usage) or {"usage": True})
    if result.side_calls:
        told["side_calls"] = [
            {**({"model": clean(side)} if side else {}), **_written(counts)} for side, counts in result.side_calls
        ]
    try:
        return orjson.dumps(told).decode()
    except TypeError:
        return json.dumps(told, separators=(",", ":"))  # an integer beyond 64 bits, or half a character


def _names(request: CallRequest, result: CallResult, priced: PricedCall, clean: Callable[[str], str]) -> dict[str, Any]:
    model = request.model or result.response_model or priced.model
    answered = result.response_model
    # All private hosts are one to a price, and their names and addresses are nobody's business.
    host = "localhost" if request.host is not None and is_private_host(request.host) else request.host
    told: dict[str, Any] = {}
    if provider := request.provider or result.provider:
        told["provider"] = clean(provider)
    if model:
        told["model"] = clean(model)
    if answered and answered != model:
        told["answered"] = clean(answered)
    if host:
        told["host"] = clean(host)
    for name, text in _RARE_NAMES:
        if found := getattr(result, text) or getattr(request, text):
            told[name] = clean(found)
    return told


def call_of_usage_json(text: str | Mapping[str, Any]) -> tuple[CallRequest, CallResult, datetime]:
    """Read back what `usage_json` wrote, so that `PriceBook.price(request, result, at=at)` gives the same cost.

    Args:
        text: The attribute as it is stored: text or, as some versions of MLflow give it, what the text says.

    Raises:
        ValueError: It is not what `usage_json` writes.
    """
    told = text if isinstance(text, Mapping) else json.loads(text)
    if not isinstance(told, Mapping):
        raise ValueError(f"expected the JSON of a call's usage, found {type(told).__name__}")  # noqa: TRY004 - what the text says
    try:
        at = datetime.strptime(told["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        has_usage = not told.keys().isdisjoint(_USAGE)
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
    written: dict[str, Any] = dict(classes_of(usage))
    uses = {name: count for name, count in usage.fees if count}
    if uses:
        written["uses"] = uses
    return written


def _read(told: Mapping[str, Any]) -> Usage:
    counts: dict[str, int] = {"input_tokens": 0, "output_tokens": 0}
    for name in TOKEN_CLASSES:
        count = told.get(name, 0)
        if count:
            counts["output_tokens" if name in OUTPUT_CLASSES else "input_tokens"] += count
            for field in _FIELDS.get(name, (name,)):
                counts[field] = counts.get(field, 0) + count
    return Usage(**counts, fees=tuple(sorted(told.get("uses", {}).items())))
