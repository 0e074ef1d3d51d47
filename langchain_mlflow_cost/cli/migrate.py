"""`mlflow-cost migrate`: the records of MLflow's old file store, into a database."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from langchain_mlflow_cost.cli.app import CommandError
from langchain_mlflow_cost.cli.store import SQLITE


def migrate_store(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The file store: a folder, or its file: URI.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The new database: a file, or its sqlite: URI.")],
) -> None:
    """Copy the records of MLflow's old file store to a SQLite file.

    Artifacts and the spans of traces are not copied: the old folder has to stay where it is.
    """
    folder = Path(_path_of(source))
    database = Path(target.removeprefix(SQLITE)).absolute()
    if not folder.is_dir():
        raise CommandError(f"{folder} is no folder")
    if database.exists():
        raise CommandError(f"{database} is there already; name a new file")
    if not _is_file_store(folder):
        near = f"; did you mean {folder / 'mlruns'}?" if _is_file_store(folder / "mlruns") else ""
        raise CommandError(f"{folder} holds no file store: no folder in it has a meta.yaml{near}")
    database.parent.mkdir(parents=True, exist_ok=True)
    command = ["migrate-filestore", "--source", str(folder), "--target", f"{SQLITE}{database}"]
    # The command and not the function behind it: only the command is public.
    done = subprocess.run([sys.executable, "-m", "mlflow", *command], check=False)  # noqa: S603 - no shell, own words
    if done.returncode:
        raise CommandError(f"mlflow {shlex.join(command)} failed, see above; {folder} is as it was")
    # Not through the console: it would break the address in two.
    sys.stdout.write(f"\nNow set tracking_uri: {SQLITE}{database}\n")
    # MLflow copies records alone; their addresses of files, and the experiments' for new ones, stay in the folder.
    sys.stdout.write(
        f"Keep {folder.absolute()} where it is: only records were copied. The artifacts of runs and models, and the\n"
        "spans and attachments of traces, are still read from there; new artifacts of its experiments go there, too.\n"
    )


def _is_file_store(folder: Path) -> bool:
    # MLflow keeps an experiment in a folder of its own, a deleted one below `.trash`.
    return any(next(folder.glob(pattern), None) for pattern in ("*/meta.yaml", ".trash/*/meta.yaml"))


def _path_of(uri: str) -> str:
    # `file://./mlruns` is what people write and mean as `./mlruns`.
    return re.sub(r"^file:(//(?=[./]))?", "", uri)
