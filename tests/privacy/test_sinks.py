"""Wherever traces go: another store, a real server, export in threads, another format. Each scene, under three policies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from leaks import Planted, Sinks, email, flush, folder_bytes, prose, spelling_in, within
from scenes import PRESENT, SCENES

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leaks import Collector

POLICIES: dict[str, dict[str, Any]] = {
    "minimal": {"artifact_level": "minimal"},
    "private": {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}},
    "redacted": {"artifact_level": "full", "redact_pii": True},
}
OTLP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
SETTINGS: dict[str, dict[str, str]] = {
    "SQLite, export in threads": {},
    "file store": {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false"},
    "OTLP alone": OTLP,
    "GenAI conventions": {
        **OTLP,
        "MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT": "true",
        "MLFLOW_ENABLE_OTEL_GENAI_SEMCONV": "true",
    },
    "server": {},
}

EACH_DAY = {
    "SQLite, export in threads": "private",
    "file store": "minimal",
    "OTLP alone": "redacted",
    "GenAI conventions": "redacted",
}
"""Under which policy a sink is tried at every change."""


class Server:
    """`mlflow server` on a port of 127.0.0.1 that was free, with a database of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,
        )
        assert within(90, self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(20)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.nightly) if name == "server" else name for name in SETTINGS],
)
def sink(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, template_store: Path, collector: Collector
) -> Iterator[Sinks]:
    """A sink of each kind, empty, and MLflow pointed to it."""
    folder = tmp_path_factory.mktemp("sink")
    uri, server = f"sqlite:///{folder}/mlflow.db", None
    shutil.copy(template_store, folder / "mlflow.db")
    if request.param == "file store":
        uri = f"file://{folder}/mlruns"
    if request.param == "server":
        server = Server(folder)
        uri = server.url
    settings = SETTINGS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        if "OTEL_EXPORTER_OTLP_PROTOCOL" in settings:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(request.param)
        mlflow.tracing.reset()
        collector.clear()
        yield Sinks(folder, collector, flush)
        flush()
    mlflow.tracing.reset()
    if server is not None:
        server.close()


@pytest.mark.filterwarnings("ignore:.*file.?store:FutureWarning", "ignore:.*filesystem:FutureWarning")
@pytest.mark.sampled(is_in=lambda sink, policy: EACH_DAY.get(sink) == policy)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_scene(sink: Sinks, policy: str) -> None:
    """No scene leaves what the policy withholds."""
    make: Callable[[], str] = email if policy == "redacted" else prose
    planted = {}
    for name, scene in SCENES.items():
        planted[name] = Planted(make, to_be_told=policy == "private")
        scene.run(planted[name], [MlflowCostHandler(POLICIES[policy])])
    sink.flush()
    stored = folder_bytes(sink.folder) + (sink.collector.sent() if sink.collector else b"")
    leaks = {
        channel: spelling
        for name, scene in SCENES.items()
        for channel, keeps in scene.channels.items()
        if not (policy == "minimal" and "minimal" in PRESENT[keeps])
        and (spelling := spelling_in(planted[name].texts[channel], stored)) is not None
    }
    arrived = planted["models"].companions["chat: prompt"].encode() in stored

    assert {} == leaks
    assert (policy != "minimal") == arrived
