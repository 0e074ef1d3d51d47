"""What every test through the front door needs: an MLflow store of its own and an MLflow without a past.

Nothing here acts by itself but the order of the folders, when garbage is looked for, and a watch over the folder where the
tests were started: a folder that wants more asks for it.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import logging
import os
import shutil
import sqlite3
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Read once, when MLflow is imported or makes its first span.
os.environ["MLFLOW_MODEL_CATALOG_URI"] = ""
os.environ["MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS"] = "50"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

HERE = Path(__file__).parent
PURE = ("house", "policy", "prices", "redaction", "budget")
"""Folders that need neither a graph nor a store: they run first, and so fail within the first minute."""

EXPERIMENT = "tests"
PATIENT = {"sync_export_wait_s": 60.0}
"""Where MLflow stores each span before it goes on, a test on a busy machine finds all of them, however long that takes."""

THIRD_PARTY_WARNINGS = (
    # MLflow 3.17 loads its own relations with a strategy that SQLAlchemy 2.1 deprecates.
    "The ``noload`` loader strategy is deprecated",
    # MLflow 3.17 warns, in colour, of its own functions' annotations when `mlflow.pyfunc` is imported.
    r"\x1b\[1;33mAny type hint is inferred as AnyType",
)

for _known in THIRD_PARTY_WARNINGS:
    # The folders' own conftest files are imported before `pytest_configure`.
    warnings.filterwarnings("ignore", message=_known)


def pytest_configure(config: pytest.Config) -> None:
    """Let through, by their text, what the dependencies warn of; added to `error` in pyproject."""
    for known in THIRD_PARTY_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{known}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto` is one more than there are cores: an eighth of the time tests wait, for a store, a time-out, a process."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (os.cpu_count() or 1) + 1


def switch_autolog_off() -> None:
    """As if `mlflow.langchain.autolog()` had never been called in this process."""
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS
    from mlflow.utils.autologging_utils.safety import revert_patches

    revert_patches("langchain")
    AUTOLOGGING_INTEGRATIONS.pop("langchain", None)


def forget_mlflow_state() -> None:
    """Bring MLflow's globals back to what they are in a new process, and ours that tests could see of one another."""
    import mlflow
    from mlflow.tracing import provider
    from mlflow.tracking import fluent

    from langchain_mlflow_cost import switched
    from langchain_mlflow_cost.budgets.answers import ANSWERS

    ANSWERS.clear()
    switched.forget()
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.flush_trace_async_logging()
    switch_autolog_off()
    mlflow.tracing.configure(span_processors=[])
    mlflow.tracing.reset()
    fluent._active_experiment_id = None
    # `set_experiment` leaves it to the programs that this one starts.
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    mlflow.set_tracking_uri(None)
    # A test may leave a span active on purpose; the next one must not join its trace.
    from opentelemetry.context import Context

    provider.get_context_api().attach(Context())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage among what the tests make, not among the modules and the tests themselves, over and over.

    They are a million objects that stay until the end: it was a third of the time of collecting, and a tenth of the tests'.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the night what a test's covering sample leaves out, and put the pure folders first.

    With `--dist worksteal` one worker begins with them and the other in the middle.
    """
    for item in items:
        sample = item.get_closest_marker("sampled")
        if sample is not None and not sample.kwargs["is_in"](**item.callspec.params):  # type: ignore[attr-defined]
            item.add_marker("nightly")
    items.sort(key=lambda item: not any(HERE / folder in item.path.parents for folder in PURE))


LEFT_BEHIND = [folder / name for folder in {HERE.parent, Path.cwd()} for name in ("mlflow.db", "mlruns", "mlartifacts")]
"""Where MLflow writes what it has no other place for."""
_known_to_be_left = {path for path in LEFT_BEHIND if path.exists()}


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail where a test, or one that ran beside it in another worker, wrote into the user's folder."""
    yield
    left = [path for path in LEFT_BEHIND if path not in _known_to_be_left and path.exists()]
    _known_to_be_left.update(left)
    if left:
        pytest.fail(f"{item.nodeid}, or a test beside it, left {', '.join(map(str, left))}", pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out: workers do not tell."""
    if config.option.markexpr == "not nightly":
        terminalreporter.write_line("Left to .ci/nightly: the tests that are marked so, see docs/testing.md")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run of the tests have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def template_store(run_folder: Path) -> Path:
    """A database with MLflow's tables, and one experiment: making them takes seconds, so that one worker does it."""
    _spare_the_disk()
    _compile_once()
    _read_the_migrations_once()
    path = run_folder / "template" / "mlflow.db"
    with (run_folder / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make_store(path)
    return path


def _make_store(path: Path) -> None:
    import mlflow

    making = path.parent / "making.db"
    making.parent.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(f"sqlite:///{making}")
        mlflow.create_experiment(EXPERIMENT, artifact_location=str(path.parent / "artifacts"))
        mlflow.set_tracking_uri(None)
    making.rename(path)


def _spare_the_disk() -> None:
    """Let SQLite not wait for the disk at each commit: no test is about a loss of power, and half of the time was this."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def connected(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", connected)


def _compile_once() -> None:
    """Let all SQLite databases have one dialect and one cache of compiled statements.

    Each test has a database of its own, hence an engine, and each engine wrote MLflow's statements in SQL anew: a third of
    the time of storing a trace of three spans.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Dialect, Engine

    compiled: dict[Any, Any] = {}
    dialects: dict[str, Dialect] = {}

    def connected(connection: Connection) -> None:
        engine = connection.engine
        if engine.dialect.name == "sqlite" and "compiled_cache" not in engine.get_execution_options():
            engine.dialect = dialects.setdefault("sqlite", engine.dialect)
            engine.update_execution_options(compiled_cache=compiled)

    event.listen(Engine, "engine_connect", connected)


def _read_the_migrations_once() -> None:
    """MLflow reads all its migrations for each database that it opens, to know the latest one: they stay the same."""
    from mlflow.store.db import utils

    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)


@pytest.fixture(scope="session")
def fresh_store(
    template_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], AbstractContextManager[str]]:
    """Opens a database for what several tests look at and one run records; MLflow has no past before or after."""
    from langchain_mlflow_cost.limits import replaced

    @contextmanager
    def opened() -> Iterator[str]:
        path = tmp_path_factory.mktemp("recorded") / "mlflow.db"
        shutil.copy(template_store, path)
        forget_mlflow_state()
        with pytest.MonkeyPatch.context() as patch, replaced(**PATIENT):
            patch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
            yield _use(f"sqlite:///{path}")
        forget_mlflow_state()

    return opened


@pytest.fixture
def clean_mlflow() -> Iterator[None]:
    """An MLflow without a past, and none left behind."""
    forget_mlflow_state()
    yield
    forget_mlflow_state()


@pytest.fixture
def store_uri(template_store: Path, tmp_path: Path) -> str:
    """A database of the test's own, which MLflow is not told of."""
    shutil.copy(template_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def store(clean_mlflow: None, store_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of the test's own, in which MLflow stores each span before it goes on.

    This is for speed alone: its export threads, which are the default, sleep for one to three seconds whenever they are
    flushed. `exported_in_threads` has them, and one test of each kind at least uses it (`core/test_exported_in_threads.py`).
    """
    from langchain_mlflow_cost.limits import replaced

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    with replaced(**PATIENT):
        yield _use(store_uri)


@pytest.fixture
def exported_in_threads(clean_mlflow: None, store_uri: str) -> str:
    """A database of the test's own, in which MLflow stores spans in its own time, as it does by default."""
    return _use(store_uri)


def _use(store_uri: str) -> str:
    import mlflow

    mlflow.set_tracking_uri(store_uri)
    mlflow.set_experiment(EXPERIMENT)
    return store_uri
