"""Whether a text is anywhere in what MLflow stored: not asked of MLflow, but looked for in the files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SQLITE_MAGIC = b"SQLite format 3\x00"


def found_in(files: Iterable[Path], texts: Iterable[str]) -> set[str]:
    """Those of the texts that are in one of the files, as UTF-8; of a SQLite database also in one of its values.

    Both are needed: the bytes show what is deleted but not yet overwritten, or still in the write-ahead log; the
    values show what runs over the end of a page and is no longer one piece there.
    """
    wanted = {text: text.encode() for text in texts}
    found = set()
    for file in files:
        content = file.read_bytes()
        values = list(_values(file)) if content.startswith(SQLITE_MAGIC) else []
        found |= {text for text, data in wanted.items() if data in content or any(data in value for value in values)}
    return found


def _values(database: Path) -> Iterator[bytes]:
    """Every text and blob of every table, as bytes."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        # Not all text in a database must be UTF-8; as bytes it can be searched as it is.
        connection.text_factory = bytes
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in tables:
            quoted = name.decode().replace('"', '""')
            for row in connection.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - the database's own table names
                yield from (value for value in row if isinstance(value, bytes))
