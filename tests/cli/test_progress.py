"""How far a command has come: shown on a terminal, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from terminals import terminal

from langchain_mlflow_cost.cli.progress import bars

if TYPE_CHECKING:
    from collections.abc import Callable

    Cli = Callable[..., Any]

COMMANDS = [
    pytest.param(
        ("scan", "--tracking-uri", "{store}", "--experiment", "tests"), "mlflow-cost: 3 traces read", id="scan"
    ),
    pytest.param(("prove", "{file}"), "MB searched", id="prove"),
    pytest.param(("prune", "{file}", "--experiment", "tests", "--days", "0", "--yes"), "3 of 3", id="prune"),
]


def words_for(store: str, words: tuple[str, ...]) -> list[str]:
    for number in range(3):
        mlflow.start_span_no_context(f"work {number}").end()
    return [word.format(store=store, file=store.removeprefix("sqlite:///")) for word in words]


@pytest.mark.parametrize(("words", "shown"), COMMANDS)
def test_a_terminal_sees_it(
    cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], shown: str
) -> None:
    """It stands in a line that is gone in the end."""
    with terminal(monkeypatch) as screen:
        done = cli(*words_for(store, words))
    (told,) = screen

    assert done.code == 0, told
    assert shown in told
    assert told.endswith("\x1b[1A\x1b[2K")


@pytest.mark.parametrize("words", [each.values[0] for each in COMMANDS], ids=[str(each.id) for each in COMMANDS])
def test_a_pipe_sees_nothing(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    """Not even where colours are forced, as CI does."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = cli(*words_for(store, words))

    assert (done.code, done.err) == (0, "")
    assert "\x1b[?25l" not in done.out
    assert [line for line in done.out.splitlines() if line != line.rstrip()] == []


def test_steps_stand_below_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of several steps names each, and how much of it is done."""
    with terminal(monkeypatch) as screen, bars() as bar:
        bar("files", 2_000).more(500)
        bar("[hashes]", 4).at(4)
    (told,) = screen

    assert "500 of 2,000" in told
    assert "[hashes]" in told
    assert "100 %" in told
