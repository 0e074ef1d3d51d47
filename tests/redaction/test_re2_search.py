"""The private call of google-re2: still there, and the same as the public ones."""

from typing import Any

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from langchain_mlflow_cost.redaction import re2_search
from langchain_mlflow_cost.redaction.detectors.view import ACCOUNTS, AT_SIGNS, SIGNS, signs_at
from langchain_mlflow_cost.redaction.re2_search import any_of, byte_pattern, text_set

PATTERNS = {
    "accounts": ACCOUNTS,
    "signs": SIGNS,
    "word": byte_pattern(r"\b[a-f]+\b"),
    "groups that take no part": byte_pattern("a(b)?|(c)d"),
}
BYTES = st.one_of(
    st.binary(max_size=60), st.text(alphabet="abcdef01 :-\x1f.DE", max_size=60).map(str.encode), st.just(b"")
)


def test_the_private_call_is_used() -> None:
    """Fails where google-re2 has changed: results are the same, but every search takes three times as long.

    Read `re2/__init__.py` of that version, and mend `re2_search.py`.
    """
    assert re2_search.private_search_works(), f"google-re2 without _Regexp._regexp.Match: {re2.__file__}"
    assert re2_search.spans is re2_search.private_spans
    assert re2_search.is_in is re2_search.private_is_in
    assert re2_search.first_start is re2_search.private_first_start
    assert re2_search.first_span is re2_search.private_first_span
    assert re2_search.first_of is re2_search.private_first_of
    assert re2_search.which is re2_search.private_which


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@given(data=BYTES, position=st.integers(0, 70), size=st.integers(0, 70))
def test_both_ways_find_the_same(pattern: Any, data: Any, position: Any, size: Any) -> None:
    """What is found does not depend on which of the two is used."""
    position = min(position, len(data))
    end = min(position + size, len(data))

    assert list(re2_search.private_spans(pattern, data)) == list(re2_search.public_spans(pattern, data))
    assert list(re2_search.private_spans(pattern, data, position, end)) == list(
        re2_search.public_spans(pattern, data, position, end)
    )
    assert re2_search.private_is_in(pattern, data) == re2_search.public_is_in(pattern, data)
    assert re2_search.private_first_span(pattern, data) == re2_search.public_first_span(pattern, data)
    assert re2_search.private_first_start(pattern, data, position) == re2_search.public_first_start(
        pattern, data, position
    )


@given(data=BYTES, position=st.integers(0, 60))
def test_both_ways_tell_one_apart(data: Any, position: Any) -> None:
    """Of several patterns in one, the first place, and whose it is, are the same whichever of the two is asked."""
    pattern = any_of(byte_pattern("[0-9]{2}"), byte_pattern("b+"), told_apart=byte_pattern("[a-f]+ "))
    position = min(position, len(data))

    assert re2_search.private_first_of(pattern, data, position) == re2_search.public_first_of(pattern, data, position)


@given(data=BYTES)
def test_both_ways_tell_which_are_there(data: Any) -> None:
    """Of several patterns, the same are there whichever of the two is asked."""
    patterns = text_set("a+b", "[0-9]", ":$")

    assert sorted(re2_search.private_which(patterns, data)) == sorted(re2_search.public_which(patterns, data))


@given(data=st.text(alphabet="@a1.%4 [?-", max_size=40).map(str.encode))
def test_at_signs_are_found_by_themselves_as_by_their_pattern(data: Any) -> None:
    """Where none is written as in a URL, to go from sign to sign gives what the pattern gives."""
    if b"%40" not in data:
        assert signs_at(data) == [start + 1 for start, _ in re2_search.spans(AT_SIGNS, data)]
