"""How much of what is labelled is found, and how little else."""

from pathlib import Path
from typing import Any

import labelled
import pytest
from scoring import load, score

from langchain_mlflow_cost.redaction import ENTITIES, compile_rules

ALL = compile_rules(entities=ENTITIES)
SHARED = Path(__file__).parents[3] / "shared" / "redaction-data"

# Recall and precision that each entity must reach.
GOALS = {
    "EMAIL_ADDRESS": (0.97, 0.985),
    "PHONE_NUMBER": (0.88, 0.92),
    "CREDIT_CARD": (0.98, 0.98),
    "IBAN_CODE": (0.98, 0.99),
    "US_SSN": (0.97, 0.98),
    "IP_ADDRESS": (0.98, 0.98),
    "MAC_ADDRESS": (0.98, 0.97),
    "SECRET": (0.88, 0.92),
}


def found(text: str) -> list[tuple[int, int, str]]:
    """Find everything in a text, as plain tuples."""
    return [(one.start, one.end, one.entity) for one in ALL.find(text)]


@pytest.fixture(scope="module", params=["tune", "aside"])
def rows(request: Any) -> Any:
    return labelled.rows(request.param)


def test_recall_and_precision(rows: Any) -> None:
    """Each entity reaches its goal, on the sentences that were looked at and on those that were not."""
    scores = score(rows, found)

    reached = {name: (round(scores[name].recall, 3), round(scores[name].precision, 3)) for name in GOALS}
    assert [name for name, goal in GOALS.items() if reached[name][0] < goal[0] or reached[name][1] < goal[1]] == [], (
        reached
    )


def test_odd_characters(rows: Any) -> None:
    """Nine of ten values written with odd characters are found."""
    scores = score([row for row in rows if "odd" in row.tags], found)
    values = sum(one.values for name, one in scores.items() if name != "kept")

    assert sum(one.found for name, one in scores.items() if name != "kept") >= 0.9 * values


def test_the_rest_survives(rows: Any) -> None:
    """Of what is no value, 99 % of the characters stay."""
    assert score(rows, found)["kept"].recall >= 0.99


@pytest.mark.skipif(not SHARED.is_dir(), reason="the labelled rows of other projects are not beside this repository")
def test_rows_of_other_projects() -> None:
    """Rows from the tests of presidio, gitleaks and detect-secrets: as good as the goals, too."""
    scores = score(load(SHARED), found)

    assert [
        name for name, goal in GOALS.items() if scores[name].recall < goal[0] or scores[name].precision < goal[1]
    ] == []
