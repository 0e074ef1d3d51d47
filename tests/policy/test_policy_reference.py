"""`docs/policy.md`, the reference of all settings, says what the model says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic_core import PydanticUndefined

from langchain_mlflow_cost.policy.settings import Budget, NodeOverrides, Policy, Prices, Redaction

if TYPE_CHECKING:
    from pydantic import BaseModel

REFERENCE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under one heading."""
    return re.split(r"^#+ ", REFERENCE.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table under one heading, without its two head lines."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def shown(value: Any) -> str:
    """A default as the reference writes it."""
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ((), {}) or not isinstance(value, str | int | bool):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


TABLES: dict[str, tuple[type[BaseModel], bool]] = {
    "Settings": (Policy, True),
    "Redaction": (Redaction, False),
    "Budgets": (Budget, True),
    "Prices": (Prices, False),
}


@pytest.mark.parametrize("title", TABLES)
def test_a_table_and_its_model_agree(title: str) -> None:
    """Each setting stands in the reference with the default and the meaning that the model gives it, in its order."""
    model, with_defaults = TABLES[title]
    expected = [
        [
            f"`{name}`",
            *([shown(field.default)] if with_defaults else []),
            " ".join((field.description or "").split()),
        ]
        for name, field in model.model_fields.items()
    ]

    assert rows(title) == expected


def test_the_keys_of_a_node_are_named() -> None:
    """The reference lists exactly the settings that a node can have."""
    listed = re.search(r"A node can have (.*?)\.\n", section("Nodes"), re.DOTALL)

    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == list(NodeOverrides.model_fields)


EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", REFERENCE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.splitlines()[0] for example in EXAMPLES])
def test_an_example_loads(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is a policy, and says something."""
    monkeypatch.setenv("TRACE_HASH_KEY", "key")
    monkeypatch.setenv("REDIS_PASSWORD", "word")
    file = tmp_path / "example.yaml"
    file.write_text(example, encoding="utf-8")

    assert Policy.from_yaml(file) != Policy()
    assert yaml.safe_load(example)


DECIDED = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|", section("Which entry wins"), re.MULTILINE)


def test_there_are_decisions() -> None:
    """The table of winners is found."""
    assert len(DECIDED) >= 6


@pytest.mark.parametrize(("node", "winner", "loser"), DECIDED, ids=[f"{n}: {w}" for n, w, _ in DECIDED])
def test_the_reference_is_right_about_who_wins(node: str, winner: str, loser: str) -> None:
    """In each line of the table the entry that is said to win does."""
    policy = Policy.load({"nodes": {winner: {"max_payload_chars": 1}, loser: {"max_payload_chars": 2}}})

    assert policy.for_node(tuple(node.split("/"))).max_payload_chars == 1


MESSAGES = re.findall(r"^    (\S+\.yaml:.*)$", REFERENCE, re.MULTILINE)


def test_messages_are_shown() -> None:
    """The reference shows what an error looks like."""
    assert 'observability.yaml:14: unknown key "artefact_level"; did you mean "artifact_level"?' in MESSAGES
