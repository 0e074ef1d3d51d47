"""Whether a text is anywhere in what MLflow stored: not asked of MLflow, but looked for in the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_mlflow_cost.sqlite_files import MAGIC, opened, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def found_in(files: Iterable[Path], texts: Iterable[str]) -> set[str]:
    """Those of the texts that are in one of the files, as UTF-8; of a SQLite database also in one of its values.

    Both are needed: the bytes show what is deleted but not yet overwritten, or still in the write-ahead log; the
    values show what runs over the end of a page and is no longer one piece there.
    """
    wanted = {text: text.encode() for text in texts}
    found = set()
    for file in files:
        content = file.read_bytes()
        values = list(_values(file)) if content.startswith(MAGIC) else []
        found |= {text for text, data in wanted.items() if data in content or any(data in value for value in values)}
    return found


def _values(database: Path) -> Iterator[bytes]:
    """Every text and blob of every table, as bytes."""
    with opened(database) as connection:
        for _, _, rows in tables(connection):
            for row in rows:
                yield from (value for value in row if isinstance(value, bytes))
