"""Run by Python itself in `mlflow-cost run` and in each child: governs the process when it loads LangChain or MLflow.

`PYTHONPATH` leads here, which child processes inherit. Nothing is loaded before the program loads it: a child that has
nothing to do with models starts as fast as ever. Only the standard library is used, as another Python may read this.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import sys
import warnings

TYPE_CHECKING = False  # `typing` itself would be loaded in every child
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would be, too
SWITCH = "LANGCHAIN_MLFLOW_COST_EVERYWHERE"
WATCHED = frozenset({"langchain", "langchain_core", "langchain_mlflow_cost", "langgraph", "mlflow"})
"""What is to be governed, and whatever the set-up loads of it: set up in the middle of one of these, it would find it
half loaded."""
PYTHON = re.compile(r"python[\d.]*w?(\.exe)?$")
OPTION = re.compile("-([^-cmWX]*)([cm]?)")
"""Options of Python's that have no value, and one of those behind which everything is the program's."""


class Watch:
    """Sees the first import of a watched package, and sets the process up before any of it is loaded."""

    def __init__(self) -> None:
        self.is_set_up = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find what the others find, with a loader that sets the process up first."""
        if self.is_set_up or name not in WATCHED:
            return None
        finders = (finder for finder in list(sys.meta_path) if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None:
            loader: Any = First(self, spec.loader)
            spec.loader = loader
        return spec

    def set_up(self) -> None:
        """Govern this process, once; where its policy cannot be used it must not go on."""
        if self.is_set_up:
            return
        self.is_set_up = True
        try:
            from langchain_mlflow_cost.configuration import configure_unedited
            from langchain_mlflow_cost.errors import PolicyError
        except ImportError as error:
            tell(f"{sys.executable} cannot load langchain_mlflow_cost ({error}): what it records is not governed")
            return
        try:
            configure_unedited()
        except PolicyError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(2) from None


class First:
    """Loads a module when the process is set up, unless that has loaded it already."""

    def __init__(self, watch: Watch, loader: Any) -> None:
        self.watch = watch
        self.loader = loader
        self.known: ModuleSpec | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Set the process up, and take what that has loaded."""
        self.watch.set_up()
        module = sys.modules.get(spec.name)
        if module is None:
            created: ModuleType | None = self.loader.create_module(spec)
            return created
        self.known = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Load it, if it is not."""
        if self.known is not None:
            module.__spec__ = self.known
            return
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)


told: list[str] = []


def watch_children(event: str, args: tuple[Any, ...]) -> None:
    """Say once that a Python is started in a way in which it will not be governed."""
    if event == "subprocess.Popen":
        program, arguments, _, environment = args
    elif event in ("os.exec", "os.posix_spawn"):
        program, arguments, environment = args
    else:
        return
    try:
        if not told and is_ungoverned(program, arguments, environment):
            tell(
                "a Python process is started without this one's environment, or told to ignore it: what it records is "
                "not governed"
            )
    except Exception:  # noqa: BLE001, S110 - what is started is not ours to stop
        pass


def is_ungoverned(program: Any, arguments: Any, environment: Any) -> bool:
    """Whether a program is a Python that will not read this file."""
    words = [os.fsdecode(word) for word in arguments] if isinstance(arguments, (list, tuple)) else []
    name = os.fsdecode(program) if program else (words or [""])[0]
    if not PYTHON.search(os.path.basename(name)):  # noqa: PTH119 - as above
        return False
    for word in words[1:]:
        option = OPTION.match(word)
        if option is None:
            break
        if set(option[1]) & set("EIS"):
            return True
        if option[2]:
            break
    if environment is None:
        return False
    known = {os.fsdecode(key): os.fsdecode(value) for key, value in environment.items()}
    return FOLDER not in known.get("PYTHONPATH", "").split(os.pathsep) or not known.get(SWITCH)


def tell(text: str) -> None:
    """Warn, and raise nothing where warnings are errors."""
    told.append(text)
    try:
        warnings.warn(f"mlflow-cost run: {text}", RuntimeWarning, stacklevel=3)
    except Warning:
        sys.stderr.write(f"mlflow-cost run: {text}\n")


def run_the_one_behind() -> None:
    """Run the `sitecustomize` that stands behind this one on the path, if there is one."""
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    # The program finds its path as it would be without us; its children find theirs in the environment.
    sys.path[:] = [entry for entry in sys.path if entry != FOLDER]
    if os.environ.get(SWITCH):
        sys.meta_path.insert(0, Watch())
        sys.addaudithook(watch_children)
    run_the_one_behind()
