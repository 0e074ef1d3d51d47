"""A graph that the command line names: `package.module:app` or `path/to/file.py:app`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from langchain_mlflow_cost.cli.app import CommandError


def graph_at(place: str) -> Any:
    """The graph that `module:name` or `file.py:name` names.

    Raises:
        CommandError: There is none, or the program that makes it fails.
    """
    where, colon, name = place.rpartition(":")
    if not colon or not where or not name:
        raise CommandError(f"--graph {place}: expected MODULE:NAME or FILE.py:NAME, such as my_package.agent:app")
    sys.path.insert(0, "")
    try:
        found: Any = _module_of(where)
        for part in name.split("."):
            found = getattr(found, part)
        if inspect.isroutine(found):
            found = found()
    except Exception as error:
        # It is the user's program that was run, and may fail in any way: what it says is theirs to read.
        raise CommandError(f"--graph {place}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")
    return found


def _module_of(where: str) -> Any:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    path = Path(where)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise CommandError(f"no such file: {where}")
    # Its neighbours are imported as when it is run.
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module
