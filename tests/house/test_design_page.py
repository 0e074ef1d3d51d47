"""`docs/design.md` shows the house as it is; run this file as a program to write its map anew."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_direction import FLOORS  # type: ignore[import-not-found]  # beside it, as pytest finds it

from langchain_mlflow_cost.budgets.rules import SCOPES
from langchain_mlflow_cost.cli import COMMANDS
from langchain_mlflow_cost.redaction import ENTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "langchain_mlflow_cost"
PAGE = ROOT / "docs" / "design.md"
PAGES = [PAGE, ROOT / "CONTRIBUTING.md"]
BEGIN, END = "<!-- map -->\n", "<!-- end of the map -->"
ORDER = [*(room for floor in FLOORS for room in floor), "__init__"]


def purpose_of(file: Path) -> str:
    """The first sentence of a file's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    found = re.match(r".*?[.](?=\s|$)", paragraph)
    return found[0] if found else paragraph


def rooms() -> list[tuple[str, Path]]:
    """Folders and files at the top of the package, from the ground up."""
    found = {path.stem: path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    return sorted(found.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else len(ORDER), item[0]))


def house_map() -> str:
    return "\n" + "\n".join(["| file | what it is for |", "| --- | --- |", *rows()]) + "\n\n"


def rows() -> Iterator[str]:
    for name, path in rooms():
        if path.is_file():
            yield f"| `{path.name}` | {purpose_of(path)} |"
            continue
        yield f"| **`{name}/`** | **{purpose_of(path / '__init__.py')}** |"
        for file in sorted(path.rglob("*.py")):
            place = file.relative_to(PACKAGE).as_posix()
            if file.name != "__init__.py":
                yield f"| `{place}` | {purpose_of(file)} |"
            elif file.parent != path:
                yield f"| `{place.removesuffix('__init__.py')}` | {purpose_of(file)} |"


def with_map(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + house_map() + END + rest.partition(END)[2]


def test_map_is_the_house() -> None:
    """The page names every file and folder of the package and no other; if not: python tests/house/test_design_page.py."""
    page = PAGE.read_text(encoding="utf-8")

    assert page == with_map(page)


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE).with_suffix(""))
)
def test_every_file_says_what_it_is_for(file: Path) -> None:
    """The first sentence of each docstring is one sentence, short enough for the map."""
    purpose = purpose_of(file)

    assert purpose.endswith(".")
    assert len(purpose) < 140
    assert "|" not in purpose


PATH = re.compile(r"`([\w./-]+(?:\.(?:py|md|toml|txt|yaml)|/))(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_tests_exist(page: Path) -> None:
    """What the page names in the tree, and the tests that it says would fail, are there."""
    missing = []
    for name, test in PATH.findall(page.read_text(encoding="utf-8")):
        found = next((place / name for place in (ROOT, PACKAGE) if (place / name).exists()), None)
        if found is None or (test and f"def {test}(" not in found.read_text(encoding="utf-8")):
            missing.append(f"{name}::{test}" if test else name)

    assert missing == []


def test_central_types_are_in_their_rooms() -> None:
    """Each type of the table is a class of the room that the table says."""
    table = PAGE.read_text(encoding="utf-8").partition("## The central types")[2].partition("\n\nPrinciples")[0]
    types = re.findall(r"^\| `(\w+)` \| (?:`(\w+)/`|the ground) \|", table, re.MULTILINE)
    files = {room: (PACKAGE / room).rglob("*.py") if room else PACKAGE.glob("*.py") for _, room in types}
    text = {room: "\n".join(file.read_text(encoding="utf-8") for file in of_room) for room, of_room in files.items()}

    assert len(types) > 10
    assert [name for name, room in types if not re.search(rf"^class {name}\b", text[room], re.MULTILINE)] == []


def test_short_map_names_real_rooms() -> None:
    """The picture in CONTRIBUTING has every room, each by its name."""
    picture = re.search(r"^```text\n(cli/.*?)^```$", PAGES[1].read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert picture
    named = {word.rstrip("/") for line in picture[1].splitlines() for word in line.partition("   ")[0].split()}

    assert sorted(named - {"..."} - {name for name, _ in rooms()}) == []
    assert sorted({name for name, path in rooms() if path.is_dir()} - named) == []


# --- what the table "to add something" says of other pages ----------------------------------------------------------


def test_privacy_page_names_every_entity() -> None:
    """The table of what is found has a row for each entity."""
    text = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    table = text.partition("| entity | what it is |")[2].partition("\n\n")[0]

    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(ENTITIES)


def test_budget_page_names_every_scope() -> None:
    """The table of scopes says of each whose sum it is."""
    text = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")

    assert [scope for scope in SCOPES if f"\n| `{scope}` |" not in text] == []


def test_readme_names_every_command() -> None:
    """The README's paragraph on the command line has each command."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    paragraph = text.partition("## Command line\n")[2].partition("\n## ")[0]

    assert [name for name in COMMANDS if not re.search(rf"`(mlflow-cost )?{name}\b", paragraph)] == []


if __name__ == "__main__":
    PAGE.write_text(with_map(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is written\n")
