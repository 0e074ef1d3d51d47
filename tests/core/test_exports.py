"""What is exported, and what the texts say of it: the README's example, its links and its keys are true."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import langchain_mlflow_cost
from langchain_mlflow_cost import Policy

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "quickstart.py"

PUBLIC = {
    "BudgetExceededError": "class",
    "CostSummary": "class",
    "MlflowCostHandler": "class",
    "Policy": "class",
    "PolicyError": "class",
    "configure": "function",
    "cost_summary": "function",
    "trace_decorator": "function",
}
"""The names that a user can rely on."""


# --- names ---------------------------------------------------------------------------------------------------------


def test_all_is_the_public_names() -> None:
    """Nothing is exported that is not promised, and nothing promised is missing."""
    assert sorted(langchain_mlflow_cost.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_name_can_be_imported(name: str) -> None:
    """Each name comes from the package itself, is listed by `dir`, and says what it is."""
    found: Any = getattr(importlib.import_module("langchain_mlflow_cost"), name)

    assert isinstance(found, type) is (PUBLIC[name] == "class")
    assert callable(found)
    assert found.__doc__
    assert name in dir(langchain_mlflow_cost)


@pytest.mark.parametrize("name", [name for name, kind in PUBLIC.items() if kind == "function"])
def test_docstring_tells_the_contract(name: str) -> None:
    """A public function says what each argument is and what comes back."""
    function = getattr(langchain_mlflow_cost, name)
    _, _, told = inspect.getdoc(function).partition("Args:\n")
    arguments, _, returned = told.partition("Returns:\n")

    assert re.findall(r"^    (\w+): \S", arguments, re.MULTILINE) == list(inspect.signature(function).parameters)
    assert returned.strip()


@pytest.mark.parametrize("name", ["CostSummary", "Policy"])
def test_every_field_of_a_record_says_what_it_is(name: str) -> None:
    """Each field of a public record has its description beside it."""
    (body,) = ast.parse(inspect.getsource(getattr(langchain_mlflow_cost, name))).body
    told = {
        field.target.id: isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        for field, after in pairwise(body.body)
        if isinstance(field, ast.AnnAssign)
    }

    assert len(told) > 8
    assert [field for field, is_told in told.items() if not is_told] == []


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    with pytest.raises(AttributeError, match="MlflowCostHandlr"):
        _ = langchain_mlflow_cost.MlflowCostHandlr


@pytest.mark.parametrize(
    "what", ["", ".policy.settings", ".pricing.ledger", ".pricing.book", ".redaction.private_text"]
)
def test_import_leaves_mlflow_alone(what: str) -> None:
    """Neither the package nor its pure parts import MLflow or LangChain: `--help` need not wait for them."""
    program = (
        f"import sys, langchain_mlflow_cost{what}; print(*sorted({{'mlflow', 'langchain_core'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.strip() == ""


def test_off_leaves_mlflow_alone() -> None:
    """With `enabled: false` a graph that is given the handler runs without MLflow having been imported."""
    program = (
        "import sys\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "from langchain_mlflow_cost import MlflowCostHandler, configure\n"
        "handlers = [configure({'enabled': False}), MlflowCostHandler({'enabled': False})]\n"
        "RunnableLambda(lambda value: value).invoke(1, {'callbacks': handlers})\n"
        "print('mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.strip() == "False"


def test_types_are_shipped() -> None:
    """Type checkers read the annotations."""
    assert (ROOT / "langchain_mlflow_cost" / "py.typed").is_file()


# --- the README ----------------------------------------------------------------------------------------------------


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found, f"the README has no block of {language}"
    return found[1]


def test_readme_shows_the_example() -> None:
    """The README's program is the file in `examples`, but for the file's docstring."""
    _, _, body = EXAMPLE.read_text(encoding="utf-8").partition("\n\n")

    assert block("python") == body


def test_example_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """The program runs in an empty folder, without a key or a network, and prints those lines and no others."""
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "MLFLOW_MODEL_CATALOG_URI": "",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == block("text").splitlines()


def test_readme_policy_is_valid() -> None:
    """The README's YAML loads as it stands, with its nodes."""
    import yaml

    policy = Policy.load(yaml.safe_load(block("yaml")))

    assert set(policy.nodes) == {"diagnosis", "team/*"}


# --- links and texts -----------------------------------------------------------------------------------------------

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("[!_]*.md"))]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
BRANCH = "main"
# `[text](target)`, and `[name]: target` for a `[text][name]` elsewhere.
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
NAMED = re.compile(r"\]\[([^\]]+)\]")
IMAGE = re.compile(r"!\[[^\]]*\]\[([^\]]+)\]")

OF_PAGES = f"{URLS['Repository']}/blob/{BRANCH}/"
OF_IMAGES = f"{URLS['Repository'].replace('//github.com/', '//raw.githubusercontent.com/')}/{BRANCH}/"
OF_FOLDERS = f"{URLS['Repository']}/tree/{BRANCH}/"


def links_of(text: str) -> list[str]:
    return [inline or named for inline, named in LINK.findall(text)]


def names_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def in_tree(page: Path, link: str) -> tuple[Path, str] | None:
    """The file of ours that a link is to, and the heading; None if it leads elsewhere."""
    path, _, fragment = link.partition("#")
    for start in (OF_PAGES, OF_IMAGES, OF_FOLDERS):
        if path.startswith(start):
            return ROOT / path.removeprefix(start), fragment
    return None if re.match(r"[a-z]+:", link) else (page.parent / path if path else page, fragment)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link into this repository, also a whole address, is to a file that exists, and to a heading that it has."""
    dead = []
    for link in links_of(page.read_text(encoding="utf-8")):
        found = in_tree(page, link)
        if found is None:
            continue
        target, fragment = found
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if fragment else []
        if not target.exists() or (fragment and fragment not in map(anchor, headings)):
            dead.append(link)

    assert dead == []


def test_readme_links_are_whole_addresses() -> None:
    """The README is also the package's page, which has no files beside it: no link or image of it is relative."""
    relative = [link for link in links_of(README) if not link.startswith("https://")]

    assert len(links_of(README)) > 8
    assert relative == []


def test_readme_link_names_are_defined() -> None:
    """A link by name has its address at the end of the page, and no address is without a link."""
    assert set(NAMED.findall(README)) == set(names_of(README))


def test_readme_images_are_served_as_images() -> None:
    """GitHub serves an image itself at its raw address only; at the other one it is a page around it."""
    images = [names_of(README)[name] for name in IMAGE.findall(README)]

    assert len(images) == 2
    assert [image for image in images if not image.startswith(OF_IMAGES)] == []


@pytest.mark.parametrize("name", ["Homepage", "Documentation", "Repository", "Issues", "Changelog"])
def test_the_package_says_where_it_lives(name: str) -> None:
    """Each address of the package's page is below the repository's, and a file that it names exists."""
    found = in_tree(ROOT / "README.md", URLS[name])

    assert URLS[name].startswith(URLS["Repository"])
    assert found is None or found[0].exists()


def tracked_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    done = subprocess.run([git, "ls-files", "-z"], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        pytest.skip("git does not list the files")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


# In pieces, so that this file is not the one that is found.
OF_ONE_MACHINE = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
    )
] + ["/" + folder + "/" for folder in ("work", "root")]


@pytest.mark.parametrize("text", OF_ONE_MACHINE)
def test_no_file_depends_on_one_machine(text: str) -> None:
    """No file that is handed on names a registry's host or a folder of the machine that it was written on."""
    # A URL's path may hold such a folder's name; a path of the machine begins with it.
    pattern = re.compile((r"(?<![\w.])" if text.startswith("/") else r"\b").encode() + re.escape(text.encode()))
    found = []
    for file in tracked_files():
        content = file.read_bytes()
        if b"\0" not in content[:8000] and pattern.search(content):
            found.append(file.relative_to(ROOT).as_posix())

    assert found == []
