"""MLflow's own reports of how it is used."""

from __future__ import annotations

import os

from mlflow.telemetry import set_telemetry_client


def switch_telemetry_off() -> None:
    """Let MLflow report nothing from here on, though it has been imported already.

    It reads `MLFLOW_DISABLE_TELEMETRY`, the public setting, once, at its import: it is made to read it again.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    set_telemetry_client()
