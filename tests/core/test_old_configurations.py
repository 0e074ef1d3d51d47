"""Every real configuration file stores what it meant to: a graph runs under it, and its trace is there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pytest
from fake_models import FakeChat
from stored_traces import forget_stores, only_trace
from ways import ASK, given, one_node

from langchain_mlflow_cost import configure, cost_summary

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGS = Path(__file__).parents[3] / "shared" / "configs"
FILES = sorted(str(file.relative_to(CONFIGS)) for file in CONFIGS.glob("*/*.yaml"))


@pytest.fixture
def here(tmp_path: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a database by the default name, in a process that was told of no store."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    monkeypatch.chdir(tmp_path)
    forget_stores()
    yield tmp_path
    forget_stores()


@pytest.mark.skipif(not FILES, reason=f"the real configuration files are not at {CONFIGS}")
@pytest.mark.parametrize("file", FILES)
def test_it_stores_what_it_meant(here: Path, file: str) -> None:
    """A graph that runs under the file is stored in the database here, in its experiment, with what it cost."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handler = configure(CONFIGS / file)
        one_node(lambda _: FakeChat().invoke("hi")).invoke(ASK, given(handler))
    if not handler.policy.enabled:
        assert handler.summary().llm_calls == 0
        return
    experiment = mlflow.get_experiment_by_name(handler.policy.experiment_name)

    uri = handler.policy.tracking_uri or ""
    assert mlflow.get_tracking_uri() == (uri if uri.startswith("sqlite:") else "sqlite:///mlflow.db")
    assert only_trace().info.experiment_id == experiment.experiment_id
    assert cost_summary() == handler.summary()
    assert cost_summary().llm_calls == 1
