"""Every byte of a store searched: files, what is packed in them, values of databases. What is not read is named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from langchain_mlflow_cost.adapters.trace_fields import ARTIFACT_LOCATION
from langchain_mlflow_cost.notices import without_credentials
from langchain_mlflow_cost.sqlite_files import MAGIC, opened, tables
from langchain_mlflow_cost.trace_pages import trace_pages
from langchain_mlflow_cost.tracking_stores import is_server, is_sqlite, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

_BLOCK: Final = 32 << 20
_BATCH: Final = 8 << 20
_MOST_UNPACKED: Final = 1 << 30
_MOST_DEPTH: Final = 3
_PACKED: Final = {
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf": "7-Zip",
    b"%PDF": "PDF, whose text is compressed",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
}
"""What a file begins with whose text is not in its bytes, and that nothing here unpacks."""


_COMPRESSED: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""One file in another, by its first bytes."""


class Search(Protocol):
    """Who is asked what is in some bytes."""

    longest: int
    """Bytes by which two pieces of one file overlap."""
    wants_raw: bool
    """Whether the bytes of a database's file are searched too, beside its values."""

    def found_in(self, stored: bytes) -> Iterable[Hashable]:
        """What is in them."""
        ...


@dataclass
class Searched:
    """What a search has come to."""

    found: dict[Any, dict[str, int]] = field(default_factory=dict)
    """What was found: where, and in how many pieces of it."""
    unread: dict[str, str] = field(default_factory=dict)
    """What could not be read, or not all of it, and why."""
    files: int = 0
    size: int = 0
    """Bytes that were searched, unpacked ones and values of databases among them."""
    seconds: float = 0.0

    @property
    def mb_per_s(self) -> float:
        """Megabytes a second."""
        return self.size / 1e6 / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """How much was searched, and what could not be, as every proof tells it."""
        return {
            "searched": {
                "files": self.files,
                "bytes": self.size,
                "seconds": round(self.seconds, 3),
                "mb_per_s": round(self.mb_per_s, 1),
            },
            "not_read": self.unread,
        }


class StoreSearch:
    """Searches what it is pointed to.

    Args:
        search: What to look for.
        on_bytes: Called now and then with how many bytes were searched.
    """

    def __init__(self, search: Search, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.result = Searched()
        self._search = search
        self._on_bytes = on_bytes
        self._started = time.monotonic()

    def store(self, store: str) -> Searched:
        """Search a folder, a file, a database or a tracking server."""
        scheme = urlsplit(store).scheme
        if is_server(store):
            self._server(store)
        elif is_sqlite(store):
            self.paths([Path(store.partition(":///")[2].partition("?")[0])])
        elif "://" in store and scheme != "file":
            self._database(store)
        else:
            self.paths([Path(unquote(urlsplit(store).path)) if scheme == "file" else Path(store)])
        return self.result

    def paths(self, paths: Iterable[Path]) -> Searched:
        """Search files, folders, and the files that a database in them names."""
        todo, seen = list(paths), set()
        while todo:
            path = todo.pop()
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if path.is_dir():
                try:
                    todo += sorted(path.iterdir())
                except OSError as error:
                    self.result.unread[str(path)] = str(error.strerror)
            elif path.is_file():
                todo += self._file(path)
            elif not path.exists():
                self.result.unread[str(path)] = "there is no such file or folder"
            else:
                self.result.unread[str(path)] = "neither a file nor a folder"
        self.result.seconds = time.monotonic() - self._started
        return self.result

    # --- files --------------------------------------------------------------------------------------------------------

    def _file(self, path: Path) -> list[Path]:
        more: list[Path] = []
        try:
            with path.open("rb") as file:
                head = file.read(512)
                file.seek(0)
                is_database = head.startswith(MAGIC)
                self._look(path.name.encode(), f"{path}: its name")
                if not is_database or self._search.wants_raw:
                    self._stream(file, str(path))
                self.result.files += 1
            if is_database:
                more = [journal for end in ("-wal", "-journal", "-shm") if (journal := Path(f"{path}{end}")).exists()]
                more += self._sqlite(path)
            else:
                self._unpacked(path, head)
        except FileNotFoundError:
            if not path.name.endswith(("-wal", "-journal", "-shm")):  # these come and go with a database's users
                self.result.unread[str(path)] = "went away while it was read"
        except (OSError, sqlite3.Error) as error:
            self.result.unread[str(path)] = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return more

    def _stream(self, file: Any, place: str) -> None:
        overlap = self._search.longest - 1
        kept = b""
        while block := file.read(_BLOCK):
            self._look(kept + block, place, new=len(block))
            kept = block[-overlap:] if overlap > 0 else b""

    def _look(self, stored: bytes, place: str, new: int | None = None) -> None:
        for hit in self._search.found_in(stored):
            places = self.result.found.setdefault(hit, {})
            places[place] = places.get(place, 0) + 1
        self.result.size += len(stored) if new is None else new
        self._on_bytes(self.result.size)

    def _unpacked(self, path: Path, head: bytes) -> None:
        for magic, what in _PACKED.items():
            if head.startswith(magic):
                self.result.unread[str(path)] = f"{what}: only the bytes as they are were searched"
                return
        if head.startswith(b"PAR1"):
            self._parquet(path)
            return
        if head.startswith((b"PK", *_COMPRESSED)) or _is_tar(head):
            self._pack(path.read_bytes(), str(path), _MOST_DEPTH)

    def _pack(self, content: bytes, place: str, depth: int) -> None:
        """Search what is in an archive or a compressed file, and in those within it."""
        try:
            for name, inner in _members(content):
                if len(inner) > _MOST_UNPACKED:
                    self.result.unread[f"{place}!{name}"] = "larger than 1 GB unpacked: its beginning was searched"
                self._look(name.encode(), f"{place}!{name}: its name")
                self._stream(io.BytesIO(inner), f"{place}!{name}")
                if any(inner.startswith(magic) for magic in (*_PACKED, MAGIC, b"PAR1")):
                    self.result.unread[f"{place}!{name}"] = "packed twice: only the bytes as they are were searched"
                elif depth > 1:
                    self._pack(inner, f"{place}!{name}", depth - 1)
        except Exception as error:  # noqa: BLE001 - damaged, encrypted, or of another kind than it seems
            self.result.unread[place] = f"could not be unpacked ({type(error).__name__})"

    def _parquet(self, path: Path) -> None:
        try:
            import pyarrow.parquet as pq  # noqa: PLC0415 - mlflow brings it, mlflow-skinny does not

            file = pq.ParquetFile(path)
            for batch in file.iter_batches(batch_size=1_000):
                self._values({name: batch.column(name).to_pylist() for name in batch.schema.names}, str(path))
        except Exception as error:  # noqa: BLE001 - damaged, encrypted, or no pyarrow
            self.result.unread[str(path)] = (
                f"Parquet: only the bytes as they are were searched ({type(error).__name__})"
            )

    def _values(self, columns: dict[str, list[Any]], place: str) -> None:
        for name, values in columns.items():
            self._look(b"\n".join(_as_bytes(value) for value in values if value is not None), f"{place}: {name}")

    # --- databases ----------------------------------------------------------------------------------------------------

    def _sqlite(self, path: Path) -> list[Path]:
        """Search every value: what runs over the end of a page is in no one piece of the file. Gives named folders."""
        with opened(path) as connection:
            found = set()
            for name, heads, rows in tables(connection):
                found.add(name)
                self._rows(rows, [f"{path}: {name}.{head}" for head in heads])
            return list(self._named_folders(connection, found))

    def _rows(self, rows: Iterable[Any], places: list[str]) -> None:
        pieces: list[list[bytes]] = [[] for _ in places]
        sizes = [0] * len(places)
        for row in rows:
            for at, value in enumerate(row):
                if value is None or isinstance(value, int | float):
                    continue
                content = _as_bytes(value)
                pieces[at].append(content)
                sizes[at] += len(content)
                if sizes[at] >= _BATCH:
                    self._look(b"\n".join(pieces[at]), places[at])
                    pieces[at], sizes[at] = [], 0
        for at, place in enumerate(places):
            if pieces[at]:
                self._look(b"\n".join(pieces[at]), place)

    def _named_folders(self, connection: Any, tables: set[str]) -> Iterator[Path]:
        """Where MLflow keeps files, by its own tables."""
        asked = []
        if "experiments" in tables:
            asked.append("SELECT DISTINCT artifact_location FROM experiments")
        if "trace_tags" in tables:
            asked.append(f"SELECT DISTINCT value FROM trace_tags WHERE key = '{ARTIFACT_LOCATION}'")  # noqa: S608 - own words
        for sql in asked:
            for (value,) in connection.execute(sql):
                location = _as_bytes(value).decode("utf-8", "replace") if value else ""
                folder = _local(location)
                if folder is None:
                    if location:
                        self.result.unread[without_credentials(location)] = "files that are not on this machine"
                elif folder.exists():
                    yield folder

    def _database(self, uri: str) -> None:
        """Search every value of another database, through its own driver."""
        from sqlalchemy import MetaData, create_engine, select  # noqa: PLC0415 - MLflow brings it
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - as above

        shown = without_credentials(uri)
        metadata = MetaData()
        try:
            engine = create_engine(uri)
            metadata.reflect(bind=engine)
        except (SQLAlchemyError, ImportError) as error:
            self.result.unread[shown] = f"cannot be opened ({type(error).__name__})"
            return
        with engine.connect() as connection:
            for table in metadata.sorted_tables:
                rows = connection.execution_options(yield_per=1_000).execute(select(table))
                self._rows(rows, [f"{shown}: {table.name}.{column.name}" for column in table.columns])
            if "experiments" in metadata.tables:
                locations = connection.execute(select(metadata.tables["experiments"].c.artifact_location))
                folders = []
                for (location,) in locations:
                    folder = _local(location or "")
                    if folder is not None and folder.exists():
                        folders.append(folder)
                    elif location:
                        self.result.unread[without_credentials(location)] = "files that are not on this machine"
                self.paths(folders)
        engine.dispose()
        self.result.unread[shown] = (
            "its files on the server's disk: deleted rows that were not overwritten, its log, its backups"
        )
        self.result.seconds = time.monotonic() - self._started

    def _server(self, uri: str) -> None:
        """Search what a tracking server hands out of traces."""
        shown = without_credentials(uri)
        fault = why_unusable(uri)
        if fault is not None:
            self.result.unread[shown] = fault
            return
        import mlflow  # noqa: PLC0415 - slow, and not needed for files

        client = mlflow.MlflowClient(tracking_uri=uri)
        self._rows(((content,) for content in self._handed_out(client, shown)), [f"{shown}: traces"])
        self.result.unread[shown] = (
            "a server: its database, its files and its traces' attachments; point to them where they are"
        )
        self.result.seconds = time.monotonic() - self._started

    def _handed_out(self, client: Any, shown: str) -> Iterator[str]:
        from mlflow import MlflowException  # noqa: PLC0415 - as above
        from mlflow.entities import ViewType  # noqa: PLC0415 - as above

        token = None
        while True:
            experiments = client.search_experiments(ViewType.ALL, page_token=token)
            for each in experiments:
                without_spans: list[Any] = []
                try:
                    for page in trace_pages(client, [each.experiment_id], on_unreadable=without_spans.append):
                        yield from (trace.to_json() for trace in page)
                except MlflowException:
                    self.result.unread[f"{shown}: experiment {each.experiment_id}"] = "its traces are not handed out"
                for trace in without_spans:
                    self.result.unread[f"{shown}: trace {trace.info.trace_id}"] = "its spans cannot be read"
                    yield trace.to_json()
            token = experiments.token
            if not token:
                return


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return bytes(value) if isinstance(value, memoryview | bytearray) else str(value).encode("utf-8", "surrogatepass")


def _local(location: str) -> Path | None:
    scheme = urlsplit(location).scheme
    if scheme == "file":
        return Path(unquote(urlsplit(location).path))
    return Path(location) if location and not scheme else None


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What is in an archive, by name; of a compressed file its content."""
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for each in archive.infolist():
                if not each.is_dir():
                    with archive.open(each) as file:
                        yield each.filename, file.read(_MOST_UNPACKED + 1)
    elif _is_tar(content):
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                inner = archive.extractfile(member) if member.isfile() else None
                if inner is not None:
                    yield member.name, inner.read(_MOST_UNPACKED + 1)
    else:
        for magic, open_packed in _COMPRESSED.items():
            if content.startswith(magic):
                with open_packed(io.BytesIO(content)) as file:
                    yield "content", file.read(_MOST_UNPACKED + 1)
