"""Looking for what was deleted in all that a store holds: in its tables, in its files' own bytes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from langchain_mlflow_cost.redaction.spellings import spelling_in
from langchain_mlflow_cost.tracking_stores import database_file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from langchain_mlflow_cost.erasure.request import Request
    from langchain_mlflow_cost.erasure.stores import ApiStore

_CHUNK: Final = 1 << 24
_USUAL_ID: Final = re.compile(rb"tr-[0-9a-f]{32}")
_MOST_ALTERNATIVES: Final = 2_000


class Findings:
    """Where something was found that was to go."""

    def __init__(self) -> None:
        self.values = 0
        """Texts of tables that were looked at."""
        self.file_bytes = 0
        self.left: Counter[str] = Counter()
        """Places that hold what was to be deleted."""
        self.mentioned: Counter[str] = Counter()
        """Places outside of the deleted traces that name one of them, or whose they were."""


class Search:
    """A search for traces by their ids, for a text in all its spellings, for mentions of a user, session or tag.

    Args:
        request: What was to go.
        ids: Of the traces that went.
    """

    def __init__(self, request: Request, ids: Sequence[str]) -> None:
        self._needles = request.needles
        self._mentions = request.mentions()
        usual = [each.encode() for each in ids if _USUAL_ID.fullmatch(each.encode())]
        self._usual = frozenset(usual)
        odd = sorted({each.encode("utf-8", "surrogatepass") for each in ids} - self._usual)
        # As a word of its own: an id `1` is in every number.
        self._odd = [
            re.compile(
                rb"(?<![\w.-])(?:%s)(?![\w.-])" % b"|".join(map(re.escape, odd[start : start + _MOST_ALTERNATIVES]))
            )
            for start in range(0, len(odd), _MOST_ALTERNATIVES)
        ]
        self._in_tables: set[bytes] = set()

    def look(self, store: ApiStore, folders: Iterable[Path], told: Callable[[int], None]) -> Findings:
        """Look through the tables, the bytes of a SQLite database's files and, for a text, through folders."""
        found = Findings()
        for place, value in store.values():
            found.values += 1
            if found.values % 10_000 == 0:
                told(found.values)
            self._judge(found, place, value)
        for path in _files_of(store.uri):
            self._look_into(found, path)
        if self._needles:
            for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
                self._look_into(found, path, is_database=False)
        return found

    def _judge(self, found: Findings, place: str, value: bytes) -> None:
        ids = self._ids(value)
        if ids:
            self._in_tables |= ids
            own = place.partition(".")[0] in ("trace_info", "spans", "trace_tags", "assessments") and value in ids
            (found.left if own else found.mentioned)[place] += 1
        if self._needles and spelling_in(self._needles, value):
            found.left[place] += 1
        if self._mentions is not None and self._mentions.search(value):
            found.mentioned[place] += 1

    def _ids(self, value: bytes) -> set[bytes]:
        ids = {each for each in _USUAL_ID.findall(value) if each in self._usual} if self._usual else set()
        for pattern in self._odd:
            ids.update(pattern.findall(value))
        return ids

    def _look_into(self, found: Findings, path: Path, *, is_database: bool = True) -> None:
        longest = max((len(each) for each in self._needles.values()), default=64)
        for chunk in _chunks(path, longest):
            found.file_bytes += len(chunk)
            # What a table has was told under its name: these are the pages that no table has any more.
            if is_database and self._usual and not (set(_USUAL_ID.findall(chunk)) & self._usual) <= self._in_tables:
                found.left[f"bytes of {path.name}"] += 1
            if self._needles and spelling_in(self._needles, chunk):
                found.left[f"bytes of {path.name}" if is_database else str(path)] += 1


def _files_of(uri: str) -> list[Path]:
    database = database_file_of(uri)
    if database is None:
        return []
    return [path for end in ("", "-wal", "-journal") if (path := Path(f"{database}{end}")).exists()]


def _chunks(path: Path, overlap: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        end = b""
        while chunk := file.read(_CHUNK):
            yield end + chunk
            end = chunk[-overlap:]


def local_folder(address: str) -> Path | None:
    """The folder on this machine that an address of artifacts names, or None."""
    if address.startswith("file:"):
        return Path(unquote(re.sub(r"^file:(//[^/]*)?", "", address)))
    return None if re.match(r"[A-Za-z][\w+.-]+:", address) else Path(address)
