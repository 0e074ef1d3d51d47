"""The optional engine; runs where presidio-analyzer is installed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

presidio_analyzer = pytest.importorskip("presidio_analyzer")

from langchain_mlflow_cost import limits  # noqa: E402
from langchain_mlflow_cost.errors import PolicyError  # noqa: E402
from langchain_mlflow_cost.redaction import (  # noqa: E402 - only with the extra
    ENTITIES,
    Redactor,
    compile_rules,
    presidio,
)
from langchain_mlflow_cost.redaction.detectors import NATIONAL_ENTITIES  # noqa: E402
from langchain_mlflow_cost.redaction.walk import RedactionError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_mlflow_cost.redaction.rules import Rules

# An entity that Presidio has, with a check digit, and the built-in tables have not.
LICENSE = "MEDICAL_LICENSE"
VALUE = "AB1234563"


def rules(*entities: str, **more: Any) -> Rules:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile_rules(entities=entities, engine="presidio", **more)


def test_finds_what_builtin_has_not() -> None:
    """A national id of a country that the built-in table does not know is Presidio's."""
    assert Redactor(rules(LICENSE)).text("his license number is AB1234563.") == (
        "his license number is [MEDICAL_LICENSE].",
        {LICENSE: 1},
    )


def test_builtin_goes_first() -> None:
    """What the built-in table finds keeps its name, and Presidio does not see it."""
    text = "mail bob@example.com, license AB1234563"

    assert (
        Redactor(rules(LICENSE, "URL", "EMAIL_ADDRESS")).text(text)[0]
        == "mail [EMAIL_ADDRESS], license [MEDICAL_LICENSE]"
    )


def test_only_chosen_entities_are_asked_for() -> None:
    """Presidio is not asked for what the policy does not name."""
    assert Redactor(rules(LICENSE)).text("see https://example.org") == ("see https://example.org", {})


def test_unknown_entity() -> None:
    """Names that neither engine has are an error."""
    with pytest.raises(PolicyError, match="SHOE_SIZE"):
        rules("SHOE_SIZE")


def test_long_text_is_handed_over_in_slices() -> None:
    """A value far behind in a long text is found where it is."""
    text = "word " * 9_000 + "license AB1234563 " + "word " * 9_000

    redacted, counts = Redactor(rules(LICENSE), max_payload_chars=10**6).text(text)

    assert counts == {LICENSE: 1}
    assert redacted == text.replace("AB1234563", "[MEDICAL_LICENSE]")


def test_time_limit_fails_closed() -> None:
    """A string that takes too long is not let through."""
    with limits.replaced(presidio_text_s=-1.0), pytest.raises(RedactionError, match="TimeoutError"):
        Redactor(rules(LICENSE)).text("license AB1234563")


def test_missing_model_is_told() -> None:
    """Without a trained model nobody's name is found: the developer is warned when the policy is loaded."""
    if presidio._installed_model():
        pytest.skip("a spaCy model is installed")

    with pytest.warns(UserWarning, match="PERSON"):
        presidio.analyzer(frozenset({"PERSON"}))


@pytest.fixture
def people() -> Iterator[Redactor]:
    """Know some people and places, by an engine of the user's own: Presidio asks a model of spaCy's in the same way."""
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    names = ("Ada Lovelace", "Jordan", "Madison", "Claude", "Claude Sonnet", "Charlotte", "Lookup", "Flight Finder")
    ruler.add_patterns([{"label": "PERSON", "pattern": one} for one in names])
    ruler.add_patterns([{"label": "GPE", "pattern": one} for one in ("Paris", "Denver")])
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "own"}])
    engine.nlp = {"en": nlp}
    presidio.use_nlp_engine(engine)
    yield Redactor(rules(*ENTITIES, *presidio.default_entities()))
    presidio.use_nlp_engine(None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a letter of Ada Lovelace", "a letter of [PERSON]"),
        ("Madison flew from Paris to Denver.", "[PERSON] flew from [LOCATION] to [LOCATION]."),
        ("for Ada Lovelace: the report", "for [PERSON]: the report"),
        ("From Paris, with love", "From [LOCATION], with love"),
        ('name = "Ada Lovelace"', 'name = "[PERSON]"'),
        ("INSERT INTO people VALUES ('Ada Lovelace')", "INSERT INTO people VALUES ('[PERSON]')"),
        ("new customer: Ada Lovelace", "new customer: [PERSON]"),
    ],
)
def test_names_and_places_go(people: Redactor, text: str, shown: str) -> None:
    """What the user's engine finds goes, in sentences and in what people wrote into a program."""
    assert people.text(text)[0] == shown


@pytest.mark.parametrize(
    "text",
    [
        "Claude",
        "Claude Sonnet 4",
        "claude-3-5-sonnet-20241022",
        "gpt-4o-mini-2024-07-18",
        "config.py",
        "find_Madison",
        "call_Jordan123",
        "Jordan-42",
        "msg_Madison",
        "lc_run--01a21be9-c834-76ce-bc0c-b47543191765-0",
        "import Jordan from 'Jordan'",
        "from Madison import Jordan",
        "const Madison = new Madison();",
        "class Charlotte(Base):",
        "for Denver in cities:\n    print(Denver)",
        "SELECT name FROM Denver WHERE id = 3",
        "Madison = load(7)",
        "https://example.org/wiki/Denver",
    ],
)
def test_programs_and_ids_are_out_of_its_reach(people: Redactor, text: str) -> None:
    """Names of tools and models, ids, lines of a program stay, whatever the engine takes them for."""
    assert people.text(text) == (text, {})


def test_default_is_names_places_and_checked_ids() -> None:
    """Neither dates nor addresses of pages, and nothing that any word of the right length would do for."""
    assert {"PERSON", "LOCATION", "NRP"} <= presidio.default_entities()
    assert not presidio.default_entities() & {"DATE_TIME", "URL", "US_DRIVER_LICENSE", "US_BANK_NUMBER", "UUID"}
    assert presidio.default_entities() - {"PERSON", "LOCATION", "NRP"} <= set(NATIONAL_ENTITIES) | presidio._CHECKED


def test_tokens_of_presidio_are_left_alone() -> None:
    """Redacting twice is redacting once with this engine, too."""
    redactor = Redactor(rules(LICENSE, strategies="hash", hash_key=b"k"))
    once, _ = redactor.text("license AB1234563")

    assert redactor.text(once) == (once, {})
