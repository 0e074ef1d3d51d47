"""How far a command has come: shown on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlflow
import pytest

from langchain_mlflow_cost.cli.progress import bars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Cli = Callable[..., Any]

COMMANDS = [
    pytest.param(
        ("scan", "--tracking-uri", "{store}", "--experiment", "tests"), "mlflow-cost: 3 traces read", id="scan"
    ),
    pytest.param(("prove", "{file}"), "MB searched", id="prove"),
    pytest.param(("prune", "{file}", "--experiment", "tests", "--days", "0", "--yes"), "3 of 3", id="prune"),
]


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Standard error is a terminal; what was written to it, when the block has ended."""
    ours, theirs = pty.openpty()
    read: list[bytes] = []
    told: list[str] = []

    def listen() -> None:
        try:
            while some := os.read(ours, 65_536):
                read.append(some)
        except OSError:
            # Its other end is closed.
            return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as screen, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        # pytest has a file of its own there for each part of a test.
        patch.setattr(sys, "stderr", screen)
        yield told
    listener.join(5)
    os.close(ours)
    told.append(b"".join(read).decode())


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
