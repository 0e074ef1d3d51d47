"""`mlflow-cost migrate`: stores that old versions of MLflow wrote come over whole, and then the old folder can go.

The archives in `tests/data/stores` were written by those versions, and with each is what its own client told of it; see
`scripts/old_stores.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = ROOT / "tests/data/stores"
WRITTEN_AT = {"2.9.2": "/tmp/mig/292/mlruns", "2.22.1": "/tmp/mig/222/mlruns", "3.9.0": "/tmp/mig/39/mlruns"}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "MLFLOW_TRACKING_URI": ""}


def unpacked(folder: Path, version: str, *, moved: bool = False) -> tuple[Path, dict[str, Any]]:
    """A store as it was written, at a new place, and what its MLflow told of it.

    Args:
        folder: Where.
        version: Of MLflow.
        moved: Leave the addresses in it as they were, as somebody does who moves the folder.
    """
    with tarfile.open(ARCHIVES / f"{version}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    store = folder / "mlruns"
    for file in store.rglob("*") if not moved else ():
        if file.name in ("meta.yaml", "mlflow.artifactLocation"):
            file.write_text(file.read_text().replace(WRITTEN_AT[version], str(store)))
    return store, json.loads((folder / "told.json").read_text())


def told(uri: str) -> dict[str, Any]:
    """What this MLflow's client tells of a store, in another process: this one would be warned at each step."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/old_stores.py", "tell", uri], capture_output=True, check=True, env=ENVIRONMENT
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def alike(told: dict[str, Any]) -> dict[str, Any]:
    """What was told, without what an older client does not tell."""
    for run in told["runs"].values():
        # A file store loses the files of a deleted experiment out of sight, see the test below.
        if told["experiments"][run["experiment"]]["lifecycle"] == "deleted":
            run["artifacts"] = {}
    for trace in told["traces"].values():
        trace["previews"] = [each or None for each in trace["previews"]]
        for each in trace["assessments"]:
            each.setdefault("valid", True)
    return told


def hashes(folder: Path) -> dict[str, str]:
    """All files below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize(
    ("version", "moved"),
    [
        pytest.param("3.9.0", False, marks=pytest.mark.nightly),
        pytest.param("3.9.0", True, marks=pytest.mark.nightly),
        pytest.param("2.22.1", False, marks=pytest.mark.nightly),
        pytest.param("2.9.2", False, marks=pytest.mark.nightly),
        pytest.param("2.9.2", True, marks=pytest.mark.nightly),
    ],
)
def test_store_comes_over_whole(cli: Cli, tmp_path: Path, version: str, *, moved: bool) -> None:
    """The old folder is only read; it is deleted, as advised, and then all is as the old MLflow told it, artifacts too."""
    store, before = unpacked(tmp_path, version, moved=moved)
    bytes_before = hashes(store)
    done = cli("migrate", "mlruns", "mlflow.db")
    assert done.code == 0, done.err
    assert hashes(store) == bytes_before
    assert f"Then delete {store}" in done.out
    shutil.rmtree(store)
    after = told(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (deleted,) = [run for run in after["runs"].values() if run["experiment"] == "given up"]

    assert len(deleted["artifacts"]) == 4
    assert alike(after) == alike(before)
    assert f"Now set tracking_uri: sqlite:///{tmp_path / 'mlflow.db'}" in done.out
    assert {each.name for each in tmp_path.iterdir()} == {"mlflow.db", "mlflow-artifacts", "told.json"}


# --- a database that is there ----------------------------------------------------------------------------------------

PROGRAM = """
import mlflow, sys
from pathlib import Path
sys.path.insert(0, "{root}/tests/support")
from fake_models import FakeChat
from ways import ASK, one_node
from langchain_mlflow_cost import configure
handler = configure({{"experiment_name": "agents"}})
with mlflow.start_run():
    mlflow.log_text("of the database", "notes.txt")
    one_node(lambda _: FakeChat().invoke("hi")).invoke(ASK, {{"callbacks": [handler]}})
"""


@pytest.mark.nightly
def test_database_that_is_there_is_added_to(cli: Cli, tmp_path: Path) -> None:
    """It has its own and the old store's afterwards, one experiment of each name, and needs the old folder no more.

    MLflow puts the artifacts of a database's experiments into `./mlruns`, too. A second time nothing is to be done.
    """
    store, before = unpacked(tmp_path, "3.9.0")
    program = PROGRAM.format(root=ROOT)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    own = told(uri)
    done, again = cli("migrate", "mlruns", "mlflow.db"), cli("migrate", "mlruns", "mlflow.db")
    shutil.rmtree(store)
    after = told(uri)

    assert (done.code, again.code) == (0, 0), done.err + again.err
    assert "Experiments of one name are one now: agents" in done.out
    assert ": 0 rows added" in again.out
    assert {"notes.txt"} == {name for run in own["runs"].values() for name in run["artifacts"]}
    for kind in ("runs", "traces", "models", "registry", "prompts"):
        assert alike(after)[kind] == {**alike(before)[kind], **alike(own)[kind]}
    assert {each["experiment"] for each in own["runs"].values()} == {"agents"}


@pytest.mark.nightly
def test_what_is_in_both_and_not_the_same(cli: Cli, tmp_path: Path) -> None:
    """Nothing is overwritten: the database is as it was, and the message names what is in the way."""
    unpacked(tmp_path, "2.9.2")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.MlflowClient().create_registered_model("ranker", description="Another one.")
    before = list(rows(tmp_path / "mlflow.db"))
    done = cli("migrate", "mlruns", "mlflow.db")

    assert done.code == 1
    assert "1 of registered_models are in both, and not the same, such as" in done.err
    assert "ranker" in done.err
    assert list(rows(tmp_path / "mlflow.db")) == before


def rows(database: Path) -> list[str]:
    """All of a database."""
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


# --- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.parametrize("stage", ["records", "files"])
def test_killed_and_run_again(cli: Cli, tmp_path: Path, stage: str) -> None:
    """A process that is killed leaves no database and the old folder as it was; run again, it goes on to the end."""
    store, before = unpacked(tmp_path, "3.9.0")
    artifacts = next(store.glob("*/*/artifacts"))
    for number in range(2_000):
        (artifacts / f"{number}.bin").write_bytes(os.urandom(20_000))
    bytes_before = hashes(store)
    waited_for = {"records": "mlflow.db.migrating/records-*.db", "files": "mlflow-artifacts/*/*/artifacts/100.bin"}[
        stage
    ]
    command = [sys.executable, "-m", "langchain_mlflow_cost", "migrate", "mlruns", "mlflow.db"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True) as process:
        until = time.monotonic() + 100
        while not next(tmp_path.glob(waited_for), None) and time.monotonic() < until:
            time.sleep(0.005)
        assert process.poll() is None
        process.kill()
    assert not (tmp_path / "mlflow.db").exists()
    assert hashes(store) == bytes_before
    done = cli("migrate", "mlruns", "mlflow.db")
    if group_is_there(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    shutil.rmtree(store)
    after = told(f"sqlite:///{tmp_path / 'mlflow.db'}")

    assert done.code == 0, done.err
    assert ("going on where an earlier run stopped" in done.err) == (stage == "files")
    assert alike(after)["traces"] == alike(before)["traces"]
    assert sum(len(run["artifacts"]) for run in after["runs"].values()) >= 2_000


def group_is_there(group: int) -> bool:
    """Whether a process of a group is left: MLflow's, whose caller was killed."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.nightly
def test_another_file_is_where_one_should_go(cli: Cli, tmp_path: Path) -> None:
    """It is the user's: it stays, and no database points to it."""
    unpacked(tmp_path, "2.22.1")
    assert cli("migrate", "mlruns", "first.db", "--artifacts", "files").code == 0
    mine = min(file for file in (tmp_path / "files").rglob("*") if file.is_file())
    mine.write_bytes(b"mine")
    done = cli("migrate", "mlruns", "second.db", "--artifacts", "files")

    assert done.code == 1
    assert f"{mine} is there already, and is another file; name a new folder with --artifacts" in done.err
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "second.db").exists()


# --- what cannot be moved --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["nowhere", "new.db"], "nowhere is no folder", id="a folder that is not there"),
        pytest.param(
            ["project", "new.db"], "project holds no file store: no folder in it has a meta.yaml", id="no store"
        ),
        pytest.param(["above", "new.db"], "did you mean above/mlruns?", id="a store below it"),
        pytest.param(["old.db", "new.db"], "`mlflow db upgrade old.db` brings it up to date", id="a database"),
        pytest.param(
            ["above/mlruns", "postgresql://h/db"], "MLflow moves file stores to SQLite alone", id="to PostgreSQL"
        ),
        pytest.param(["above/mlruns", "project"], "project is a folder", id="to a folder"),
        pytest.param(["above/mlruns", "notes.txt"], "notes.txt is there already and is no database", id="to a file"),
        pytest.param(
            ["above/mlruns", "new.db", "--artifacts", "above/mlruns/files"], "which is to be deleted", id="into itself"
        ),
    ],
)
def test_migrate_of_what_it_cannot(cli: Cli, tmp_path: Path, words: list[str], told: str) -> None:
    """It is told in a line, and nothing is made."""
    (tmp_path / "project").mkdir()
    (tmp_path / "above/mlruns/0").mkdir(parents=True)
    (tmp_path / "above/mlruns/0/meta.yaml").write_text("name: Default\n")
    (tmp_path / "notes.txt").write_text("mine")
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    before = hashes(tmp_path)
    done = cli("migrate", *words)

    assert done.code == 1
    assert told in done.err
    assert hashes(tmp_path) == before
