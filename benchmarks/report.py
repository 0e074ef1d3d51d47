"""How long a report takes over a large store: `python benchmarks/report.py --traces 100000 --spans 10`.

One real trace is copied row by row under new ids, in MLflow's own SQLite tables, so that what is read is what MLflow
wrote. Prints the seconds and the most memory of a fresh process for each report.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

ROOT: Final = Path(__file__).resolve().parents[1]
REPORTS: Final = ("node", "model", "day,model", "session", "tag:tenant")


def main(
    traces: Annotated[int, typer.Option(help="In the store.")] = 100_000,
    spans: Annotated[int, typer.Option(help="Of each trace, half of them model calls.")] = 10,
    chars: Annotated[int, typer.Option(help="Of each payload.")] = 300,
) -> None:
    """Fill a store, then run each report in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/mlflow.db"
        started = time.perf_counter()
        fill(place, traces, spans, chars)
        size_mb = Path(place).stat().st_size / 1e6
        made = f"made in {time.perf_counter() - started:.0f} s"
        print(f"{traces:,} traces, {traces * spans:,} spans, {size_mb:,.0f} MB, {made}\n")
        print("| report | seconds | most memory, MB | groups |\n| --- | --- | --- | --- |")
        for by in REPORTS:
            told = run(place, by)
            print(f"| {by} | {told['seconds']:.1f} | {told['megabytes']:.0f} | {told['groups']:,} |", flush=True)


def run(place: str, by: str) -> dict[str, Any]:
    """One report in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "worker", place, by],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def worker(place: str, by: str) -> None:
    """What is timed: the question, without imports."""
    from langchain_mlflow_cost.reports.dimensions import dimensions
    from langchain_mlflow_cost.reports.query import Question, Store

    started = time.perf_counter()
    report = Store(f"sqlite:///{place}").report(Question({"0": "Default"}, by=dimensions(by)))
    seconds = time.perf_counter() - started
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "megabytes": megabytes, "groups": len(report.groups)}))


def fill(place: str, traces: int, spans: int, chars: int) -> None:
    """Make the store: one trace by MLflow, the others copies of its rows."""
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    import mlflow
    from fake_models import FakeChat
    from langgraph.graph import START, MessagesState, StateGraph

    from langchain_mlflow_cost import MlflowCostHandler

    mlflow.set_tracking_uri(f"sqlite:///{place}")
    model = FakeChat(answers=["x" * chars])

    def work(state: MessagesState) -> Any:
        return {"messages": [model.invoke([*state["messages"][:1], ("user", "y" * chars)])]}

    builder: Any = StateGraph(MessagesState)
    above = START
    for number in range((spans - 1) // 2):
        builder.add_node(f"node {number}", work)
        builder.add_edge(above, f"node {number}")
        above = f"node {number}"
    config = {
        "callbacks": [MlflowCostHandler({"trace_metadata": ["tenant"]})],
        "metadata": {"tenant": "a"},
        "configurable": {"thread_id": "session"},
    }
    builder.compile().invoke({"messages": [("user", "hello")]}, config)
    trace = mlflow.search_traces(return_type="list")[0].info.trace_id
    base = sqlite3.connect(place)
    base.execute("PRAGMA synchronous = OFF")
    for table, key in (
        ("trace_info", "request_id"),
        ("trace_tags", "request_id"),
        ("trace_request_metadata", "request_id"),
        ("spans", "trace_id"),
    ):
        columns = [row[1] for row in base.execute(f"PRAGMA table_xinfo({table})") if not row[6]]
        rows = base.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {key} = ?", (trace,)).fetchall()
        at = columns.index(key)
        time_at = columns.index("timestamp_ms") if "timestamp_ms" in columns else None

        def copies(rows: Any = rows, at: int = at, time_at: int | None = time_at) -> Any:
            for number in range(traces - 1):
                for row in rows:
                    copy = list(row)
                    copy[at] = f"tr-{number:032x}"
                    if time_at is not None:
                        copy[time_at] -= number * 60_000
                    yield copy

        marks = ", ".join("?" * len(columns))
        base.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", copies())
    base.commit()
    base.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(*sys.argv[2:])
    else:
        typer.run(main)
