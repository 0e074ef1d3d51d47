"""Ways in which LangGraph lets a node be run, answer, fail and hand on: a private node's text is nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from leaks import Sinks, prose, spelling_in
from unusual_nodes import NAMES, POLICIES, SCENES, Config

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable


def stored_after(sinks: Sinks, scene: Callable[[str, Config], None], policy: str, level: str) -> tuple[str, bytes]:
    sinks.everything()
    text = prose()
    scene(text, {"callbacks": [MlflowCostHandler({"artifact_level": level, **POLICIES[policy]})]})
    return text, sinks.everything()


@pytest.mark.parametrize("scene", SCENES, ids=NAMES)
def test_nothing_is_left(sinks: Sinks, scene: Callable[[str, Config], None]) -> None:
    """The text is in no byte, in no spelling, at the level that keeps most."""
    text, stored = stored_after(sinks, scene, "private", "full")

    assert spelling_in(text, stored) is None


@pytest.mark.nightly
@pytest.mark.parametrize("scene", SCENES, ids=NAMES)
def test_control(sinks: Sinks, scene: Callable[[str, Config], None]) -> None:
    """Without a private node the text of the same scene is stored."""
    text, stored = stored_after(sinks, scene, "open", "full")

    assert spelling_in(text, stored) is not None
