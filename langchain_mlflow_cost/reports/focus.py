"""Stored costs as rows of FOCUS 1.2, the FinOps Foundation's form of a bill: one row a class of tokens, in USD.

    focus.finops.org/focus-specification/v1-2/ (read 2026-11): columns, units, and what must not be empty

What was billed is what the trace says; the classes share it as the price list has them, so that the rows' sums are the
report's. What has no known price is no row: a cost of 0 would say that it was free.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.trace_fields import LANGCHAIN_TAGS, texts_in
from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.pricing.rates import FEE_CLASSES, MILLION, OUTPUT_CLASSES
from langchain_mlflow_cost.pricing.usage_json import call_of_usage_json
from langchain_mlflow_cost.stored import call_of_span, fee_of_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from langchain_mlflow_cost.adapters.trace_rewriting import StoredTrace
    from langchain_mlflow_cost.pricing.book import PriceBook

Per = Literal["call", "hour", "day"]
COLUMNS: Final = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice",
    "PricingCategory", "PricingCurrency", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId",
    "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory",
    "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
)  # fmt: skip
"""In FOCUS's own order, the alphabet's."""
OWN_COLUMNS: Final = ("x_Node", "x_Model", "x_TokenClass", "x_User", "x_Session", "x_TraceId", "x_Estimated")
"""What FOCUS has no column for: `x_` is its mark for these."""
COSTS: Final = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")
NUMBERS: Final = (*COSTS, "ConsumedQuantity", "ContractedUnitPrice", "ListUnitPrice", "PricingQuantity")
TOOL_CLASS: Final = "tool"
BILL_CLASS: Final = "billed"
_TOKENS: Final = "Tokens"
_USES: Final = "Requests"
_PLACES: Final = Decimal("1e-18")


@dataclass
class Exported:
    """How many calls are in the rows, and how many are not."""

    calls: int = 0
    unpriced: int = 0
    """Calls without a known price."""


@dataclass
class _Charge:
    """What of one class was used, and what it cost."""

    quantity: int
    billed: Decimal
    at_list: Decimal
    at_contract: Decimal

    def add(self, other: _Charge) -> None:
        self.quantity += other.quantity
        self.billed = EXACT.add(self.billed, other.billed)
        self.at_list = EXACT.add(self.at_list, other.at_list)
        self.at_contract = EXACT.add(self.at_contract, other.at_contract)


@dataclass(frozen=True)
class _About:
    """What tells the charges of one row from those of another."""

    start: datetime
    end: datetime
    experiment_id: str
    experiment: str
    provider: str
    model: str
    kind: str
    """A class of tokens or uses."""
    tier: str | None
    region: str | None
    node: str
    user: str | None
    session: str | None
    tags: tuple[tuple[str, str], ...]
    trace_id: str | None
    estimated: bool


class Focus:
    """Makes the rows.

    Args:
        listed: Public prices: what would have been paid without a contract.
        contracted: The policy's prices, with its overrides and discounts.
        per: One row for each call and class, or for each hour or day (UTC) of what has all else in common.
        account: The billing account; None for the provider's name.
    """

    def __init__(self, listed: PriceBook, contracted: PriceBook, *, per: Per, account: str | None = None) -> None:
        self._listed, self._contracted = listed, contracted
        self._per = per
        self._account = account
        self.exported = Exported()

    def rows(self, traces: Iterable[tuple[str, str, StoredTrace]]) -> Iterator[dict[str, Any]]:
        """The rows, by `COLUMNS` and `OWN_COLUMNS`; numbers are `Decimal`, nothing is None.

        Args:
            traces: Each with its experiment's id and name.
        """
        found: dict[_About, _Charge] = {}
        for experiment_id, experiment, trace in traces:
            for about, charge in self._charges(experiment_id, experiment, trace):
                if self._per == "call":
                    yield self._row(about, charge)
                elif about in found:
                    found[about].add(charge)
                else:
                    found[about] = charge
        order = sorted(found, key=lambda about: (about.start, about.provider, about.model, about.node, about.kind))
        yield from (self._row(about, found[about]) for about in order)

    def _charges(self, experiment_id: str, experiment: str, trace: StoredTrace) -> Iterator[tuple[_About, _Charge]]:
        shared: dict[str, Any] = {
            "experiment_id": experiment_id,
            "experiment": experiment,
            "user": trace.metadata.get("mlflow.trace.user"),
            "session": trace.fields.get("session_id") or trace.metadata.get("mlflow.trace.session"),
            "tags": tuple(_tags(trace)),
            "trace_id": trace.trace_id if self._per == "call" else None,
        }
        for span in trace.spans:
            told = _plain(span.get("attributes") or {})
            period = self._period(span)
            node = str(told.get("policy.node") or "")
            if keys.TOOL_USD in told:
                fee = fee_of_span(told)
                about = _About(
                    start=period[0], end=period[1], provider="tools", model=str(span.get("name")), kind=TOOL_CLASS,
                    tier=None, region=None, node=node, estimated=False, **shared,
                )  # fmt: skip
                yield about, _Charge(1, fee, fee, fee)
            is_call = told.get("mlflow.spanType") in keys.MODEL_TYPES and _number(told.get("cost.llm_calls")) > 0
            if not is_call or _number(told.get("cost.cached_calls")) > 0:
                continue
            if "cost.total_usd" not in told:
                self.exported.unpriced += 1
                continue
            self.exported.calls += 1
            yield from self._call(told, period, node, shared)

    def _call(
        self, told: Mapping[str, Any], period: tuple[datetime, datetime], node: str, shared: Mapping[str, Any]
    ) -> Iterator[tuple[_About, _Charge]]:
        call = call_of_span(told)
        request = result = at = None
        with suppress(ValueError):  # of a trace of 0.1, which told no more than tokens
            request, result, at = call_of_usage_json(told.get(keys.USAGE) or "")
        listed = self._lines(self._listed, request, result, at)
        contracted = self._lines(self._contracted, request, result, at) or listed
        about: dict[str, Any] = {
            "provider": str(told.get(keys.MODEL_PROVIDER) or (request.provider if request else None) or "unknown"),
            "model": call.model or "unknown",
            "tier": None if request is None else request.service_tier,
            "region": None if request is None else request.region,
            "node": node,
            "estimated": call.estimated,
        }
        sides = (
            (call.input_usd or ZERO, call.input_tokens, False, "input"),
            (call.output_usd or ZERO, call.output_tokens, True, "output"),
        )
        for billed, tokens, is_output, plain in sides:
            here = {name: line for name, line in contracted.items() if (name in OUTPUT_CLASSES) is is_output}
            if not here and (billed or tokens):
                here = {plain if tokens else BILL_CLASS: (tokens, billed)}
            for name, quantity, share, at_contract in _shared_out(here, billed):
                at_list = listed[name][1] if name in listed else share
                yield (
                    _About(start=period[0], end=period[1], kind=name, **about, **shared),
                    _Charge(quantity, share, at_list, at_contract),
                )

    def _lines(self, book: PriceBook, request: Any, result: Any, at: Any) -> dict[str, tuple[int, Decimal]]:
        """Quantity and USD by class, by a list of prices; empty where it knows none."""
        if request is None or result is None:
            return {}
        found: dict[str, tuple[int, Decimal]] = {}
        for line in book.price(request, result, at=at).lines:
            quantity, usd = found.get(line.name, (0, ZERO))
            found[line.name] = (quantity + line.quantity, EXACT.add(usd, line.usd))
        return found

    def _period(self, span: Mapping[str, Any]) -> tuple[datetime, datetime]:
        start = datetime.fromtimestamp(int(span.get("start_time_unix_nano") or 0) // 10**9, UTC)
        if self._per == "call":
            end = -(-int(span.get("end_time_unix_nano") or 0) // 10**9)
            return start, max(datetime.fromtimestamp(end, UTC), start + timedelta(seconds=1))
        if self._per == "hour":
            start = start.replace(minute=0, second=0)
            return start, start + timedelta(hours=1)
        start = start.replace(hour=0, minute=0, second=0)
        return start, start + timedelta(days=1)

    def _row(self, about: _About, charge: _Charge) -> dict[str, Any]:
        is_use = about.kind in FEE_CLASSES or about.kind == TOOL_CLASS
        is_bill = about.kind == BILL_CLASS
        priced = Decimal(charge.quantity) if is_use else EXACT.divide(Decimal(charge.quantity), MILLION)
        unit = _USES if is_use else f"1000000 {_TOKENS}"
        month = about.start.replace(day=1, hour=0, minute=0, second=0)
        account = self._account or about.provider
        sku = f"{about.provider}/{about.model}"
        details = {"x_TokenClass": about.kind, **({"x_ServiceTier": about.tier} if about.tier else {})}
        tags = {"experiment": about.experiment, "node": about.node, "user": about.user, "session": about.session}
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
        row |= {
            "BilledCost": charge.billed,
            "EffectiveCost": charge.billed,
            "ListCost": charge.at_list,
            "ContractedCost": charge.at_contract,
            "ListUnitPrice": _each(charge.at_list, priced),
            "ContractedUnitPrice": _each(charge.at_contract, priced),
            "PricingQuantity": "" if is_bill else priced,
            "PricingUnit": "" if is_bill else unit,
            # With a place after the point: a reader that guesses types takes it for the decimal that it is.
            "ConsumedQuantity": "" if is_bill else Decimal(f"{charge.quantity}.0"),
            "ConsumedUnit": "" if is_bill else (_USES if is_use else _TOKENS),
            "BillingAccountId": account,
            "BillingAccountName": account,
            "BillingAccountType": "Account",
            "BillingCurrency": "USD",
            "PricingCurrency": "USD",
            "BillingPeriodStart": _written(month),
            "BillingPeriodEnd": _written((month + timedelta(days=31)).replace(day=1)),
            "ChargePeriodStart": _written(about.start),
            "ChargePeriodEnd": _written(about.end),
            "ChargeCategory": "Usage",
            "ChargeDescription": f"{about.model}, {about.kind.replace('_', ' ')}",
            "ChargeFrequency": "Usage-Based",
            "InvoiceIssuerName": about.provider,
            "ProviderName": about.provider,
            "PublisherName": about.provider,
            "PricingCategory": "Standard",
            "RegionId": about.region or "",
            "RegionName": about.region or "",
            "ResourceId": about.node,
            "ResourceName": about.node,
            "ResourceType": "Node" if about.node else "",
            "ServiceCategory": "AI and Machine Learning",
            "ServiceSubcategory": "Generative AI",
            "ServiceName": about.model if about.kind == TOOL_CLASS else f"{about.provider} models",
            "SkuId": sku,
            "SkuMeter": about.kind.replace("_", " "),
            "SkuPriceId": f"{sku}/{about.kind}" + (f"/{about.tier}" if about.tier else ""),
            "SkuPriceDetails": json.dumps(details, ensure_ascii=False),
            "SubAccountId": f"mlflow-experiment-{about.experiment_id}",
            "SubAccountName": about.experiment,
            "SubAccountType": "Experiment",
            "Tags": json.dumps({**dict(about.tags), **{k: v for k, v in tags.items() if v}}, ensure_ascii=False),
            "x_Node": about.node,
            "x_Model": about.model,
            "x_TokenClass": about.kind,
            "x_User": about.user or "",
            "x_Session": about.session or "",
            "x_TraceId": about.trace_id or "",
            "x_Estimated": "true" if about.estimated else "false",
        }
        return row


def _shared_out(
    lines: Mapping[str, tuple[int, Decimal]], billed: Decimal
) -> Iterator[tuple[str, int, Decimal, Decimal]]:
    """A side's bill over its classes, as the price list has them; the rows add up to it to the last digit."""
    whole = sum((usd for _, usd in lines.values()), ZERO)
    left = billed
    for at, (name, (quantity, usd)) in enumerate(lines.items(), 1):
        if at == len(lines):
            share = left
        elif whole:
            share = usd if whole == billed else _rounded(EXACT.divide(EXACT.multiply(billed, usd), whole))
        else:
            share = _rounded(EXACT.divide(billed, Decimal(len(lines))))
        left = EXACT.subtract(left, share)
        yield name, quantity, share, usd


def _tags(trace: StoredTrace) -> Iterator[tuple[str, str]]:
    """The program's own: LangChain's tags, the policy's `trace_metadata`, tags that were set."""
    told = {**trace.metadata, **trace.tags}
    for key, value in sorted(told.items()):
        if key == LANGCHAIN_TAGS:
            yield from ((each, "true") for each in texts_in(value))
        elif not key.startswith(("mlflow.", "cost.", "policy.")) and value:
            yield key, str(value)


def _each(usd: Decimal, quantity: Decimal) -> Any:
    return _rounded(EXACT.divide(usd, quantity)) if quantity else ""


def _rounded(usd: Decimal) -> Decimal:
    return usd.quantize(_PLACES, context=EXACT)


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as they are meant: stored they are JSON texts."""
    found = {}
    for key, value in attributes.items():
        try:
            found[key] = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            found[key] = value
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def columns(per: Per) -> Sequence[str]:
    """The columns of a row: FOCUS's own, and where each call has a row of its own those of this library."""
    return (*COLUMNS, *OWN_COLUMNS) if per == "call" else COLUMNS
