"""The optional engine; runs where presidio-analyzer is installed."""

import warnings

import pytest

presidio_analyzer = pytest.importorskip("presidio_analyzer")

from langchain_mlflow_cost import limits  # noqa: E402
from langchain_mlflow_cost.errors import PolicyError  # noqa: E402
from langchain_mlflow_cost.redaction import Redactor, compile_rules, presidio  # noqa: E402 - only with the extra
from langchain_mlflow_cost.redaction.walk import RedactionError  # noqa: E402


def rules(*entities, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile_rules(entities=entities, engine="presidio", **more)


def test_finds_what_builtin_has_not():
    """A national id of a country that the built-in table does not know is Presidio's."""
    assert Redactor(rules("UK_NHS")).text("his NHS number is 401-023-2137.") == (
        "his NHS number is [UK_NHS].",
        {"UK_NHS": 1},
    )


def test_builtin_goes_first():
    """What the built-in table finds keeps its name, and Presidio does not see it."""
    text = "mail bob@example.com, NHS 401-023-2137"

    assert Redactor(rules("UK_NHS", "URL", "EMAIL_ADDRESS")).text(text)[0] == "mail [EMAIL_ADDRESS], NHS [UK_NHS]"


def test_only_chosen_entities_are_asked_for():
    """Presidio is not asked for what the policy does not name."""
    assert Redactor(rules("UK_NHS")).text("see https://example.org") == ("see https://example.org", {})


def test_unknown_entity():
    """Names that neither engine has are an error."""
    with pytest.raises(PolicyError, match="SHOE_SIZE"):
        rules("SHOE_SIZE")


def test_long_text_is_handed_over_in_slices():
    """A value far behind in a long text is found where it is."""
    text = "word " * 9_000 + "NHS 401-023-2137 " + "word " * 9_000

    redacted, counts = Redactor(rules("UK_NHS"), max_payload_chars=10**6).text(text)

    assert counts == {"UK_NHS": 1}
    assert redacted == text.replace("401-023-2137", "[UK_NHS]")


def test_time_limit_fails_closed():
    """A string that takes too long is not let through."""
    with limits.replaced(presidio_text_s=-1.0), pytest.raises(RedactionError, match="TimeoutError"):
        Redactor(rules("UK_NHS")).text("NHS 401-023-2137")


def test_missing_model_is_told():
    """Without a trained model nobody's name is found: the developer is warned when the policy is loaded."""
    if presidio._installed_model():
        pytest.skip("a spaCy model is installed")

    with pytest.warns(UserWarning, match="PERSON"):
        presidio.analyzer(frozenset({"PERSON"}))


def test_own_nlp_engine_is_used():
    """The user's engine is asked, and made no second time."""
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}])
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "own"}])
    engine.nlp = {"en": nlp}
    presidio.use_nlp_engine(engine)
    try:
        redacted, _ = Redactor(rules("PERSON")).text("a letter of Ada Lovelace")
    finally:
        presidio.use_nlp_engine(None)

    assert redacted == "a letter of [PERSON]"


def test_tokens_of_presidio_are_left_alone():
    """Redacting twice is redacting once with this engine, too."""
    redactor = Redactor(rules("UK_NHS", strategies="hash", hash_key=b"k"))
    once, _ = redactor.text("NHS 401-023-2137")

    assert redactor.text(once) == (once, {})
