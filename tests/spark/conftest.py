"""A Spark of one machine, where there is one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def why_not() -> str | None:
    """Why Spark cannot run here; None where it can."""
    if importlib.util.find_spec("pyspark") is None:
        return 'needs pyspark: pip install "langchain-mlflow-cost[spark]"'
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        return "needs Java 17 (openjdk-17-jre-headless)"
    return None


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A session on two cores of this machine."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    # Spark's workers are to be the Python of the tests, and find what the tests find.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "3")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    try:
        yield session
    finally:
        session.stop()
