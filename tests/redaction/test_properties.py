"""What holds for any payload."""

import json
import string
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost.redaction import ENTITIES, Redactor, compile_rules, detectors
from langchain_mlflow_cost.redaction.detectors import passes_luhn
from langchain_mlflow_cost.redaction.detectors.accounts import passes_mod_97
from langchain_mlflow_cost.redaction.detectors.addresses import is_ipv6

ALL = compile_rules(entities=ENTITIES)

PLANTS = (
    "bob.miller@example.com",
    "+49 30 12345678",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "078-05-1123",
    "192.168.17.4",
    "2001:db8::8a2e:370:7334",
    "00:1A:2B:3C:4D:5E",
    "16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ",
    "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
    "password=hunter2x",
    "https://user:s3cr3tpw@host/x",
)
# Pieces that are near to something, so that joined they are what a rule may stumble over.
PIECES = st.sampled_from(
    [
        "@", ".", ":", "-", " ", "  ", "\n", "=", "/", "//", "(", ")", "+", '"', "'", "\\", "[", "]", "\x1f", "\u200b", "é", "好", "１", "–",
        "0", "1", "12", "555", "2024", "4111", "abc", "com", "a1b2", "DE89", "eyJ", "sk-", "ghp_", "key", "password", "token", "is", "tel", "0x",
        "-----BEGIN PRIVATE KEY-----", "[EMAIL_ADDRESS]", "****", "{", "}", ",", *PLANTS,
    ]
)  # fmt: skip
TEXTS = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=30))
PAYLOADS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), TEXTS, st.binary(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)
STRATEGIES = st.sampled_from(["redact", "mask", "hash", "drop"])


def rules(strategy: Any) -> Any:
    return compile_rules(
        entities=ENTITIES, strategies=strategy, hash_key=b"k", keys=["notes"], patterns={"order": "ORD-[0-9]+"}
    )


def leaves(tree: Any) -> Any:
    if isinstance(tree, dict):
        for key, item in tree.items():
            yield key
            yield from leaves(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from leaves(item)
    elif isinstance(tree, str):
        yield tree


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(TEXTS, st.sampled_from(PLANTS), TEXTS), min_size=1, max_size=4), STRATEGIES)
def test_planted_values_are_gone(planted: Any, strategy: Any) -> None:
    """A value that is found in a leaf is nowhere in the output, in whatever company."""
    value = [f"{before} {plant} {after}" for before, plant, after in planted]
    redactor = Redactor(rules(strategy))

    tree, _ = redactor.tree(value)

    for text, redacted in zip(value, tree, strict=True):
        found = [text[one.start : one.end] for one in redactor.rules.find(text)]
        for one in found:
            # What is short, or stands there once more as a part of something longer, may stay for that reason.
            if len(one) >= 8 and text.count(one) == found.count(one):
                assert one not in (redacted or "")


@settings(deadline=None, max_examples=200)
@given(PAYLOADS, STRATEGIES)
def test_nothing_is_left_to_find(value: Any, strategy: Any) -> None:
    """No leaf of the output has anything in it that the rules would find."""
    redactor = Redactor(rules(strategy))
    tree, _ = redactor.tree(value)

    assert [leaf for leaf in leaves(tree) if redactor.rules.find(leaf)] == []


@settings(deadline=None, max_examples=300)
@given(st.lists(TEXTS.filter(lambda text: "\x1f" not in text), min_size=2, max_size=4))
def test_company_makes_no_difference(texts: list[str]) -> None:
    """What goes from a text is the same by itself and in the one pass over all texts of a payload."""
    together = ALL.redact_all(texts)

    assert [leaf.text for leaf in together] == [ALL.redact_all([text])[0].text for text in texts]


@settings(deadline=None, max_examples=200)
@given(PAYLOADS, st.sampled_from(["redact", "mask", "hash"]))
def test_redacting_twice_is_redacting_once(value: Any, strategy: Any) -> None:
    """A second pass changes nothing and finds nothing."""
    once, _ = Redactor(rules(strategy)).tree(value)
    twice, counts = Redactor(rules(strategy)).tree(once)

    assert (once, {}) == (twice, dict(counts))


@settings(deadline=None, max_examples=200)
@given(PAYLOADS, STRATEGIES)
def test_shape_is_kept(value: Any, strategy: Any) -> None:
    """Lists keep their lengths and dicts their sizes; only strings and numbers change."""

    def check(before: Any, after: Any) -> None:
        if isinstance(before, dict) and isinstance(after, dict):
            assert len(before) == len(after)
            for one, other in zip(before.values(), after.values(), strict=True):
                check(one, other)
        elif isinstance(before, list) and isinstance(after, list):
            assert len(before) == len(after)
            for one, other in zip(before, after, strict=True):
                check(one, other)
        elif isinstance(before, (dict, list)):
            # The value of a field that the policy names.
            assert after is None or isinstance(after, str)

    text, _ = Redactor(rules(strategy)).json(value)

    check(value, json.loads(text))


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_leaves_do_not_influence_each_other(texts: Any) -> None:
    """What is found in a string does not depend on the strings that are scanned with it."""
    assert ALL.find_all(texts) == [ALL.find(text) for text in texts]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_the_cache_changes_nothing(pairs: Any) -> None:
    """A redactor that has seen other payloads gives what a new one gives."""
    used = Redactor(ALL)
    for before, after in pairs:
        used.json([before])
        assert used.json([before, after]) == Redactor(ALL).json([before, after])


@settings(deadline=None, max_examples=200)
@given(TEXTS)
def test_found_stretches_are_in_order_and_apart(text: Any) -> None:
    """Stretches are inside the text, not empty, and do not overlap."""
    end = 0
    for one in ALL.find(text):
        assert end <= one.start < one.end <= len(text)
        end = one.end


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="0123456789abcdefABCDEF:.", max_size=40))
def test_ipv6_as_the_standard_library_has_it(text: Any) -> None:
    """The quick check agrees with `ipaddress`."""
    import ipaddress

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        expected = False
    else:
        expected = True

    assert is_ipv6(text) == expected


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_one(address: Any) -> None:
    """Both the short and the long form of any address are taken."""
    assert is_ipv6(str(address))
    assert is_ipv6(address.exploded)


@given(st.text(alphabet=string.digits, min_size=12, max_size=19))
def test_luhn_as_stdnum_has_it(digits: Any) -> None:
    """The check digit is that of python-stdnum."""
    from stdnum import luhn

    assert passes_luhn(digits) == luhn.is_valid(digits)


@given(
    st.text(alphabet=string.digits + string.ascii_uppercase, min_size=11, max_size=30),
    st.sampled_from(["DE", "GB", "NO"]),
    st.integers(0, 99),
)
def test_mod_97_as_stdnum_has_it(account: Any, country: Any, check: Any) -> None:
    """The checksum of an account is that of python-stdnum."""
    from stdnum.exceptions import ValidationError
    from stdnum.iso7064 import mod_97_10

    iban = f"{country}{check:02d}{account}"
    try:
        mod_97_10.validate(iban[4:] + iban[:4])
    except ValidationError:
        expected = False
    else:
        expected = True

    assert passes_mod_97(iban) == expected


def test_threads_share_rules_and_cache() -> None:
    """Many threads, one redactor: each gets what it would get alone."""
    redactor = Redactor(ALL)
    expected = {i: Redactor(ALL).json([f"u{i}@example.com", {"n": [i] * 3}, PLANTS]) for i in range(40)}
    wrong = []

    def work(offset: Any) -> None:
        for i in range(40):
            n = (i + offset) % 40
            if redactor.json([f"u{n}@example.com", {"n": [n] * 3}, PLANTS]) != expected[n]:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(0, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


HOSTILE = (
    "a", "a.", "1", "1234567890", "1.1.1.", "eyJ", "eyJhbGciOi.", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN ", "ab:", "DE89 ", "(", "@", "a@",
    "a@a.", ":", "+1 ", "0 ", "1-", "password", "password=", 'password="', "token is ", "://a:", "://a:b@", "sk-", "T3BlbkFJ", "a1Q~", "1:AA",
    "\u200b", "１", "ａ＠", "é@é.", "4111 1111 ", "ab-ab-", "abcd.", "(12)", "--token ", "bearer ", "[EMAIL_ADDRESS] ", "[", '{"a":', "a%40",
    "\x1f", "13800138000 ", "0x12345678", "1234567|aaaaaaaa", "phone 1", "–", " ", "\n", '"a"@',
    "curl ", "curl -u a:b ", "echo a | docker ", "mysql -p", "_eyJ", "ghs_1_eyJ", "a_AbCdEfGhIjKlMnOpQrStUv0x", "password,\n", "a,password\n1,2\n", "password | ", "| key |\n",
    "?code=", "&sig=aB3", "password -> ", "password: word\n", "password\nZx8\n", "api key ", "пароль это ", "密码是", "482913 is your code ", "verification code is ", "user: a / b ",
    "identified by 'x' ", "a:123:b:c:d\n", "login a password b ", "seed phrase: abc ", "https://a", "://a:b/c#d?e@", "-----BEGIN PRIVATE KEY-----\nMIIEow", "A" * 70 + "\n", "4111_", "4111\n", "4111 1111\n> ",
    "1-800-A", "&#64;", "\\u0040", "=40a.", "=3D", "%2540", "iVBORw0KGgo", "$2b$12$", "JQQJ99AB", "972-50-", "%2B1", "1.2.3.4 version ", "[EMAIL_ADDRESS] 1.2.3.4 ", "name: x\n  value: ", "Ym9i",
    "a:b@tcp(",
    'setPassword("',
    'auth=("a","',
    '{"a":1}\n',
    "SK31 1200 0000 1987 ",
    "snmp-server community a ",
    "into a (password) values (",
    "into a (password) values ('b'), ('c'), ",
    "into a (password, ",
    "password) values (f('a'(",
    "getConnection(a, 'b', '",
)  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_time_is_linear_in_a_hostile_text(unit: Any) -> None:
    """Ten times the length takes at most about ten times the time: what is quadratic takes a hundred."""

    def seconds(size: Any) -> Any:
        text = (unit * (size // len(unit) + 1))[:size]
        start = time.process_time()
        ALL.redact_all([text])
        return time.process_time() - start

    small = min(seconds(10_000) for _ in range(3))
    # Twice the goal's twelve, since a test's machine has other work, and a floor where all is over at once.
    bound = max(24 * small, 0.05)

    assert any(seconds(100_000) < bound for _ in range(2))


# What short texts are spared is what these begin with.
ANCHORED = st.lists(
    st.one_of(PIECES, st.sampled_from([example for entity in ENTITIES.values() for example in entity.examples])),
    max_size=10,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(ANCHORED)
def test_short_texts_are_searched_as_long_ones(text: Any) -> None:
    """What is found in a short text, of which one look may say that it has nothing, is what each search finds."""
    assert detectors.Scanner(ENTITIES).find(text) == detectors.Scanner(ENTITIES, short=0).find(text)


BLOB = "iVBx0KGgoAAAANSUhEUgAAABQAAAAUCAYAAACNiR0NAAAAAXNSR0IArs4c6QAAAARn/+Zz9JREFUOE9jZKAQMFKon4H"
BESIDE_BLOBS = (
    "&password=Zx8fz27k!",
    "; api_key: 'aB3dE6gH9jK2mN5pQ8rS1tU4'",
    " --token aB3dE6gH9jK2mN5pQ8rS1tU4 ",
    "\nname,password\nbob,Zx8fz27k\namy,Qw3rty99\n",
    "?sig=aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA&x=",
    " my password is Zx8fz27k. ",
    "\x1fsecret\nZx8fz27kaB3dE6gH9jK2mN5p\n\x1f",
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(BESIDE_BLOBS), st.integers(0, 20_000)), min_size=1, max_size=5),
    st.integers(0, 9_000),
)
def test_names_beside_base64_are_found(parts: Any, first: Any) -> None:
    """Where the middle of base64 is passed over, the names before and behind it are found as if it were not."""
    text = (BLOB * 100)[:first] + "".join(name + (BLOB * 220)[:size] for name, size in parts)
    found = detectors.Scanner(ENTITIES).find(text)

    assert found == detectors.Scanner(ENTITIES, short=len(text)).find(text)
    assert found
