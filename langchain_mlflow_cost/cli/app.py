"""The command `mlflow-cost`: what a terminal is the right place for.

Exit codes: 0 done; 1 it did not work (the store, a file, a missing extra); 2 asked for wrongly, or a bad policy.
"""

# ruff: noqa: PLC0415 - MLflow takes seconds to import; `--help` and a mistyped option must not wait for it.

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.nodes import parsed_path
from langchain_mlflow_cost.notices import nearest, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow.entities import Experiment, Trace

    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.pricing.book import ModelRates, PricedCall, PriceList
    from langchain_mlflow_cost.pricing.usage import Usage

DEFAULT_EXPERIMENT = "langchain_mlflow_cost"
SQLITE = "sqlite:///"
PAGE = 100
"""Traces that are fetched or deleted at a time."""

app = typer.Typer(
    name="mlflow-cost",
    help="Cost, budgets and a payload policy for LangChain and LangGraph traces in MLflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PolicyArgument = Annotated[Path, typer.Argument(metavar="POLICY", help="A policy or workflow file (YAML).")]
PolicyOption = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A policy or workflow file (YAML).")
]
TrackingUri = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Where MLflow stores; else MLFLOW_TRACKING_URI, else ./mlflow.db."),
]
ExperimentName = Annotated[
    str | None, typer.Option("--experiment", metavar="NAME", help=f"Its name; else {DEFAULT_EXPERIMENT}.")
]


class CommandError(Exception):
    """The command cannot do what it was asked to; the message says why and what to do."""


def main() -> None:
    """Run the command; an error that its user can do something about is one line, without a traceback."""
    try:
        app(prog_name="mlflow-cost")
    except PolicyError as error:
        _exit(str(error), code=2)
    except CommandError as error:
        _exit(str(error))
    except OSError as error:
        _exit(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except Exception as error:
        if not _is_of_mlflow(error):
            raise
        first_line = str(error).strip().splitlines()[0]
        # A server's address may hold a password.
        _exit(f"MLflow: {without_credentials(first_line)}")


def _is_of_mlflow(error: Exception) -> bool:
    # By name, since MLflow may not even be imported.
    return any(kind.__name__ == "MlflowException" for kind in type(error).__mro__)


def _exit(message: str, code: int = 1) -> NoReturn:
    sys.stderr.write(f"mlflow-cost: {message}\n")
    raise SystemExit(code)


def _console() -> Console:
    return Console(highlight=False, markup=False)


# --- demo


@app.command()
def demo(
    policy: PolicyOption = None,
    tracking_uri: Annotated[
        str | None, typer.Option(metavar="URI", help="Where MLflow stores; else ./demo-output/mlflow.db.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Another budget; 0.02 shows a refusal.", min=0)
    ] = None,
    pause: Annotated[
        float | None, typer.Option(metavar="S", help="Time that a model takes; else 0.8 s, in a pipe 0.", min=0)
    ] = None,
) -> None:
    """Watch an agent's cost live: no key, no network.

    Runs a LangGraph agent against a model server of its own, and shows what of a card number, an e-mail address, an
    API key and a private node is stored: nothing.
    """
    console = _console()
    try:
        with console.status("Starting LangGraph and MLflow", spinner_style="cyan"):
            from langchain_mlflow_cost.demo.run import run
    except ModuleNotFoundError as error:
        if error.name not in {"langchain_openai", "langchain_anthropic"}:
            raise
        raise CommandError("the demo needs an extra: pip install 'langchain-mlflow-cost[demo]'") from error
    if pause is None:
        pause = 0.8 if console.is_terminal else 0.0
    uri = tracking_uri or f"{SQLITE}{Path('demo-output') / 'mlflow.db'}"
    if not run(console, policy, uri, budget, pause):
        raise typer.Exit(1)


# --- report


@app.command()
def report(
    tracking_uri: TrackingUri = None,
    experiment: ExperimentName = None,
    by: Annotated[
        str, typer.Option(metavar="WHAT", help="node, model, session, user, or tag:NAME; see above.")
    ] = "node",
    last: Annotated[int, typer.Option(metavar="N", help="How many traces, from the latest back.", min=1)] = PAGE,
) -> None:
    """Show what traces cost, by node, model, session, user or tag.

    A tag's NAME is a LangChain tag, one of the policy's trace_metadata, or a tag of MLflow's.
    """
    kind, _, tag = by.partition(":")
    if kind not in {"node", "model", "session", "user", "tag"} or (kind == "tag") != bool(tag):
        raise typer.BadParameter(f"{by!r} is none of node, model, session, user, tag:NAME", param_hint="--by")
    found = _experiment(tracking_uri, experiment or DEFAULT_EXPERIMENT)

    from langchain_mlflow_cost.attributes import MODEL_TYPES
    from langchain_mlflow_cost.live import rows_table, summary_rows, summary_total
    from langchain_mlflow_cost.pricing.ledger import Ledger
    from langchain_mlflow_cost.stored import call_of_span

    traces = list(_latest(found, last))
    if kind == "tag" and traces and not any(_tagged(tag, trace) for trace in traces):
        raise CommandError(_no_such_tag(tag, traces))
    ledger = Ledger()
    with_calls = 0
    for trace in traces:
        # Node and root spans carry the sums of what is below them.
        calls = [
            span for span in trace.data.spans if span.span_type in MODEL_TYPES and "cost.llm_calls" in span.attributes
        ]
        with_calls += bool(calls)
        for span in calls:
            # A ledger adds up by node: here by whatever was asked for.
            ledger.add(replace(call_of_span(span.attributes), node=_group(kind, tag, trace, span.attributes)))
    console = _console()
    console.print(f"Experiment {found.name}: {_plural(len(traces), 'trace')}{_period(traces)}")
    if len(traces) > with_calls:
        left_out = _plural(len(traces) - with_calls, "trace")
        console.print(f"Left out: {left_out} without a model call of this library", style="dim")
    if with_calls:
        summary = ledger.summary()
        rows = sorted(summary_rows(summary, f"(no {tag or kind})"), key=lambda row: -row.cost_usd)
        if kind == "model":
            rows = [replace(row, models=()) for row in rows]
        console.print(rows_table((tag or kind).capitalize(), rows, summary_total(summary), console))


def _latest(experiment: Experiment, last: int) -> Iterator[Trace]:
    import mlflow

    client, token, left = mlflow.MlflowClient(), None, last
    while left > 0:
        page = client.search_traces(
            locations=[experiment.experiment_id],
            max_results=min(PAGE, left),
            order_by=["timestamp_ms DESC"],
            page_token=token,
        )
        yield from page
        token, left = page.token, left - len(page)
        if not token:
            return


def _group(kind: str, tag: str, trace: Trace, attributes: Mapping[str, Any]) -> str:
    match kind:
        case "node":
            value = attributes.get("policy.node")
        case "model":
            value = attributes.get("mlflow.llm.model")
        case "tag":
            value = _tagged(tag, trace)
        case _:
            value = trace.info.trace_metadata.get(f"mlflow.trace.{kind}")
    return str(value or "")


_LANGCHAIN_TAGS = "langchain.tags"


def _tagged(tag: str, trace: Trace) -> str | None:
    """The value of a tag or metadata key; of a LangChain tag, which has none, its name."""
    value = trace.info.tags.get(tag) or trace.info.trace_metadata.get(tag)
    return value or (tag if tag in _langchain_tags(trace) else None)


def _langchain_tags(trace: Trace) -> list[str]:
    try:
        tags = json.loads(trace.info.trace_metadata.get(_LANGCHAIN_TAGS, "[]"))
    except json.JSONDecodeError:  # MLflow cuts long metadata.
        return []
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def _no_such_tag(tag: str, traces: list[Trace]) -> str:
    names: set[str] = set()
    for trace in traces:
        keys = (*trace.info.tags, *trace.info.trace_metadata)
        names |= {key for key in keys if not key.startswith("mlflow.") and key != _LANGCHAIN_TAGS}
        names.update(_langchain_tags(trace))
    near = nearest(tag, sorted(names))
    if near:
        remedy = f"did you mean tag:{near}?"
    elif names:
        remedy = f"there are {', '.join(sorted(names)[:10])}"
    else:
        remedy = "pass tags in the run's config, or name metadata keys in the policy's trace_metadata"
    return f"none of the {_plural(len(traces), 'trace')} has a tag or metadata key {tag}; {remedy}"


def _period(traces: list[Trace]) -> str:
    days = sorted({datetime.fromtimestamp(trace.info.timestamp_ms / 1000, UTC).date().isoformat() for trace in traces})
    return {0: "", 1: f" of {''.join(days[:1])}"}.get(len(days), f" from {''.join(days[:1])} to {''.join(days[-1:])}")


# --- explain


@app.command()
def explain(
    policy: PolicyArgument,
    node: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Another node: team/researcher. Repeatable.")
    ] = None,
) -> None:
    """Show what a policy means, node by node."""
    loaded = _policy(policy)
    told = loaded.explain([parsed_path(path) for path in node or ()])
    everywhere = told["outside_nodes"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("Node", "Its entries", "Prompts", "Level", "Cut at", "Budget"):
        table.add_column(head, overflow="fold")
    for applied in (everywhere, *told["nodes"]):
        table.add_row(
            _named(applied),
            ", ".join(applied.get("entries", ())),
            "stored" if applied["log_prompts"] else "never",
            # What a private node is told and says is in all its payloads.
            applied["artifact_level"] if applied["log_prompts"] else "minimal",
            f"{applied['max_payload_chars']:,}",
            "\n".join(_budget(budget["max_cost_usd"], budget["scope"]) for budget in applied.get("budgets", ())),
        )
    console = _console()
    console.print(table)
    console.print(f"Redacted: {_redacted(everywhere)}")
    for applied in told["nodes"]:
        if _redacted(applied) != _redacted(everywhere):
            console.print(f"  in {_named(applied)}: {_redacted(applied)}")
    for rule in loaded.budgets:
        console.print(f"Budget: {_budget(readable(rule.max_cost_usd), rule.scope)}, on_exceeded: {rule.on_exceeded}")
    for line in _prices(told["settings"].get("prices", {})):
        console.print(line)
    for name in sorted(loaded.model_fields_set - _SHOWN_PER_NODE):
        console.print(f"{name}: {_plain(told['settings'].get(name))}")


_SHOWN_PER_NODE = {
    "artifact_level", "budget", "log_artifacts", "log_prompts", "max_payload_chars", "nodes", "prices",
    "redact_pii", "redact_secrets", "redaction",
}  # fmt: skip


def _named(applied: Mapping[str, Any]) -> str:
    # An entry's pattern, and not the example of a node that it means: there may be none of that name.
    return str(applied.get("entry") or applied.get("node", "(outside nodes)"))


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


def _budget(max_cost_usd: str, scope: str) -> str:
    return f"${max_cost_usd} a {scope}"


def _redacted(applied: Mapping[str, Any]) -> str:
    """Entities, patterns and field names, grouped by what stands in their place."""
    by_strategy: dict[str, list[str]] = {}
    for entity in dict.fromkeys([*applied["entities"], *applied["patterns"]]):
        by_strategy.setdefault(applied["strategy"].get(entity, "redact"), []).append(entity)
    parts = [f"{', '.join(entities)} ({strategy})" for strategy, entities in by_strategy.items()]
    parts += [f"fields named {', '.join(applied['keys'])}"] if applied["keys"] else []
    parts += [f"by {applied['engine']}"] if applied["engine"] != "builtin" else []
    return "; ".join(parts) or "nothing"


# --- scan


@app.command()
def scan(
    text: Annotated[Path, typer.Option(metavar="FILE", help="What to look through; - is standard input.")],
    policy: PolicyOption = None,
    show: Annotated[bool, typer.Option("--show", help="Print what was found, too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if anything is found.")] = False,
) -> None:
    """Show what a policy would redact in a text.

    Without a policy: all secrets and everything personal that is known.
    """
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.redaction.walk import scan as found_in

    rules = (_policy(policy) if policy else Policy(redact_pii=True)).for_node(()).rules[0]
    content = (sys.stdin.buffer.read() if str(text) == "-" else text.read_bytes()).decode("utf-8", "replace")
    counts: Counter[str] = Counter()
    for start, end, entity in found_in(content, rules):
        counts[entity] += 1
        line = content.count("\n", 0, start) + 1
        column = start - content.rfind("\n", 0, start)
        value = f": {content[start:end]!r}" if show else ""
        sys.stdout.write(f"{text}:{line}:{column}: {entity}{value}\n")
    told = ", ".join(f"{entity} {count}" for entity, count in counts.most_common())
    sys.stderr.write(f"found: {told or 'nothing'}\n")
    if check and counts:
        raise typer.Exit(1)


# --- prices


@app.command()
def prices(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as gpt-5-mini.")],
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Such as openai or aws; else guessed.")] = None,
    policy: PolicyOption = None,
    usage: Annotated[
        str | None, typer.Option(metavar="JSON", help='A call: {"input_tokens": 1200, "cache_read": 1000}')
    ] = None,
) -> None:
    """Show what a model costs, and who says so."""
    from langchain_mlflow_cost.adapters.mlflow_internals import catalogue_rates
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.pricing.doubts import is_known_provider, nearest_provider
    from langchain_mlflow_cost.pricing.providers import model_id, provider_id
    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult

    used = None if usage is None else _usage(usage)
    book = (_policy(policy) if policy else Policy()).price_book(catalogue_rates)
    if provider and not is_known_provider(provider):
        near = nearest_provider(provider)
        hint = f"did you mean {near}?" if near else "prices go by the model's name alone, if at all"
        sys.stderr.write(f"mlflow-cost: provider {provider} is unknown; {hint}\n")
    listed = book.describe(provider, model)
    if listed is None:
        at = f" at {provider}" if provider else ""
        raise CommandError(f"no price is known for {model}{at}; give it one with prices.overrides or prices.aliases")
    console = _console()
    console.print(f"{listed.model}, {listed.source}, as of {listed.as_of}")
    console.print(_price_table(listed))
    for note in listed.notes:
        console.print(f"Note: {note}")
    if used is not None:
        request = CallRequest(provider=provider_id(provider), model=model_id(model))
        priced = book.price(request, CallResult(usage=used))
        for line in priced.lines:
            if line.quantity < 0:
                parts = f"the parts exceed the whole by {-line.quantity:,} {line.name} tokens"
                raise typer.BadParameter(parts, param_hint="--usage")
        console.print(_bill(priced))


def _usage(text: str) -> Usage:
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
    return Usage(**given, fees=tuple(fees.items()))


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


# --- prune


@app.command()
def prune(
    policy: PolicyOption = None,
    days: Annotated[int | None, typer.Option(metavar="N", help="Days to keep; else retention_days.", min=0)] = None,
    tracking_uri: TrackingUri = None,
    experiment: ExperimentName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete traces that are older than so many days.

    The number is yours: --days, or retention_days in the policy. Nothing else in this library deletes anything.
    """
    loaded = _policy(policy) if policy else None
    keep = days if days is not None or loaded is None else loaded.retention_days
    if keep is None:
        raise typer.BadParameter("say how many days to keep: --days N, or --policy FILE with retention_days")
    name = experiment or (loaded.experiment_name if loaded else DEFAULT_EXPERIMENT)
    found = _experiment(tracking_uri or (loaded.tracking_uri if loaded else None), name)
    before = datetime.now(UTC) - timedelta(days=keep)
    old = _ids_until(found, before)
    what = f"{_plural(len(old), 'trace')} of experiment {name} from before {before:%Y-%m-%d %H:%M} UTC ({keep} days)"
    if dry_run or not old:
        _console().print(f"Would delete {what}" if old else f"Nothing to delete: {what}")
        return
    if not yes and not typer.confirm(f"Delete {what}?"):
        raise CommandError("nothing was deleted")

    import mlflow

    client = mlflow.MlflowClient()
    deleted = sum(
        client.delete_traces(found.experiment_id, trace_ids=old[start : start + PAGE])
        for start in range(0, len(old), PAGE)
    )
    _console().print(f"Deleted {deleted} of {what}")


def _ids_until(experiment: Experiment, before: datetime) -> list[str]:
    import mlflow

    client, token, ids = mlflow.MlflowClient(), None, []
    while True:
        page = client.search_traces(
            locations=[experiment.experiment_id],
            filter_string=f"timestamp_ms <= {int(before.timestamp() * 1000)}",
            max_results=PAGE,
            page_token=token,
            include_spans=False,
        )
        ids += [trace.info.trace_id for trace in page]
        token = page.token
        if not token:
            return ids


# --- migrate


@app.command()
def migrate(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The file store: a folder, or its file: URI.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The new database: a file, or its sqlite: URI.")],
) -> None:
    """Copy the records of MLflow's old file store to a SQLite file.

    Artifacts and the spans of traces are not copied: the old folder has to stay where it is.
    """
    folder = Path(_path_of(source))
    database = Path(target.removeprefix(SQLITE)).absolute()
    if not folder.is_dir():
        raise CommandError(f"{folder} is no folder")
    if database.exists():
        raise CommandError(f"{database} is there already; name a new file")
    if not _is_file_store(folder):
        near = f"; did you mean {folder / 'mlruns'}?" if _is_file_store(folder / "mlruns") else ""
        raise CommandError(f"{folder} holds no file store: no folder in it has a meta.yaml{near}")
    database.parent.mkdir(parents=True, exist_ok=True)
    command = ["migrate-filestore", "--source", str(folder), "--target", f"{SQLITE}{database}"]
    # The command and not the function behind it: only the command is public.
    done = subprocess.run([sys.executable, "-m", "mlflow", *command], check=False)  # noqa: S603 - no shell, own words
    if done.returncode:
        raise CommandError(f"mlflow {shlex.join(command)} failed, see above; {folder} is as it was")
    # Not through the console: it would break the address in two.
    sys.stdout.write(f"\nNow set tracking_uri: {SQLITE}{database}\n")
    # MLflow copies records alone; their addresses of files, and the experiments' for new ones, stay in the folder.
    sys.stdout.write(
        f"Keep {folder.absolute()} where it is: only records were copied. The artifacts of runs and models, and the\n"
        "spans and attachments of traces, are still read from there; new artifacts of its experiments go there, too.\n"
    )


def _is_file_store(folder: Path) -> bool:
    # MLflow keeps an experiment in a folder of its own, a deleted one below `.trash`.
    return any(next(folder.glob(pattern), None) for pattern in ("*/meta.yaml", ".trash/*/meta.yaml"))


def _path_of(uri: str) -> str:
    # `file://./mlruns` is what people write and mean as `./mlruns`.
    return re.sub(r"^file:(//(?=[./]))?", "", uri)


# --- what several share


def _policy(path: Path) -> Policy:
    from langchain_mlflow_cost.policy.settings import Policy

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy = Policy.from_yaml(path)
    for told in (*(str(warning.message) for warning in caught), *policy.price_doubts(_catalogue_rates)):
        # As a line like all others, without the place in the code that means nothing to who runs a command.
        sys.stderr.write(f"mlflow-cost: {told}\n")
    return policy


def _catalogue_rates(provider: str | None, model: str) -> ModelRates | None:
    # Asked only where nobody else knows a name.
    from langchain_mlflow_cost.adapters.mlflow_internals import catalogue_rates

    return catalogue_rates(provider, model)


def _experiment(tracking_uri: str | None, name: str) -> Experiment:
    """Point MLflow at the store and find the experiment there."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        # MLflow would make an empty database there.
        raise CommandError(f"no database {uri.removeprefix(SQLITE)}; name the store with --tracking-uri")

    # Its default asks a server that is not there for four minutes (seven retries, 3.17); nobody waits so long here.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow

    mlflow.set_tracking_uri(uri)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        names = ", ".join(each.name for each in mlflow.search_experiments(max_results=10))
        raise CommandError(f"no experiment {name}; name one with --experiment: {names}")
    return found


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
