"""The search for planted texts in stored files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from langchain_mlflow_cost.stored_bytes import found_in

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = "ada@example.com"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('CREATE TABLE "odd ""name" (id INTEGER, content TEXT)')
    return path


def insert(database: Path, content: str | bytes) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute('INSERT INTO "odd ""name" VALUES (1, ?)', (content,))


def test_found_in_a_value(database: Path) -> None:
    """A text in a row is found, and one that is nowhere is not."""
    insert(database, f'{{"mail": "{PLANTED}"}}')

    assert found_in([database], [PLANTED, "4111 1111 1111 1111"]) == {PLANTED}


def test_found_across_pages(database: Path) -> None:
    """A text that runs over the end of a page is found: one of these is in two pieces in the file's bytes."""
    texts = [f"planted-{number:06d}" for number in range(2_000)]
    insert(database, " ".join(texts))
    in_pieces = [text for text in texts if text.encode() not in database.read_bytes()]

    assert in_pieces
    assert found_in([database], texts) == set(texts)


def test_found_after_deletion(database: Path) -> None:
    """A deleted text is found as long as its bytes are there."""
    insert(database, PLANTED)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute('DELETE FROM "odd ""name"')

    assert found_in([database], [PLANTED]) == {PLANTED}


def test_found_in_other_bytes(database: Path) -> None:
    """A blob that is no UTF-8 is searched like any other value."""
    insert(database, b"\xff\xfe" + PLANTED.encode() + b"\xff")

    assert found_in([database], [PLANTED]) == {PLANTED}


def test_found_in_plain_file(tmp_path: Path) -> None:
    """A file that is no database is searched by its bytes."""
    (tmp_path / "traces.json").write_text(f'{{"inputs": "{PLANTED}"}}', "utf-8")

    assert found_in([tmp_path / "traces.json"], [PLANTED]) == {PLANTED}
