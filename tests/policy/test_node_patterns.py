"""Which nodes a pattern means, and which of two patterns is the more specific."""

from __future__ import annotations

import re
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost.node_patterns import NodePattern, PatternError, PatternIndex, possible_rivals
from langchain_mlflow_cost.nodes import GraphName, NodePath

unhurried = settings(deadline=None)  # The machine may be busy.

COVERED = [
    ("writer", "writer", True),
    ("writer", "team/writer", True),
    ("writer", "writer/tool", True),
    ("writer", "writers", False),
    ("writer", "", False),
    ("team/writer", "team/writer", True),
    ("team/writer", "team/writer/tool", True),
    ("team/writer", "outer/team/writer", False),
    ("team/writer", "team", False),
    ("team/writer", "team/x/writer", False),
    ("*", "writer", True),
    ("*", "team/writer", True),
    ("*", "", False),
    ("**", "writer", True),
    ("**", "", False),
    ("re*", "researcher", True),
    ("re*", "team/researcher", True),
    ("re*", "writer", False),
    ("*er", "writer", True),
    ("w*t*r", "writer", True),
    ("w*t*r", "wrier", False),
    ("team/*", "team", False),
    ("team/*", "team/writer", True),
    ("team/*", "team/a/b", True),
    ("*/writer", "team/writer", True),
    ("*/writer", "writer", False),
    ("*/writer", "a/b/writer", False),
    ("**/team/writer", "outer/team/writer", True),
    ("team/**", "team", True),
    ("team/**", "team/a/b", True),
    ("team/**", "x/team", False),
    ("team/**/writer", "team/writer", True),
    ("team/**/writer", "team/a/b/writer", True),
    ("team/**/writer", "team/a", False),
    ("team/**/*", "team", False),
    ("team/**/*", "team/a", True),
    ("**/**/writer", "writer", True),
    (r"and\/or", r"and\/or", True),
    (r"and\/or", "and/or", False),
    (r"a\*b", "a*b", True),
    (r"a\*b", "axb", False),
    (r"a\\b", r"a\b", True),
    ("a.c", "abc", False),
    ("[ab]", "a", False),
    ("?", "a", False),
    ("Writer", "writer", False),
    ("écrivain", "écrivain", True),
    ("two words", "two words", True),
    ("a*", "a\nb", True),
]


def path(text: str) -> tuple[str, ...]:
    r"""`a/b` as a path; `\/` is a `/` in a name."""
    return tuple(part.replace("\0", "/") for part in text.replace(r"\/", "\0").split("/") if part)


@pytest.mark.parametrize(("pattern", "node", "covered"), COVERED, ids=[f"{p}-{n}" for p, n, _ in COVERED])
def test_a_pattern_covers_the_nodes_it_means_and_what_runs_inside(pattern: str, node: str, covered: bool) -> None:
    """A name is found wherever it is, a path from the outermost graph down, both with everything inside."""
    assert covered == NodePattern.parse(pattern).covers(path(node))


MORE_SPECIFIC = [
    ("team/writer", "writer", "team/writer"),
    ("*/writer", "writer", "a/writer"),
    ("writer", "team", "team/writer"),
    ("team", "*", "team/writer"),
    ("team", "**", "team/writer"),
    ("team", "**/*", "team/writer"),
    ("*", "**", "writer"),
    ("team/writer", "team/**", "team/writer/deep/er"),
    ("team/writer", "team/*", "team/writer"),
    ("team/*", "team/**", "team/writer"),
    ("team/**", "team", "team/writer"),
    ("team", "team/**", "team"),
    ("writer", "team/*", "team/writer"),
    ("team/w*", "team/*", "team/writer"),
    ("team/wri*", "team/w*", "team/writer"),
    ("team/w*", "w*", "team/writer"),
    ("team/writer", "*/writer", "team/writer"),
    ("*/writer", "**/writer", "team/writer"),
    ("a/b", "a/**/b", "a/b"),
    ("a/**/b", "a/b/**", "a/b"),
    ("team", "re*", "researcher/team"),
    ("a*", "team", "alpha/team/apex"),
    ("re*", "team", "team/researcher"),
]


@pytest.mark.parametrize(("winner", "loser", "node"), MORE_SPECIFIC, ids=[f"{w}>{x}" for w, x, _ in MORE_SPECIFIC])
def test_the_more_specific_pattern(winner: str, loser: str, node: str) -> None:
    """The deeper wins, then the one that names the innermost nodes the more exactly."""
    won, lost = (NodePattern.parse(text).specificity(path(node)) for text in (winner, loser))

    assert won is not None
    assert lost is not None
    assert won > lost


BAD = {
    "": "empty segment",
    "/": "empty segment",
    "a//b": "empty segment",
    "/a": "empty segment",
    "a/": "empty segment",
    "a|b": "no node's name",
    "a:b": "no node's name",
    "a**": "stands alone",
    "***": "stands alone",
    "team/**x": "stands alone",
    "a\\": "single",
    r"a\b": "needs none",
}


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_a_pattern_that_can_match_nothing_is_refused(text: str) -> None:
    """What no node can be called is an error that says why."""
    with pytest.raises(PatternError, match=BAD[text]):
        NodePattern.parse(text)


RIVALS = [
    ("writer", "**/writer", True),
    ("a*", "*b", True),
    ("ab*", "*b", False),
    ("ab*", "*bc", True),
    ("ab*", "*cd", True),
    ("ab*", "ac*", False),
    ("a/b*", "a/*c", True),
    ("a/b*", "d/*c", False),
    ("team/**", "team/**/**", True),
    ("team", "team/writer", False),
    ("writer", "researcher", False),
    ("*", "**", False),
    ("x*z/a", "*y*z/a", True),
    ("x*z/a", "*yz/a", True),
]


@pytest.mark.parametrize(("first", "second", "rivals"), RIVALS, ids=[f"{a}-{b}" for a, b, _ in RIVALS])
def test_rivals_are_found(first: str, second: str, rivals: bool) -> None:
    """Two patterns are rivals if some node is under both and neither is the more specific there; it is named."""
    one, other = NodePattern.parse(first), NodePattern.parse(second)
    found = one.rival_path(other)

    assert rivals == (found is not None)
    assert found is None or one.specificity(found) == other.specificity(found)


segments = st.sampled_from(["a", "b", "ab", "a*", "*b", "*", "**", "*a*"])
patterns = st.lists(segments, min_size=1, max_size=4).map("/".join)
paths = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab"]), max_size=5).map(tuple)


def covering_expression(text: str) -> str:
    """The pattern as a regular expression over `/a/b/`, by another way than the library's."""
    parts = text.split("/")
    if len(parts) == 1 and parts[0].strip("*"):
        parts = ["**", *parts]
    one = "".join("(?:[^/]+/)*" if part == "**" else part.replace("*", "[^/]*") + "/" for part in parts)
    return rf"{one}(?:[^/]+/)*"


@unhurried
@given(patterns, paths)
def test_covering_is_what_a_regular_expression_says(text: str, node: tuple[str, ...]) -> None:
    """Every pattern covers exactly the nodes that the same pattern as a regular expression does."""
    joined = "".join(f"{name}/" for name in node)

    assert bool(node and re.fullmatch(covering_expression(text), joined)) == NodePattern.parse(text).covers(node)


@unhurried
@given(patterns)
def test_a_pattern_means_its_example(text: str) -> None:
    """The example of a pattern is a node that it covers."""
    pattern = NodePattern.parse(text)

    assert pattern.covers(pattern.example)


@unhurried
@given(patterns, patterns, paths)
def test_an_equal_specificity_is_known_beforehand(first: str, second: str, node: tuple[str, ...]) -> None:
    """If two patterns are equally specific for some node, they are found to be rivals without it."""
    one, other = NodePattern.parse(first), NodePattern.parse(second)
    mine = one.specificity(node)
    if mine is None or mine != other.specificity(node):
        return

    assert one.rival_path(other) is not None


@unhurried
@given(patterns, patterns)
def test_rivalry_is_mutual(first: str, second: str) -> None:
    """Whichever of two patterns comes first, they are rivals or not."""
    found = {NodePattern.parse(a).rival_path(NodePattern.parse(b)) is None for a, b in permutations((first, second))}

    assert len(found) == 1


def test_many_gaps_are_no_trap() -> None:
    """A pattern of many `**` is decided at once: the work is the product of the two lengths."""
    pattern = NodePattern.parse("/".join(["**", "a"] * 40))

    assert not pattern.covers(("a",) * 39 + ("b",) * 200)


def test_many_stars_are_no_trap() -> None:
    """A glob of many stars is decided in one pass: with backtracking this would take longer than the sun has left."""
    pattern = NodePattern.parse("*a" * 25 + "*b")

    assert not pattern.covers(("a" * 5_000 + "c",))
    assert pattern.covers(("a" * 5_000 + "b",))


globs = st.text(alphabet="ab*", min_size=1, max_size=8).filter(lambda text: "**" not in text)


@unhurried
@given(globs, st.text(alphabet="ab", max_size=10))
def test_a_glob_is_what_a_regular_expression_says(text: str, name: str) -> None:
    """A segment matches the names that the same glob as a regular expression does."""
    expression = "".join(".*" if letter == "*" else letter for letter in text)

    assert (re.fullmatch(expression, name) is not None) == NodePattern.parse(f"x/{text}").covers(("x", name))


@unhurried
@given(st.lists(patterns, max_size=8, unique=True))
def test_no_rivals_are_passed_over(texts: list[str]) -> None:
    """Of the pairs that are not looked at, none are rivals."""
    parsed = [NodePattern.parse(text) for text in texts]
    looked_at = set(possible_rivals(parsed))

    assert all(
        (one, other) in looked_at
        for one, other in combinations(range(len(parsed)), 2)
        if parsed[one].rival_path(parsed[other]) is not None
    )


def test_patterns_that_differ_are_not_compared_in_pairs() -> None:
    """Names, globs with beginnings and globs with ends of their own leave no pair to look at."""
    texts = [form.format(at) for form in ("node_{:04}", "n_{:04}*", "*_{:04}", "team/{:04}*x") for at in range(500)]

    assert not list(possible_rivals([NodePattern.parse(text) for text in texts]))


@unhurried
@given(st.lists(patterns, max_size=6), paths)
def test_the_index_finds_what_covers(texts: list[str], node: tuple[str, ...]) -> None:
    """An index leaves no entry out that covers the node, and keeps their order."""
    parsed = [NodePattern.parse(text) for text in texts]
    found = PatternIndex([(pattern, at) for at, pattern in enumerate(parsed)]).candidates(node)

    assert [at for at, pattern in enumerate(parsed) if pattern.covers(node)] == [
        at for pattern, at in found if pattern.covers(node)
    ]


def test_the_index_asks_few() -> None:
    """Of 2,000 names, only those in the path are asked."""
    index = PatternIndex([(NodePattern.parse(f"node_{at}"), at) for at in range(2_000)])

    assert [7] == [at for _, at in index.candidates(("team", "node_7"))]


# --- names of graphs within a path ------------------------------------------------------------------------------------

ASKED: NodePath = ("tools", GraphName("doctor"), "model")
NESTED: NodePath = ("tools", GraphName("doctor"), "tools", GraphName("nurse"), "model")
SUBGRAPH: NodePath = ("clinic", GraphName("doctor", is_called=False), "model")

WITH_GRAPHS = [
    (ASKED, "doctor", True),
    (ASKED, "tools/doctor", True),
    (ASKED, "tools/doctor/model", True),
    (ASKED, "**/doctor/model", True),
    (ASKED, "doc*", True),
    (ASKED, "tools/model", True),
    (ASKED, "tools/*", True),
    (ASKED, "tools/*/*", True),
    (ASKED, "*/model", True),
    (ASKED, "model", True),
    (ASKED, "doctor/model", False),
    (ASKED, "tools/nurse", False),
    (ASKED, "nurse", False),
    (ASKED, "tools/nurse/model", False),
    (ASKED, "tools/model/*", False),
    (NESTED, "tools/tools/model", True),
    (NESTED, "tools/doctor/tools/model", True),
    (NESTED, "tools/tools/nurse", True),
    (NESTED, "tools/nurse", False),
    (NESTED, "**/doctor/**/nurse", True),
    (NESTED, "**/nurse/**/doctor", False),
    (SUBGRAPH, "doctor", True),
    (SUBGRAPH, "clinic/model", True),
    (SUBGRAPH, "clinic/doctor/model", True),
]


@pytest.mark.parametrize(("node", "pattern", "covered"), WITH_GRAPHS)
def test_a_graph_s_name_may_be_named_and_may_be_left_out(node: NodePath, pattern: str, covered: bool) -> None:
    """An agent is meant by its name, and what met the path without it still does."""
    assert covered == NodePattern.parse(pattern).covers(node)


GRAPHS_RANKED = [
    (ASKED, ["tools", "tools/*", "doc*", "doctor", "tools/doctor", "model", "tools/model", "tools/*/model"]),
    (ASKED, ["tools/model", "tools/d*/model", "tools/doctor/model"]),
    (ASKED, ["*", "**/tools", "doctor", "*/doctor"]),
    (NESTED, ["doctor", "tools", "tools/tools", "nurse", "tools/tools/model", "tools/tools/nurse/model"]),
    (SUBGRAPH, ["clinic", "doctor", "model", "clinic/model", "clinic/doctor/model"]),
]


@pytest.mark.parametrize(("node", "patterns"), GRAPHS_RANKED)
def test_an_agent_is_deeper_than_its_tool_and_less_deep_than_its_nodes(node: NodePath, patterns: list[str]) -> None:
    """The deeper name is the more specific; of two as deep, the one that names the agent."""
    ranked = [NodePattern.parse(each).specificity(node) for each in patterns]

    assert None not in ranked
    assert ranked == sorted(ranked, key=lambda each: each or ())
    assert len(set(ranked)) == len(ranked)


@unhurried
@given(st.data())
def test_agents_turn_no_order_round(data: st.DataObject) -> None:
    """Of two entries that met the path without agents, the one that won there wins with them: no old policy opens."""
    names = st.sampled_from(["a", "b", "ab"])
    nodes = data.draw(st.lists(names, min_size=1, max_size=4))
    graphs = data.draw(st.lists(st.none() | names.map(GraphName), min_size=len(nodes), max_size=len(nodes)))
    path = tuple(each for graph, node in zip(graphs, nodes, strict=True) for each in (graph, node) if each)
    segment = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*b"])
    written = st.lists(segment, min_size=1, max_size=4).map("/".join)
    one, other = NodePattern.parse(data.draw(written)), NodePattern.parse(data.draw(written))
    before = one.specificity(tuple(nodes)), other.specificity(tuple(nodes))
    now = one.specificity(path), other.specificity(path)

    for each_before, each_now in zip(before, now, strict=True):
        assert each_before is None or each_now is not None
    if before[0] is not None and before[1] is not None and now[0] is not None and now[1] is not None:
        assert (before[0] < before[1], before[0] == before[1]) == (now[0] < now[1], now[0] == now[1])
