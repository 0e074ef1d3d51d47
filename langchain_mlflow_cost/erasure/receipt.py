"""The receipt of a deletion, as JSON: what went, when, under which policy and versions, what could not be reached."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.notices import without_credentials

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from langchain_mlflow_cost.erasure.request import Request

FORMAT: Final = 1
_WRITTEN_EVERY_S: Final = 2.0
_PACKAGES: Final = ("langchain-mlflow-cost", "mlflow", "sqlalchemy")


def now() -> str:
    """The time, as a receipt tells it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class Receipt:
    """What one run of a command deleted; written before it begins, so that one that was interrupted is known."""

    path: Path
    command: str
    request: Request
    store: str
    experiments: list[str]
    """Their ids."""
    policy: Path | None = None
    database: str | None = None
    salt: str = field(default_factory=lambda: secrets.token_hex(8))
    began: str = field(default_factory=now)
    state: str = "interrupted"
    """`interrupted` until it has ended; then `done`, or `incomplete` where something is left."""
    trace_ids: list[str] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    """Traces, traces with files, dataset records, sums of MLflow runs."""
    kept: list[dict[str, str]] = field(default_factory=list)
    """What was to go and is still there, and why."""
    compacted: str | None = None
    searched: dict[str, Any] = field(default_factory=dict)
    not_reached: list[str] = field(default_factory=list)
    _digest: str = ""
    _written: float = 0.0

    def write_sometimes(self) -> None:
        """Write it if that is a while ago: one of 100,000 traces has megabytes."""
        if time.monotonic() - self._written > _WRITTEN_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write it whole: a reader never sees half of one.

        Raises:
            OSError: It cannot be written there.
        """
        self._digest = self._digest or self.request.digest(self.salt)
        told = {
            "receipt": FORMAT,
            "command": self.command,
            "state": self.state,
            "began": self.began,
            "written": now(),
            "store": without_credentials(self.store),
            "database": self.database,
            "experiment_ids": self.experiments,
            "request": {**self.request.described(), "salt": self.salt, "digest": self._digest},
            "policy": _policy(self.policy),
            "versions": _versions(),
            "deleted": dict(self.deleted),
            "rows": {table: number for table, number in sorted(self.rows.items()) if number},
            "trace_ids": self.trace_ids,
            "kept": self.kept,
            "compacted": self.compacted,
            "searched": self.searched,
            "not_reached": self.not_reached,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        making = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        making.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        making.replace(self.path)
        self._written = time.monotonic()

    def resume(self, other: dict[str, Any]) -> None:
        """Take over what an interrupted run had planned and done."""
        self.salt, self._digest = other["request"]["salt"], other["request"]["digest"]
        self.began = other["began"]
        self.trace_ids = list(other["trace_ids"])
        self.rows.update(other["rows"])
        self.deleted.update(other["deleted"])


def unfinished_receipts(
    folder: Path, command: str, request: Request, store: str, experiments: Collection[str]
) -> list[tuple[Path, dict[str, Any]]]:
    """Receipts in a folder of runs that were asked the same of the same store, and left something to do."""
    found = []
    for path in sorted(folder.glob(f"mlflow-cost-{command}-*.json")):
        try:
            told = json.loads(path.read_text("utf-8"))
            asked = told["request"]
            if (
                told["receipt"] == FORMAT
                and told["state"] != "done"
                and told["store"] == without_credentials(store)
                and asked["by"] == request.by
                and set(told["experiment_ids"]) <= set(experiments)
                and asked["digest"] == request.digest(asked["salt"])
            ):
                found.append((path, told))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # somebody else's file
    return found


def new_path(folder: Path, command: str) -> Path:
    """Where a receipt goes that nobody named: a new, empty file, which no other process takes.

    Raises:
        OSError: None can be made there.
    """
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for number in itertools.count(1):
        path = folder / f"mlflow-cost-{command}-{stamp}{f'-{number}' if number > 1 else ''}.json"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        return path
    raise AssertionError


def _policy(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
