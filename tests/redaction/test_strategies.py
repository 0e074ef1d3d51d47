"""What stands in place of what was found."""

import re
from typing import Any

import pytest

from langchain_mlflow_cost.redaction import ENTITIES, FIELD, SECRET, Redactor, compile_rules

VALUES = {
    "EMAIL_ADDRESS": "bob.miller@example.com",
    "PHONE_NUMBER": "+1 415 555 0132",
    "CREDIT_CARD": "4111 1111 1111 1111",
    "IBAN_CODE": "DE89 3704 0044 0532 0130 00",
    "US_SSN": "078-05-1123",
    "IP_ADDRESS": "192.168.17.4",
    "MAC_ADDRESS": "00:1A:2B:3C:4D:5E",
    "CRYPTO": "16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ",
    "SECRET": "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
}


def redactor(strategies: Any, key: Any = b"k") -> Any:
    return Redactor(compile_rules(entities=ENTITIES, strategies=strategies, hash_key=key))


@pytest.mark.parametrize("entity", ENTITIES)
def test_redact_names_the_entity(entity: Any) -> None:
    """`redact` puts the entity's name into brackets."""
    assert redactor("redact").text(f"a {VALUES[entity]} b") == (f"a [{entity}] b", {entity: 1})


@pytest.mark.parametrize(
    ("entity", "left"),
    [
        (entity, "****0132" if entity == "PHONE_NUMBER" else "****1111" if entity == "CREDIT_CARD" else "****")
        for entity in ENTITIES
    ],
)
def test_mask_keeps_the_last_four_of_cards_and_phones_only(entity: Any, left: Any) -> None:
    """`mask` leaves four digits of a card or phone number and nothing of anything else."""
    assert redactor("mask").text(f"a {VALUES[entity]} b")[0] == f"a {left} b"


@pytest.mark.parametrize("entity", ENTITIES)
def test_hash_is_a_token_of_letters(entity: Any) -> None:
    """`hash` gives letters only: digits could pass for a number, or for a part of the next one."""
    text = redactor("hash").text(f"a {VALUES[entity]} b")[0]

    assert re.fullmatch(rf"a \[{entity}:[a-p]{{16}}\] b", text)


def test_hash_links_equal_values_under_one_key() -> None:
    """The same value has the same token, also in another process with the same key and in another spelling."""
    first = redactor("hash").text("Bob@Example.com, +1 415 555 0132")[0]
    second = redactor("hash").text("bob@example.com, +1 (415) 555-0132")[0]

    assert first == second


def test_hash_says_nothing_without_the_key() -> None:
    """Another key, another token: the value cannot be guessed by hashing guesses."""
    assert redactor("hash", b"one").text("bob@example.com") != redactor("hash", b"two").text("bob@example.com")


def test_hash_key_may_be_of_any_length() -> None:
    """BLAKE2 takes 64 bytes; a longer key is not cut to them."""
    assert redactor("hash", b"x" * 64 + b"1").text("bob@example.com") != redactor("hash", b"x" * 64 + b"2").text(
        "bob@example.com"
    )


def test_drop_removes_the_whole_string() -> None:
    """`drop` leaves null where the string was, and the string is still counted."""
    assert redactor("drop").text("a bob@example.com b") == (None, {"EMAIL_ADDRESS": 1})
    assert redactor("drop").tree({"a": "x bob@example.com", "b": [1, "y"]}) == (
        {"a": None, "b": [1, "y"]},
        {"EMAIL_ADDRESS": 1},
    )


def test_drop_of_a_name_leaves_the_entity() -> None:
    """A name cannot be null."""
    assert redactor("drop").tree({"bob@example.com": 1})[0] == {"[EMAIL_ADDRESS]": 1}


def test_strategies_by_entity() -> None:
    """Each entity has its own, `redact` where none is given, and patterns and fields have one, too."""
    rules = compile_rules(
        entities=ENTITIES,
        strategies={"EMAIL_ADDRESS": "mask", "order": "drop", FIELD: "mask"},
        patterns={"order": "ORD-[0-9]+"},
        keys=["notes"],
    )
    value = {"a": "bob@example.com 192.168.17.4", "b": "ORD-1", "notes": "anything"}

    assert Redactor(rules).tree(value)[0] == {"a": "**** [IP_ADDRESS]", "b": None, "notes": "****"}


@pytest.mark.parametrize("strategy", ["redact", "mask", "hash"])
@pytest.mark.parametrize(
    "frame",
    ["{}", "password={}", "call {} now", "{}{}", "a{}b", "https://u:{}@h/", "token: {}", '{{"password": "{}"}}'],
)
@pytest.mark.parametrize("entity", ENTITIES)
def test_redacting_twice_is_redacting_once(strategy: Any, frame: Any, entity: Any) -> None:
    """No token is found again."""
    value = VALUES[entity]
    once, _ = redactor(strategy).text(frame.format(value, value))

    assert redactor(strategy).text(once) == (once, {})


def test_tokens_of_patterns_are_left_alone() -> None:
    """A pattern that finds words would find the token's words for ever."""
    rules = compile_rules(entities=["EMAIL_ADDRESS"], patterns={"shout": "[A-Z]{4,}"})
    once, counts = Redactor(rules).text("HELLO bob@example.com")

    assert (once, counts) == ("[shout] [EMAIL_ADDRESS]", {"shout": 1, "EMAIL_ADDRESS": 1})
    assert Redactor(rules).text(once) == (once, {})


def test_what_comes_into_reach_by_redacting_goes_too() -> None:
    """An address that was glued to another value is found once that is gone."""
    rules = compile_rules(entities=["IP_ADDRESS"], patterns={"cut": "CUT"})

    assert Redactor(rules).text("CUT10.20.30.40") == ("[cut][IP_ADDRESS]", {"cut": 1, "IP_ADDRESS": 1})


def test_secret_is_one_entity() -> None:
    """Whatever kind of credential: the contract's name is SECRET."""
    text = "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8 password=hunter2x"

    assert redactor("redact").text(text) == ("[SECRET] password=[SECRET]", {SECRET: 2})
