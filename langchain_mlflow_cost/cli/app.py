"""The program, the options that several commands have, and how a command says that it cannot go on."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from langchain_mlflow_cost.cli.output import tell

if TYPE_CHECKING:
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.pricing.rates import ModelRates

DEFAULT_EXPERIMENT = "langchain_mlflow_cost"
"""The policy's default, here because the policy takes too long to import for `--help`."""


class CommandError(Exception):
    """The command cannot do what it was asked to; the message says why and what to do."""


class CommandInterruptedError(Exception):
    """Somebody pressed Ctrl-C; the message says what is done by then, where that is known."""


class _Program(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        # Here, since Typer's own answer to it is silence, and at a question the exit code 1.
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, typer.Abort) as error:
            if isinstance(error, typer.Abort) and not isinstance(error.__context__, KeyboardInterrupt):
                raise
            raise CommandInterruptedError("interrupted") from None


app = typer.Typer(
    name="mlflow-cost",
    cls=_Program,
    help="Cost, budgets and a payload policy for LangChain and LangGraph traces in MLflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            sys.stdout.write(f"mlflow-cost {version('langchain-mlflow-cost')}\n")
        except PackageNotFoundError as error:
            raise CommandError("no version is known: the package is not installed, only on the path") from error
        raise typer.Exit


@app.callback()
def _before_any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


PolicyArgument = Annotated[Path, typer.Argument(metavar="POLICY", help="A policy or workflow file (YAML).")]
PolicyOption = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A policy or workflow file (YAML).")
]
TrackingUri = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Where MLflow stores; else MLFLOW_TRACKING_URI, else ./mlflow.db."),
]
ExperimentName = Annotated[
    str | None, typer.Option("--experiment", metavar="NAME", help=f"Its name; else {DEFAULT_EXPERIMENT}.")
]


def read_policy(path: Path) -> Policy:
    """Load a policy, and say what it warns of in lines like all others.

    Raises:
        PolicyError: It cannot be used.
        OSError: The file cannot be read.
    """
    from langchain_mlflow_cost.policy.settings import Policy

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy = Policy.from_yaml(path)
    for warning in caught:
        # Without the place in the code, which means nothing to who runs a command.
        tell(str(warning.message))
    for doubt in policy.price_doubts(_catalogue_rates):
        tell(doubt)
    return policy


def _catalogue_rates(provider: str | None, model: str) -> ModelRates | None:
    # Asked only where nobody else knows a name: MLflow takes seconds to import.
    from langchain_mlflow_cost.adapters.catalogue import catalogue_rates

    return catalogue_rates(provider, model)
