"""Tests with the real clients of all providers, in the environment that `scripts/clients_env.sh` makes.

One that is not importable is skipped: the other environment has those of OpenAI and Anthropic alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# litellm fetches a price list when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
sys.path.insert(0, str(Path(__file__).parents[1] / "prices"))

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def untraced(clean_mlflow: None, template_store: Path) -> Iterator[None]:
    """MLflow's tracing switched off: the handler counts all the same, and writes to no store (see `prices/conftest.py`)."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{template_store}")
    mlflow.tracing.disable()
    yield
    mlflow.tracing.enable()
