"""`python -m langchain_mlflow_cost`: the command `mlflow-cost`."""

from __future__ import annotations

from langchain_mlflow_cost.cli import main

main()
