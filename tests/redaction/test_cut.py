"""Payloads that are too long: what is kept of them, and that they say what is missing."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from langchain_mlflow_cost.redaction import ENTITIES, Redactor, compile_rules

ALL = compile_rules(entities=ENTITIES)
NONE = compile_rules(entities=[])
MAIL = "bob@example.com"


@pytest.mark.parametrize("limit", [120, 500, 5_000, 100_000])
@pytest.mark.parametrize(
    "value",
    [
        ["x" * 200_000],
        ["y" * 900 for _ in range(300)],
        list(range(60_000)),
        {f"key{i}": {"a": [i] * 20} for i in range(3_000)},
        [HumanMessage('\n"é' * 3_000) for _ in range(30)],
        "z" * 300_000,
        {"k" * 300_000: 1},
    ],
    ids=["one string", "strings", "numbers", "dicts", "messages", "text", "key"],
)
def test_cut(value: Any, limit: Any) -> None:
    """What is too long is cut to what is allowed, is JSON still, and says so."""
    text, _ = Redactor(ALL, max_payload_chars=limit).json(value)

    assert len(text) <= limit
    assert "[cut: " in text
    json.loads(text)


def test_cut_uses_the_room() -> None:
    """Most of what is allowed is used."""
    text, _ = Redactor(ALL, max_payload_chars=10_000).json([HumanMessage("a" * 5_000) for _ in range(5)])

    assert len(text) > 8_000


@pytest.mark.parametrize("value", [{"a": 'abc\n"' * 10_000}, [HumanMessage('abc\n"' * 10_000)] * 3])
def test_cut_uses_the_room_of_text_with_escapes(value: Any) -> None:
    """Also where two of five characters take two."""
    text, _ = Redactor(ALL, max_payload_chars=10_000).json(value)

    assert len(text) > 6_000


def test_messages_in_a_cut_payload_are_all_there() -> None:
    """Of each message something is kept: a growing conversation loses its long texts first, not its last turns."""
    messages = [HumanMessage(f"{number} " + "a" * 5_000) for number in range(50)]
    tree, _ = Redactor(ALL, max_payload_chars=100_000).tree({"messages": messages})

    assert [one["content"].split()[0] for one in tree["messages"]] == [str(number) for number in range(50)]


def left_out(tree: Any) -> Any:
    """The number that the one marker of a list or dict tells, and how many members are beside it."""
    texts = [one for one in (tree if isinstance(tree, list) else tree.values()) if str(one).startswith("[cut: ")]
    assert len(texts) == 1
    return int(texts[0].split()[1]), len(tree) - 1


@pytest.mark.parametrize("make", [list, lambda values: {str(i): value for i, value in enumerate(values)}])
def test_what_will_be_cut_is_not_looked_at(make: Any) -> None:
    """Of a table that is far too long only both ends are redacted, and what is left out is counted."""
    value = make(f"row {number} of {MAIL}" for number in range(60_000))
    text, counts = Redactor(ALL, max_payload_chars=10_000).json(value)
    missing, shown = left_out(json.loads(text))

    assert counts["EMAIL_ADDRESS"] < 6_000
    assert missing + shown == 60_000
    assert len(text) > 8_000


def test_cut_keeps_both_ends() -> None:
    """Of a long conversation the beginning and the last answer stay."""
    messages = [HumanMessage(f"{number} " + "a" * 5_000) for number in range(2_000)]
    tree, _ = Redactor(ALL, max_payload_chars=20_000).tree({"messages": messages})
    missing, shown = left_out(tree["messages"])

    assert missing + shown == 2_000
    assert tree["messages"][0]["content"].startswith("0 ")
    assert tree["messages"][-1]["content"].startswith("1999 ")


@pytest.mark.parametrize("large", [["row"] * 60_000, "x" * 200_000, {"a": list(range(50_000))}])
def test_cut_keeps_small_fields_beside_large_ones(large: Any) -> None:
    """A number after a table is not what goes; nor is the table."""
    tree, _ = Redactor(ALL, max_payload_chars=10_000).tree({"large": large, "n": 7, "more": ["y" * 50] * 500})

    assert tree["n"] == 7
    assert len(json.dumps(tree["large"])) > 200


def test_many_values_that_fit_are_all_there() -> None:
    """However many there are: only what cannot have room is left out."""
    value = {"numbers": [7] * 40_000, "texts": ["ab"] * 2_000}

    assert Redactor(ALL).tree(value)[0] == value


def test_many_texts_that_become_short_are_counted() -> None:
    """Where redaction makes room that nobody could know of, it still says what is missing."""
    address = f"{'b' * 50}@example.com"
    tree, _ = Redactor(ALL, max_payload_chars=5_010 * 66).tree([address] * 6_000)
    missing, shown = left_out(tree)

    assert set(tree) == {"[EMAIL_ADDRESS]", f"[cut: {missing} more]"}
    assert missing + shown == 6_000


def test_cut_string_fills_the_room() -> None:
    """A text a little too long loses a little."""
    text, _ = Redactor(ALL, max_payload_chars=100_000).json("x" * 100_100)

    assert len(text) > 90_000


def test_cut_keeps_short_strings() -> None:
    """One long string does not cost the others."""
    tree, _ = Redactor(ALL, max_payload_chars=3_000).tree({"a": "short", "b": "x" * 50_000, "c": ["also short"]})

    assert (tree["a"], tree["c"]) == ("short", ["also short"])


def test_not_cut_at_the_limit() -> None:
    """A payload of exactly the allowed length is whole; one more and it is cut."""
    assert Redactor(ALL, max_payload_chars=1_002).json("a" * 1_000)[0] == '"' + "a" * 1_000 + '"'
    assert "[cut: " in Redactor(ALL, max_payload_chars=1_001).json("a" * 1_000)[0]


@pytest.mark.parametrize("place", range(960, 1_010, 3))
def test_redacted_before_it_is_cut(place: Any) -> None:
    """A value across the cut is gone as a whole, not only the part that would be kept."""
    text, _ = Redactor(ALL, max_payload_chars=1_000).json("x" * (place - 1) + " " + MAIL + " " + "y" * 200_000)

    assert "bob" not in text


@pytest.mark.parametrize("value", ["4111 1111 1111 1111", "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"])
def test_half_of_a_value_where_the_look_ends(value: Any) -> None:
    """A text that redaction makes much shorter shows nothing from where it was no longer looked at, and says so."""
    address = "someone.with.a.long.name.indeed.yes@a-long-subdomain.of.example.com "
    limit, look = 20_000, 20_000 + 16_384
    for shift in range(0, len(value), 3):
        filler = (address * 1_000)[: look - len(value) + shift - 1]
        text, _ = Redactor(ALL, max_payload_chars=limit).json(f"{filler} {value} {address * 500}")

        assert value[:8] not in text
        assert "[cut: " in text


def test_sibling_that_says_what_a_value_is_counts_where_it_is_cut() -> None:
    """A value is a secret by its neighbour's word also if there is no room for the neighbour."""
    for fill in range(5_980, 6_000):
        payload = {"rows": [MAIL] * fill, "env": {"value": "hunter2-Xy9", "name": "password"}}
        text, _ = Redactor(ALL, max_payload_chars=6_000 * 18).json(payload)

        assert "hunter2" not in text


def test_private_key_across_the_end_of_what_is_looked_at() -> None:
    """A key block longer than what is scanned of a string goes to the end."""
    block = "-----BEGIN PRIVATE KEY-----\n" + "QUJD" * 30_000

    tree, _ = Redactor(ALL, max_payload_chars=1_000).tree({"a": "pem " + block})
    assert re.fullmatch(r"pem \[SECRET\]… \[cut: [0-9]+ more characters\]", tree["a"])


# Strings with escapes, of other alphabets, and long; lists and dicts of many; models; names as long as texts.
STRINGS = st.one_of(
    st.text(max_size=40),
    st.tuples(st.sampled_from(["a", "é", "好", '"', "\\", "\n", "\x01", 'ab"', "x\\\n "]), st.integers(1, 1_000)).map(
        lambda parts: parts[0] * parts[1]
    ),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), STRINGS, STRINGS.map(HumanMessage))
PAYLOADS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(STRINGS, inner, max_size=6),
        st.tuples(inner, st.integers(1, 100)).map(lambda parts: [parts[0]] * parts[1]),
    ),
    max_leaves=8,
)


def told(tree: Any) -> Any:
    """How many characters and how many members the markers of a tree tell of."""
    chars = members = 0
    if isinstance(tree, str):
        chars += sum(map(int, re.findall(r"\[cut: ([0-9]+) more characters\]$", tree)))
        members += sum(map(int, re.findall(r"^\[cut: ([0-9]+) more\]$", tree)))
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        more = told(item)
        chars, members = chars + more[0], members + more[1]
    return chars, members


def check_cut(whole: Any, short: Any) -> None:
    """A cut tree has in it what the whole has, in its places, and its markers tell what is missing."""
    if isinstance(whole, str) and whole != short:
        kept, _, count = short.removesuffix(" more characters]").rpartition("… [cut: ")
        assert whole.startswith(kept)
        assert len(whole) == len(kept) + int(count)
    elif isinstance(whole, list):
        gaps = [i for i, one in enumerate(short) if re.fullmatch(r"\[cut: [0-9]+ more\]", str(one))]
        gap, missing = (gaps[0], told(short[gaps[0]])[1]) if gaps else (len(short), 0)
        last = max(0, len(short) - gap - 1)
        assert len(whole) == gap + missing + last
        assert gap - last in {0, 1} or not gaps
        for one, other in zip([*whole[:gap], *whole[len(whole) - last :]], short[:gap] + short[gap + 1 :], strict=True):
            check_cut(one, other)
    elif isinstance(whole, dict):
        gaps = [name for name in short if name not in whole]
        assert len(whole) == len(short) - len(gaps) + sum(told(short[name])[1] for name in gaps)
        assert [name for name in whole if name in short] == [name for name in short if name in whole]
        for name in short.keys() & whole.keys():
            check_cut(whole[name], short[name])
    elif not isinstance(whole, str):
        assert whole == short


@settings(deadline=None, max_examples=100)
@given(PAYLOADS, st.integers(64, 5_000))
def test_any_payload_is_cut_to_what_is_allowed(value: Any, limit: Any) -> None:
    """Never longer, always JSON, a part of the whole in the same order, and what is missing adds up."""
    whole, _ = Redactor(NONE, max_payload_chars=10**9).tree(value)
    text, _ = Redactor(NONE, max_payload_chars=limit).json(value)

    assert len(text) <= limit
    check_cut(whole, json.loads(text))


def test_what_was_not_looked_at_is_counted() -> None:
    """Of a text that is cut twice, where the look ends and where the room ends, all that is missing is told."""
    text = MAIL + " " + "x" * 200_000
    tree, _ = Redactor(ALL, max_payload_chars=1_000).tree([text])
    kept, _, count = tree[0].removesuffix(" more characters]").rpartition("… [cut: ")

    assert len("[EMAIL_ADDRESS]") + len(text) - len(MAIL) == len(kept) + int(count)


@pytest.mark.parametrize("limit", [1, 20, 63])
def test_hardly_any_room(limit: Any) -> None:
    """However little is allowed, it is said that something is missing, and nothing of it shown."""
    assert Redactor(ALL, max_payload_chars=limit).json({"a": "b" * 100}) == ('"[cut: 108 more characters]"', {})


def test_field_named_as_the_marker() -> None:
    """A field of the same name is not overwritten by what says that others are missing."""
    tree, _ = Redactor(ALL, max_payload_chars=200).tree({"…": "mine", **{f"field {i}": "y" * 20 for i in range(50)}})

    assert tree["…"] == "mine"
    assert re.fullmatch(r"\[cut: [0-9]+ more\]", tree["……"])


def test_message_is_cut_to_the_same_in_a_growing_state() -> None:
    """A message is cut to one of few lengths, so that it need not be cut anew for each payload of a conversation."""
    messages = [HumanMessage(f"{number} " + "a" * 5_000) for number in range(60)]
    redactor = Redactor(ALL, max_payload_chars=100_000)
    lengths = [
        len(redactor.tree({"messages": messages[:count]})[0]["messages"][0]["content"]) for count in range(30, 60)
    ]

    assert len(set(lengths)) < 12
