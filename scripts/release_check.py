"""Build wheel and sdist, look into them, and try the wheel without extras in an environment of its own.

    python scripts/release_check.py [--constraint constraints.txt] [--dist FOLDER | --built FOLDER]

Nothing is uploaded. It needs what `pip` needs: a package index, or what `PIP_*` says. See docs/releasing.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "langchain_mlflow_cost"
SMOKE = """
import importlib, sys, warnings
import langchain_mlflow_cost as package
for name in package.__all__:
    getattr(package, name)
for extra in ("redis", "presidio_analyzer", "langchain_openai", "langchain_anthropic"):
    assert importlib.util.find_spec(extra) is None, f"{extra} came along without its extra"
from itertools import repeat
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
reply = AIMessage(
    "Write to ada@example.com.",
    usage_metadata={"input_tokens": 1200, "output_tokens": 300, "total_tokens": 1500},
    response_metadata={"model_name": "gpt-4o-mini", "model_provider": "openai"},
)
model = GenericFakeChatModel(messages=repeat(reply))
graph = StateGraph(MessagesState).add_node("agent", lambda s: {"messages": [model.invoke(s["messages"])]})
app = graph.add_edge(START, "agent").compile()
handler = package.configure({"redact_pii": True, "budget": {"max_cost_usd": 0.50}})
app.invoke({"messages": [("user", "Whom do I ask?")]}, config={"callbacks": [handler]})
assert abs(handler.summary().total_cost_usd - 0.00036) < 1e-12, handler.summary()
assert abs(package.cost_summary().total_cost_usd - 0.00036) < 1e-12
try:
    package.Policy.load({"session_store": "redis://localhost", "budget": {"max_cost_usd": 1, "scope": "user"}})
except package.PolicyError as error:
    assert "langchain_mlflow_cost[redis]" in str(error) or "langchain-mlflow-cost[redis]" in str(error), error
else:
    raise AssertionError("a policy that needs an extra loads without it")
print("the wheel works without extras, on Python", sys.version.split()[0])
"""


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command; its failure is this program's."""
    print("$", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


def check_wheel(path: Path, version: str) -> None:
    """All modules and data are in it, and nothing else."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"{PACKAGE}-{version}.dist-info/METADATA").decode()
    expected = {
        str(file.relative_to(ROOT))
        for file in (ROOT / PACKAGE).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    found = {name for name in names if not name.startswith(f"{PACKAGE}-{version}.dist-info/")}
    if found != expected:
        raise SystemExit(f"{path.name}: missing {sorted(expected - found)}, too much {sorted(found - expected)}")
    for wanted in (
        "License-Expression: Apache-2.0",
        "Requires-Python: >=3.11",
        "Description-Content-Type: text/markdown",
    ):
        if wanted not in metadata:
            raise SystemExit(f"{path.name}: no {wanted!r} in its metadata")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        raise SystemExit(f"{path.name}: no LICENSE")


def check_sdist(path: Path) -> None:
    """What is needed to build, test and read is in it; no database, no key, no environment."""
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    missing = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", f"{PACKAGE}/__init__.py"} - names
    unwanted = [
        name
        for name in names
        if name.endswith((".db", ".sqlite", ".pem", ".key", ".pyc")) or Path(name).name == ".env" or ".venv" in name
    ]
    if missing or unwanted:
        raise SystemExit(f"{path.name}: missing {sorted(missing)}, unwanted {sorted(unwanted)}")


def main() -> None:
    """Build, look, try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraint", default=str(ROOT / "constraints.txt"))
    parser.add_argument("--dist", help="a folder to leave wheel and sdist in")
    parser.add_argument("--built", help="a folder with both, to be looked into and tried instead of building them")
    options = parser.parse_args()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        dist = Path(options.built or options.dist or work / "dist").absolute()
        if not options.built:
            run(sys.executable, "-m", "venv", work / "build")
            run(work / "build/bin/pip", "install", "-q", "build")
            run(work / "build/bin/python", "-m", "build", "--outdir", dist, ROOT)
        wheel, sdist = dist / f"{PACKAGE}-{version}-py3-none-any.whl", dist / f"{PACKAGE}-{version}.tar.gz"
        check_wheel(wheel, version)
        check_sdist(sdist)
        run(sys.executable, "-m", "venv", work / "try")
        run(work / "try/bin/pip", "install", "-q", "-c", options.constraint, wheel)
        run(work / "try/bin/pip", "check")
        (work / "here").mkdir()
        run(work / "try/bin/mlflow-cost", "--version", cwd=work / "here")
        run(work / "try/bin/python", "-W", "ignore", "-c", SMOKE, cwd=work / "here")
    print(f"{wheel.name} and {sdist.name} are fit to be released")


if __name__ == "__main__":
    main()
