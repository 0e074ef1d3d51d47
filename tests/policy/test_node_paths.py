"""A node's path: from LangGraph's metadata, as text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_mlflow_cost.node_patterns import NodePattern
from langchain_mlflow_cost.nodes import GraphName, NodePath, bare, beginnings, node_path, parsed_path, path_text

METADATA: dict[str, tuple[dict[str, object] | None, NodePath]] = {
    "none": (None, ()),
    "outside any node": ({"thread_id": "7"}, ()),
    "a node": ({"langgraph_node": "writer", "langgraph_checkpoint_ns": "writer:1f0"}, ("writer",)),
    "a node in a subgraph": ({"langgraph_checkpoint_ns": "team:1f0|writer:2a1"}, ("team", "writer")),
    "a second call of a subgraph": ({"langgraph_checkpoint_ns": "team:1f0|2|writer:2a1"}, ("team", "writer")),
    "the older key": ({"checkpoint_ns": "team:1f0|writer:2a1"}, ("team", "writer")),
    "a name alone": ({"langgraph_node": "writer"}, ("writer",)),
    "a name with a slash": ({"langgraph_checkpoint_ns": "and/or:1f0"}, ("and/or",)),
    "no texts": ({"langgraph_checkpoint_ns": 3, "langgraph_node": 4}, ()),
}


@pytest.mark.parametrize("case", METADATA)
def test_a_path_is_read_from_metadata(case: str) -> None:
    """LangGraph tells each run in which nodes of which graphs it is."""
    metadata, expected = METADATA[case]

    assert expected == node_path(metadata)


TEXTS: dict[str, NodePath] = {
    "": (),
    "writer": ("writer",),
    "team/writer": ("team", "writer"),
    r"and\/or": ("and/or",),
    r"a\\/b": ("a\\", "b"),
    r"a\\\/b": ("a\\/b",),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_path_as_text(text: str) -> None:
    """What belongs to a name has a backslash before it, so that no two paths have one text."""
    assert (text, TEXTS[text]) == (path_text(TEXTS[text]), parsed_path(text))


def test_a_lone_backslash_is_itself() -> None:
    """What a person writes need not be what `path_text` would have written."""
    assert ("a\\b", "c\\") == parsed_path("a\\b/c\\")


paths = st.lists(st.text(alphabet="ab/\\*", min_size=1, max_size=6), max_size=4).map(tuple)


@given(paths)
def test_any_path_comes_back(path: NodePath) -> None:
    """Writing and reading a path gives the path."""
    assert path == parsed_path(path_text(path))


def test_what_a_node_runs_in_are_the_beginnings_of_its_path() -> None:
    """Outermost first, and itself; nothing is outside any node."""
    assert [("team",), ("team", "desk"), ("team", "desk", "writer")] == list(beginnings(("team", "desk", "writer")))
    assert [] == list(beginnings(()))


def test_an_agent_that_a_tool_called_is_in_the_text() -> None:
    """Its name is written like a node's; that of a node's own subgraph is not, unless the whole path is asked for."""
    called: NodePath = ("tools", GraphName("the/doctor"), "model")
    subgraph: NodePath = ("clinic", GraphName("doctor", is_called=False), "model")

    assert [r"tools/the\/doctor/model", "clinic/model"] == [path_text(called), path_text(subgraph)]
    assert "clinic/doctor/model" == path_text(subgraph, is_whole=True)
    assert [("tools", "model"), ("clinic", "model")] == [bare(called), bare(subgraph)]


@given(paths.filter(bool))
def test_a_path_s_text_is_a_pattern_for_it(path: NodePath) -> None:
    """Written with its stars escaped, a path is the pattern that means this node: both escape alike."""
    assert NodePattern.parse(path_text(path).replace("*", "\\*")).covers(path)
