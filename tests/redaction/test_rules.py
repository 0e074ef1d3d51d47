"""Compiling rules: what is refused, and how."""

import random
import string
import sys
from typing import Any

import pytest

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.redaction import ENTITIES, FIELD, PII_ENTITIES, SECRET, Found, Redactor, compile_rules, scan


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        ({"entities": ["EMAIL"]}, "redaction.entities", ["'EMAIL'", "EMAIL_ADDRESS"]),
        ({"entities": ["PHONE_NUMBR"]}, "redaction.entities", ["did you mean 'PHONE_NUMBER'"]),
        ({"entities": ["PERSON"]}, "redaction.entities", ["PERSON", "presidio"]),
        ({"entities": [], "strategies": "remove"}, "redaction.strategy", ["'remove'", "redact, mask, hash, drop"]),
        ({"entities": [SECRET], "strategies": {"SECRET": "x"}}, "redaction.strategy.SECRET", ["'x'"]),
        (
            {"entities": [SECRET], "strategies": {"SECRETS": "mask"}},
            "redaction.strategy.SECRETS",
            ["did you mean 'SECRET'"],
        ),
        ({"entities": [], "patterns": {"order": "(?<=x)y"}}, "redaction.patterns.order", ["RE2", "look-around"]),
        ({"entities": [], "patterns": {"order": r"(a)\1"}}, "redaction.patterns.order", ["RE2"]),
        ({"entities": [], "patterns": {"order": "a{1,2000}"}}, "redaction.patterns.order", ["RE2", "repe"]),
        ({"entities": [], "patterns": {"order": "(a"}}, "redaction.patterns.order", ["missing"]),
        ({"entities": [], "patterns": {"order": "a*"}}, "redaction.patterns.order", ["empty"]),
        ({"entities": [], "patterns": {"a]b": "x"}}, "redaction.patterns.a]b", ["name"]),
        ({"entities": [], "engine": "spacy"}, "redaction.engine", ["'spacy'", "builtin"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refused(arguments: Any, key: Any, words: Any) -> None:
    """What cannot work is an error that names the setting and the remedy."""
    with pytest.raises(PolicyError) as caught:
        compile_rules(**arguments)

    assert key == caught.value.key
    assert [word for word in words if word not in str(caught.value)] == []


def test_refused_pattern_is_not_printed(capfd: Any) -> None:
    """RE2 would write a bad pattern to stderr."""
    with pytest.raises(PolicyError):
        compile_rules(entities=[], patterns={"order": "(?<=x)y"})

    assert capfd.readouterr().err == ""


def test_missing_presidio_names_the_extra(monkeypatch: Any) -> None:
    """The optional engine is missed when the policy is loaded, not when the first payload comes."""
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)

    with pytest.raises(PolicyError, match=r"pip install \"langchain-mlflow-cost\[presidio\]\""):
        compile_rules(entities=["PERSON", "EMAIL_ADDRESS"], engine="presidio")


def test_equal_arguments_give_the_same_rules() -> None:
    """A rule set is made once, however many nodes use it."""
    first = compile_rules(
        entities=["EMAIL_ADDRESS", SECRET], strategies={SECRET: "mask"}, keys=["a*"], patterns={"x": "y+"}
    )
    second = compile_rules(
        entities={SECRET, "EMAIL_ADDRESS"}, strategies={SECRET: "mask"}, keys=["a*"], patterns={"x": "y+"}
    )

    assert first is second


def test_only_chosen_entities_are_found() -> None:
    """`entities` narrows."""
    rules = compile_rules(entities=["EMAIL_ADDRESS"])

    assert scan("bob@example.com 4111 1111 1111 1111", rules) == [Found(0, 15, "EMAIL_ADDRESS")]


def test_patterns_are_entities_of_their_own() -> None:
    """A pattern's name is what stands in the text instead."""
    rules = compile_rules(entities=[], patterns={"order_number": r"ORD-[0-9]{6}"})

    assert Redactor(rules).text("see ORD-123456.") == ("see [order_number].", {"order_number": 1})


def test_pattern_sees_one_string_at_a_time() -> None:
    """A pattern that takes everything does not reach over into the next string."""
    rules = compile_rules(entities=["EMAIL_ADDRESS"], patterns={"rest": r"x[\s\S]+"})

    assert Redactor(rules).tree(["a x b", "c", "bob@example.com"])[0] == ["a [rest]", "c", "[EMAIL_ADDRESS]"]


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*b", r"(.*,){11}P", r"(x+x+)+y"])
def test_hostile_pattern_cannot_hang(pattern: Any) -> None:
    """Patterns that take other engines hours are linear in RE2."""
    rules = compile_rules(entities=[], patterns={"hostile": pattern})

    assert len(Redactor(rules).text("a" * 50_000 + "x" * 50_000)[0]) <= 100_000


def test_description_has_a_row_for_each_rule() -> None:
    """`mlflow-cost explain` shows what is looked for and what happens to it."""
    rules = compile_rules(
        entities=ENTITIES, strategies={SECRET: "drop"}, keys=["notes"], patterns={"order": "ORD[0-9]+"}
    )

    rows = {row["entity"]: row for row in rules.describe()}

    assert {*ENTITIES, "order", FIELD} == set(rows)
    assert rows[SECRET]["strategy"] == "drop"
    assert "ORD[0-9]+" in rows["order"]["rule"]
    assert "notes" in rows[FIELD]["rule"]


def test_rules_do_not_show_the_key() -> None:
    """The key of the hashes is in no repr."""
    rules = compile_rules(entities=PII_ENTITIES, strategies="hash", hash_key=b"very-private-key")

    assert "very-private" not in repr(rules)


@pytest.mark.parametrize("length", [480, 499, 500, 501, 520, 9_000])
@pytest.mark.parametrize(
    "line",
    [
        'export AWS_SESSION_TOKEN="{}"\nexport REGION=eu',
        "export AWS_SESSION_TOKEN={}\nexport REGION=eu",
        '{{\\"session_token\\": \\"{}\\"}} and more',
        "password='{}', user=ada",
    ],
    ids=["quoted", "bare", "escaped", "password"],
)
def test_named_value_goes_to_its_end(line: Any, length: Any) -> None:
    """A value that its name gives away is as long as it is: nothing of it stays, and all that follows does."""
    value = "".join(random.Random(length).choices(string.ascii_letters + string.digits + "+/", k=length))

    redacted, _ = Redactor(compile_rules(entities=[SECRET])).text(line.format(value))

    assert redacted == line.format("[SECRET]")
