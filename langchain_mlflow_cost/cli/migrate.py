"""`mlflow-cost migrate`: MLflow's old file store into a database, with its files, so that the old folder can go."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_mlflow_cost.cli.app import CommandError
from langchain_mlflow_cost.cli.copying import File, copy, differing, files_in
from langchain_mlflow_cost.cli.output import counted, tell
from langchain_mlflow_cost.cli.progress import bars
from langchain_mlflow_cost.cli.store import SQLITE
from langchain_mlflow_cost.sqlite_files import opened
from langchain_mlflow_cost.tracking_stores import database_file_of, folder_of, holds_file_store

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from langchain_mlflow_cost.adapters.file_store import FileStore
    from langchain_mlflow_cost.adapters.moved_records import Merged, Places
    from langchain_mlflow_cost.cli.progress import Bar

_MOST_TOLD, _MOST_NAMED = 10, 3


def migrate_store(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The file store: a folder, or its file: URI.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The database: a file, or its sqlite: URI.")],
    artifacts: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where artifacts go; else TO-artifacts, beside it.")
    ] = None,
) -> None:
    """Move all of MLflow's old file store to a SQLite database.

    The old folder is only read. A database that is there is added to, all or nothing. Whatever stops the command,
    run it again to go on. In the end all is compared, and it is said whether the old folder can be deleted.
    """
    folder, database = _source(source), _target(target)
    new_root = (artifacts or database.with_name(f"{database.stem}-artifacts")).absolute()
    if new_root == folder or folder in new_root.parents:
        raise CommandError(f"{new_root} is in {folder}, which is to be deleted; name another one with --artifacts")
    _check_target(database)

    from langchain_mlflow_cost.adapters.file_store import FileStore
    from langchain_mlflow_cost.adapters.moved_records import MigrationError

    move = _Move(FileStore(folder), database, new_root)
    try:
        with _alone(move.work), bars() as bar:
            move.run(bar)
    except MigrationError as error:
        raise CommandError(f"{error}. {folder} is as it was") from error
    move.tell()


def _source(uri: str) -> Path:
    folder = folder_of(uri)
    if folder is None or folder.is_file():
        raise CommandError(
            f"{uri} is no folder. A database of an older MLflow needs no moving: `mlflow db upgrade {uri}` "
            "brings it up to date"
            if folder is None or folder.read_bytes()[:6] == b"SQLite"
            else f"{folder} is no folder"
        )
    if not folder.is_dir():
        raise CommandError(f"{folder} is no folder")
    if not holds_file_store(folder):
        near = f"; did you mean {folder / 'mlruns'}?" if holds_file_store(folder / "mlruns") else ""
        raise CommandError(f"{folder} holds no file store: no folder in it has a meta.yaml{near}")
    return folder.absolute()


def _target(uri: str) -> Path:
    file = database_file_of(uri)
    if file is None and "://" in uri:
        raise CommandError(
            f"TO is {uri.partition(':')[0]}:, and MLflow moves file stores to SQLite alone: name a file, "
            "such as mlflow.db"
        )
    file = file or Path(uri)
    if file.is_dir():
        raise CommandError(f"{file} is a folder; name the database's file, such as {file / 'mlflow.db'}")
    return file.absolute()


def _check_target(database: Path) -> None:
    if not database.exists():
        return
    from langchain_mlflow_cost.adapters.moved_records import schema_of

    try:
        with opened(database) as connection:
            schema = schema_of(connection)
    except sqlite3.Error as error:
        raise CommandError(f"{database} cannot be opened ({error})") from error
    if schema is None:
        raise CommandError(f"{database} is there already and is no database of MLflow's; name another file")


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """The folder of the work on one target, which nobody else has meanwhile; a process that is killed lets it go."""
    work.mkdir(parents=True, exist_ok=True)
    lock = sqlite3.connect(work / "lock", timeout=0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        raise CommandError(f"another mlflow-cost migrate is at work in {work}") from error
    try:
        yield
    finally:
        lock.close()


@dataclass
class _Found:
    """What is known when all is done."""

    places: Places
    files: list[File]
    equal: Counter[str]
    merged: Merged | None
    mentions: dict[str, int]
    leftovers: list[Path]
    repeated: int
    unreadable: list[Path]


class _Move:
    """One migration: each step may be interrupted, and is done again or gone on with."""

    def __init__(self, store: FileStore, database: Path, new_root: Path) -> None:
        self.store, self.database, self.new_root = store, database, new_root
        self.work = database.with_name(f"{database.name}.migrating")
        self._staged = self.work / "records.db"
        self.found: _Found | None = None

    def run(self, bar: Callable[[str, float], Bar]) -> None:
        """Do all of it.

        Raises:
            CommandError: Something is in the way, or in the end not the same.
            MigrationError: MLflow could not write the records, or they cannot be added to the database.
        """
        from langchain_mlflow_cost.adapters.moved_records import (
            change_addresses,
            find_places,
            mentions,
            merge,
            schema_of,
            still_pointing,
        )

        state = self._state_of_source()
        repeated, unreadable = self._make_records(state, bar)
        with opened(self._staged, "rw") as records:
            places = find_places(records, self.store)
        is_merge = self.database.exists()
        if is_merge:
            with opened(self._staged, "rw") as records, opened(self.database) as there:
                ours, theirs = schema_of(records), schema_of(there)
                if ours != theirs:
                    raise CommandError(
                        f"{self.database} has the tables of another version of MLflow; run `mlflow db upgrade "
                        f"{SQLITE}{self.database}`, then this command again"
                    )
                # MLflow puts files of a database's own experiments into ./mlruns, too.
                own = find_places(there, self.store, moved=False)
            places.copied = sorted({*places.copied, *own.copied})
        files = self._files(places)
        copy(files, bar("files", sum(each.size for each in files)).more)
        equal = self._compare(files, bar)
        with opened(self._staged, "rw") as records:
            records.execute("BEGIN IMMEDIATE")
            change_addresses(records, self.store, self.new_root)
            records.execute("COMMIT")
        if state != self._state_of_source():
            raise CommandError(
                f"{self.store.root} has changed meanwhile: stop what writes to it, and run this command again"
            )
        merged = merge(self._staged, self.database, self.store, self.new_root) if is_merge else None
        if not is_merge:
            _put(self._staged, self.database)
        with opened(self.database) as done:
            if still_pointing(done, self.store):
                raise CommandError(f"records of {self.database} still have their files in {self.store.root}; keep it")
            named = mentions(done, self.store.root)
        leftovers = list(self.store.leftovers(places.copied))
        self.found = _Found(places, files, equal, merged, named, leftovers, repeated, unreadable)
        shutil.rmtree(self.work)

    def _state_of_source(self) -> str:
        """A hash over names, sizes and times of all files: whether anybody writes there."""
        found = hashlib.sha256()
        for folder, folders, names in os.walk(self.store.root):
            folders.sort()
            for name in sorted(names):
                path = f"{folder}/{name}"
                stat = os.lstat(path)
                found.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return found.hexdigest()

    def _make_records(self, state: str, bar: Callable[[str, float], Bar]) -> tuple[int, list[Path]]:
        """The records in a database of their own, unless an earlier run made them of the same folder."""
        from langchain_mlflow_cost.adapters.file_store_view import View
        from langchain_mlflow_cost.adapters.moved_records import make_records

        shown = self.work / "view"
        shutil.rmtree(shown, ignore_errors=True)
        shown.mkdir()
        view = View(self.store, shown)
        if self.store.unreadable:
            listed = ", ".join(map(str, self.store.unreadable[:_MOST_TOLD]))
            raise CommandError(
                f"{counted(len(self.store.unreadable), 'file')} cannot be read, and MLflow would leave out what they "
                f"describe: {listed}. Mend them, or move their folders elsewhere, and run this command again"
            )
        made = self.work / "made"
        if self._staged.exists() and made.exists() and made.read_text() == state:
            tell("going on where an earlier run stopped")
            return view.repeated, view.unreadable
        for file in (made, *self.work.glob("records*")):
            file.unlink(missing_ok=True)
        total = sum(1 for _ in self.store.experiments())
        step = bar("records", total)
        # An MLflow whose caller was killed goes on for a while.
        part = self._staged.with_name(f"records-{os.getpid()}.db")
        make_records(shown, part, lambda done, _: step.at(done))
        part.rename(self._staged)
        step.at(total)
        made.write_text(state)
        return view.repeated, view.unreadable

    def _files(self, places: Places) -> list[File]:
        from langchain_mlflow_cost.adapters.moved_records import without_trash

        return [
            file
            for inside in places.copied
            for file in files_in(self.store.root / inside, self.new_root / without_trash(inside))
        ]

    def _compare(self, files: list[File], bar: Callable[[str, float], Bar]) -> Counter[str]:
        from langchain_mlflow_cost.adapters.moved_compared import Comparison

        compared = bar("compare", sum(1 for _ in self.store.everything()))
        with warnings.catch_warnings(), opened(self._staged) as records:
            warnings.simplefilter("ignore")
            comparison = Comparison(self.store, f"{SQLITE}{self._staged}", records, lambda: compared.more(1))
            comparison.run()
        wrong = comparison.different + [
            f"{each} is not the same as its source"
            for each in differing(files, bar("hashes", sum(each.size for each in files)).more)
        ]
        if wrong:
            for each in wrong[:_MOST_TOLD]:
                tell(each)
            raise CommandError(
                f"{counted(len(wrong), 'difference')} between {self.store.root} and what would be in {self.database}: "
                f"nothing was written there. Please report it; keep {self.store.root}"
            )
        return comparison.equal

    # --- what is said -----------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Say what was moved, what stays, and what to do next."""
        found, root = self.found, self.store.root
        assert found is not None
        kinds = ", ".join(counted(count, kind) for kind, count in found.equal.items() if count)
        files, size = counted(len(found.files), "file"), counted(sum(each.size for each in found.files), "byte")
        _say(f"Moved and compared, all the same: {kinds}.")
        _say(f"{files} ({size}) copied to {self.new_root}, compared by their hashes.")
        if found.merged is not None:
            self._tell_merged(found.merged)
        if found.repeated:
            _say(
                f"{counted(found.repeated, 'value')} of metrics stood in the files more than once; "
                "a database has each once."
            )
        if found.unreadable:
            _say(
                f"{counted(len(found.unreadable), 'line')} of metrics cannot be read, by MLflow neither, and are left "
                f"out: {_some(found.unreadable)}."
            )
        for (kind, where), count in sorted(found.places.staying.items()):
            _say(f"Staying where they are: the files of {counted(count, kind)}, {where}.")
        if found.mentions:
            where = ", ".join(f"{count:,} in {table}" for table, count in found.mentions.items())
            _say(f"Texts of records that name the old folder stay as they are ({where}).")
        _say("")
        _say(f"Now set tracking_uri: {SQLITE}{self.database}")
        if found.leftovers:
            _say(
                f"Before you delete {root}: {counted(len(found.leftovers), 'file')} of no record, not copied: "
                f"{_some(found.leftovers)}."
            )
            _say("Nothing else in it is needed: no record has its files there any more.")
        else:
            _say(f"Then delete {root}: no record has its files there any more.")
        if root.name == "mlruns":
            _say(
                "Do it now: MLflow puts the artifacts of a database's new experiments into a folder of that name, too."
            )

    def _tell_merged(self, merged: Merged) -> None:
        _say(f"{self.database} was there: {counted(merged.added, 'row')} added, {merged.known:,} were there already.")
        if merged.joined:
            _say(f"Experiments of one name are one now: {', '.join(merged.joined[:_MOST_TOLD])}.")
        if merged.readdressed:
            _say(f"{counted(merged.readdressed, 'record')} of its own had files in the old folder, copied, too.")


def _put(staged: Path, database: Path) -> None:
    """Let the finished database appear under its name, never over another file."""
    try:
        os.link(staged, database)
    except FileExistsError as error:
        raise CommandError(f"{database} was made meanwhile; run this command again to add to it") from error
    except OSError:
        # A disk without links.
        if database.exists():
            raise CommandError(f"{database} was made meanwhile; run this command again to add to it") from None
        staged.rename(database)


def _some(files: list[Path]) -> str:
    shown = ", ".join(map(str, files[:_MOST_NAMED]))
    return shown if len(files) <= _MOST_NAMED else f"{shown}, ..."


def _say(line: str) -> None:
    # Not through the console: it would break addresses in two.
    sys.stdout.write(f"{line}\n")
