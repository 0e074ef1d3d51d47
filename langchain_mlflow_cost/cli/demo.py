"""`mlflow-cost demo`: an agent on this machine, under a policy, and what is stored of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_mlflow_cost.cli.app import CommandError, PolicyOption
from langchain_mlflow_cost.cli.output import console
from langchain_mlflow_cost.cli.store import SQLITE


def run_demo(
    policy: PolicyOption = None,
    tracking_uri: Annotated[
        str | None, typer.Option(metavar="URI", help="Where MLflow stores; else ./demo-output/mlflow.db.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Another budget; 0.02 shows a refusal.", min=0)
    ] = None,
    pause: Annotated[
        float | None, typer.Option(metavar="S", help="Time that a model takes; else 0.8 s, in a pipe 0.", min=0)
    ] = None,
) -> None:
    """Watch an agent's cost live: no key, no network.

    Runs a LangGraph agent against a model server of its own, and shows what of a card number, an e-mail address, an
    API key and a private node is stored: nothing.
    """
    out = console()
    try:
        with out.status("Starting LangGraph and MLflow", spinner_style="cyan"):
            from langchain_mlflow_cost.demo.run import run
    except ModuleNotFoundError as error:
        if error.name not in {"langchain_openai", "langchain_anthropic"}:
            raise
        raise CommandError('the demo needs an extra: pip install "langchain-mlflow-cost[demo]"') from error
    if pause is None:
        pause = 0.8 if out.is_terminal else 0.0
    uri = tracking_uri or f"{SQLITE}{Path('demo-output') / 'mlflow.db'}"
    if not run(out, policy, uri, budget, pause):
        raise typer.Exit(1)
