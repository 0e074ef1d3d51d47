"""Time and bytes against size: one kind of graph, doubled and doubled again."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import graphs
from interleaving import OneProcess, Sample, interleave, markdown, quartiles

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Family:
    """Graphs that differ in one size. To add one: a row in FAMILIES."""

    build: Callable[[int], graphs.Prepare]
    sizes: tuple[int, ...]
    about: str
    concurrent: bool = False
    """Whether the size is the number of invocations at once."""


FAMILIES: Final[dict[str, Family]] = {
    "nodes": Family(graphs.linear, (5, 10, 20, 40), "model nodes in a row, growing list"),
    "spans": Family(graphs.fanout, (25, 50, 100, 200), "workers of a fan-out"),
    "messages": Family(
        lambda size: graphs.react(size * 1_000, calls=5), (4, 16, 64, 256), "KB a tool result, 5 tool calls"
    ),
    "tokens": Family(graphs.stream, (500, 1_000, 2_000, 4_000), "tokens of a stream"),
    "rows": Family(graphs.rows, (1_000, 4_000, 16_000, 64_000), "short texts in a state that 5 nodes pass on"),
    "tasks": Family(graphs.concurrent, (10, 20, 40, 80), "concurrent `ainvoke`", concurrent=True),
    "threads": Family(
        lambda size: graphs.threaded(size, workers=size), (10, 20, 40, 80), "`invoke` in threads", concurrent=True
    ),
}


def _exponent(xs: list[float], ys: list[float]) -> str:
    """Slope of log y against log x: 1 is linear, 2 quadratic; nothing where x does not grow."""
    if not all(xs) or max(xs) < 2 * min(xs):
        return ""
    return f"{statistics.linear_regression([math.log(x) for x in xs], [math.log(y) for y in ys]).slope:.2f}"


def compare_growth(family_name: str, mode_names: list[str], reps: int, seed: int) -> str:
    """A table with CPU and bytes at each size, and the exponents of CPU against bytes and spans."""
    family = FAMILIES[family_name]
    samples: dict[str, list[list[Sample]]] = {mode: [] for mode in mode_names}
    bench = OneProcess()
    for size in family.sizes:
        name = f"{family_name}-{size}"
        graphs.GRAPHS[name] = graphs.Graph(
            lambda size=size: family.build(size),  # type: ignore[misc]
            family.about,
            traces=size if family.concurrent else 1,
        )
        for mode, runs in interleave(bench, name, mode_names, reps, seed).items():
            samples[mode].append(runs)
    rows = []
    for mode, by_size in samples.items():
        cpu = [quartiles([run.cpu_s for run in runs])[1] for runs in by_size]
        size_kb = [statistics.median(run.bytes for run in runs) / 1e3 for runs in by_size]
        sizes = [float(size) for size in family.sizes]
        rows.append(
            [
                mode,
                " / ".join(f"{value * 1e3:.0f}" for value in cpu),
                " / ".join(f"{value:.0f}" for value in size_kb),
                _exponent(sizes, cpu),
                _exponent(sizes, size_kb) if all(size_kb) else "",
                _exponent(size_kb, cpu),
            ]
        )
    header = ["mode", "CPU ms", "KB exported", "CPU ~ size^", "bytes ~ size^", "CPU ~ bytes^"]
    sizes_text = " / ".join(str(size) for size in family.sizes)
    return f"### growth of {family_name}: {sizes_text} {family.about}\n\n{markdown(header, rows)}\n"
