"""What a tracking URI names, and whether anything there takes traces: asked in bounded time, without MLflow."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import sqlite3
import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from langchain_mlflow_cost.bounded import within
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.sqlite_files import opened, why_unwritable

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

DEFAULT_TRACKING_URI: Final = "sqlite:///mlflow.db"
_ARTIFACT_STORES: Final = frozenset(
    {"s3", "gs", "wasb", "wasbs", "abfs", "abfss", "adl", "hdfs", "viewfs", "ftp", "sftp", "r2"}
)
"""Where MLflow keeps files, and nothing else."""
_OK: Final = b"OK"
"""All that MLflow's `/health` says, with status 200 (`mlflow/server/__init__.py`, seen from 2.9 to 3.17)."""
_PORTS: Final = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433}


def is_server(uri: str) -> bool:
    """Whether the URI names an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def dialect_of(uri: str) -> str:
    """The scheme of a URI without the driver that may stand behind it: `postgresql` of `postgresql+psycopg2://...`."""
    return urlsplit(uri).scheme.partition("+")[0]


def is_sqlite(uri: str) -> bool:
    """Whether the URI names a SQLite database."""
    return dialect_of(uri) == "sqlite"


def is_database(uri: str) -> bool:
    """Whether the URI names a database that MLflow reaches through SQLAlchemy."""
    return is_sqlite(uri) or dialect_of(uri) in _PORTS


def folder_of(uri: str) -> Path | None:
    """The folder that a URI of MLflow's file store means; None for anything else.

    `file://./mlruns` and `file://mlruns` are what people write for `./mlruns`; to MLflow, the first is `/mlruns`.
    """
    if re.match(r"(?i)file:", uri):
        path = uri[5:]
        host = re.match(r"//([^/]*)", path)
        if host is not None and host[1] in ("", "localhost"):
            path = path[host.end() :]
        elif host is not None:
            path = path[2:]
        return Path(unquote(path)) if path else None
    # A drive letter of Windows is no scheme.
    return None if re.match(r"[A-Za-z][\w+.-]+:|databricks|uc$", uri) or not uri else Path(uri)


def database_file_of(uri: str) -> Path | None:
    """The file of a SQLite database; None for another store, or one in memory."""
    found = re.match(r"sqlite(?:\+\w+)?:///([^?]*)", uri)
    return Path(found[1]) if found and found[1] and found[1] != ":memory:" else None


def holds_file_store(folder: Path) -> bool:
    """Whether MLflow's file store has written here: each experiment is a folder, a deleted one below `.trash`."""
    return any(next(folder.glob(pattern), None) for pattern in ("*/meta.yaml", ".trash/*/meta.yaml"))


def is_in(database: Path, old: Path) -> bool:
    """Whether a SQLite database has what a file store has, by one run and one trace of it: a guess, for a hint."""
    # An experiment's folder has its runs, models and traces, each a folder of its own with a file that says what it is.
    samples = {
        "SELECT 1 FROM runs WHERE run_uuid = ?": next(old.glob("*/[0-9a-f]*/meta.yaml"), None),
        "SELECT 1 FROM trace_info WHERE request_id = ?": next(old.glob("*/traces/*/trace_info.yaml"), None),
    }
    names = {query: file.parent.name for query, file in samples.items() if file is not None}
    if not database.exists():
        return not names
    try:
        with opened(database, wait_s=1) as stored:
            return all(stored.execute(query, (name,)).fetchone() for query, name in names.items())
    except sqlite3.Error:
        return False


def allows_file_store() -> bool:
    """Whether MLflow was told to use its old file store all the same; it raises otherwise, from 3.13 on."""
    return os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")


def has_databases() -> bool:
    """Whether this MLflow can open a database: the light package `mlflow-tracing` brings nothing for that."""
    return all(importlib.util.find_spec(name) is not None for name in ("sqlalchemy", "alembic", "sqlparse"))


def doubt_about(uri: str) -> str | None:
    """What to tell of a tracking URI that MLflow no longer takes, or never took; None for the others."""
    folder = folder_of(uri)
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    if folder is not None and allows_file_store():
        return (
            f"tracking_uri names a folder, {folder}, and MLflow is giving up its file store; move to "
            f"tracking_uri: {DEFAULT_TRACKING_URI}, and take the old traces along with "
            f"`mlflow-cost migrate {folder} mlflow.db`"
        )
    if folder is not None:
        return (
            f"tracking_uri names a folder, {folder}, and MLflow has given up its file store: `configure` uses "
            f"{DEFAULT_TRACKING_URI} instead. Take the old traces along with `mlflow-cost migrate {folder} mlflow.db`, "
            f"or stay for now with MLFLOW_ALLOW_FILE_STORE=true"
        )
    if scheme in _ARTIFACT_STORES:
        return (
            f"tracking_uri: MLflow keeps artifacts in {scheme}:// stores, but no traces: `configure` uses "
            f"{DEFAULT_TRACKING_URI} instead; name a server (http://...) or a database"
        )
    return None


def why_unusable(uri: str) -> str | None:
    """Ask whether a store can take traces, in no longer than `Limits.health_check_s`.

    MLflow itself tries a database that cannot be opened ten times, for 102 s, and a server for minutes (3.17).

    Returns:
        What went wrong, for a sentence that begins with the store's name; None if nothing is known against it.
    """
    if is_server(uri):
        wait_s = limits().health_check_s
        return _within(wait_s, lambda: _ask(uri, wait_s), f"did not answer its health check within {wait_s:g} s")
    file = database_file_of(uri)
    if file is not None:
        return _within(limits().health_check_s, lambda: _unwritable(file), None)
    parts = urlsplit(uri)
    port = _PORTS.get(dialect_of(uri))
    if port is None or not parts.hostname:
        return None
    place = parts.hostname, parts.port or port
    return _within(limits().health_check_s, lambda: _unreachable(place), "did not answer")


def _within(wait_s: float, ask: Callable[[], str | None], late: str | None) -> str | None:
    # No time-out of a request bounds looking a name up, or an answer that comes byte by byte.
    try:
        return within(wait_s, ask)
    except TimeoutError:
        return late


# --- servers --------------------------------------------------------------------------------------------------------


def answers_requests(uri: str) -> bool:
    """Whether a server that is healthy reads from its database too, within `Limits.health_check_s`."""
    wait_s = limits().health_check_s

    def ask() -> str | None:
        return _ask(uri, wait_s) or _get(uri, "/api/2.0/mlflow/experiments/get?experiment_id=0", wait_s, _no_fault)

    return _within(wait_s, ask, "is late") is None


def _ask(uri: str, wait_s: float) -> str | None:
    return _get(uri, "/health", wait_s, _unlike_mlflow)


def _unlike_mlflow(response: requests.Response) -> str | None:
    if response.status_code != HTTPStatus.OK:
        return f"answered its health check with status {response.status_code}"
    # A stranger's page may be of any length.
    body: bytes = response.raw.read(len(_OK) + 8, decode_content=True)
    return None if body.strip() == _OK else "answered its health check, but not as MLflow does"


def _no_fault(response: requests.Response) -> str | None:
    return None if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else f"has status {response.status_code}"


def _get(uri: str, path: str, wait_s: float, judge: Callable[[requests.Response], str | None]) -> str | None:
    import requests  # noqa: PLC0415 - not for programs that only read a policy

    try:
        # No redirect: MLflow's own calls are mostly POSTs, which a redirect turns into something else.
        with requests.get(
            f"{uri.rstrip('/')}{path}", timeout=wait_s, allow_redirects=False, stream=True, **_credentials()
        ) as response:
            return judge(response)
    except requests.Timeout:
        return f"did not answer its health check within {wait_s:g} s"
    except requests.ConnectionError:
        return "did not answer its health check: it cannot be reached"
    except Exception as error:  # noqa: BLE001 - whatever a stranger sends, or a certificate that is not there
        return f"did not answer its health check ({type(error).__name__})"


def _credentials() -> dict[str, Any]:
    """What MLflow's client sends and checks, by its documented variables: a proxy before the server may want it."""
    env = os.environ.get
    options: dict[str, Any] = {}
    user, password, token = (env(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD", "TOKEN"))
    if user and password:
        options["auth"] = (user, password)
    elif token:
        options["headers"] = {"Authorization": f"Bearer {token}"}
    if env("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        options["verify"] = False
    elif certificate := env("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        options["verify"] = certificate
    if client := env("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        options["cert"] = client
    return options


# --- databases ------------------------------------------------------------------------------------------------------


def _unreachable(place: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(place, limits().health_check_s).close()
    except OSError as error:
        return f"cannot be reached ({error.strerror or type(error).__name__})"
    return None


def _unwritable(file: Path) -> str | None:
    if not file.exists():
        return _no_new_file(file.absolute().parent)
    fault = why_unwritable(file, wait_s=0.1)
    # Locked: somebody else is writing just now. He can, and so can we.
    return None if fault is None or "locked" in fault else f"cannot be written ({fault})"


def _no_new_file(folder: Path) -> str | None:
    # MLflow makes the folders above it.
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror or type(error).__name__})"
