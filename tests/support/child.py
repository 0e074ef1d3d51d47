"""Programs of tests that are run in a process of their own."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bare_environment(**more: str) -> dict[str, str]:
    """What a child process needs to import the package and the fakes, and no more: MLflow hands its experiment on."""
    return {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}",
        "PATH": os.environ["PATH"],
        "MLFLOW_MODEL_CATALOG_URI": "",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **more,
    }
