"""Each test starts from an MLflow without a past, and must leave no run open and no span active."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from langchain_mlflow_cost.tracing.runs import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_left(clean_mlflow: None) -> Iterator[None]:
    """A run left open is memory lost; a span left active draws the next invocation into a dead trace."""
    yield
    left, active = sorted(run.name for run in RUNS.open_runs()), mlflow.get_current_active_span()
    for run in RUNS.open_runs():
        RUNS.remove(run)

    assert left == []
    assert active is None
