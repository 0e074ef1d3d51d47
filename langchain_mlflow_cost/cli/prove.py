"""`mlflow-cost prove`: whether a policy keeps out of a store what it should, shown with planted texts."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_mlflow_cost.cli.app import CommandError, PolicyOption, read_policy
from langchain_mlflow_cost.cli.graph import graph_at
from langchain_mlflow_cost.cli.output import console, counted, say, tell
from langchain_mlflow_cost.cli.progress import counter
from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from langchain_mlflow_cost.proof.search import Searched

_GRAPH = "With a graph"
_STORE = "With a store"


def prove(
    store: Annotated[
        str | None,
        typer.Argument(metavar="[STORE]", help="A folder, a file, a database's URI or a tracking server's URL."),
    ] = None,
    policy: PolicyOption = None,
    graph: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="package.module:app or path/to/file.py:app; app may be a function that makes the graph.",
            rich_help_panel=_GRAPH,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="For the store, proof.md and proof.json.", rich_help_panel=_GRAPH),
    ] = Path("mlflow-cost-proof"),
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="The graph's input as JSON, {plant} where a text is to be planted; a list: one a round. Else it is "
            "made from the graph's schema.",
            rich_help_panel=_GRAPH,
        ),
    ] = None,
    plant: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Plant this too; it must not be stored. Repeatable.", rich_help_panel=_GRAPH),
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="Runs at most.", min=1, rich_help_panel=_GRAPH)] = 12,
    run_tools: Annotated[
        bool,
        typer.Option(
            "--run-tools",
            help="Let tools and retrievers run; they may send mail. Else they answer planted texts.",
            rich_help_panel=_GRAPH,
        ),
    ] = False,
    text_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Texts to look for, one a line; - is standard input. Else whatever the policy would redact.",
            rich_help_panel=_STORE,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show whether a policy keeps out of the store what it should.

    With --graph: the graph runs offline, its models replaced by a script that calls its tools and satisfies its
    schemas, texts planted in every input and answer; every byte of what was stored is searched for them. The code of
    the graph's nodes runs.

    With STORE: every byte of it is searched, and what could not be read is named.

    Exit codes: 0 none found; 1 found; 2 not proved: a private node that was not reached, or nothing was stored.
    """
    if (graph is None) == (store is None):
        raise typer.BadParameter("name a STORE to search, or a graph to run with --graph MODULE:NAME --policy FILE")
    if graph is not None:
        if policy is None:
            raise typer.BadParameter("--graph needs the policy that is to be proved: --policy FILE")
        _prove_graph(graph, policy, out, input_file, plant or [], rounds, run_tools=run_tools, as_json=as_json)
    elif store is not None:
        _prove_store(store, policy, text_file, as_json=as_json)


# --- a graph --------------------------------------------------------------------------------------------------------


def _prove_graph(
    place: str,
    policy_file: Path,
    out: Path,
    input_file: Path | None,
    given: list[str],
    rounds: int,
    *,
    run_tools: bool,
    as_json: bool,
) -> None:
    policy = read_policy(policy_file)
    if not policy.enabled:
        raise CommandError(f"{policy_file}: enabled is false: nothing is traced, and there is nothing to prove")
    inputs = _inputs(input_file)
    for text in given:
        _check_length(text, "--plant")
    if out.exists() and any(out.iterdir()):
        if not (out / "proof.json").is_file() and not (out / "mlflow.db").is_file():
            raise CommandError(f"{out} holds something else; name an empty or new folder with --out")
        _clear(out)
    from langchain_mlflow_cost.adapters.telemetry import let_it_only_warn
    from langchain_mlflow_cost.proof import graph as proving

    let_it_only_warn()
    said = sys.stdout
    # What the user's graph prints is not part of what was asked for.
    sys.stdout = sys.stderr
    try:
        with _warnings_as_lines():
            proof = proving.prove_graph(
                lambda: graph_at(place),
                policy,
                out,
                inputs=inputs,
                given=given,
                most_rounds=rounds,
                run_tools=run_tools,
            )
    except TypeError as error:
        raise CommandError(f"--graph {place}: {error}") from error
    finally:
        sys.stdout = said
    named = {
        "graph": place,
        "policy": str(policy_file),
        "policy_sha256": proving.fingerprint(policy_file.read_bytes()),
        "settings_sha256": proving.settings_fingerprint(policy),
    }
    told = proving.as_json(proof, named)
    (out / "proof.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    report = as_markdown(told)
    (out / "proof.md").write_text(report, encoding="utf-8")
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if as_json else report)
    tell(f"written: {out / 'proof.md'}, {out / 'proof.json'}; the store: {out / 'mlflow.db'}")
    raise typer.Exit(proving.EXIT_CODES[proof.verdict])


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Without the place in the code that warned, which means nothing to who runs a command."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: tell(str(message))
        yield


def _inputs(file: Path | None) -> list[Any]:
    if file is None:
        return []
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{file}: expected JSON: {error}") from error
    if "{plant}" not in json.dumps(found):
        raise CommandError(f"{file}: has no {{plant}}; write it where a text is to be planted")
    return found if isinstance(found, list) else [found]


def _check_length(text: str, where: str) -> None:
    from langchain_mlflow_cost.proof.looking import SHORTEST

    if len(text) < SHORTEST:
        raise CommandError(f"{where}: a text of {len(text)} characters would be found by chance; {SHORTEST} are needed")


def _clear(folder: Path) -> None:
    """Take away what an earlier proof left, and nothing else."""
    import shutil

    for name in ("proof.json", "proof.md", "mlflow.db", "mlflow.db-wal", "mlflow.db-shm", "mlflow.db-journal"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "artifacts", ignore_errors=True)


_NOT = {True: "did ", False: "did not "}
_VERDICTS = {
    "none found": "None found: of what the policy keeps out, nothing is in any byte of the store.",
    "found": "FOUND: the store has texts that the policy should have kept out.",
    "not proved": "NOT PROVED: none of it was found, but not all of it was tried.",
}


def as_markdown(told: dict[str, Any]) -> str:
    """A proof as a reviewer reads it."""
    lines = ["# What a policy keeps out of the store", "", f"**{_VERDICTS[told['verdict']]}**", ""]
    lines += [f"- {_cell(reason)}" for reason in told["why_not"]] + [""] * bool(told["why_not"])
    if told["found"]:
        lines += [
            "| Planted in | Kind | Why it must not be stored | Spelling | Where |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {_cell(each['planted_in'])} | {each['kind']} | {_cell(each['why_not_allowed'])} | {each['spelling']} "
            f"| {_cell('; '.join(each['places']))} |"
            for each in told["found"]
        ]
        lines.append("")
    lines += [
        f"- Graph: `{_cell(told['graph'])}`, run {counted(len(told['rounds']), 'time')}",
        f"- Models: a script, {counted(told['model_calls'], 'call')}; tools {_NOT[told['tools_ran']]}run",
        f"- Policy: `{_cell(told['policy'])}`, SHA-256 `{told['policy_sha256']}`",
        f"- Planted: {_counts(told['planted'])}",
        f"- Must not be stored: {_counts(told['must_not_be_stored'])}",
        f"- May be stored, and the same search found: {told['may_be_stored_and_found']:,}",
        f"- Stored: {counted(told['traces'], 'trace')}",
        f"- Searched: {_searched(told['searched'])}",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in told['versions'].items())}",
        f"- Made: {told['made_at']}",
    ]
    if told["stored_by_an_earlier_trace_of_the_thread"]:
        lines.append(
            f"- Stored by an earlier trace of the same thread, before a private node was told: "
            f"{told['stored_by_an_earlier_trace_of_the_thread']:,}"
        )
    lines += [f"- Not read: {_cell(what)}: {_cell(why)}" for what, why in told["not_read"].items()]
    if told["hosts_refused"]:
        lines.append(f"- Hosts that the program asked for, refused: {_cell(', '.join(told['hosts_refused']))}")
    failures = [each for each in told["rounds"] if each["failure"]]
    lines += [f"- A run by `{each['way']}` ended with {each['failure']}" for each in failures]
    lines += [
        "",
        "| Node | Private | Ended | Failed | Model calls | Tool calls |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for name, node in told["nodes"].items():
        failed = ", ".join(f"{kind} {count}" for kind, count in node["failed"].items())
        private = "yes" if node["private"] else ""
        lines.append(
            f"| {_cell(name)} | {private} | {node['ended']} | {failed} | {node['model_calls']} | {node['tool_calls']} |"
        )
    for name in told["not_reached"]:
        if name not in told["nodes"]:
            private = "yes" if name in told["not_reached_private"] else ""
            lines.append(f"| {_cell(name)} | {private} | not reached | | | |")
    never = [name for name in told["not_reached"] if name not in told["nodes"]]
    if never:
        lines += ["", f"Not reached: {_cell(', '.join(never))}. Nothing is known of them."]
    ran = [name for name in told["not_reached"] if name in told["nodes"]]
    if ran:
        lines += ["", f"Only failed: {_cell(', '.join(ran))}. Of what they return nothing is known."]
    if told["cannot_be_seen"]:
        lines += ["", f"Graphs that cannot be seen may run in: {_cell(', '.join(told['cannot_be_seen']))}."]
    return "\n".join(lines) + "\n"


def _searched(told: dict[str, Any]) -> str:
    return f"{told['bytes']:,} bytes in {counted(told['files'], 'file')}, {told['mb_per_s']} MB/s"


def _cell(text: str) -> str:
    return printable(text, most=10_000).replace("|", "\\|")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "nothing"


# --- a store --------------------------------------------------------------------------------------------------------


def _prove_store(store: str, policy_file: Path | None, text_file: Path | None, *, as_json: bool) -> None:
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.proof.looking import Entities, Texts
    from langchain_mlflow_cost.proof.search import StoreSearch

    search: Any
    if text_file is not None:
        content = sys.stdin.buffer.read() if str(text_file) == "-" else text_file.read_bytes()
        texts = list(dict.fromkeys(line for line in content.decode("utf-8").splitlines() if line.strip()))
        if not texts:
            raise CommandError(f"{text_file}: has no text; write one a line")
        for number, text in enumerate(texts, 1):
            _check_length(text, f"{text_file}, text {number}")
        search = Texts(texts, by_beginning=False)
        numbers = {text: f"text {number}" for number, text in enumerate(texts, 1)}
    else:
        loaded = read_policy(policy_file) if policy_file else Policy(redact_pii=True)
        search, numbers = Entities(loaded.for_node(()).rules[0]), {}
    with counter("MB searched") as told:
        searched = StoreSearch(search, lambda size: told(size / 1e6)).store(store)
    if not searched.files and not searched.size:
        raise CommandError(f"{store}: {next(iter(searched.unread.values()), 'there is nothing to search')}")
    rows = sorted(
        {
            (numbers.get(getattr(hit, "text", ""), str(hit)), place)
            for hit in searched.found
            for place in searched.found[hit]
        }
    )
    if as_json:
        sys.stdout.write(json.dumps(_store_json(searched, rows), indent=2) + "\n")
    else:
        _show_store(console(), searched, rows)
    raise typer.Exit(1 if rows else 0)


def _store_json(searched: Searched, rows: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "found": [{"what": what, "place": place} for what, place in rows],
        **searched.as_json(),
    }


def _show_store(out: Console, searched: Searched, rows: list[tuple[str, str]]) -> None:
    for what, place in rows:
        say(out, f"{what}: {place}")
    for what, why in searched.unread.items():
        say(out, f"not read: {what}: {why}", style="yellow")
    size = f"{searched.size:,} bytes in {counted(searched.files, 'file')}"
    speed = f"{searched.seconds:.1f} s, {searched.mb_per_s:,.0f} MB/s"
    incomplete = ", in what could be read" if searched.unread else ""
    say(out, f"{'Found' if rows else f'None found{incomplete}'}: searched {size} in {speed}")
