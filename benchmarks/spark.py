"""How many spans a second Spark reads on this machine: `python benchmarks/spark.py --traces 1000,8000 --cores 1,2`.

One real trace is copied row by row under new ids, as in `benchmarks/report.py`, and written as Parquet files. Each
question is asked twice in a fresh process for each number of cores, and the second time counts: the first one starts
Spark's workers. `one machine` is the code that the commands run, in one process, over the same traces.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from report import fill

ROOT: Final = Path(__file__).resolve().parents[1]
POLICY: Final[dict[str, Any]] = {
    "redact_pii": True,
    "prices": {"overrides": {"gpt-4o-mini": {"input": "1", "output": "4"}}},
}
ASKED: Final = ("scan", "redact", "reprice", "sum_up")
SPANS: Final = 10


def main(
    traces: Annotated[str, typer.Option(help="In the store, several with commas.")] = "1000,8000",
    cores: Annotated[str, typer.Option(help="Of Spark, several with commas.")] = "1,2",
    chars: Annotated[int, typer.Option(help="Of each payload.")] = 1_000,
) -> None:
    """Fill stores, then ask each question in processes of their own."""
    print(
        "| question | spans | one machine | "
        + " | ".join(f"Spark, {each} core{'s' * (each != '1')}" for each in cores.split(","))
        + " |"
    )
    print("| --- | --- | --- |" + " --- |" * len(cores.split(",")))
    for count in map(int, traces.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            fill(f"{folder}/mlflow.db", count, SPANS, chars)
            tell_apart(f"{folder}/mlflow.db")
            as_parquet(folder)
            told = [run(folder, each) for each in ("0", *cores.split(","))]
            for question in ASKED:
                rates = (f"{count * SPANS / each[question]:,.0f}" for each in told)
                print(f"| `{question}` | {count * SPANS:,} | {' | '.join(rates)} |", flush=True)


def tell_apart(place: str) -> None:
    """Give each trace texts of its own: what has been redacted once is remembered."""
    base = sqlite3.connect(place)
    base.execute("PRAGMA synchronous = OFF")
    for filling in "xy":
        words = "'parcel ' || substr(trace_id, -8) || ' is late. '"
        base.execute(f"UPDATE spans SET content = replace(content, '{filling * 25}', {words})")
    base.commit()
    base.close()


def as_parquet(folder: str) -> None:
    """Write the tables of a store as files of some thousand rows."""
    import pandas as pd
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{folder}/mlflow.db")
    for table in ("spans", "trace_info", "trace_tags", "trace_request_metadata"):
        Path(folder, table).mkdir()
        for number, rows in enumerate(pd.read_sql_table(table, engine, chunksize=20_000)):
            # What has no value in any row would be of no type.
            rows.dropna(axis="columns", how="all").to_parquet(f"{folder}/{table}/{number}.parquet")
    engine.dispose()


def run(folder: str, cores: str) -> dict[str, float]:
    """All questions in a fresh process; without cores, without Spark."""
    done = subprocess.run(
        [sys.executable, __file__, "worker", folder, cores],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def worker(folder: str, cores: int) -> None:
    """What is timed: questions, without imports and the start of Spark's workers."""
    print(json.dumps(in_spark(folder, cores) if cores else alone(folder)))


def in_spark(folder: str, cores: int) -> dict[str, float]:
    """Spark's own sink takes the rows and keeps none."""
    from pyspark.sql import SparkSession

    from langchain_mlflow_cost import spark as asked

    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", str(4 * cores))
        .config("spark.driver.memory", "4g")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    tables = asked.Tables(
        *(session.read.parquet(f"{folder}/{name}") for name in ("spans", "trace_info", "trace_tags")),
        metadata=session.read.parquet(f"{folder}/trace_request_metadata"),
    )
    questions = {
        "scan": lambda: asked.scan(tables, POLICY),
        "redact": lambda: asked.redact(tables, POLICY),
        "reprice": lambda: asked.reprice(tables, POLICY, all_calls=True),
        "sum_up": lambda: asked.sum_up(tables, "day,model"),
    }
    told = {}
    for name, question in questions.items():
        for _ in range(2):
            started = time.perf_counter()
            found = question()
            frame = found.spans if isinstance(found, asked.Tables) else found
            frame.write.format("noop").mode("overwrite").save()
            told[name] = time.perf_counter() - started
    session.stop()
    return told


def alone(folder: str) -> dict[str, float]:
    """The same, trace by trace, read from MLflow's SQLite file; nothing is written."""
    from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.reports.dimensions import dimensions
    from langchain_mlflow_cost.reports.plain_traces import PlainInfo, plain_trace
    from langchain_mlflow_cost.reports.query import Question, Store
    from langchain_mlflow_cost.reports.reprice import Prices, correction_of
    from langchain_mlflow_cost.reports.whole_traces import whole_traces
    from langchain_mlflow_cost.tracing.stored_trace import Beside, StoredPolicy

    uri, told = f"sqlite:///{folder}/mlflow.db", {}
    policy = Policy(**POLICY)
    stored, prices = StoredPolicy(policy), Prices(policy.price_book(catalogue_rates), only_unpriced=False)
    started = time.perf_counter()
    for trace in whole_traces(uri, ["0"]):
        stored.clean(trace.spans, Beside(trace.fields, trace.tags, trace.metadata, trace.assessments))
    # One machine finds and cleans in one.
    told["scan"] = told["redact"] = time.perf_counter() - started
    started = time.perf_counter()
    for trace in whole_traces(uri, ["0"]):
        info = PlainInfo(trace.trace_id, "0", trace.timestamp_ms, "OK", trace.metadata, trace.tags)
        correction_of(plain_trace(info, trace.spans), prices)
    told["reprice"] = time.perf_counter() - started
    started = time.perf_counter()
    Store(uri).report(Question({"0": "Default"}, by=dimensions("day,model")))
    told["sum_up"] = time.perf_counter() - started
    return told


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], int(sys.argv[3]))
    else:
        typer.run(main)
