"""Calls through the handler without a trace of them: what they cost does not depend on one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def untraced(clean_mlflow: None) -> Iterator[None]:
    """MLflow's tracing switched off: the handler counts all the same, and no store is needed."""
    import mlflow

    mlflow.tracing.disable()
    yield
    mlflow.tracing.enable()
