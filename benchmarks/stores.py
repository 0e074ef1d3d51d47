"""What a store adds: a fresh process for each measurement, SQLite, MLflow's exporter as it comes."""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from interleaving import BASELINE, markdown, ratio
from modes import POLICIES

HELD: Final[dict[str, Any]] = {"nodes": {"meet": {"log_prompts": False}}}
"""All spans of a fan-out wait for the root, and leave in one burst."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a process is set up. To add one: a row in SETTINGS."""

    policy: dict[str, Any] | None = None
    """For `configure`; None: autolog alone."""
    configured: bool = True
    """False: the handler alone beside `autolog()`, and so MLflow's own export settings."""
    environment: dict[str, str] = field(default_factory=dict)


SETTINGS: Final[dict[str, Setting]] = {
    "autolog": Setting(),
    "autolog64": Setting(environment={"MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "64"}),
    **{name: Setting(policy) for name, (policy, _) in POLICIES.items() if name != "disabled"},
    "plain": Setting({}, configured=False),
    "held": Setting(HELD),
    "held-plain": Setting(HELD, configured=False),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One process. CPU is that of all threads; the first invocation, which warms up, is in none of the figures."""

    invoke_cpu_s: float
    total_cpu_s: float
    """From the first invocation to the end of the flush."""
    invoke_wall_s: float
    longest_wall_s: float
    """The slowest single call: of one invocation, or of one hundred that run at once."""
    flush_wall_s: float
    peak_rss_mb: float
    spans: int
    """In the database, after the process has flushed."""
    bytes: int
    """Of the spans' content there."""


def work(mode: str, graph_name: str, database: str, invocations: int, seed: int) -> None:
    """Run in this process, print an `Outcome` as JSON."""
    import graphs
    import mlflow
    from texts import Texts

    setting = SETTINGS[mode]
    graph = graphs.GRAPHS.get(graph_name) or _burst(int(graph_name.removeprefix("burst")))
    uri = f"sqlite:///{database}"
    callbacks: list[Any] = []
    if setting.policy is None or not setting.configured:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("benchmark")
        mlflow.langchain.autolog()
        if setting.policy is not None:
            from langchain_mlflow_cost import MlflowCostHandler

            callbacks = [MlflowCostHandler(setting.policy)]
    else:
        from langchain_mlflow_cost import configure

        callbacks = [configure({**setting.policy, "tracking_uri": uri, "experiment_name": "benchmark"})]
    prepare = graph.build()
    warm_up = graphs.fanout(2) if graph_name.startswith("burst") else prepare
    warm_up(Texts(seed))(callbacks)
    mlflow.flush_trace_async_logging()
    before = _stored(database)
    texts, walls = Texts(seed + 1), []
    gc.collect()
    cpu = time.process_time()
    making_texts_s = 0.0
    for _ in range(max(invocations // graph.traces, 1)):
        making = time.process_time()
        run = prepare(texts)
        # Threads that export meanwhile are in this figure too: small beside what is measured, and alike for all.
        making_texts_s += time.process_time() - making
        wall = time.perf_counter()
        run(callbacks)
        walls.append(time.perf_counter() - wall)
    invoked = time.process_time()
    wall = time.perf_counter()
    mlflow.flush_trace_async_logging()
    flush_wall_s = time.perf_counter() - wall
    total_cpu_s = time.process_time() - cpu - making_texts_s
    after = _stored(database)
    outcome = Outcome(
        invoke_cpu_s=invoked - cpu - making_texts_s,
        total_cpu_s=total_cpu_s,
        invoke_wall_s=sum(walls),
        longest_wall_s=max(walls),
        flush_wall_s=flush_wall_s,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        spans=after[0] - before[0],
        bytes=after[1] - before[1],
    )
    print(json.dumps(asdict(outcome)), flush=True)


def _burst(width: int) -> Any:
    from graphs import Graph, fanout

    return Graph(lambda: fanout(width), f"{width}-way Send")


def _stored(database: str) -> tuple[int, int]:
    """Spans in the database and the bytes of their content."""
    connection = sqlite3.connect(database, timeout=60)
    try:
        count, size = connection.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(content)), 0) FROM spans").fetchone()
    finally:
        connection.close()
    return int(count), int(size)


class Databases:
    """Fresh SQLite files; the tables are made once and copied, since MLflow takes seconds to make them."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._made = 0
        self._template = self._folder / "template.db"
        make = "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_experiment('benchmark')"
        command = [sys.executable, "-c", make, f"sqlite:///{self._template}"]
        subprocess.run(command, check=True, capture_output=True)

    def new(self) -> str:
        """The path of one that nobody has."""
        self._made += 1
        path = self._folder / f"{self._made}.db"
        shutil.copy(self._template, path)
        return str(path)


def _run(mode: str, graph: str, database: str, invocations: int, seed: int) -> Outcome:
    program = str(Path(__file__).with_name("run.py"))
    command = [sys.executable, program, "store-worker", mode, graph, database, str(invocations), str(seed)]
    environment = {**os.environ, **SETTINGS[mode].environment}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def compare_exports(modes: list[str], graph: str, invocations: int, rounds: int, seed: int) -> str:
    """Each round runs every mode in a fresh process, in an order of its own; ratios are those within a round."""
    order = random.Random(seed)
    outcomes: dict[str, list[Outcome]] = {mode: [] for mode in modes}
    with tempfile.TemporaryDirectory() as folder:
        databases = Databases(folder)
        for number in range(rounds):
            for mode in order.sample(modes, len(modes)):
                outcomes[mode].append(_run(mode, graph, databases.new(), invocations, seed + 10 * number))
    header = ["mode", "invoke CPU ms", "export CPU ms", "total CPU ms", f"total CPU / {BASELINE}", "flush wall s"]
    header += [f"flush wall / {BASELINE}", "KB a trace", "spans a trace", "peak RSS MB", f"peak RSS / {BASELINE}"]
    base = outcomes.get(BASELINE)
    rows = []
    for mode, runs in outcomes.items():
        invoke = statistics.median(run.invoke_cpu_s for run in runs) / invocations
        total = statistics.median(run.total_cpu_s for run in runs) / invocations
        rows.append(
            [
                mode,
                f"{invoke * 1e3:.1f}",
                f"{(total - invoke) * 1e3:.1f}",
                f"{total * 1e3:.1f}",
                ratio([run.total_cpu_s for run in runs], [run.total_cpu_s for run in base]) if base else "",
                f"{statistics.median(run.flush_wall_s for run in runs):.2f}",
                ratio([run.flush_wall_s for run in runs], [run.flush_wall_s for run in base]) if base else "",
                f"{statistics.median(run.bytes for run in runs) / invocations / 1e3:.1f}",
                f"{statistics.median(run.spans for run in runs) / invocations:.1f}",
                f"{statistics.median(run.peak_rss_mb for run in runs):.0f}",
                ratio([run.peak_rss_mb for run in runs], [run.peak_rss_mb for run in base]) if base else "",
            ]
        )
    title = f"### {graph}, {invocations} invocations and a flush, SQLite, {rounds} fresh processes of each mode"
    return f"{title}\n\n{markdown(header, rows)}\n"


def compare_losses(modes: list[str], invocations: int, seed: int) -> str:
    """One fresh process for each mode and load.

    The loads are `invocations` of a graph of 7 spans, 100 at a time, and one invocation with as many spans.
    """
    width = max((invocations * 7 - 4) // 2, 1)
    tables = [
        (f"async, {invocations} invocations, 100 at a time, SQLite", "async", invocations, invocations * 7),
        (f"fanout, {width}-way Send in one invocation, SQLite", f"burst{width}", 1, width * 2 + 4),
    ]
    return "\n".join(_losses(title, modes, graph, count, made, seed) for title, graph, count, made in tables)


def _losses(title: str, modes: list[str], graph: str, invocations: int, made: int, seed: int) -> str:
    slowest = "slowest 100 s" if graph == "async" else "slowest s"
    header = ["mode", "spans made", "spans stored", "lost", "invoke wall s", slowest, "flush wall s"]
    header += ["total CPU s", "peak RSS MB"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        databases = Databases(folder)
        for mode in modes:
            run = _run(mode, graph, databases.new(), invocations, seed)
            row = [mode, str(made), str(run.spans), str(made - run.spans)]
            row += [f"{run.invoke_wall_s:.1f}", f"{run.longest_wall_s:.1f}", f"{run.flush_wall_s:.1f}"]
            rows.append([*row, f"{run.total_cpu_s:.1f}", f"{run.peak_rss_mb:.0f}"])
    return f"### {title}\n\n{markdown(header, rows)}\n"
