"""Copy files so that a stop costs nothing: each is there whole or not at all, none is written over, all compared."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from langchain_mlflow_cost.cli.app import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PART: Final = ".mlflow-cost-part"
"""At the end of a file's name while it is being copied."""
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class File:
    """One file to be copied."""

    source: Path
    target: Path
    size: int

    def is_copied(self) -> bool:
        """Whether it was, as far as size and time tell: its bytes are compared in the end."""
        try:
            old, new = self.source.stat(), self.target.stat()
        except FileNotFoundError:
            return False
        return (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns)


def files_in(source: Path, target: Path) -> Iterator[File]:
    """The files at or below a path, and where each of them goes; what links lead to is copied, not the links.

    Raises:
        CommandError: One cannot be read.
    """
    if not source.exists():
        return
    if source.is_file():
        yield File(source, target, source.stat().st_size)
        return
    been: set[str] = set()
    for folder, folders, names in os.walk(source, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(folder)
        if real in been:
            folders.clear()
            continue
        been.add(real)
        for name in sorted(names):
            file = source.joinpath(folder, name)
            try:
                size = file.stat().st_size
            except OSError as error:
                _unreadable(error)
            yield File(file, target / file.relative_to(source), size)


def _unreadable(error: OSError) -> None:
    raise CommandError(f"{error.filename} cannot be read ({error.strerror}); the old folder is as it was") from error


def copy(files: list[File], tell: Callable[[int], None]) -> None:
    """Copy those that are not copied yet, and tell of each number of bytes.

    Raises:
        CommandError: Another file is where one should go, or there is no room.
    """
    left = [each for each in files if not each.is_copied()]
    for each in left:
        if each.target.exists() and _hash(each.source) != _hash(each.target):
            raise CommandError(
                f"{each.target} is there already, and is another file; name a new folder with --artifacts"
            )
    needed = sum(each.size for each in left)
    if left:
        there = next(folder for folder in left[0].target.parents if folder.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            raise CommandError(f"{needed:,} bytes are to be copied, and {there} has room for {free:,}; see --artifacts")
    tell(sum(each.size for each in files) - needed)
    for each in left:
        each.target.parent.mkdir(parents=True, exist_ok=True)
        part = each.target.with_name(each.target.name + _PART)
        try:
            shutil.copy2(each.source, part)
            part.replace(each.target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CommandError(
                f"{each.source} cannot be copied to {each.target} ({error.strerror}); run the command again to go on"
            ) from error
        tell(each.size)


def differing(files: list[File], tell: Callable[[int], None]) -> list[Path]:
    """Copies whose bytes are not those of their source."""
    found = []
    for each in files:
        if not each.target.is_file() or _hash(each.source) != _hash(each.target):
            found.append(each.target)
        tell(each.size)
    return found


def _hash(file: Path) -> bytes:
    found = hashlib.blake2b()
    with file.open("rb") as read:
        while chunk := read.read(_CHUNK):
            found.update(chunk)
    return found.digest()
