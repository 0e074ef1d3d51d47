"""`mlflow-cost run`: a program that nobody edits, governed with all its child processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from langchain_mlflow_cost.cli.app import PolicyOption, read_policy
from langchain_mlflow_cost.cli.startup.sitecustomize import FOLDER, SWITCH
from langchain_mlflow_cost.errors import PolicyError

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
"""What stands behind the program's name is the program's."""


def run_program(
    context: typer.Context,
    program: Annotated[str, typer.Argument(metavar="PROGRAM [ARGS]...", help="As behind `python`.")],
    policy: PolicyOption = None,
    module: Annotated[bool, typer.Option("-m", help="PROGRAM is a module, as with `python -m`.")] = False,
) -> None:
    """Run a Python program under a policy, unedited.

    All that it and its child processes trace is governed.

    Such as `mlflow-cost run app.py --port 8000`, or `mlflow-cost run -m uvicorn app:app --workers 4`. Without --policy
    the file that LANGCHAIN_MLFLOW_COST_POLICY names is used, else the defaults. A policy that cannot be used ends it
    before the program starts, with exit status 2.
    """
    from langchain_mlflow_cost.policy.settings import POLICY_VARIABLE

    path = policy or (Path(os.environ[POLICY_VARIABLE]) if os.environ.get(POLICY_VARIABLE) else None)
    arguments = [sys.executable, *(["-m"] if module else []), program, *context.args]
    environment = dict(os.environ)
    if _is_enabled(path):
        if path is not None:
            # The program may change its folder.
            environment[POLICY_VARIABLE] = str(path.absolute())
        environment[SWITCH] = "1"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [FOLDER, environment.get("PYTHONPATH")]))
    _become(arguments, environment)


def _is_enabled(path: Path | None) -> bool:
    if path is None:
        return True
    try:
        return read_policy(path).enabled
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror or error}") from None


def _become(arguments: list[str], environment: dict[str, str]) -> None:
    """Be that program from now on, with its signals, exit status and tracebacks."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(arguments[0], arguments, environment)  # noqa: S606 - the user's own program, asked for by its name
    raise SystemExit(subprocess.call(arguments, env=environment))  # noqa: S603 - as above
