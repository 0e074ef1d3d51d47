"""Every channel under every level, redaction strategy and private node: what must go is gone, what may stay is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from leaks import Outcome, Planted, Sinks, email, prose
from scenes import ALLOWED, PRESENT, SCENES

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = ("minimal", "standard", "full")
STRATEGIES = ("redact", "mask", "hash", "drop")
CHANNELS = [(scene, channel) for scene in SCENES for channel in SCENES[scene].channels]
IDS = [channel for _, channel in CHANNELS]


@pytest.fixture(scope="module")
def outcome(sinks: Sinks) -> Any:
    """Run a scene under a policy, once; the answer is what it left behind."""
    known: dict[str, Outcome] = {}

    def run(scene: str, policy: dict[str, Any], make: Callable[[], str]) -> Outcome:
        key = f"{scene} {policy}"
        if key not in known:
            planted = Planted(make, to_be_told="quiet" in policy.get("nodes", {}))
            SCENES[scene].run(planted, [MlflowCostHandler(policy)])
            known[key] = Outcome(sinks.everything(), planted)
        return known[key]

    return run


def test_every_channel_is_planted(outcome: Any) -> None:
    """The tables of channels name exactly what the scenes plant."""
    planted = {scene: set(outcome(scene, {"artifact_level": "full"}, prose).planted.texts) for scene in SCENES}

    assert {scene: set(SCENES[scene].channels) for scene in SCENES} == planted


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("scene", "channel"), CHANNELS, ids=IDS)
def test_level(outcome: Any, scene: str, channel: str, level: str) -> None:
    """A channel's text is stored at the levels that keep it, and in no spelling at the others."""
    keeps = SCENES[scene].channels[channel]
    found = outcome(scene, {"artifact_level": level}, prose).leak(channel)

    assert level in ALLOWED[keeps] or found is None
    assert level not in PRESENT[keeps] or found is not None


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("scene", "channel"), CHANNELS, ids=IDS)
def test_redaction(outcome: Any, scene: str, channel: str, strategy: str) -> None:
    """A recognised text is in no byte, at the level that keeps most; what stood beside it stays, unless all is dropped."""
    policy = {"artifact_level": "full", "redact_pii": True, "redaction": {"strategy": strategy}}
    left = outcome(scene, policy, email)

    assert left.leak(channel) is None
    if strategy != "drop" and "full" in PRESENT[SCENES[scene].channels[channel]] and not channel.startswith("file: "):
        assert left.has_companion(channel)


@pytest.mark.parametrize(("scene", "channel"), CHANNELS, ids=IDS)
def test_private_node(outcome: Any, scene: str, channel: str) -> None:
    """What a private node's model was told and said is in no byte, in whatever channel it was before."""
    policy = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
    left = outcome(scene, policy, prose)

    assert left.leak(channel) is None
    if "full" in PRESENT[SCENES[scene].channels[channel]] and not channel.startswith("file: "):
        assert left.has_companion(channel)


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "root exception"])
def test_private_producer(outcome: Any, scene: str) -> None:
    """With `log_prompts: false` on the node that does the work itself, nothing of a model's or worker's payload stays."""
    policy = {"artifact_level": "full", "nodes": {"work": {"log_prompts": False}}}
    left = outcome(scene, policy, prose)
    kept = {
        channel
        for channel, keeps in SCENES[scene].channels.items()
        if channel.startswith(("root: ", "trace: ", "state: ")) or keeps == "every level"
    }

    assert {c: left.leak(c) for c in SCENES[scene].channels if c not in kept and left.leak(c)} == {}
