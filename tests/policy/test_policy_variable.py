"""`LANGCHAIN_MLFLOW_COST_POLICY`: the policy of a program that names none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from langchain_mlflow_cost import MlflowCostHandler, Policy, PolicyError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "LANGCHAIN_MLFLOW_COST_POLICY"


@pytest.fixture
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "observability.yaml"
    path.write_text("artifact_level: minimal\n")
    monkeypatch.setenv(NAME, str(path))
    return path


def test_it_is_read_where_no_policy_is_given(policy_file: Path) -> None:
    """A handler without a policy has the one that the variable names."""
    assert "minimal" == MlflowCostHandler().policy.artifact_level == Policy.load(None).artifact_level


def test_a_policy_that_is_given_wins(policy_file: Path) -> None:
    """Also an empty one."""
    assert (
        "standard" == MlflowCostHandler({}).policy.artifact_level == MlflowCostHandler(Policy()).policy.artifact_level
    )


def test_an_empty_variable_is_none(policy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell sets it that unsets nothing."""
    monkeypatch.setenv(NAME, "")

    assert "standard" == MlflowCostHandler().policy.artifact_level


@pytest.mark.parametrize("text", [None, "artefact_level: minimal\n"])
def test_what_is_wrong_is_told_with_the_variable(policy_file: Path, text: str | None) -> None:
    """A missing file or a mistake in it names the file and the variable, for nobody wrote the path in the program."""
    policy_file.unlink() if text is None else policy_file.write_text(text)

    with pytest.raises(PolicyError, match=rf"observability\.yaml.*{NAME}"):
        MlflowCostHandler()
