"""`mlflow-cost demo` from start to end, as a user starts it: a process of its own in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mlflow
import pytest

from langchain_mlflow_cost import cost_summary
from langchain_mlflow_cost.demo import app
from langchain_mlflow_cost.demo.run import mlflow_command

COMMAND = "from langchain_mlflow_cost.cli import main; main()"
PLANTED = ["ada.lovelace@example.com", "4111 1111 1111 1111", "sk-proj-", app.PRIVATE_NOTE, app.PRIVATE_VERDICT]
WATCHED = """
import sys
def watch(event, args):
    if event == "socket.connect":
        sys.stderr.write(f"CONNECT {args[1][0] if isinstance(args[1], tuple) else args[1]}\\n")
    elif event == "socket.getaddrinfo":
        sys.stderr.write(f"CONNECT {args[0]}\\n")
sys.addaudithook(watch)
"""


class Shown(NamedTuple):
    """What a run of the demo printed, and where it ran."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def trace_id(self) -> str:
        return re.search(r"tr-[0-9a-f]{32}", self.out)[0]


def demo(folder: Path, *options: str, before: str = "") -> Shown:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "LANGSMITH"))}
    environment |= {"COLUMNS": "100", "LANGSMITH_TRACING": "true", "HTTP_PROXY": "http://proxy.invalid:1"}
    done = subprocess.run(
        [sys.executable, "-c", before + COMMAND, "demo", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Shown(done.returncode, done.stdout, done.stderr, folder)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """One run with everything as it comes, under the eyes of a hook that notes every connection."""
    return demo(tmp_path_factory.mktemp("demo"), before=WATCHED)


@pytest.fixture
def store(clean_mlflow: None, shown: Shown) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{shown.folder}/demo-output/mlflow.db")


def row_of(out: str, first: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [first])


def test_it_works(shown: Shown) -> None:
    """It ends well."""
    assert shown.code == 0, shown.err


def test_no_network(shown: Shown) -> None:
    """It connects to this machine and nothing else, whatever the environment says of proxies and LangSmith."""
    assert set(re.findall(r"^CONNECT (.*)$", shown.err, re.MULTILINE)) == {"127.0.0.1"}


def test_no_noise(shown: Shown) -> None:
    """Nothing is said on standard error: no migrations, no warnings."""
    assert [line for line in shown.err.splitlines() if not line.startswith("CONNECT")] == []


def test_it_stays_in_its_folder(shown: Shown) -> None:
    """It leaves one folder behind."""
    assert [path.name for path in shown.folder.iterdir()] == ["demo-output"]


def test_pipe(shown: Shown) -> None:
    """In a pipe there is one table and no escape sequence."""
    assert shown.out.count("Total") == 1
    assert "\x1b" not in shown.out


def test_nodes(shown: Shown) -> None:
    """Each node that calls a model has a row, with its path in subgraphs."""
    rows = {name: row_of(shown.out, name)[1:3] for name in ("plan", "research/agent", "risk_check", "review/critic")}

    assert rows == {
        "plan": ["gpt-5-mini", "1"],
        "research/agent": ["gpt-5-mini", "3"],
        "risk_check": ["claude-haiku-4-5", "1"],
        "review/critic": ["claude-sonnet-5", "1"],
    }


def test_cost(shown: Shown) -> None:
    """The total is what the providers' price pages make of the scripted usage, worked out by hand.

    USD per million in, cached in, out: gpt-5-mini 0.25, 0.025, 2; gpt-5 1.25, 0.125, 10; claude-haiku-4-5 1, -, 5;
    claude-sonnet-5 2, 0.2, 10, written to the cache 2.5.

    plan            560 x 0.25 + 1,280 x 0.025 +   512 x 2  =  1,196
    research/agent 1,542 x 0.25 + 5,888 x 0.025 +  570 x 2  =  1,672.7
    risk_check    2,310 x 1                    +    64 x 5  =  2,630
    critic    902 x 2 + 2,048 x 0.2 + 3,200 x 2.5 + 420 x 10 = 14,413.6
    editor        2,396 x 1.25 + 1,024 x 0.125 +  930 x 10  = 12,423
    writer        2,652 x 2    + 5,248 x 0.2   +  340 x 10  =  9,753.6
    """
    assert row_of(shown.out, "Total")[-1] == "0.0421"
    assert "$0.0421 for 8 calls and 31,886 tokens" in shown.out


def test_stored_cost(shown: Shown, store: None) -> None:
    """The stored trace says the same, to the last digit."""
    assert cost_summary(shown.trace_id).total_cost_usd == pytest.approx(0.0420889, rel=1e-9)


@pytest.mark.parametrize("text", PLANTED)
def test_nothing_planted_is_stored(shown: Shown, text: str) -> None:
    """No file that it leaves holds a planted value or a private text."""
    stored = b"".join(path.read_bytes() for path in (shown.folder / "demo-output").rglob("*") if path.is_file())

    assert app.ORDER.encode() in stored
    assert text.encode() not in stored


def test_it_says_so(shown: Shown) -> None:
    """The search's result is told, with a text that must be found."""
    assert "0 of 3  planted values" in shown.out
    assert "0 of 2  texts of risk_check, which has log_prompts: false" in shown.out
    assert "1 of 1  text that nothing hides" in shown.out


@pytest.mark.parametrize("entity", ["EMAIL_ADDRESS", "CREDIT_CARD", "SECRET"])
def test_redactions(shown: Shown, entity: str) -> None:
    """Each entity is told with its count, and stands in the stored ticket."""
    stored = shown.out.partition("MLflow stores")[2]

    assert f"[{entity}]" in stored
    assert re.search(rf"{entity}\s+\d+ times", stored)


@pytest.mark.parametrize(
    ("cause", "node"),
    [
        ("log_prompts: false", "risk_check"),
        ("artifact_level: minimal", "review/critic"),
    ],
)
def test_dropped(shown: Shown, cause: str, node: str) -> None:
    """What was dropped is told with the setting that did it and the nodes where."""
    line = next(line for line in shown.out.splitlines() if cause in line and "payloads in" in line)

    assert node in line


def test_how_to_open(shown: Shown, store: None) -> None:
    """The trace's address is told in one piece, with the experiment that it is in."""
    experiment = mlflow.get_experiment_by_name("mlflow-cost-demo")

    assert "mlflow server --backend-store-uri sqlite:///demo-output/mlflow.db --port 5000\n" in shown.out
    assert (
        f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/traces"
        f"?selectedEvaluationId={shown.trace_id}\n" in shown.out
    )


def test_the_command_is_found(shown: Shown) -> None:
    """The command that is told is there, whether or not its folder is on PATH."""
    line = next(line for line in shown.out.splitlines() if "mlflow server" in line or "-m mlflow" in line)

    assert shutil.which(shlex.split(line)[0], path=os.environ["PATH"]) is not None


@pytest.mark.parametrize(
    ("programs", "folder", "expected"),
    [
        pytest.param(["mlflow"], ".", ".venv/bin/mlflow", id="below the current folder"),
        pytest.param(["mlflow"], ".venv/bin", "./mlflow", id="in the current folder"),
        pytest.param(["mlflow"], "other", "{root}/.venv/bin/mlflow", id="elsewhere"),
        pytest.param([], ".", ".venv/bin/python -m mlflow", id="without a script"),
    ],
)
def test_command_outside_of_an_activated_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], folder: str, expected: str
) -> None:
    """Where PATH has no MLflow, its place beside the interpreter is told, as short as it can be."""
    for each in (".venv/bin", "other"):
        (tmp_path / each).mkdir(parents=True)
    for program in programs:
        (tmp_path / ".venv/bin" / program).touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path / folder)

    assert mlflow_command() == expected.format(root=tmp_path)


def test_command_in_an_activated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PATH has MLflow, its name is enough."""
    (tmp_path / "mlflow").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert mlflow_command() == "mlflow"


@pytest.mark.nightly
def test_again_with_less_money(shown: Shown) -> None:
    """A second run in the same folder works; a smaller budget stops it, and what was spent is told."""
    again = demo(shown.folder, "--budget", "0.02")

    assert again.code == 0, again.err
    assert 'Stopped: call at node "review/editor" refused by the budget of trace' in " ".join(again.out.split())
    assert "$0.0199 for 6 calls" in again.out
    assert again.err == ""
    assert again.trace_id != shown.trace_id


@pytest.mark.nightly
def test_with_an_open_policy(tmp_path: Path) -> None:
    """Under a policy that hides nothing, everything planted is found, and the exit code says so."""
    (tmp_path / "open.yaml").write_text("redact_secrets: false\nartifact_level: full\n", "utf-8")
    done = demo(tmp_path, "--policy", "open.yaml")

    assert done.code == 1
    assert "3 of 3  planted values" in done.out
    assert "2 of 2  texts of risk_check" in done.out


@pytest.mark.nightly
def test_without_its_extra(tmp_path: Path) -> None:
    """Where the clients are not installed, a line says what to install."""
    missing = "import sys; sys.modules['langchain_anthropic'] = None\n"
    done = demo(tmp_path, before=missing)

    assert done.code == 1
    assert done.err == 'mlflow-cost: the demo needs an extra: pip install "langchain-mlflow-cost[demo]"\n'


@pytest.mark.nightly
def test_server_that_is_away(tmp_path: Path) -> None:
    """A server that does not answer is told, and not linked to."""
    done = subprocess.run(
        [sys.executable, "-m", "langchain_mlflow_cost", "demo", "--tracking-uri", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    assert "did not answer its health check" in " ".join(done.stdout.split())
    assert "#/experiments" not in done.stdout
