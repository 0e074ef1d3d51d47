"""SQLite's files: opened without being made, whatever their names are, and asked whether they can be written."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"SQLite format 3\x00"
"""How each of them begins."""


def uri_of(file: Path, mode: Literal["ro", "rw"] = "ro") -> str:
    """The file as a URI of SQLite's: `?`, `#`, `%` and blanks in its name are its name.

    Args:
        file: A database. It is not made: SQLite makes an empty one wherever it is given a plain path.
        mode: `ro` to read, `rw` to write, too.
    """
    return f"{file.absolute().as_uri()}?mode={mode}"


@contextmanager
def opened(file: Path, mode: Literal["ro", "rw"] = "ro", *, wait_s: float = 30.0) -> Iterator[sqlite3.Connection]:
    """A connection that begins and ends no transaction by itself.

    Args:
        file: A database that is there.
        mode: `ro` to read, `rw` to write, too.
        wait_s: How long each statement waits for somebody who holds a lock, in seconds.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    with closing(sqlite3.connect(uri_of(file, mode), uri=True, timeout=wait_s, isolation_level=None)) as connection:
        yield connection


def tables(connection: sqlite3.Connection) -> Iterator[tuple[str, list[str], sqlite3.Cursor]]:
    """Every table: its name, the names of its columns, and its rows, in which text is bytes.

    Not all text in a database must be UTF-8; as bytes it can be read as it is.
    """
    connection.text_factory = bytes
    names = [name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for name in names:
        quoted = name.replace('"', '""')
        rows = connection.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - the database's own table names
        yield name, [each[0] for each in rows.description], rows


def why_unwritable(file: Path, *, wait_s: float) -> str | None:
    """What keeps us from writing to a database that is there, in SQLite's words; None if nothing does.

    Args:
        file: The database.
        wait_s: How long to wait for somebody who is writing just now, in seconds; then it is `database is locked`.
    """
    begun = False
    try:
        with opened(file, "rw", wait_s=wait_s) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("BEGIN IMMEDIATE")
            begun = True
            # In a file that may only be read, or a folder where no journal can be made, SQLite minds no sooner than at
            # the first change (3.40).
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if begun and "unable to open" in str(error):
            return f"{error}: the journal beside it, since its folder is read-only"
        return str(error)
    return None
