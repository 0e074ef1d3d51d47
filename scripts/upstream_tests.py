"""Run langchain-core's and langgraph's own unit tests with and without the handler in every config: what newly fails?

The tests are those of the source archives on PyPI, at the versions that are installed. What they need beside that is
installed into the work folder, at the versions that are here, so that nothing else changes. Exit status 1 if a test
fails with the handler, and again when it is run once more, which does not fail without it.

    python scripts/upstream_tests.py [--suite langgraph] [--workers 2] [--work FOLDER] [-- pytest's own arguments]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[1]

PLUGIN = """
from contextvars import ContextVar

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.context import register_configure_hook


class Nobody(BaseCallbackHandler):
    run_inline = False


def handler():
    if not {handler}:
        return Nobody()
    from langchain_mlflow_cost import MlflowCostHandler

    return MlflowCostHandler({{"autolog_enabled": False}})


listener = handler()
register_configure_hook(ContextVar("handler_in_every_config", default=listener), inheritable=True)
RunnableLambda(len).invoke("warm", {{"callbacks": [listener]}})
"""
"""A pytest plugin: a hook of `_configure` puts a handler among the inheritable ones of every callback manager.

Where it is not ours, it is one that does nothing: some tests count the handlers. Autolog stays off: a handler that
comes by such a hook comes after autolog's patch of the constructor, which has added its tracer by then. One run goes
before the tests: the first span of a process opens MLflow's store, for a second or more, and some look at the clock.
"""


@dataclass(frozen=True)
class Suite:
    """One project's unit tests."""

    project: str
    folder: str
    """Where they are in the source archive."""
    needs: tuple[str, ...]
    """What they import, beside what is installed for our own tests."""
    clocked: tuple[str, ...] = ()
    """Files that hold bounds on the time of a wall clock, which fail on a busy machine, whoever listens."""


COMMON = ("pytest-asyncio", "pytest-mock", "syrupy")
SUITES = {
    "langchain-core": Suite(
        "langchain-core",
        "tests/unit_tests",
        (
            *COMMON,
            "blockbuster",
            "freezegun",
            "grandalf",
            "langchain-tests",
            "pytest-benchmark",
            "pytest-codspeed",
            "pytest-socket",
            "responses",
        ),
        (
            "tests/unit_tests/language_models/chat_models/test_benchmark.py",
            "tests/unit_tests/language_models/chat_models/test_rate_limiting.py",
        ),
    ),
    "langgraph": Suite(
        "langgraph",
        "tests",
        (
            *COMMON,
            "langgraph-checkpoint-postgres",
            "langgraph-checkpoint-sqlite",
            "psycopg[binary]",
            "pycryptodome",
            "pytest-repeat",
            "redis",
            "uvloop",
        ),
    ),
}


@dataclass
class Outcome:
    """How one run of a suite ended."""

    passed: set[str]
    failed: set[str]

    def __str__(self) -> str:
        return f"{len(self.passed):,} passed, {len(self.failed):,} failed"


def pip(*arguments: str) -> None:
    """Call pip, quietly."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    subprocess.run(command, check=True)


def fetch_tests(suite: Suite, work: Path) -> Path:
    """The tests of the installed version, in a folder without the code that they test: that is the installed one."""
    wanted = f"{suite.project}=={version(suite.project)}"
    archives = work / "archives"
    pip("download", "--no-deps", "--no-binary", suite.project, "--dest", str(archives), wanted)
    (archive,) = archives.glob(f"{suite.project.replace('-', '_')}-{version(suite.project)}.tar.gz")
    target = work / suite.project
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(target, filter="data")
    (folder,) = target.iterdir()
    for member in folder.iterdir():
        if member.name not in {"tests", "pyproject.toml"}:
            shutil.rmtree(member) if member.is_dir() else member.unlink()
    return folder


def install_needs(suites: list[Suite], work: Path) -> Path:
    """What the suites import, in a folder of its own, with everything else held at the version that is here."""
    target, held = work / "needs", work / "held.txt"
    if not target.is_dir():
        lines = {f"{found.metadata['Name']}=={found.version}" for found in distributions()}
        held.write_text("\n".join(sorted(line for line in lines if not line.startswith("langchain-mlflow-cost"))))
        needs = sorted({need for suite in suites for need in suite.needs})
        pip("install", "--target", str(target), "--constraint", str(held), *needs)
    return target


def run(suite: Suite, folder: Path, needs: Path, options: list[str], *, handler: bool) -> Outcome:
    """Run a suite once."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        (Path(scratch) / "handler_in_every_config.py").write_text(PLUGIN.format(handler=handler))
        path = [scratch, str(ROOT), str(needs), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "DO_NOT_TRACK": "true",
            "LANGSMITH_TRACING": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_MODEL_CATALOG_URI": "",
            "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db",
            "NO_DOCKER": "true",
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        }
        command = [sys.executable, "-m", "pytest", suite.folder, f"--junitxml={report}", "-q", "--timeout=120"]
        command += [
            "-p",
            "no:cacheprovider",
            "-p",
            "handler_in_every_config",
            *(f"--ignore={file}" for file in suite.clocked),
        ]
        done = subprocess.run(
            [*command, *options], cwd=folder, env=environment, check=False, capture_output=True, text=True
        )
        if not report.exists():
            sys.stderr.write(done.stdout[-4_000:] + done.stderr[-4_000:])
            raise SystemExit(f"pytest did not run: status {done.returncode}")
        outcome = Outcome(set(), set())
        for case in ET.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                outcome.failed.add(name)
            elif case.find("skipped") is None:
                outcome.passed.add(name)
        return Outcome(outcome.passed - outcome.failed, outcome.failed)


def compare(suite: Suite, work: Path, needs: Path, options: list[str]) -> set[str]:
    """The tests that fail with the handler and pass without it, in two runs each."""
    folder = fetch_tests(suite, work)
    without = run(suite, folder, needs, options, handler=False)
    print(f"{suite.project} {version(suite.project)} without the handler: {without}", flush=True)
    beside = run(suite, folder, needs, options, handler=True)
    print(f"{suite.project} {version(suite.project)} with the handler: {beside}", flush=True)
    missing = without.passed - beside.passed - beside.failed
    newly = (beside.failed - without.failed) | missing
    if newly:
        # Tests of streams and time-outs fail now and then by themselves.
        names = sorted({name.rpartition("::")[2].partition("[")[0] for name in newly})
        again = [*options, "-k", " or ".join(names)]
        newly &= run(suite, folder, needs, again, handler=True).failed | missing
        newly -= run(suite, folder, needs, again, handler=False).failed
    print(f"{suite.project}: {len(newly)} of {len(without.passed):,} newly fail", flush=True)
    for name in sorted(newly):
        print(f"  {name}")
    return newly


def main() -> int:
    """Compare the suites that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="one of them only")
    parser.add_argument("--workers", default="auto", help="processes at a time, as pytest-xdist counts them")
    parser.add_argument("--work", type=Path, help="a folder to keep archives and what is installed in")
    parser.add_argument("options", nargs="*", help="pytest's own arguments, after `--`")
    told = parser.parse_args()
    suites = [SUITES[name] for name in told.suite or SUITES]
    with tempfile.TemporaryDirectory() as scratch:
        work = told.work.resolve() if told.work else Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        needs = install_needs(list(SUITES.values()), work)
        options = ["-n", told.workers, *told.options]
        newly = [name for suite in suites for name in compare(suite, work, needs, options)]
    return 1 if newly else 0


if __name__ == "__main__":
    sys.exit(main())
