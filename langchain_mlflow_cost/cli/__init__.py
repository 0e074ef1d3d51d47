"""The command `mlflow-cost`."""

from __future__ import annotations

from langchain_mlflow_cost.cli.app import main

__all__ = ["main"]
