"""A PostgreSQL on 127.0.0.1 with a cluster of its own, and databases with MLflow's tables in it."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


def programs() -> Path | None:
    """Where `initdb` is; None where PostgreSQL or its driver is not installed."""
    if importlib.util.find_spec("psycopg2") is None:
        return None
    found = next(Path("/usr/lib/postgresql").glob("*/bin/initdb"), None) or shutil.which("initdb")
    return Path(found).parent if found else None


class Postgres:
    """A running cluster."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._number = itertools.count()

    def uri(self, name: str) -> str:
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/{name}"

    def run(self, *statements: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements, one after the other; what the last one gives."""
        import psycopg2

        with contextlib.closing(
            psycopg2.connect(host="127.0.0.1", port=self.port, user="mlflow", dbname=name)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []

    def database(self) -> str:
        """The URI of a new database with MLflow's tables and the experiment `tests`: making them takes seconds."""
        if not self.run("SELECT 1 FROM pg_database WHERE datname = 'made'"):
            self.run("CREATE DATABASE made")
            code = "import mlflow; mlflow.create_experiment('tests')"
            environment = {**os.environ, "MLFLOW_TRACKING_URI": self.uri("made")}
            # In a process of its own, whose connections end with it: nobody may be connected to what is copied.
            subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, cwd="/tmp")
        name = f"copy{next(self._number)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE made")
        return self.uri(name)


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """A cluster that ends with the block."""
    bin_folder = programs()
    assert bin_folder is not None
    # PostgreSQL does not run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    shutil.chown(folder, user)
    port = free_port()
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off -c max_connections=300"

    def run(program: str, *words: str) -> None:
        command = [str(bin_folder / program), "-D", str(folder / "data"), *words]
        with (folder / "log").open("ab") as log:
            subprocess.run(
                command, user=user, check=True, stdout=log, stderr=log, cwd=folder, env={"PATH": os.environ["PATH"]}
            )

    try:
        run("initdb", "-A", "trust", "-U", "mlflow", "-E", "UTF8", "--locale=C.UTF-8")
        run("pg_ctl", "-o", options, "-w", "start")
        try:
            yield Postgres(port)
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
