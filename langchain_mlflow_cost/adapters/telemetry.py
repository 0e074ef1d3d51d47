"""What MLflow tells unasked: its makers how it is used, a terminal what it does."""

from __future__ import annotations

import logging
import os

from mlflow.telemetry import set_telemetry_client


def switch_telemetry_off() -> None:
    """Let MLflow report nothing from here on, though it has been imported already.

    It reads `MLFLOW_DISABLE_TELEMETRY`, the public setting, once, at its import: it is made to read it again.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    set_telemetry_client()


def let_it_only_warn() -> None:
    """Show none of MLflow's log lines below a warning: a new database alone gives dozens that look like trouble.

    For programs that are ours from start to end; elsewhere the level of a log is its user's.
    """
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
