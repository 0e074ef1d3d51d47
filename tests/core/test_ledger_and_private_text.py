"""What holds for any calls that are added up, and for any text that was said in private."""

from __future__ import annotations

import base64
import decimal
import json
import re
import unicodedata
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost import limits
from langchain_mlflow_cost.pricing.ledger import Call, Ledger, Totals
from langchain_mlflow_cost.redaction.ordinary import common_words
from langchain_mlflow_cost.redaction.private_text import TOKEN, PrivateText
from langchain_mlflow_cost.redaction.shingles import SHINGLE

if TYPE_CHECKING:
    from langchain_mlflow_cost.pricing.summary import CostSummary

few = settings(max_examples=25, deadline=None)


# --- sums ----------------------------------------------------------------------------------------------------------

USD = st.decimals(min_value=0, max_value=1000, allow_nan=False, allow_infinity=False, places=12)
TOKENS = st.integers(0, 10**7)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    priced = draw(st.booleans())
    return Call(
        node=draw(st.sampled_from(["", "writer", "team/researcher"])),
        model=draw(st.sampled_from(["", "gpt-4o", "claude"])),
        input_tokens=draw(TOKENS),
        output_tokens=draw(TOKENS),
        input_usd=draw(USD) if priced else None,
        output_usd=draw(USD) if priced else None,
        cached=draw(st.booleans()),
        estimated=draw(st.booleans()),
    )


CALLS = st.lists(calls(), max_size=12)


def ledger_of(added: list[Call]) -> Ledger:
    ledger = Ledger()
    for call in added:
        ledger.add(call)
    return ledger


def told(summary: CostSummary) -> CostSummary:
    """Without the order in which nodes were first seen."""
    return summary.model_copy(update={"node_breakdown": dict(sorted(summary.node_breakdown.items()))})


@few
@given(CALLS, st.randoms(use_true_random=False))
def test_order_changes_nothing(added: list[Call], random: st.Random) -> None:  # type: ignore[name-defined]
    """The same calls in another order make the same sums, to the last digit."""
    mixed = list(added)
    random.shuffle(mixed)
    one, other = Totals(), Totals()
    for call, shuffled in zip(added, mixed, strict=True):
        one.add(call)
        other.add(shuffled)

    assert replace(one, models=()) == replace(other, models=())
    assert set(one.models) == set(other.models)
    assert told(ledger_of(added).summary()) == told(ledger_of(mixed).summary())


@few
@given(CALLS)
def test_sums_are_exact(added: list[Call]) -> None:
    """USD are the exact sum of all priced calls, whatever the thread's decimal context rounds to."""
    with decimal.localcontext(decimal.Context(prec=3)):
        totals = Totals()
        for call in added:
            totals.add(call)
    with decimal.localcontext(decimal.Context(prec=200)):
        exact = sum(
            (c.input_usd + c.output_usd for c in added if c.input_usd is not None and c.output_usd is not None),
            Decimal(0),
        )

    assert totals.total_usd == exact
    assert ledger_of(added).summary().total_cost_usd == float(exact)


@few
@given(CALLS)
def test_nodes_add_up(added: list[Call]) -> None:
    """What stands in the nodes is what stands in the total."""
    summary = ledger_of(added).summary()
    nodes = summary.node_breakdown.values()

    assert sum(node.calls for node in nodes) == summary.llm_calls == len(added)
    assert sum(node.tokens.input_tokens for node in nodes) == summary.total_tokens.input_tokens
    assert sum(node.tokens.output_tokens for node in nodes) == summary.total_tokens.output_tokens
    assert sum(node.cost_usd for node in nodes) == pytest.approx(summary.total_cost_usd, rel=1e-12)


@few
@given(CALLS)
def test_span_totals_are_the_sums_below(added: list[Call]) -> None:
    """A span that is above all calls has the trace's sums, one above a node's calls the node's."""
    ledger, root, nodes = Ledger(), Totals(), defaultdict[str, Totals](Totals)
    for call in added:
        ledger.add(call, (nodes[call.node], root))
    summary = ledger.summary()

    assert (float(root.total_usd), root.tokens(), root.unpriced_calls) == (
        summary.total_cost_usd,
        summary.total_tokens,
        summary.unpriced_calls,
    )
    assert {name: float(node.total_usd) for name, node in nodes.items()} == {
        name: node.cost_usd for name, node in summary.node_breakdown.items()
    }


@few
@given(st.lists(st.tuples(calls(), calls(), st.sampled_from(["final", "failed", "still running"])), max_size=8))
def test_final_replaces_estimate(streams: list[tuple[Call, Call, str]]) -> None:
    """An estimate counts while its call runs; the final figures take its place, and a failed call leaves nothing."""
    ledger, expected = Ledger(), Ledger()
    for key, (estimate, final, end) in enumerate(streams):
        ledger.enter(key, estimate.node)
        ledger.run(key, final)
        ledger.run(key, estimate)
        if end == "final":
            ledger.add(final, key=key)
            expected.add(final)
        elif end == "failed":
            ledger.drop(key)
        else:
            expected.add(estimate)

    assert told(ledger.summary()) == told(expected.summary())


# --- private text --------------------------------------------------------------------------------------------------

WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789éüßжщ", min_size=3, max_size=9)
SAID = st.lists(WORDS, min_size=5, max_size=14).map(" ".join)
AROUND = st.sampled_from(["", " ", "seen: ", "\n", '{"q": "', "(", "... "])

QUOTED = {
    "plain": lambda text: text,
    "JSON": json.dumps,
    "JSON, not escaped": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON in JSON": lambda text: json.dumps({"inner": json.dumps(text)}),
    # Characters above ASCII count as they are.
    "upper case": lambda text: "".join(c.upper() if c.isascii() else c for c in text),
    "in a URL": quote,
    "other spaces": lambda text: text.replace(" ", "\n\t "),
}


def private(*said: str) -> PrivateText:
    text = PrivateText()
    for each in said:
        text.add(each)
    return text


def letters(text: str) -> str:
    """What is compared: letters and digits, ASCII case aside."""
    return "".join(c.lower() if c.isascii() else c for c in text if c.isalnum())


def folded(text: str) -> str:
    """With letters of all kinds as they are compared: `ß` is two."""
    return unicodedata.normalize("NFKD", text).casefold()


def runs(text: str, length: int = SHINGLE) -> set[str]:
    plain = letters(text)
    return {plain[at : at + length] for at in range(len(plain) - length + 1)}


@st.composite
def said_and_piece(draw: st.DrawFn) -> tuple[str, str]:
    said = draw(SAID)
    start = draw(st.integers(0, max(at for at in range(len(said)) if len(letters(said[at:])) >= SHINGLE)))
    shortest = min(end for end in range(start, len(said) + 1) if len(letters(said[start:end])) >= SHINGLE)
    piece = said[start : draw(st.integers(shortest, len(said)))]
    return said, piece


@pytest.mark.parametrize("quoted", QUOTED.values(), ids=list(QUOTED))
@few
@given(said_and_piece(), AROUND, AROUND)
def test_quoted_piece_goes(quoted: object, case: tuple[str, str], before: str, after: str) -> None:
    """A piece of twelve letters and digits or more is not left in a text, however it is written there."""
    assert callable(quoted)
    said, piece = case
    # A piece of ordinary words alone has to be longer, and one of such with a letter behind them.
    words = re.findall(r"[^\W\d_]+", said.casefold())
    assume(common_words().isdisjoint([*words, *(word[:-1] for word in words if len(word) > 2)]))
    written = quoted(piece)
    scrubbed, count = private(said).scrub(before + written + after)

    assert count >= 1
    assert TOKEN in scrubbed
    assert written not in scrubbed
    assert not runs(piece) & runs(scrubbed.replace(TOKEN, "|"))


@pytest.mark.parametrize("offset", [0, 1, 2])
@few
# Recognised by its letters around the numbers, and by those of the last group, which is not whole.
@example(("000 Bag bag aha0 000", "000 Bag bag aha"))
@given(said_and_piece())
def test_base64_goes(offset: int, case: tuple[str, str]) -> None:
    """The same in base64, wherever in the groups of three bytes the text begins: no such run of its code is left."""
    said, _ = case
    encoded = base64.b64encode(b"xyz"[:offset] + said.encode()).decode()
    scrubbed, count = private(said).scrub(f"data {encoded} end")

    # The first group holds what stood before, the last may hold padding: neither is the text's own.
    own = encoded[4:-4]
    assert count >= 1
    assert not runs(own) & runs(scrubbed.replace(TOKEN, "|"))


@few
@given(SAID, st.lists(WORDS, max_size=20).map(" ".join))
def test_innocent_text_stays(said: str, innocent: str) -> None:
    """A text that shares no run of twelve with what was said is left as it is."""
    assume(not runs(folded(said)) & runs(folded(innocent)))
    # Base64 of what was said is recognised too.
    codes = [base64.b64encode(said.encode()[offset:]).decode() for offset in range(3)]
    assume(not any(runs(code) & runs(innocent) for code in codes))

    assert private(said).scrub(innocent) == (innocent, 0)


@few
@given(st.lists(said_and_piece(), min_size=1, max_size=3), AROUND, WORDS)
def test_scrubbing_twice_is_scrubbing_once(cases: list[tuple[str, str]], around: str, word: str) -> None:
    """What is left has nothing private in it any more."""
    text = private(*(said for said, _ in cases))
    once, _ = text.scrub(f" {word} {around} ".join(piece for _, piece in cases))

    assert text.scrub(once) == (once, 0)


@few
@given(said_and_piece(), SAID)
def test_order_of_what_is_said_does_not_matter(case: tuple[str, str], other: str) -> None:
    """Texts that are added before, after or twice change nothing in what is found."""
    said, piece = case

    assert private(said, other).scrub(piece) == private(other, said, said).scrub(piece)


@pytest.mark.parametrize("texts", [["a" * 60], ["said at first", "b" * 60, "said afterwards"]])
def test_more_than_can_be_remembered(texts: list[str]) -> None:
    """Past the limit nothing more is kept in memory, and every text counts as private."""
    heard = PrivateText()
    with limits.replaced(private_chars=50):
        for text in texts:
            heard.add(text)

        assert heard.scrub("an innocent text") == (TOKEN, 1)
        assert heard
        assert not len(heard._index)
