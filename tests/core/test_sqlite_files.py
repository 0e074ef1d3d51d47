"""SQLite's files: whatever they are called, whoever may write them."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from langchain_mlflow_cost.sqlite_files import opened, tables, why_unwritable
from langchain_mlflow_cost.stored_bytes import found_in
from langchain_mlflow_cost.tracking_stores import why_unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "ada@example.com"


def make(database: Path, journal: str = "delete") -> Path:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE told (content TEXT)")
        connection.execute("INSERT INTO told VALUES (?)", (TEXT,))
    return database


@pytest.mark.parametrize("name", ["a?mode=rw.db", "a#b.db", "100%41.db", "two words.db", "größe.db", "a&b=c;d.db"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    """Nothing in a file's name or its folder's is read as part of an address, and no other file is made."""
    folder = tmp_path / name
    folder.mkdir()
    database = make(folder / name)
    with opened(database) as connection:
        assert [(each, heads, list(rows)) for each, heads, rows in tables(connection)] == [
            ("told", ["content"], [(TEXT.encode(),)])
        ]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM told")
    with opened(database, "rw") as connection:
        connection.execute("INSERT INTO told VALUES ('more')")

    assert why_unwritable(database, wait_s=0.1) is None
    assert found_in([database], [TEXT]) == {TEXT}
    assert [path.name for path in folder.iterdir()] == [name]


def test_no_file_is_made(tmp_path: Path) -> None:
    """A database that is not there stays away."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"), opened(tmp_path / "a.db", "rw"):
        pass

    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that another user may look into; the tests' own are their user's alone."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize(
    ("modes", "fault"),
    [
        pytest.param((0o777, 0o444), "attempt to write a readonly database", id="file"),
        pytest.param((0o555, 0o666), "read-only", id="folder"),
        pytest.param((0o777, 0o666), None, id="neither"),
    ],
)
def test_who_may_not_write_is_told(own_folder: Path, journal: str, modes: tuple[int, int], fault: str | None) -> None:
    """A file that may only be read, and a folder in which no journal can be made, are found out before anything is lost."""
    database = make(own_folder / "mlflow.db", journal)
    before = database.read_bytes()
    database.chmod(modes[1])
    own_folder.chmod(modes[0])
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        told = why_unwritable(database, wait_s=0.1)
        told_of_store = why_unusable(f"sqlite:///{database}")
    finally:
        os.seteuid(0)

    if fault is None:
        assert (told, told_of_store) == (None, None)
    else:
        assert told is not None
        assert told_of_store == f"cannot be written ({told})"
    assert database.read_bytes() == before


def test_somebody_else_is_writing(tmp_path: Path) -> None:
    """Whoever must have the lock hears that it is taken; a store that is being written is a store that can be."""
    database = make(tmp_path / "mlflow.db")
    with opened(database, "rw") as other:
        other.execute("BEGIN IMMEDIATE")

        assert why_unwritable(database, wait_s=0.05) == "database is locked"
        assert why_unusable(f"sqlite:///{database}") is None
