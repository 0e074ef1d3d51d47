"""How the command starts: under both its names, at once, and able to say which version it is."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from langchain_mlflow_cost import Policy
from langchain_mlflow_cost.cli import COMMANDS
from langchain_mlflow_cost.cli.app import DEFAULT_EXPERIMENT, app

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

SLOW = ("genai_prices", "langchain_core", "langgraph", "mlflow", "requests")
"""What a command may need, and takes its time to import; pydantic, which typer 0.29 imports itself, is not among it."""


def test_version(cli: Cli) -> None:
    """The version that is installed is told in one line."""
    assert cli("--version") == (0, f"mlflow-cost {version('langchain-mlflow-cost')}\n", "")


def test_version_of_what_is_not_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkout that is only on the path, the version cannot be told, and that is."""

    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", nothing)

    assert cli("--version") == (
        1, "", "mlflow-cost: no version is known: the package is not installed, only on the path\n"
    )  # fmt: skip


def test_module_is_the_same_command(cli: Cli) -> None:
    """`python -m langchain_mlflow_cost` is `mlflow-cost`, and calls itself so."""
    done = subprocess.run(
        [sys.executable, "-m", "langchain_mlflow_cost", "prune", "--help"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == cli("prune", "--help")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--help"], id="help"),
        pytest.param(["--version"], id="version"),
        pytest.param(["report", "--help"], id="help of a command"),
        pytest.param(["report", "--experimnt", "x"], id="mistyped option"),
        pytest.param(["report", "--by", "colour"], id="impossible value"),
        pytest.param(["migrate", "nowhere", "new.db"], id="folder that is not there"),
    ],
)
def test_nothing_slow_is_waited_for(words: list[str]) -> None:
    """Help, the version and a mistake in the words come without importing MLflow, which takes seconds."""
    program = (
        "import sys\nfrom langchain_mlflow_cost.cli import main\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write('\\nimported: ' + ' '.join(set(sys.modules) & set(SLOW)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"SLOW = {SLOW}\n{program}", *words], capture_output=True, text=True, check=False
    )

    assert done.stderr.splitlines()[-1].strip() == "imported:"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_explains_itself(name: str) -> None:
    """Each argument and option of each command has a word of help."""
    command = get_command(app).commands[name]  # type: ignore[attr-defined]  # of a group

    assert command.help
    assert [each.name for each in command.params if not getattr(each, "help", None)] == []


def test_default_experiment_is_the_policy_s() -> None:
    """The commands look where `configure` stores."""
    assert Policy.model_fields["experiment_name"].default == DEFAULT_EXPERIMENT
