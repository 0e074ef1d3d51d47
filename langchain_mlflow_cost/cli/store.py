"""MLflow's store as the commands use it: found without being made, and read page by page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from langchain_mlflow_cost.cli.app import CommandError
from langchain_mlflow_cost.cli.output import counted, tell
from langchain_mlflow_cost.notices import nearest, without_credentials
from langchain_mlflow_cost.tracking_stores import (
    database_file_of,
    dialect_of,
    folder_of,
    holds_file_store,
    is_server,
    why_unusable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Experiment

    from langchain_mlflow_cost.adapters.trace_rows import TraceRows
    from langchain_mlflow_cost.erasure.stores import ApiStore

SQLITE = "sqlite:///"
_SCHEMES: Final = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "databricks-uc")


def find_experiment(tracking_uri: str | None, name: str) -> Experiment:
    """Point MLflow at the store and find the experiment there.

    Args:
        tracking_uri: Or the file of a SQLite database; None for that of the environment, else of the current folder.
        name: The experiment's.

    Raises:
        CommandError: There is no such database or experiment. None is made.
    """
    uri = uri_named(tracking_uri)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        # MLflow would make an empty database there.
        raise CommandError(f"no database {uri.removeprefix(SQLITE)}; name the store with --tracking-uri")

    fault = why_unusable(uri) if is_server(uri) else None
    if fault is not None:
        raise CommandError(f"the MLflow server {without_credentials(uri)} {fault}")

    # Its default asks a server that is not there for four minutes (seven retries, 3.17); nobody waits so long here.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow

    mlflow.set_tracking_uri(uri)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        names = ", ".join(each.name for each in mlflow.search_experiments(max_results=10))
        raise CommandError(f"no experiment {name}; name one with --experiment: {names}")
    return found


def open_store(word: str | None) -> ApiStore:
    """Point MLflow at a store out of which something is to be deleted; none is made, nor a table in another database.

    Args:
        word: A tracking URI, or the file of a SQLite database; None for that of the environment, else of the folder.

    Raises:
        CommandError: There is no such store, it is none of MLflow's, or it cannot be written.
    """
    uri = uri_named(word)
    _check_is_there(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow

    from langchain_mlflow_cost.adapters.trace_tables import has_tables
    from langchain_mlflow_cost.erasure.stores import ApiStore, TablesStore

    if not has_tables(uri):
        mlflow.set_tracking_uri(uri)
        return ApiStore(uri)
    rows = _open_rows(uri)
    mlflow.set_tracking_uri(uri)
    return TablesStore(uri, rows)


def uri_named(word: str | None) -> str:
    """The tracking URI that a word means: itself, or the file of a SQLite database; by default as MLflow has it."""
    uri = word or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return f"{SQLITE}{uri}" if Path(uri).is_file() else uri


def _check_is_there(uri: str) -> None:
    scheme = dialect_of(uri)
    shown = without_credentials(uri)
    file = database_file_of(uri)
    if file is not None and not file.exists():
        raise CommandError(f"no database {file}; name the store as mlflow-cost ... STORE, such as sqlite:///mlflow.db")
    folder = folder_of(uri)
    if folder is not None and not holds_file_store(folder):
        near = folder / "mlflow.db"
        hint = (
            f"did you mean {near}?" if near.is_file() else "name a database, such as sqlite:///mlflow.db, or a server"
        )
        raise CommandError(f"{folder} is no store of MLflow's; {hint}")
    if folder is None and scheme not in _SCHEMES:
        meant = nearest(scheme, _SCHEMES)
        hint = f"did you mean {meant}://?" if meant else "expected sqlite:///FILE, postgresql://..., or http(s)://..."
        raise CommandError(f"{shown} is no store of MLflow's; {hint}")
    fault = why_unusable(uri)
    if fault is not None:
        remedy = f"; {remedy_for(fault)}" if "cannot be written" in fault else ""
        raise CommandError(f"{'the MLflow server ' if is_server(uri) else ''}{shown} {fault}{remedy}")


def _open_rows(uri: str) -> TraceRows:
    from sqlalchemy.exc import SQLAlchemyError

    from langchain_mlflow_cost.adapters.trace_rows import TraceRows

    shown = without_credentials(uri)
    try:
        rows = TraceRows(uri)
        fault = rows.try_to_write() if rows.is_mlflow else None
    except ModuleNotFoundError as error:
        raise CommandError(f"{shown} needs its driver: pip install {error.name}") from error
    except SQLAlchemyError as error:
        raise CommandError(f"{shown} cannot be opened: {first_line(error)}") from error
    if not rows.is_mlflow:
        raise CommandError(f"{shown} is no store of MLflow's: it has no table trace_info")
    if fault is not None:
        raise CommandError(f"{shown} cannot be written: {fault}; {remedy_for(fault)}")
    return rows


def first_line(error: BaseException) -> str:
    """What an error says, in one line, without SQL and credentials."""
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return without_credentials(said.splitlines()[0])


def remedy_for(fault: str) -> str:
    """What to do about a database that does not let us write."""
    if "lock" in fault:
        return "another program is writing to it: stop that, or wait until it is done, and run this again"
    if "disk" in fault or "full" in fault or "space" in fault:
        return "compacting needs about as much free space as the database has: make room, and run this again"
    if "read" in fault or "denied" in fault or "permission" in fault.lower():
        return "run this as somebody who may write to it"
    return "see to that, and run this again"


def find_experiments(tracking_uri: str | None, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Point MLflow at the store and find experiments there: the store's URI, and the experiments' names by id.

    Raises:
        CommandError: There is no such database or experiment. None is made.
    """
    found = [find_experiment(tracking_uri, name) for name in dict.fromkeys(names)]
    import mlflow

    return mlflow.get_tracking_uri(), {str(each.experiment_id): str(each.name) for each in found}


def find_names(store: ApiStore, names: Sequence[str] | None) -> dict[str, str]:
    """Names of experiments by their ids; None for all, deleted ones among them.

    Raises:
        CommandError: There is none of such a name.
    """
    known = store.experiments()
    if names is None:
        return known
    for name in names:
        if name not in known.values():
            raise CommandError(
                f"no experiment {name}; name one with --experiment: {', '.join(list(known.values())[:10])}"
            )
    return {each: name for each, name in known.items() if name in names}


def tell_unreadable(trace_id: str) -> None:
    """Say that a trace is left out."""
    tell(f"trace {trace_id} is left out: its spans cannot be read (files that are gone, or an archive that is away)")


class LeftOut:
    """Traces that a command has to leave out: said at once, and the command fails when it is done with the others."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, trace_id: str) -> None:
        """Leave out one whose spans cannot be read."""
        self.count += 1
        tell_unreadable(trace_id)

    def fail(self) -> None:
        """End the command.

        Raises:
            CommandError: Any was left out.
        """
        if self.count:
            raise CommandError(f"{counted(self.count, 'trace')} could not be read, see above")
