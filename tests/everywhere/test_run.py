"""`mlflow-cost run`: the program is as `python` runs it, and all that it and its children trace is governed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from app_server import CALL_USD
from stored_traces import leaves_usd
from terminals import hearing_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_mlflow_cost.demo.provider import ProviderServer

APPS = Path(__file__).parent / "apps"
ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-m", "langchain_mlflow_cost", "run"]
SAYS = """
    import os, sys
    print([sys.argv, sys.path[0], __name__, sys.modules["__main__"].__file__, sys.stdin.read(), "mlflow" in sys.modules])
"""


@pytest.fixture
def folder(tmp_path: Path, template_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a policy and a database, where programs are started as a new shell would."""
    shutil.copy(template_store, tmp_path / "mlflow.db")
    (tmp_path / "policy.yaml").write_text("redact_pii: true\nartifact_level: full\n")
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("MLFLOW_ASYNC", "MLFLOW_ENABLE_ASYNC", "MLFLOW_TRACKING", "MLFLOW_EXPERIMENT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("LANGCHAIN_MLFLOW_COST_POLICY", raising=False)
    return tmp_path


def write(folder: Path, text: str, name: str = "app.py") -> None:
    (folder / name).write_text(textwrap.dedent(text))


def outcome(command: list[str], text: str = "", **options: Any) -> tuple[int, str, str]:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False, **options)
    return done.returncode, done.stdout, done.stderr


def governed(folder: Path) -> list[Any]:
    """All traces of the folder's store, after a look that each of their spans is governed."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    try:
        ids = [each.experiment_id for each in mlflow.search_experiments()]
        traces: list[Any] = mlflow.search_traces(locations=ids, return_type="list")
    finally:
        mlflow.set_tracking_uri(None)
    raw = [s.name for t in traces for s in t.data.spans if s.get_attribute("policy.artifact_level") != "full"]

    assert [] == raw
    assert "jane.doe" not in "".join(trace.to_json() for trace in traces)
    return traces


# --- as `python` runs it --------------------------------------------------------------------------------------------

PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "arguments": (SAYS, ["app.py", "a", "--policy", "x", "-m", "--help"]),
    "module": (SAYS, ["-m", "app", "-m", "b"]),
    "package": (SAYS, ["-m", "pack", "b"]),
    "in a folder": (SAYS, ["pack/__main__.py", "c"]),
    "a folder": (SAYS, ["pack", "c"]),
    "exit status": ("import sys; sys.exit(7)", ["app.py"]),
    "exit with words": ("raise SystemExit('no more')", ["app.py"]),
    "traceback": ("def f():\n        raise ValueError('of mine')\n    f()", ["app.py"]),
    "traceback of a module": ("1 / 0", ["-m", "app"]),
    "syntax": ("def", ["app.py"]),
    "killed by itself": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", ["app.py"]),
    "interrupted": ("raise KeyboardInterrupt", ["app.py"]),
    "at exit": ("import atexit; atexit.register(print, 'bye'); print('hi')", ["app.py"]),
    "missing": ("", ["nothing.py"]),
    "missing module": ("", ["-m", "nothing"]),
    "spec": ("print(__spec__ and __spec__.name, __package__)", ["-m", "pack"]),
}


@pytest.mark.sampled(
    is_in=lambda name: (
        name
        in {"arguments", "module", "a folder", "exit status", "traceback", "killed by itself", "at exit", "missing"}
    )
)
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_a_program_is_as_python_runs_it(folder: Path, name: str) -> None:
    """Arguments, path, name, input, output, errors and exit status are byte for byte those of `python`."""
    text, arguments = PROGRAMS[name]
    write(folder, text)
    (folder / "pack").mkdir()
    write(folder, "", "pack/__init__.py")
    write(folder, text, "pack/__main__.py")

    assert outcome([sys.executable, *arguments], "in") == outcome([*RUN, "--policy", "policy.yaml", *arguments], "in")


def test_it_is_the_same_process(folder: Path) -> None:
    """Signals reach the program itself, for there is no other process: Ctrl-C ends it as it ends `python`."""
    write(folder, "import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with hearing_ctrl_c():
        process = subprocess.Popen([*RUN, "app.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process as started:
        assert started.stdout is not None
        assert "ready\n" == started.stdout.readline()
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=60)

    assert -signal.SIGINT == started.returncode
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "langchain_mlflow_cost" not in errors


def test_another_sitecustomize_is_run_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `sitecustomize` of the user's own, which ours stands before on the path, does what it did."""
    write(folder, "import sys; sys.times = getattr(sys, 'times', 0) + 1", "sitecustomize.py")
    write(folder, "import sys; print(sys.times, sys.modules['sitecustomize'].__file__)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))

    assert outcome([sys.executable, "app.py"]) == outcome([*RUN, "app.py"])


def test_looking_for_a_package_loads_nothing(folder: Path) -> None:
    """A program that only asks whether MLflow is there is not made to load it, and sees it where it is."""
    write(
        folder,
        "import sys, importlib.util as u; s = u.find_spec('mlflow'); print(s.origin, 'mlflow' in sys.modules)",
    )

    assert outcome([sys.executable, "app.py"]) == outcome([*RUN, "app.py"])


@pytest.mark.nightly
def test_modules_are_what_they_would_be(folder: Path) -> None:
    """Each watched package is loaded once, with its own spec, loader and place."""
    write(
        folder,
        """
        import sys
        import mlflow, langgraph.graph, langchain_core.messages, langchain.agents
        for name in ("mlflow", "langgraph", "langchain_core", "langchain"):
            module = sys.modules[name]
            spec = module.__spec__
            print(name, spec.origin, type(spec.loader).__name__, type(module.__loader__).__name__, module.__file__)
        print(mlflow is sys.modules["mlflow"], langchain_core.messages.AIMessage.__module__)
        """,
    )
    (status, said, _), (own_status, own_said, _) = outcome([sys.executable, "app.py"]), outcome([*RUN, "app.py"])

    assert (0, 0) == (status, own_status)
    assert said == own_said


# --- the policy -----------------------------------------------------------------------------------------------------


@pytest.mark.sampled(is_in=lambda options, variable, named: bool(options) == named.startswith("wrong"))
@pytest.mark.parametrize(
    ("options", "variable", "named"),
    [
        (["--policy", "wrong.yaml"], None, "wrong.yaml:1"),
        (["--policy", "missing.yaml"], None, "missing.yaml"),
        ([], "wrong.yaml", "wrong.yaml:1"),
        ([], "missing.yaml", "missing.yaml"),
    ],
)
def test_a_bad_policy_ends_it_before_the_program_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], variable: str | None, named: str
) -> None:
    """Exit status 2, one line, and nothing of the program is run."""
    (folder / "wrong.yaml").write_text("artefact_level: full\n")
    write(folder, "print('started')")
    if variable is not None:
        monkeypatch.setenv("LANGCHAIN_MLFLOW_COST_POLICY", variable)
    status, said, errors = outcome([*RUN, *options, "app.py"])

    assert (2, "") == (status, said)
    assert named in errors
    assert "Traceback" not in errors


def test_a_policy_that_is_off_changes_nothing(folder: Path) -> None:
    """`enabled: false`: the program's environment and modules are as ever."""
    (folder / "off.yaml").write_text("enabled: false\n")
    write(
        folder, "import os, sys, langchain_core; print(os.environ.get('PYTHONPATH'), 'mlflow' in sys.modules, sys.path)"
    )

    assert outcome([sys.executable, "app.py"]) == outcome([*RUN, "--policy", "off.yaml", "app.py"])


@pytest.mark.nightly
def test_the_experiment_of_the_environment_stays(
    folder: Path, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program whose environment names its experiment stores there, where the policy names none."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    status, _, errors = outcome([*RUN, "--policy", "policy.yaml", str(APPS / "agent.py")])
    (trace,) = governed(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.get_experiment(trace.info.experiment_id).name
    mlflow.set_tracking_uri(None)

    assert (0, "mine") == (status, experiment), errors


# --- what it governs ------------------------------------------------------------------------------------------------

CALLS = {"agent": 2, "supervisor": 6, "rag": 2, "streaming": 2, "functional": 5, "sdk": 4}


@pytest.mark.sampled(is_in=lambda name: name == "agent")
@pytest.mark.parametrize("name", list(CALLS))
def test_an_app_that_nobody_edits(folder: Path, server: ProviderServer, name: str) -> None:
    """It says what it says by itself; all of its spans are governed, at its cost, and MLflow has nothing to warn of."""
    status, said, errors = outcome([*RUN, "--policy", "policy.yaml", str(APPS / f"{name}.py")])
    traces = governed(folder)
    sums = [json.loads(trace.info.trace_metadata["mlflow.trace.cost"])["total_cost"] for trace in traces]

    assert 0 == status, errors
    assert said
    assert "not found" not in errors
    assert CALLS[name] == len(server.requests)
    assert [CALLS[name] * CALL_USD] * 2 == pytest.approx([sum(map(leaves_usd, traces)), sum(sums)], rel=1e-9)


CHILDREN = {
    "subprocess": "subprocess.run([sys.executable, '-c', ASK], check=True)",
    "subprocess with its environment": "subprocess.run([sys.executable, '-c', ASK], check=True, env=dict(os.environ))",
    "os.system": "os.system(f'{sys.executable} child.py')",
    "spawn": "start(multiprocessing.get_context('spawn'))",
    "fork": "start(multiprocessing.get_context('fork'))",
    "forkserver": "start(multiprocessing.get_context('forkserver'))",
    "pool": "pool()",
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", list(CHILDREN))
def test_children_are_governed(folder: Path, server: ProviderServer, name: str) -> None:
    """A call in a child process is governed as one in the program itself, whichever way the child is started."""
    write(folder, "from app import ask\nask('child')\n", "child.py")
    write(
        folder,
        f"""
        import concurrent.futures, multiprocessing, os, subprocess, sys
        ASK = "from app import ask; ask('child')"

        def ask(who):
            from langchain_openai import ChatOpenAI
            import mlflow
            with mlflow.start_span(who) as span:
                span.set_inputs("jane.doe@example.com")
                ChatOpenAI(model="gpt-4o-mini").invoke("I am jane.doe@example.com")
            mlflow.flush_trace_async_logging()

        def start(context):
            child = context.Process(target=ask, args=("child",))
            child.start()
            child.join()

        def pool():
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(ask, "child").result()

        if __name__ == "__main__":
            {CHILDREN[name]}
        """,
    )
    status, _, errors = outcome([*RUN, "--policy", "policy.yaml", "app.py"])
    traces = governed(folder)

    assert 0 == status, errors
    assert ["child"] == [trace.data.spans[0].name for trace in traces], errors
    assert "not governed" not in errors


ODD = {
    "isolated": ("[sys.executable, '-I', '-c', 'pass']", "None", True),
    "without environment": ("[sys.executable, '-Ec', 'pass']", "None", True),
    "without site": ("[sys.executable, '-S', '-c', 'pass']", "None", True),
    "with another environment": ("[sys.executable, '-c', 'pass']", "{'PATH': '/bin'}", True),
    "another program": ("['/bin/true', '-I']", "{}", False),
    "options of the program": ("[sys.executable, '-c', 'pass', '-I']", "None", False),
    "options with values": (
        "[sys.executable, '-W', 'ignore::ImportWarning', '-X', 'dev', '-c', 'pass']",
        "None",
        False,
    ),
}


@pytest.mark.sampled(
    is_in=lambda name: name in {"isolated", "with another environment", "another program", "options of the program"}
)
@pytest.mark.parametrize("name", list(ODD))
def test_a_child_that_is_not_governed_is_told_once(folder: Path, name: str) -> None:
    """A Python that is told to ignore its environment, or gets another, is warned of once; nothing else is."""
    words, environment, told = ODD[name]
    write(folder, f"import subprocess, sys\nfor _ in range(2): subprocess.run({words}, env={environment}, check=True)")
    status, _, errors = outcome([*RUN, "app.py"])

    assert 0 == status
    assert (1 if told else 0) == errors.count("not governed"), errors


# --- servers --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(command: list[str], port: int, folder: Path) -> Iterator[Callable[[str], str]]:
    """A server of several processes, which ends as a terminal ends it."""
    with (folder / "server.log").open("w") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, cwd=APPS)

        def get(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                return str(answer.read().decode())

        try:
            wait_for(lambda: get("/pid"), started)
            yield get
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(timeout=90)


def wait_for(probe: Callable[[], Any], started: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            probe()
        except OSError:
            assert started.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        else:
            return


def stored_roots(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return int(database.execute("SELECT COUNT(*) FROM spans WHERE parent_span_id IS NULL").fetchone()[0])


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.2)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


SERVERS = {
    "uvicorn": ["-m", "uvicorn", "streaming:app", "--port"],
    "uvicorn --workers": ["-m", "uvicorn", "streaming:app", "--workers", "2", "--port"],
    "uvicorn --reload": ["-m", "uvicorn", "streaming:app", "--reload", "--port"],
    "gunicorn": ["-m", "gunicorn", "wsgi:app", "-w", "2", "-b"],
    "gunicorn --preload": ["-m", "gunicorn", "wsgi:app", "-w", "2", "--preload", "-b"],
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", list(SERVERS))
def test_a_server_with_workers(
    folder: Path, server: ProviderServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the workers of a server trace is governed, and stored."""
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    place = f"127.0.0.1:{port}" if name.startswith("gunicorn") else str(port)
    with serving([*RUN, "--policy", str(folder / "policy.yaml"), *SERVERS[name], place], port, folder) as get:
        question = urllib.parse.quote("I am jane.doe@example.com")
        answers = [get(f"/ask?question={question}") for _ in range(3)]
        # uvicorn ends by the signal that it was sent, and then runs nothing at exit: what is not stored by then is lost.
        wait_until(lambda: 3 == stored_roots(folder))

    assert 3 == len(server.requests)
    assert ["Dear jane.doe@example.com, it is so."] * 3 == answers
    assert 3 == len(governed(folder)), (folder / "server.log").read_text()
