"""Threads that OpenTelemetry's instrumentation gives their context, where MLflow shares its provider with the program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from child import bare_environment
from leaks import folder_bytes, letters, spelling_in

PROGRAM = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor

import mlflow
from opentelemetry.instrumentation.threading import ThreadingInstrumentor

ThreadingInstrumentor().instrument()
from fakes import Chat, graph

from langchain_mlflow_cost import MlflowCostHandler

text, store, kind, is_private = sys.argv[1:]
mlflow.set_tracking_uri(store)
is_left = threading.Event()

def later():
    is_left.wait(20)
    time.sleep(0.2)
    Chat().invoke(text)

def quiet(_):
    if kind == "thread":
        threading.Thread(target=later).start()
    elif kind == "pool":
        pool = ThreadPoolExecutor(1)
        pool.submit(later)
        pool.shutdown(wait=False)
    else:
        is_left.set()
        thread = threading.Thread(target=later)
        thread.start()
        thread.join()
    return {"extra": "ok"}

def loud(_):
    said = Chat().invoke("so " + text).content
    is_left.set()
    return {"extra": said}

policy = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": is_private == "open"}}}
graph(("quiet", quiet), ("loud", loud)).invoke({"messages": []}, {"callbacks": [MlflowCostHandler(policy)]})
"""


def stored_after(folder: Path, template_store: Path, text: str, kind: str, level: str) -> bytes:
    shutil.copy(template_store, folder / "mlflow.db")
    subprocess.run(
        [sys.executable, "-c", PROGRAM, text, f"sqlite:///{folder / 'mlflow.db'}", kind, level],
        check=True,
        capture_output=True,
        cwd=folder,
        env=bare_environment(MLFLOW_USE_DEFAULT_TRACER_PROVIDER="false"),
        timeout=100,
    )
    return folder_bytes(folder)


@pytest.mark.nightly
@pytest.mark.skipif(
    find_spec("opentelemetry.instrumentation.threading") is None,
    reason="opentelemetry-instrumentation-threading is absent",
)
@pytest.mark.parametrize("kind", ["joined", "thread", "pool"])
def test_what_a_model_is_told_there_is_private(tmp_path: Path, template_store: Path, kind: str) -> None:
    """Also where the thread outlives the private node; without a policy the same program stores the text."""
    text = letters(20)
    (tmp_path / "open").mkdir()

    assert spelling_in(text, stored_after(tmp_path / "open", template_store, text, kind, "open")) is not None
    (tmp_path / "private").mkdir()
    assert spelling_in(text, stored_after(tmp_path / "private", template_store, text, kind, "private")) is None
