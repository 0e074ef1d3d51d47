"""Counting tokens without a network."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

import pytest

from langchain_mlflow_cost.pricing import tokenizer
from langchain_mlflow_cost.pricing.tokenizer import count_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for tiktoken's tables, and a socket that cannot be opened."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    tokenizer._load.cache_clear()
    yield tmp_path
    tokenizer._load.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("a" * 4000, 1000), ("日本", 2), ("\ud800", 1)],
)
def test_by_length_where_no_table_is_here(no_tables: Path, text: str, expected: int) -> None:
    """Without tiktoken's tables a text counts a quarter of its bytes, rounded up, and no network is touched."""
    assert expected == count_tokens(text, "gpt-4o")


def test_broken_table_is_not_fetched_again(no_tables: Path) -> None:
    """A table that is not the right one does not make tiktoken fetch it."""
    for url, _ in tokenizer._TABLES.values():
        (no_tables / hashlib.sha1(url.encode()).hexdigest()).write_text("broken")

    assert count_tokens("abcdefgh", "gpt-4o") == 2


def test_switched_off_cache_is_no_table(no_tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty TIKTOKEN_CACHE_DIR means no cache, not the current folder."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")

    assert count_tokens("abcdefgh") == 2
