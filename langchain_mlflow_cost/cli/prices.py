"""`mlflow-cost prices`: what a model costs, who says so, and what one call of it costs."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from langchain_mlflow_cost.cli.app import CommandError, PolicyOption, read_policy
from langchain_mlflow_cost.cli.output import console, say, tell
from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.notices import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from langchain_mlflow_cost.pricing.book import PricedCall, PriceList
    from langchain_mlflow_cost.pricing.usage import Usage


def show_prices(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as gpt-5-mini.")],
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Such as openai or aws; else guessed.")] = None,
    policy: PolicyOption = None,
    usage: Annotated[
        str | None, typer.Option(metavar="JSON", help='A call: {"input_tokens": 1200, "cache_read": 1000}')
    ] = None,
) -> None:
    """Show what a model costs, and who says so."""
    from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.pricing.doubts import is_known_provider, nearest_model, nearest_provider
    from langchain_mlflow_cost.pricing.providers import model_id, provider_id
    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult

    if not model.strip():
        raise typer.BadParameter("is empty; expected a name such as gpt-5-mini", param_hint="MODEL")
    used = None if usage is None else _usage(usage)
    book = (read_policy(policy) if policy else Policy()).price_book(catalogue_rates)
    if provider and not is_known_provider(provider):
        near = nearest_provider(provider)
        hint = f"did you mean {near}?" if near else "prices go by the model's name alone, if at all"
        tell(f"provider {provider} is unknown; {hint}")
    listed = book.describe(provider, model)
    if listed is None:
        at = f" at {provider}" if provider else ""
        near = nearest_model(model, provider)
        hint = f"did you mean {near}? Else give" if near and near != model else "give"
        raise CommandError(f"no price is known for {model}{at}; {hint} it one with prices.overrides or prices.aliases")
    out = console()
    say(out, f"{listed.model}, {listed.source}, as of {listed.as_of}")
    out.print(_price_table(listed))
    for note in listed.notes:
        say(out, f"Note: {note}")
    if used is not None:
        request = CallRequest(provider=provider_id(provider), model=model_id(model))
        priced = book.price(request, CallResult(usage=used))
        out.print(_bill(priced))


def _usage(text: str) -> Usage:
    from langchain_mlflow_cost.errors import UsageError
    from langchain_mlflow_cost.pricing.usage import Usage

    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"no JSON: {error}", param_hint="--usage") from error
    if not isinstance(given, dict):
        raise typer.BadParameter('expected an object such as {"input_tokens": 1200}', param_hint="--usage")
    fees = given.pop("fees", {})
    if not isinstance(fees, dict):
        raise typer.BadParameter('"fees": expected an object such as {"web_search": 2}', param_hint="--usage")
    known = [field.name for field in fields(Usage)]
    for name in given:
        if name not in known:
            near = nearest(name, known)
            remedy = f'did you mean "{near}"?' if near else f"known are {', '.join(known)}"
            raise typer.BadParameter(f'unknown key "{name}"; {remedy}', param_hint="--usage")
    for name, count in [*given.items(), *fees.items()]:
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise typer.BadParameter(f'"{name}": expected a whole number, 0 or more', param_hint="--usage")
    try:
        return Usage(**given, fees=tuple(fees.items()))
    except UsageError as error:
        raise typer.BadParameter(str(error), param_hint="--usage") from error


def _price_table(listed: PriceList) -> Table:
    """A row for each class, a column for each bracket and service tier."""
    columns: dict[str, Mapping[str, Decimal]] = {"standard": listed.per_mtok}
    columns |= {f"input over {start:,}": rates for start, rates in listed.long_context}
    columns |= listed.service_tiers
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("USD per million")
    for head in columns:
        table.add_column(head, justify="right")
    for name in dict.fromkeys(name for rates in columns.values() for name in rates):
        table.add_row(name, *(readable(rates[name]) if name in rates else "" for rates in columns.values()))
    if listed.per_use:
        table.add_section()
        table.add_row("USD a use")
    for name, fee in listed.per_use.items():
        table.add_row(name, readable(fee))
    return table


def _bill(priced: PricedCall) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, show_footer=True)
    total = "unknown" if priced.cost is None else readable(priced.cost.total_usd)
    for head, footer in (("This call", "Total"), ("Count", ""), ("USD each", ""), ("USD", total)):
        table.add_column(head, footer, justify="left" if head == "This call" else "right")
    for line in priced.lines:
        table.add_row(line.name, f"{line.quantity:,}", readable(line.usd_each), readable(line.usd))
    table.caption = "\n".join(priced.notes) or None
    return table
