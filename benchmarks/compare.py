"""Compare two commits of this repository, in turns: `python benchmarks/compare.py BASE [HEAD] --graphs ... --rounds N`.

Both run the benchmark programs of this checkout, in the interpreter that runs this one; only the package is each
commit's own. A ratio is HEAD over BASE: below 1 is faster.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
RUN: Final = Path(__file__).with_name("run.py")
WORK_TREE: Final = "."
"""In the place of a commit: the files as they are here."""
APART: Final = ("export", "soak")
"""What is no graph of `graphs.py`: a process of its own measures it whole."""
DEFAULT_GRAPHS: Final = "linear,fanout,react10,react100,stream,export,soak"
PROGRAM_TIMEOUT_S: Final = 900


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two commits, checked out."""

    name: str
    checkout: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process import this side's package."""
        # The order of sets, and so of some work, is that of the hashes: one for both.
        return {**os.environ, "MEASURED_CHECKOUT": str(self.checkout), "PYTHONHASHSEED": "0"}

    def run(self, *words: str, **more: str) -> Any:
        """What `run.py` prints last, as JSON, when it is called with these words."""
        done = subprocess.run(
            [sys.executable, str(RUN), *words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**self.environment, **more},
            timeout=PROGRAM_TIMEOUT_S,
        )
        return json.loads(done.stdout.splitlines()[-1])


def git(*words: str) -> str:
    """What git prints in this repository."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def checked_out(commits: list[str]) -> Iterator[list[Side]]:
    """Both commits in folders of their own, which go again; the work tree is measured where it stands."""
    folder = Path(tempfile.mkdtemp(prefix="compare-"))
    made: list[Path] = []
    try:
        sides = []
        for place, commit in enumerate(commits):
            if commit == WORK_TREE:
                sides.append(Side("the work tree", ROOT))
                continue
            tree = folder / f"{place}"
            git("worktree", "add", "--detach", str(tree), commit)
            made.append(tree)
            sides.append(Side(git("show", "-s", "--format=%h %s", commit), tree))
        yield sides
    finally:
        for tree in made:
            git("worktree", "remove", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)


def request_path(sides: list[Side], graphs: list[str], mode: str, reps: int, seed: int) -> dict[str, float]:
    """The ratio of each graph's request path, in fresh processes that take turns.

    Of two equal processes, the one that ran first is slower by some 3 % ever after: each side is first once, and the
    ratio is the geometric mean of both.
    """
    started = [_in_turns(sides, graphs, mode, reps, seed, first) for first in (0, 1)]
    return {graph: statistics.geometric_mean(ratios[graph] for ratios in started) for graph in graphs}


def _in_turns(sides: list[Side], graphs: list[str], mode: str, reps: int, seed: int, first: int) -> dict[str, float]:
    """The ratio of the medians of each graph, in one process of each side."""
    from interleaving import ProcessPerMode

    benches = [ProcessPerMode(side.environment) for side in sides]
    ratios = {}
    for graph in graphs:
        taken: list[list[float]] = [[] for _ in sides]
        for rep in range(reps + 1):
            a, b = (first, 1 - first) if rep % 2 == 0 else (1 - first, first)
            for place in (a, b, b, a):
                # The same texts for both.
                sample = benches[place].sample(graph, mode, seed + rep)
                if rep:
                    taken[place].append(sample.cpu_s)
        old, new = (statistics.median(cpu) for cpu in taken)
        ratios[graph] = new / old
    for bench in benches:
        bench.close()
    return ratios


def apart(sides: list[Side], measure: Callable[[Side], float]) -> float:
    """The ratio of what processes take that each side has alone; in the order that no drift favours."""
    taken = [0.0, 0.0]
    for place in (0, 1, 1, 0):
        taken[place] += measure(sides[place])
    return taken[1] / taken[0]


def export_cpu_s(side: Side, mode: str, seed: int) -> float:
    """CPU in all of 30 invocations, with their export to SQLite."""
    from stores import Databases

    with tempfile.TemporaryDirectory() as folder:
        return float(side.run("store-worker", mode, "linear", Databases(folder).new(), "30", str(seed))["total_cpu_s"])


def soak_cpu_s(side: Side, mode: str, invocations: int, seed: int) -> float:
    """CPU of the request path over many invocations, every second of which ends badly."""
    from run import HELD_BACK

    points = side.run("soak-worker", mode, "mixed", str(invocations), str(seed), **HELD_BACK)
    return float(sum(point["cpu_s"] for point in points))


def table(ratios: dict[str, list[float]]) -> str:
    """A row for each graph: the median of its rounds, the least and the most."""
    from interleaving import markdown

    rows = [
        [name, f"{statistics.median(found):.3f}", f"{min(found):.3f}", f"{max(found):.3f}"]
        for name, found in ratios.items()
    ]
    return markdown(["CPU, HEAD / BASE", "median", "min", "max"], rows)


def main(
    base: Annotated[str, typer.Argument(help="A commit.")],
    head: Annotated[str, typer.Argument(help="A commit, or `.` for the files as they are.")] = WORK_TREE,
    graphs: Annotated[str, typer.Option(help="Comma-separated.")] = DEFAULT_GRAPHS,
    mode: Annotated[str, typer.Option(help="A policy of `modes.py`.")] = "standard",
    rounds: Annotated[int, typer.Option(help="Fresh processes of each commit.")] = 5,
    reps: Annotated[int, typer.Option(help="Four times as many runs of a graph in each round.")] = 4,
    invocations: Annotated[int, typer.Option(help="Of the soak.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the texts.")] = 1,
) -> None:
    """Print, for each graph, the CPU of HEAD over that of BASE: the median of the rounds, the least and the most."""
    from run import FIXED, chosen, heading

    os.environ.update(FIXED)
    from graphs import GRAPHS
    from modes import POLICIES

    names = chosen(graphs, {**GRAPHS, **dict.fromkeys(APART)}, "graph")
    chosen(mode, POLICIES, "mode")
    with checked_out([base, head]) as sides:
        print(f"{heading()}- BASE {sides[0].name}; HEAD {sides[1].name}; mode `{mode}`, {rounds} rounds\n", flush=True)
        ratios: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            taken = {}
            if paths := [name for name in names if name not in APART]:
                taken = request_path(sides, paths, mode, reps, seed + 1_000 * number)
            if "export" in names:
                taken["export"] = apart(sides, partial(export_cpu_s, mode=mode, seed=seed + number))
            if "soak" in names:
                taken["soak"] = apart(
                    sides, partial(soak_cpu_s, mode=mode, invocations=invocations, seed=seed + number)
                )
            for name, found in taken.items():
                ratios[name].append(found)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        print(table(ratios))


if __name__ == "__main__":
    typer.run(main)
