"""One SQLite store a module and one collector a session; texts that occur nowhere else keep the tests apart."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics

# Read once, when MLflow is imported or makes its first span.
os.environ["MLFLOW_MODEL_CATALOG_URI"] = ""
os.environ["MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS"] = "50"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

with warnings.catch_warnings():
    # MLflow 3.17 warns of type hints of its own when this is imported first.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    import mlflow.langchain.langchain_tracer  # noqa: F401

from leaks import Collector, Sinks, flush

if TYPE_CHECKING:
    from collections.abc import Iterator


THIRD_PARTY_WARNINGS = (
    # MLflow 3.17's SQL store uses a loader that SQLAlchemy 2.1 deprecates.
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning",
)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            for line in THIRD_PARTY_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    meters: Any = metrics.get_meter_provider()
    if hasattr(meters, "shutdown"):
        # Else it tries for seconds, at exit, to reach a collector that is gone.
        meters.shutdown()
    collector.close()


@pytest.fixture(scope="module")
def store(template_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and artifacts of its own."""
    import mlflow

    folder = tmp_path_factory.mktemp("store")
    shutil.copy(template_store, folder / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    # Created here, not copied, so that its artifacts go to this folder.
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("here", artifact_location=f"{folder}/artifacts"))
    return folder


@pytest.fixture(scope="module")
def sinks(store: Path, collector: Collector) -> Iterator[Sinks]:
    """SQLite, artifacts, and spans and metrics by OTLP, all at once."""
    import mlflow

    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT": "true",
        # MLflow's export threads sleep for one to three seconds whenever they are flushed.
        "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
    }
    from langchain_mlflow_cost.limits import replaced

    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        mlflow.tracing.reset()
        collector.clear()
        # On a busy machine, too, all of it is there when a test looks.
        with replaced(sync_export_wait_s=60.0):
            yield Sinks(store, collector, flush)
        flush()
    mlflow.tracing.reset()
