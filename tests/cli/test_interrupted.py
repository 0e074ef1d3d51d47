"""Ctrl-C: one line, the exit code that shells expect, and a store that the same command can go on with."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from stored_traces import store_call
from terminals import hearing_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Cli = Callable[..., Any]

MAIL = "ada@example.com"
HIDDEN_CURSOR = "\x1b[?25l"
"""The first that a bar of progress writes."""


def fill(number: int) -> None:
    for _ in range(number):
        store_call(inputs=f"I am {MAIL}")


def interrupted(words: Sequence[str], folder: Path, begun: Callable[[str], bool]) -> tuple[int, str]:
    """Run a command on a terminal, press Ctrl-C when what it shows says so; its exit code and what stands there then."""
    ours, theirs = pty.openpty()
    # On a busy machine it would be done before the key is pressed, were it not the one that waits.
    command = ["nice", "-n", "19", sys.executable, "-m", "langchain_mlflow_cost", *words]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    with hearing_ctrl_c():
        started = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
    with started as process:
        os.close(theirs)
        told, pressed = "", False
        try:
            while read := os.read(ours, 65_536):
                told += read.decode()
                if not pressed and begun(told):
                    process.send_signal(signal.SIGINT)
                    pressed = True
        except OSError:
            pass  # It has ended.
        code = process.wait(60)
    os.close(ours)
    assert pressed, told
    return code, told


@pytest.mark.nightly
def test_commands_that_read(store: str, tmp_path: Path) -> None:
    """One line with the program's name, exit code 130, and no half of a file."""
    fill(1_000)  # as long as that is read, the key is pressed
    for words in (["export", "--out", "costs.csv"], ["scan"], ["reprice", "--all"]):
        words += ["--tracking-uri", store, "--experiment", "tests"]
        code, told = interrupted(words, tmp_path, lambda shown: HIDDEN_CURSOR in shown)

        assert code == 130, told
        assert "Traceback" not in told
        assert told.count("mlflow-cost: interrupted") == 1
        assert told.rstrip().endswith("mlflow-cost: interrupted")
        assert not (tmp_path / "costs.csv").exists()
        assert not (tmp_path / "costs.csv.part").exists()


def test_at_a_question(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is an answer, too, and not the one of an empty standard input."""

    class Pressed(io.StringIO):
        def readline(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    fill(1)
    words = ("prune", store.removeprefix("sqlite:///"), "--experiment", "tests", "--days", "0")
    monkeypatch.setattr(sys, "stdin", Pressed())
    pressed = cli(*words)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    silent = cli(*words)

    assert (pressed.code, pressed.err.splitlines()[-1]) == (130, "mlflow-cost: interrupted")
    assert silent.code == 1
    assert len(mlflow.search_traces(return_type="list")) == 1
