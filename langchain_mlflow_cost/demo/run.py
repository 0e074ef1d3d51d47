"""The demo from start to end: set up, run the agent under a live table, look at what was stored, say how to open it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import mlflow
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from langchain_mlflow_cost import configure
from langchain_mlflow_cost.adapters.telemetry import let_it_only_warn, switch_telemetry_off
from langchain_mlflow_cost.demo import app
from langchain_mlflow_cost.demo.provider import ProviderServer
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.notices import shell_word, without_credentials
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.stored_bytes import found_in
from langchain_mlflow_cost.tracking_stores import is_server, why_unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import Trace
    from rich.console import Console, RenderableType

    from langchain_mlflow_cost.pricing.summary import CostSummary

POLICY_FILE = Path(__file__).parent / "observability.yaml"
SQLITE = "sqlite:///"
UI_PORT = 5000
PRIVATE = {"private note": app.PRIVATE_NOTE, "private verdict": app.PRIVATE_VERDICT}


def run(
    console: Console, policy_file: Path | None, tracking_uri: str, max_cost_usd: float | None, pause_s: float
) -> bool:
    """Run the demo and tell about it.

    Args:
        console: Where to.
        policy_file: Another policy than the demo's own.
        tracking_uri: Where MLflow stores the trace; the folder of a SQLite database is made if it is not there.
        max_cost_usd: Another budget than the policy's.
        pause_s: How long each model seems to think, in seconds.

    Returns:
        Whether the store is free of everything that must not be in it.
    """
    _stay_on_this_machine()
    fault = why_unusable(tracking_uri) if is_server(tracking_uri) else None
    if fault is not None:
        console.print(f"The MLflow server {without_credentials(tracking_uri)} {fault}.", style="red")
        return False
    database = _database(tracking_uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    changes: dict[str, Any] = {"tracking_uri": tracking_uri}
    if max_cost_usd is not None:
        changes["budget"] = {"max_cost_usd": max_cost_usd}
    policy = Policy.from_yaml(policy_file or POLICY_FILE).model_copy(update=changes)
    with console.status(f"Opening {tracking_uri}", spinner_style="cyan"):
        _make_experiment(policy.experiment_name, tracking_uri, database)
        handler = configure(policy)
    ticket = app.new_ticket()

    console.print("\nA support desk on LangGraph, with OpenAI's and Anthropic's clients", style="bold")
    console.print("The models are a script on this machine; all else is real, also the prices.", style="dim")
    _section(console, "The customer writes", _marked(ticket.text, list(ticket.planted.values()), "red"))

    refusal = None
    with ProviderServer(partial(app.script, pause_s=pause_s)) as server, handler.live(console=console):
        graph = app.build_graph(server)
        try:
            graph.invoke({"ticket": ticket.text}, config={"callbacks": [handler]})
        except BudgetExceededError as error:
            refusal = error

    mlflow.flush_trace_async_logging()
    summary = handler.summary()
    trace = mlflow.get_trace(summary.trace_id)
    if trace is None:
        console.print(f"MLflow at {tracking_uri} has no trace {summary.trace_id}.", style="red")
        return False
    _section(console, "It cost", _cost(summary, policy, refusal))
    _section(console, "MLflow stores", *_stored(trace))
    secrets = {**ticket.planted, **PRIVATE}
    found = _search(trace, database, [*secrets.values(), app.ORDER])
    leaked = [name for name, text in secrets.items() if text in found]
    place = "the stored trace" if database is None else f"{database}, byte by byte"
    is_private = not policy.for_node(("risk_check",)).log_prompts
    searched = _searched(leaked, list(ticket.planted), is_private=is_private, control=app.ORDER in found)
    _section(console, f"Found in {place}", searched)
    _section(console, "Open it in MLflow")
    for line in _how_to_open(trace, tracking_uri, database):
        # Broken by the terminal if at all: what we break cannot be copied.
        console.print(f"  {line}", style="cyan", soft_wrap=True)
    console.print()
    return not leaked and app.ORDER in found


def _stay_on_this_machine() -> None:
    """Keep MLflow, LangChain and the clients from calling anyone."""
    os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")
    switch_telemetry_off()
    for name in ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"):
        os.environ.pop(name, None)
    # Else a proxy would be asked for 127.0.0.1 too.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    let_it_only_warn()
    # LangChain announces an exception of a handler before it lets it out; the demo tells of it itself.
    logging.getLogger("langchain_core.callbacks.manager").setLevel(logging.ERROR)


def _database(tracking_uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    return Path(tracking_uri.removeprefix(SQLITE)) if tracking_uri.startswith(SQLITE) else None


def _make_experiment(name: str, tracking_uri: str, database: Path | None) -> None:
    """Let a new experiment keep its files beside the database; MLflow's default is a folder in the current one."""
    mlflow.set_tracking_uri(tracking_uri)
    if database is not None and mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, (database.absolute().parent / "artifacts").as_uri())


def _section(console: Console, title: str, *parts: RenderableType) -> None:
    console.print(f"\n{title}", style="bold")
    for part in parts:
        console.print(Padding(part, (0, 0, 0, 2)))


def _marked(text: str, words: list[str], style: str) -> Text:
    shown = Text(text)
    shown.highlight_words(words, style)
    return shown


def _cost(summary: CostSummary, policy: Policy, refusal: BudgetExceededError | None) -> Text:
    tokens = summary.total_tokens.total_tokens
    total = Text(f"${summary.total_cost_usd:.4f} for {summary.llm_calls} calls and {tokens:,} tokens")
    if refusal is not None:
        return total.append("\nStopped: ", "yellow").append(str(refusal))
    return total.append("".join(f"; the budget is ${rule.max_cost_usd:.2f} a {rule.scope}" for rule in policy.budgets))


def _stored(trace: Trace) -> Iterator[RenderableType]:
    """The ticket as it is stored, and what the policy did to the spans: as the trace says, not the handler."""
    spans = trace.data.spans
    redactions: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = {}
    for span in spans:
        redactions.update(span.get_attribute("policy.redactions") or {})
        node = str(span.get_attribute("policy.node") or "(graph)")
        for reason in (span.get_attribute("policy.dropped") or {}).values():
            settings = {"log_prompts": "false", "artifact_level": span.get_attribute("policy.artifact_level")}
            cause = f"{reason}: {settings[reason]}" if reason in settings else str(reason)
            dropped.setdefault(cause, Counter())[node] += 1
    root = next(span for span in spans if span.parent_id is None)
    ticket = str((root.inputs or {}).get("ticket", "(no payload)"))
    yield _marked(ticket, [f"[{entity}]" for entity in redactions], "green")
    yield ""
    table = Table.grid(padding=(0, 2))
    for index, (entity, count) in enumerate(redactions.most_common()):
        table.add_row("" if index else "Redacted", Text(entity, "green"), f"{count} times")
    for index, (cause, nodes) in enumerate(sorted(dropped.items())):
        table.add_row(
            "" if index else "Dropped", Text(cause, "green"), f"{nodes.total()} payloads in {', '.join(nodes)}"
        )
    yield table


def _search(trace: Trace, database: Path | None, texts: list[str]) -> set[str]:
    """Those of the texts that are stored: in the database and its experiment's files, or in what a server returns."""
    if database is None:
        stored = trace.to_json()
        return {text for text in texts if text in stored}
    places = list(database.parent.glob(f"{database.name}*"))
    location = mlflow.get_experiment(str(trace.info.experiment_id)).artifact_location
    if location.startswith("file:"):
        places += [path for path in Path(unquote(urlsplit(location).path)).rglob("*") if path.is_file()]
    return found_in(places, texts)


def _searched(leaked: list[str], planted: list[str], *, is_private: bool, control: bool) -> Table:
    """What was looked for, and whether it was found; one text that must be found shows that the search works."""
    private = [name for name in leaked if name in PRIVATE]
    table = Table.grid(padding=(0, 2))
    for found, names, what in (
        (len(leaked) - len(private), planted, "planted values"),
        (len(private), list(PRIVATE), "texts of risk_check" + ", which has log_prompts: false" * is_private),
    ):
        counted = Text(f"{found} of {len(names)}", "bold red" if found else "green")
        table.add_row(counted, f"{what}: {', '.join(names)}")
    table.add_row(
        Text(f"{int(control)} of 1", "green" if control else "bold red"),
        f"text that nothing hides, to show that the search works: order {app.ORDER}",
    )
    if leaked:
        table.add_row(Text("Found", "bold red"), ", ".join(leaked))
    return table


def mlflow_command() -> str:
    """How to call MLflow from this folder: by its path where the shell would not find it."""
    if shutil.which("mlflow"):
        return "mlflow"
    # Not resolved: in a virtual environment that would lead out of it.
    interpreter = Path(sys.executable)
    beside = interpreter.with_name("mlflow")
    command = beside if beside.exists() else interpreter
    with suppress(ValueError):
        command = command.relative_to(Path.cwd())
    # A bare name would be looked for on PATH again.
    shown = shell_word(f"./{command}" if len(command.parts) == 1 else str(command))
    return shown if beside.exists() else f"{shown} -m mlflow"


def _how_to_open(trace: Trace, tracking_uri: str, database: Path | None) -> Iterator[str]:
    address = f"http://127.0.0.1:{UI_PORT}"
    if database is None:
        address = tracking_uri.rstrip("/")
    else:
        yield f"{mlflow_command()} server --backend-store-uri {shell_word(tracking_uri)} --port {UI_PORT}"
    yield f"{address}/#/experiments/{trace.info.experiment_id}/traces?selectedEvaluationId={trace.info.trace_id}"
