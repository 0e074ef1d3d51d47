"""`mlflow-cost explain`: what a policy means, node by node, and for the nodes of a graph."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from langchain_mlflow_cost.cli.app import CommandError, PolicyArgument, read_policy
from langchain_mlflow_cost.cli.graph import graph_at
from langchain_mlflow_cost.cli.output import console, say
from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.nodes import parsed_path
from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_mlflow_cost.policy.checking import PolicyCheck


def explain_policy(
    policy: PolicyArgument,
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help=r"Another node: team/researcher; a / in a name is \/. Repeatable."),
    ] = None,
    graph: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="Check it against a graph: package.module:app or path/to/file.py:app; app may be a function that "
            "makes the graph. Ends with 1 where an entry meets no node.",
        ),
    ] = None,
) -> None:
    """Show what a policy means, node by node."""
    loaded = read_policy(policy)
    if graph is not None:
        _show_check(_checked(loaded, graph))
        return
    told = loaded.explain([parsed_path(path) for path in node or ()])
    everywhere = told["outside_nodes"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("Node", "Its entries", "Prompts", "Level", "Cut at", "Budget"):
        table.add_column(head, overflow="fold")
    for applied in (everywhere, *told["nodes"]):
        table.add_row(
            _named(applied),
            ", ".join(printable(entry) for entry in applied.get("entries", ())),
            "stored" if applied["log_prompts"] else "never",
            # What a private node is told and says is in all its payloads.
            applied["artifact_level"] if applied["log_prompts"] else "minimal",
            f"{applied['max_payload_chars']:,}",
            "\n".join(printable(budget["limit"]) for budget in applied.get("budgets", ())),
        )
    out = console()
    out.print(table)
    say(out, f"Redacted: {_redacted(everywhere)}")
    for applied in told["nodes"]:
        if _redacted(applied) != _redacted(everywhere):
            say(out, f"  in {_named(applied)}: {_redacted(applied)}")
    for rule in loaded.budgets:
        say(out, f"Budget: {printable(rule.in_words())}, on_exceeded: {rule.on_exceeded}")
    for line in _prices(told["settings"].get("prices", {})):
        say(out, line)
    for name in sorted(loaded.model_fields_set - _SHOWN_PER_NODE):
        say(out, f"{name}: {_plain(told['settings'].get(name))}")


def _checked(policy: Any, place: str) -> PolicyCheck:
    found = graph_at(place)
    try:
        return policy.check(found)  # type: ignore[no-any-return]
    except TypeError as error:
        raise CommandError(f"--graph {place}: {error}") from error


def _show_check(check: PolicyCheck) -> None:
    out = console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("Node", "Its entries", "Prompts", "Level", "Budget"):
        table.add_column(head, overflow="fold")
    for node in check.nodes:
        table.add_row(
            printable(node.node),
            ", ".join(map(printable, node.entries)),
            "stored" if node.log_prompts else "never",
            node.artifact_level,
            "\n".join(node.budgets),
        )
    out.print(table)
    for entry in check.entries:
        say(out, f"Entry {entry}")
    if check.open_nodes:
        say(out, f"Graphs that cannot be seen may run in: {', '.join(check.open_nodes)}")
    if not check.ok:
        raise typer.Exit(1)


_SHOWN_PER_NODE = {
    "artifact_level", "budget", "log_artifacts", "log_prompts", "max_payload_chars", "nodes", "prices",
    "redact_pii", "redact_secrets", "redaction",
}  # fmt: skip


def _named(applied: Mapping[str, Any]) -> str:
    # An entry's pattern, and not the example of a node that it means: there may be none of that name.
    return printable(applied.get("entry") or applied.get("node", "(outside nodes)"))


def _prices(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, target in settings.get("aliases", {}).items():
        yield f"Price of {name}: as {target}"
    for name, rates in settings.get("overrides", {}).items():
        yield f"Price of {name}: {', '.join(f'{kind} {_price(kind, usd)}' for kind, usd in rates.items())}"
    for name, off in settings.get("discounts", {}).items():
        yield f"Discount of {'everything' if name == '*' else name}: {readable(Decimal(off) * 100)} %"


def _price(kind: str, usd: str) -> str:
    from langchain_mlflow_cost.pricing.book import FEE_CLASSES

    return f"${usd} a {'call' if kind == 'request' else 'use'}" if kind in FEE_CLASSES else f"${usd} per million tokens"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _redacted(applied: Mapping[str, Any]) -> str:
    """Entities, patterns and field names, grouped by what stands in their place."""
    by_strategy: dict[str, list[str]] = {}
    for entity in dict.fromkeys([*applied["entities"], *applied["patterns"]]):
        by_strategy.setdefault(applied["strategy"].get(entity, "redact"), []).append(entity)
    parts = [f"{', '.join(entities)} ({strategy})" for strategy, entities in by_strategy.items()]
    parts += [f"fields named {', '.join(applied['keys'])}"] if applied["keys"] else []
    if applied["allow_keys"] is not None:
        parts.append(f"all but fields named {', '.join(applied['allow_keys']) or '(none)'}")
    parts += [f"by {applied['engine']}"] if applied["engine"] != "builtin" else []
    return "; ".join(parts) or "nothing"
