"""Compare what tracing costs on real graphs: request path, export, memory, losses. See README.md beside this file."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

# Set before MLflow is imported, which is why all that imports it is imported inside the commands.
# No price catalogue over the network and no telemetry.
FIXED: Final = {
    "MLFLOW_MODEL_CATALOG_URI": "",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "LANGSMITH_TRACING": "false",
}
# Spans wait in MLflow's queue until the clock has stopped, in a batch that never fills, for an interval that never
# ends. They then leave by one worker, so that a trace arrives after its spans.
HELD_BACK: Final = {
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "100000",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS": "3600000",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS": "1",
}
PACKAGES: Final = ("mlflow", "langchain-core", "langgraph", "opentelemetry-sdk", "orjson", "google-re2")
DEFAULT_GRAPHS: Final = "linear,fanout,react10,stream"
DEFAULT_MODES: Final = "bare,autolog,disabled,cost_only,minimal,standard,standard_pii,full_redacted"

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)

Graphs = Annotated[str, typer.Option(help="Comma-separated, or `all`.")]
Modes = Annotated[str, typer.Option(help="Comma-separated, or `all`; those that are not installed are left out.")]
Seed = Annotated[int, typer.Option(help="Of the texts and of the order.")]


def heading() -> str:
    """Date, machine, versions and the command: what a figure means nothing without."""
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return (
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
        f"- Python {platform.python_version()}, {', '.join(versions)}\n"
        f"- `python {shlex.join(sys.argv)}`\n"
    )


def chosen(text: str, known: dict[str, Any], what: str) -> list[str]:
    """The names in a comma-separated option, each of which must be known."""
    names = list(known) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return names


def installed(module: str) -> bool:
    """Whether the module can be imported; a folder without code does not count."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # A parent of it is missing.
        return False
    return found is not None and found.origin is not None


def chosen_modes(text: str) -> list[str]:
    """The modes asked for whose package is here; the others are named on stderr."""
    import modes

    names = chosen(text, modes.MODES, "mode")
    missing = [name for name in names if not installed(modes.MODES[name].needs)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    return [name for name in names if name not in missing]


def chosen_settings(text: str) -> list[str]:
    """The names of `stores.SETTINGS` asked for, without those whose package is not here."""
    import stores
    from modes import OURS

    names = chosen(text, stores.SETTINGS, "mode")
    return [name for name in names if stores.SETTINGS[name].policy is None or installed(OURS)]


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    graphs: Graphs = DEFAULT_GRAPHS,
    modes: Modes = DEFAULT_MODES,
    reps: Annotated[int, typer.Option(help="Runs of each mode on each graph.")] = 15,
    seed: Seed = 1,
    isolated: Annotated[bool, typer.Option(help="One process per mode instead of one for all.")] = False,
    profile: Annotated[bool, typer.Option(help="Print a pyinstrument profile of each mode instead.")] = False,
) -> None:
    """CPU of the request path, its export, bytes and spans of each mode, as ratios to autolog alone."""
    os.environ.update(FIXED)
    # The checkout is measured, whatever copy may be installed; `compare.py` names that of another commit.
    sys.path.insert(0, os.environ.get("MEASURED_CHECKOUT", str(Path(__file__).parents[1])))
    if context.invoked_subcommand:
        return
    os.environ.update(HELD_BACK)
    import graphs as graphs_module
    import interleaving

    names, mode_names = chosen(graphs, graphs_module.GRAPHS, "graph"), chosen_modes(modes)
    if profile:
        for name in names:
            for mode in mode_names:
                print(f"### {name}, {mode}\n\n{_profile(name, mode, reps, seed)}")
        return
    print(heading(), flush=True)
    bench = interleaving.ProcessPerMode() if isolated else interleaving.OneProcess()
    for name in names:
        graph, started = graphs_module.GRAPHS[name], time.perf_counter()
        samples = interleaving.interleave(bench, name, mode_names, reps, seed)
        print(f"### {name}: {graph.about}\n\n{interleaving.table(samples, graph.traces)}\n")
        print(f"{reps} runs of each mode in {time.perf_counter() - started:.0f} s.\n", flush=True)
    if isinstance(bench, interleaving.ProcessPerMode):
        bench.close()


def _profile(graph: str, mode: str, reps: int, seed: int) -> str:
    """Where the time of the calling thread goes; the making of texts and the export are in it, under their names."""
    from interleaving import OneProcess
    from pyinstrument import Profiler

    bench = OneProcess()
    bench.sample(graph, mode, seed)
    profiler = Profiler(interval=0.0005)
    with profiler:
        for rep in range(reps):
            bench.sample(graph, mode, seed + 1 + rep)
    return profiler.output_text(color=False, show_all=True)


@app.command()
def export(
    modes: Modes = "autolog,autolog64,standard,minimal",
    graph: Annotated[str, typer.Option(help="One graph.")] = "linear",
    invocations: Annotated[int, typer.Option(help="In each process, after one that warms up.")] = 10,
    rounds: Annotated[int, typer.Option(help="Fresh processes of each mode.")] = 3,
    seed: Seed = 1,
) -> None:
    """Total CPU with the export to SQLite, each mode in fresh processes: autolog as it is, ours after `configure`."""
    from stores import compare_exports

    print(heading(), flush=True)
    print(compare_exports(chosen_settings(modes), graph, invocations, rounds, seed))


@app.command()
def lost(
    modes: Modes = "autolog,standard",
    invocations: Annotated[int, typer.Option(help="In all, 100 at a time.")] = 600,
    seed: Seed = 1,
) -> None:
    """Spans that were made and never stored: concurrent invocations against SQLite."""
    from stores import compare_losses

    print(heading(), flush=True)
    print(compare_losses(chosen_settings(modes), invocations, seed))


@app.command()
def soak(
    modes: Modes = "autolog,standard,private",
    invocations: Annotated[int, typer.Option(help="Of each mode, in a process of its own.")] = 2_000,
    endings: Annotated[
        str, typer.Option(help="`good`; or every second one `failed`, `cancelled`, ..., or `mixed`.")
    ] = "mixed",
    seed: Seed = 1,
) -> None:
    """Slope of memory and objects over many invocations, also of those that do not end well."""
    from soak import compare_slopes

    print(heading(), flush=True)
    print(compare_slopes(chosen_modes(modes), endings, invocations, seed))


@app.command(hidden=True)
def soak_worker(mode: str, endings: str, invocations: int, seed: int) -> None:
    """Soak one mode in this process and print its checkpoints."""
    os.environ.setdefault("MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS", "500")
    from soak import work

    work(mode, endings, invocations, seed)


@app.command()
def growth(
    modes: Modes = "autolog,minimal,standard,full_redacted",
    families: Annotated[str, typer.Option(help="Comma-separated, or `all`.")] = "all",
    reps: Annotated[int, typer.Option(help="Runs of each mode at each size.")] = 5,
    seed: Seed = 1,
) -> None:
    """Time and bytes as a graph grows: exponents, 1 being linear."""
    os.environ.update(HELD_BACK)
    from growth import FAMILIES, compare_growth

    print(heading(), flush=True)
    for family in chosen(families, FAMILIES, "family"):
        print(compare_growth(family, chosen_modes(modes), reps, seed), flush=True)


@app.command(hidden=True)
def store_worker(mode: str, graph: str, database: str, invocations: int, seed: int) -> None:
    """Run one graph against SQLite in this process and print what it took."""
    from stores import work

    work(mode, graph, database, invocations, seed)


@app.command(hidden=True)
def worker() -> None:
    """Take samples for another process."""
    os.environ.update(HELD_BACK)
    from interleaving import work

    work()


if __name__ == "__main__":
    app()
