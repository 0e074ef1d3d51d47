"""Modes in turn, rep by rep, and the table that comes of it."""

from __future__ import annotations

import gc
import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import graphs
import modes
from sink import CountingStore, counting_store
from texts import Texts

EXPORT_TIMEOUT_S: Final = 30.0
BASELINE: Final = "autolog"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one graph in one mode."""

    cpu_s: float
    """CPU of the whole process, all threads, from the call to its return; no export in it."""
    wall_s: float
    export_cpu_s: float
    """CPU from then until the last trace is with the store."""
    spans: int
    bytes: int
    """Of all traces of the run."""
    lost: int
    """Traces that did not arrive."""


class Bench(Protocol):
    """Where a sample is taken."""

    def sample(self, graph: str, mode: str, seed: int) -> Sample:
        """Run once with texts of this seed."""
        ...


class OneProcess:
    """All modes in this process, switched on and off between runs: the ratios see the same machine, caches and heap."""

    def __init__(self) -> None:
        self._store: CountingStore = counting_store()
        self._prepare: dict[str, graphs.Prepare] = {}

    def sample(self, graph: str, mode: str, seed: int) -> Sample:
        """Run once with texts of this seed."""
        from mlflow.tracing import get_bridged_tracer_provider

        if graph not in self._prepare:
            self._prepare[graph] = graphs.GRAPHS[graph].build()
        traces = graphs.GRAPHS[graph].traces if modes.MODES[mode].traced else 0
        peer = made() if (made := modes.MODES[mode].peer) else None
        run = self._prepare[graph](Texts(seed))
        with modes.MODES[mode].open() as callbacks:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            run(callbacks)
            cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
            if traces:
                get_bridged_tracer_provider().force_flush()
            if peer:
                peer.flush()
            arrived = self._store.take(traces, EXPORT_TIMEOUT_S)
            export_cpu_s = time.process_time() - cpu - cpu_s
        spans, size = peer.take() if peer else (len(arrived.spans), arrived.exported_bytes())
        return Sample(
            cpu_s=cpu_s,
            wall_s=wall_s,
            export_cpu_s=export_cpu_s,
            spans=spans,
            bytes=size,
            lost=traces - len(arrived.traces),
        )


class ProcessPerMode:
    """A process for each mode, one working at a time: no mode can leave anything behind for another."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._environment = environment

    def sample(self, graph: str, mode: str, seed: int) -> Sample:
        """Have the mode's process run once with texts of this seed."""
        if mode not in self._workers:
            command = [sys.executable, str(Path(__file__).with_name("run.py")), "worker"]
            self._workers[mode] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
            )
        worker = self._workers[mode]
        assert worker.stdin
        assert worker.stdout
        print(graph, mode, seed, file=worker.stdin, flush=True)
        if not (answer := worker.stdout.readline()):
            raise RuntimeError(f"the process of mode {mode!r} ended")
        return Sample(**json.loads(answer))

    def close(self) -> None:
        """Let the processes end."""
        for worker in self._workers.values():
            if worker.stdin:
                worker.stdin.close()
            worker.wait(timeout=60)


def work() -> None:
    """The other end of `ProcessPerMode`: a line asks for a sample, a line of JSON answers."""
    bench, settled = OneProcess(), set[str]()
    for line in sys.stdin:
        graph, mode, seed = line.split()
        print(json.dumps(asdict(bench.sample(graph, mode, int(seed)))), flush=True)
        if graph not in settled:
            settled.add(graph)
            _settle()


def _settle() -> None:
    """Spare each later collection the modules and whatever else the warm-up left: it is made before every run."""
    gc.collect()
    gc.freeze()


def interleave(bench: Bench, graph: str, mode_names: list[str], reps: int, seed: int) -> dict[str, list[Sample]]:
    """Each rep runs every mode once, in an order of its own; one rep before them warms up and is not kept."""
    order = random.Random(seed)
    samples: dict[str, list[Sample]] = {mode: [] for mode in mode_names}
    for rep in range(reps + 1):
        turn = order.sample(mode_names, len(mode_names))
        for place, mode in enumerate(turn):
            sample = bench.sample(graph, mode, seed + rep * 1_000 + place)
            if rep:
                samples[mode].append(sample)
        if not rep:
            _settle()
    return samples


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(mine: list[float], base: list[float]) -> str:
    """Median and quartiles of the ratios of the runs of the same rep."""
    low, middle, high = quartiles([m / b for m, b in zip(mine, base, strict=True) if b])
    return f"{middle:.2f} [{low:.2f} {high:.2f}]"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def table(samples: dict[str, list[Sample]], traces: int) -> str:
    """One graph's comparison; CPU and wall are those of the request path."""
    header = ["mode", "CPU ms", f"CPU / {BASELINE}", f"wall / {BASELINE}", "CPU / bare", "export CPU ms", "spans"]
    header += ["KB a trace", f"bytes / {BASELINE}", "bytes a span", "lost"]
    base, bare = samples.get(BASELINE), samples.get("bare")
    base_bytes = statistics.median(run.bytes for run in base) if base else 0
    rows = []
    for mode, runs in samples.items():
        cpu = [run.cpu_s for run in runs]
        spans, size = statistics.median(run.spans for run in runs), statistics.median(run.bytes for run in runs)
        rows.append(
            [
                mode,
                f"{statistics.median(cpu) * 1e3:.1f}",
                ratio(cpu, [run.cpu_s for run in base]) if base else "",
                ratio([run.wall_s for run in runs], [run.wall_s for run in base]) if base else "",
                ratio(cpu, [run.cpu_s for run in bare]) if bare else "",
                f"{statistics.median(run.export_cpu_s for run in runs) * 1e3:.1f}",
                f"{spans / traces:.0f}",
                f"{size / traces / 1e3:.1f}",
                f"{size / base_bytes:.1%}" if base_bytes and size else "",
                f"{size / spans:.0f}" if spans else "",
                str(sum(run.lost for run in runs)),
            ]
        )
    return markdown(header, rows)
