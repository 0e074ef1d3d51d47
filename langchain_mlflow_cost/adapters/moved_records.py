"""The records of a file store in a database: made by MLflow's own command, their addresses changed, put beside others.

Tables and columns as in MLflow 3.15 to 3.17 (`mlflow/store/tracking/dbmodels/models.py`,
`mlflow/store/model_registry/dbmodels/models.py`). What is copied from one database to another is found in the databases
themselves: their tables, keys and columns.
"""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from langchain_mlflow_cost.adapters.file_store import local_path
from langchain_mlflow_cost.adapters.trace_fields import ARTIFACT_LOCATION
from langchain_mlflow_cost.sqlite_files import opened, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_mlflow_cost.adapters.file_store import FileStore

_AFTER: Final = {"inputs": ("datasets", "runs"), "input_tags": ("inputs",)}
"""Tables that refer to others without the database's knowledge."""


class _Column(NamedTuple):
    """A column of addresses, and where MLflow puts the files of such a record if nobody chose another place."""

    kind: str
    table: str
    column: str
    natural: str
    where: str = "1"


_ADDRESSES: Final = (
    _Column("experiment", "experiments", "artifact_location", "experiment_id"),
    _Column("run", "runs", "artifact_uri", "experiment_id || '/' || run_uuid || '/artifacts'"),
    _Column("model", "logged_models", "artifact_location", "experiment_id || '/models/' || model_id || '/artifacts'"),
    _Column("model version", "model_versions", "source", "NULL"),
    _Column("model version", "model_versions", "storage_location", "NULL"),
    _Column(
        "trace",
        "trace_tags",
        "value",
        "(SELECT i.experiment_id FROM trace_info i WHERE i.request_id = trace_tags.request_id)"
        " || '/traces/' || request_id || '/artifacts'",
        f"key = '{ARTIFACT_LOCATION}'",
    ),
)
_TEXTS: Final = (
    ("experiment_tags", "value"),
    ("tags", "value"),
    ("params", "value"),
    ("trace_tags", "value"),
    ("trace_request_metadata", "value"),
    ("datasets", "dataset_source"),
    ("registered_model_tags", "value"),
    ("model_version_tags", "value"),
)
"""Where a record may name a folder in words of its own."""


class MigrationError(Exception):
    """The records cannot be moved; the message says why, and what to do."""


def make_records(view: Path, database: Path, tell: Callable[[int, int], None]) -> None:
    """Let MLflow write the records of a file store to a new database.

    Raises:
        MigrationError: It could not; with what it said last.
    """
    command = ["migrate-filestore", "--source", str(view), "--target", f"sqlite:///{database}"]
    # The command and not the function behind it: only the command is public.
    with subprocess.Popen(  # noqa: S603 - no shell, own words
        [sys.executable, "-u", "-m", "mlflow", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        said: list[str] = []
        try:
            for line in process.stdout or ():
                said = [*said[-20:], line.rstrip()]
                step = re.match(r"\[(\d+)/(\d+)\] Migrating experiment", line)
                if step:
                    tell(int(step[1]) - 1, int(step[2]))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        last = "\n".join(line for line in said if line) or "nothing"
        raise MigrationError(f"mlflow {shlex.join(command)} failed; it said last:\n{last}")
    with opened(database, "rw") as connection:
        # As MLflow makes its databases: this mode does not work on a network's disk.
        connection.execute("PRAGMA journal_mode = DELETE")


# --- addresses ------------------------------------------------------------------------------------------------------


@dataclass
class Places:
    """Where the files of a database's records are."""

    copied: list[Path] = field(default_factory=list)
    """Folders and files below the old folder, relative to it."""
    staying: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many records have their files elsewhere, by kind and place."""


def find_places(connection: sqlite3.Connection, store: FileStore, *, moved: bool = True) -> Places:
    """Which files of the old folder the records of a database need, and what stays elsewhere.

    Args:
        connection: To the database.
        store: The old folder.
        moved: Whether addresses may be of a former place of the folder: those in its own records.
    """
    places, needed = Places(), set()
    for column, _, address, inside in _addresses(connection, store, moved=moved):
        if inside is not None:
            if column.kind != "experiment":
                needed.add(inside)
        elif (
            column.kind != "experiment"
            and not address.startswith(("runs:", "models:"))
            and "dummy-source" not in address
        ):
            where = column.kind, _beginning(address)
            places.staying[where] = places.staying.get(where, 0) + 1
    places.copied = [each for each in sorted(needed) if not any(above in needed for above in each.parents)]
    return places


def _beginning(address: str) -> str:
    """As much of an address as tells where it is."""
    path = local_path(address)
    if path is None:
        parts = urlsplit(address)
        return f"in {parts.scheme}://{parts.hostname or ''}"
    if not path.exists():
        return f"were in {path.parent}, where nothing is"
    return f"in {path.parent.parent if path.name == 'artifacts' else path.parent}"


def change_addresses(connection: sqlite3.Connection, store: FileStore, new_root: Path, *, moved: bool = True) -> int:
    """Let the records of a database point to where the files of the old folder are now; how many were changed.

    A transaction is the caller's; the rest as for `find_places`.
    """
    changed = 0
    for column, row, address, inside in list(_addresses(connection, store, moved=moved)):
        if inside is None:
            continue
        path = new_root / without_trash(inside)
        new = path.as_uri() if address.startswith("file:") or "://" in address else str(path)
        connection.execute(f"UPDATE {column.table} SET {column.column} = ? WHERE rowid = ?", (new, row))  # noqa: S608 - own words
        changed += 1
    return changed


def without_trash(inside: Path) -> Path:
    """The place of files of a deleted experiment, if it were not deleted: databases move nothing."""
    return Path(*inside.parts[1:]) if inside.parts[:1] == (".trash",) else inside


def _addresses(
    connection: sqlite3.Connection, store: FileStore, *, moved: bool
) -> Iterator[tuple[_Column, int, str, Path | None]]:
    for column in _ADDRESSES:
        sql = f"SELECT rowid, {column.column}, {column.natural} FROM {column.table} WHERE {column.where}"  # noqa: S608 - own words
        for row, address, natural in connection.execute(sql).fetchall():
            if address:
                found = store.inside(address, None if natural is None else str(natural), moved=moved)
                yield column, row, address, found


def still_pointing(connection: sqlite3.Connection, store: FileStore) -> int:
    """How many records have their files in the old folder."""
    return sum(inside is not None for *_, inside in _addresses(connection, store, moved=False))


def mentions(connection: sqlite3.Connection, folder: Path) -> dict[str, int]:
    """How many texts of records name the folder: they are nobody's addresses, and stay as they are."""
    found = {}
    for table, column in _TEXTS:
        skipped = f" AND key != '{ARTIFACT_LOCATION}'" if table == "trace_tags" else ""
        sql = f"SELECT count(*) FROM {table} WHERE instr({column}, ?) > 0{skipped}"  # noqa: S608 - own words
        count = connection.execute(sql, (f"{folder}/",)).fetchone()[0]
        if count:
            found[table] = int(count)
    return found


# --- into a database that is there ----------------------------------------------------------------------------------


@dataclass
class Merged:
    """What came of putting records beside others."""

    added: int = 0
    known: int = 0
    """Rows that were there already, and the same."""
    joined: list[str] = field(default_factory=list)
    """Experiments that are in both, by name."""
    readdressed: int = 0
    """Records of the database itself whose files were in the old folder."""


def schema_of(connection: sqlite3.Connection) -> str | None:
    """The version of MLflow's tables in a database; None if it has none."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError:
        return None
    return str(row[0]) if row else None


def merge(staged: Path, database: Path, store: FileStore, new_root: Path) -> Merged:
    """Add all records of one database to another, in one transaction: it has all of them or is as it was.

    An experiment that both have by one name is one afterwards; one whose id is taken gets another.

    Raises:
        MigrationError: Something is in both under one key and not the same, or another program holds the database.
    """
    with opened(database, "rw") as connection:
        connection.execute("ATTACH DATABASE ? AS old", (uri_of(staged),))
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise MigrationError(
                f"{database} is used by another program ({error}); stop it, and run this command again"
            ) from None
        try:
            merged = _Merge(connection).run()
            merged.readdressed = change_addresses(connection, store, new_root, moved=False)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return merged


class _Merge:
    """One merge, within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection
        self._merged = Merged()

    def run(self) -> Merged:
        self._map_experiments()
        # Databases of an older MLflow may have had some all along.
        before = self._broken()
        for table in self._tables():
            self._copy(table)
        for table, _, other, *_ in self._broken() - before:
            raise MigrationError(f"a row of {table} would refer to one of {other} that is not there")
        return self._merged

    def _broken(self) -> set[Any]:
        return set(self._sql.execute("PRAGMA main.foreign_key_check").fetchall())

    def _map_experiments(self) -> None:
        """Temporary table `moved`: the id of each experiment in the old and in the new database."""
        self._sql.execute(
            "CREATE TEMP TABLE moved (was INTEGER PRIMARY KEY, now INTEGER NOT NULL, joined INTEGER NOT NULL)"
        )
        taken = dict(self._sql.execute("SELECT name, experiment_id FROM main.experiments").fetchall())
        ids = set(taken.values())
        for number, name in self._sql.execute("SELECT experiment_id, name FROM old.experiments").fetchall():
            now = taken.get(name)
            joined = now is not None
            if now is None:
                now = number if number not in ids else max(ids) + 1
                ids.add(now)
            elif number != 0 or name != "Default":
                self._merged.joined.append(name)
            self._sql.execute("INSERT INTO moved VALUES (?, ?, ?)", (number, now, joined))

    def _tables(self) -> list[str]:
        """Those that hold something, each after those that it refers to."""
        names = [
            name
            for (name,) in self._sql.execute("SELECT name FROM old.sqlite_master WHERE type = 'table' ORDER BY name")
            if name != "alembic_version" and not name.startswith("sqlite_")
            if self._sql.execute(f"SELECT EXISTS (SELECT 1 FROM old.{name})").fetchone()[0]  # noqa: S608 - a table's name
        ]
        order: list[str] = []

        def visit(name: str) -> None:
            if name in order or name not in names:
                return
            known = [row[2] for row in self._sql.execute(f"PRAGMA old.foreign_key_list({name})").fetchall()]
            for other in [*known, *_AFTER.get(name, ())]:
                if other != name:
                    visit(other)
            order.append(name)

        for name in names:
            visit(name)
        return order

    def _copy(self, table: str) -> None:
        columns = [row[1] for row in self._sql.execute(f"PRAGMA old.table_xinfo({table})") if row[6] == 0]
        keys = [
            row[1]
            for row in sorted(self._sql.execute(f"PRAGMA main.table_info({table})"), key=lambda row: row[5])
            if row[5]
        ]
        values = ", ".join(f'{self._value(table, column)} AS "{column}"' for column in columns)
        self._sql.execute(f"CREATE TEMP TABLE fresh AS SELECT {values} FROM old.{table} o WHERE {self._chosen(table)}")  # noqa: S608 - columns' names
        if table == "registered_model_tags":
            self._renumber_prompts()
        same_key = " AND ".join(f'm."{key}" IS f."{key}"' for key in keys)
        # What a database makes up for itself is not compared.
        compared = [each for each in columns if each not in keys and (table, each) != ("inputs", "input_uuid")]
        other = " OR ".join(f'm."{name}" IS NOT f."{name}"' for name in compared) or "0"
        names = ", ".join(f'f."{key}"' for key in keys)
        clash = self._sql.execute(
            f"SELECT {names} FROM fresh f JOIN main.{table} m ON {same_key} WHERE {other}"  # noqa: S608 - as above
        ).fetchall()
        if clash:
            raise MigrationError(
                f"{len(clash)} of {table} are in both, and not the same, such as {', '.join(map(str, clash[0]))}: "
                "nothing was merged. Rename or delete one of the two, or name a new database"
            )
        names = ", ".join(f'"{each}"' for each in columns)
        before = self._sql.total_changes
        self._sql.execute(
            f"INSERT INTO main.{table} ({names}) SELECT {names} FROM fresh f "  # noqa: S608 - as above
            f"WHERE NOT EXISTS (SELECT 1 FROM main.{table} m WHERE {same_key})"
        )
        added = self._sql.total_changes - before
        self._merged.added += added
        self._merged.known += int(self._sql.execute("SELECT count(*) FROM fresh").fetchone()[0]) - added
        self._sql.execute("DROP TABLE fresh")

    def _renumber_prompts(self) -> None:
        """A prompt names the experiments that it belongs to: `,0,17,`."""
        now = {str(was): str(now) for was, now, _ in self._sql.execute("SELECT * FROM moved").fetchall()}
        for row, value in self._sql.execute(
            "SELECT rowid, value FROM fresh WHERE key = '_mlflow_experiment_ids'"
        ).fetchall():
            numbers = ",".join(now.get(each, each) for each in str(value).split(","))
            self._sql.execute("UPDATE fresh SET value = ? WHERE rowid = ?", (numbers, row))

    @staticmethod
    def _chosen(table: str) -> str:
        """Which rows of a table are copied."""
        if table == "experiments":
            return "o.experiment_id NOT IN (SELECT was FROM moved WHERE joined)"
        if table == "experiment_tags":
            # An experiment that is in both keeps what the database says of it.
            return (
                "NOT EXISTS (SELECT 1 FROM main.experiment_tags m JOIN moved ON m.experiment_id = now AND joined "
                "WHERE was = o.experiment_id AND m.key = o.key)"
            )
        if table == "datasets":
            return (
                "NOT EXISTS (SELECT 1 FROM main.datasets m JOIN moved ON m.experiment_id = now "
                "WHERE was = o.experiment_id AND m.name = o.name AND m.digest = o.digest)"
            )
        if table == "input_tags":
            return "EXISTS (SELECT 1 FROM main.inputs m WHERE m.input_uuid = o.input_uuid)"
        return "1"

    @staticmethod
    def _value(table: str, column: str) -> str:
        """What a column of the old database is in the new one."""
        if column == "experiment_id":
            return "(SELECT now FROM moved WHERE was = o.experiment_id)"
        if (table, column) == ("inputs", "source_id"):
            return (
                "CASE o.source_type WHEN 'DATASET' THEN COALESCE((SELECT m.dataset_uuid FROM old.datasets d "
                "JOIN moved ON was = d.experiment_id JOIN main.datasets m ON m.experiment_id = now AND m.name = d.name "
                "AND m.digest = d.digest WHERE d.dataset_uuid = o.source_id), o.source_id) ELSE o.source_id END"
            )
        return f"o.{column}"
