"""The command `mlflow-cost`: what a terminal is the right place for; one file a command.

Exit codes: 0 done; 1 it did not work (the store, a file, a missing extra), or a check says no (`explain --graph`,
`scan`, `prove`); 2 asked for wrongly, a bad policy, or nothing proved (`prove`); 130 interrupted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from langchain_mlflow_cost.cli import (
    demo,
    erase,
    explain,
    export,
    migrate,
    prices,
    prove,
    prune,
    report,
    reprice,
    run,
    scan,
)
from langchain_mlflow_cost.cli.app import CommandError, CommandInterruptedError, app
from langchain_mlflow_cost.cli.output import tell
from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.notices import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

INTERRUPTED = 130
"""What shells give to what Ctrl-C ended."""

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.run_demo,
    "run": run.run_program,
    "report": report.report_costs,
    "reprice": reprice.reprice_traces,
    "explain": explain.explain_policy,
    "scan": scan.scan,
    "prove": prove.prove,
    "prices": prices.show_prices,
    "prune": prune.prune_traces,
    "erase": erase.erase_traces,
    "export": export.export_costs,
    "migrate": migrate.migrate_store,
}
"""In the order of `mlflow-cost --help`."""

for _name, _command in COMMANDS.items():
    app.command(_name, context_settings=run.CONTEXT if _name == "run" else None)(_command)


def main() -> None:
    """Run the command; an error that its user can do something about is one line, without a traceback.

    Raises:
        SystemExit: Always, with one of the codes above.
    """
    # A Ctrl-C that meets it goes on its way, but is told as an error with a traceback.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    try:
        app(prog_name="mlflow-cost")
    except PolicyError as error:
        _exit(str(error), code=2)
    except CommandInterruptedError as error:
        _exit(str(error), code=INTERRUPTED)
    except CommandError as error:
        _exit(str(error))
    except OSError as error:
        _exit(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except Exception as error:
        if not _is_of_mlflow(error):
            raise
        first_line = str(error).strip().splitlines()[0]
        _exit(f"MLflow: {without_credentials(first_line)}")


def _is_of_mlflow(error: Exception) -> bool:
    # By name, since MLflow may not even be imported.
    return any(kind.__name__ == "MlflowException" for kind in type(error).__mro__)


def _exit(message: str, code: int = 1) -> NoReturn:
    tell(message)
    raise SystemExit(code)
