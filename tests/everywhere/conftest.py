"""Each test has a process in which nothing is governed, and a model server that the applications ask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from app_server import app_server

from langchain_mlflow_cost import configure
from langchain_mlflow_cost.everywhere import govern_no_more

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_mlflow_cost import MlflowCostHandler
    from langchain_mlflow_cost.demo.provider import ProviderServer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `configure` sets is put back."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_ASYNC", "MLFLOW_ENABLE_ASYNC")):
            monkeypatch.setenv(name, os.environ[name])


@pytest.fixture
def everywhere(environment: None, store: str) -> Iterator[Callable[..., MlflowCostHandler]]:
    """Governs the process until the test ends."""

    def govern(policy: Any = None, **options: Any) -> MlflowCostHandler:
        return configure({"experiment_name": "tests", **(policy or {})}, everywhere=True, **options)

    yield govern
    govern_no_more()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    with app_server() as started:
        monkeypatch.setenv("OPENAI_BASE_URL", started.openai_base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield started


@pytest.fixture
def autologs_off() -> Iterator[None]:
    """Takes back what an application switches on."""
    yield
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS
    from mlflow.utils.autologging_utils.safety import revert_patches

    revert_patches("openai")
    AUTOLOGGING_INTEGRATIONS.pop("openai", None)
