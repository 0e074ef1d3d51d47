"""Calls through the handler without a trace of them: what they cost does not depend on one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def untraced(clean_mlflow: None, template_store: Path) -> Iterator[None]:
    """MLflow's tracing switched off: the handler counts all the same, and writes to no store.

    Switching it on again opens the store: one that all tests share, and not what stands in the current folder.
    """
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{template_store}")
    mlflow.tracing.disable()
    yield
    mlflow.tracing.enable()
