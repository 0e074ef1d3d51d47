"""Whole workflow files: the settings in them are found, and the rest of them is left alone."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.policy.settings import Policy, PolicyWarning

CONFIGS = Path(__file__).parents[3] / "shared" / "configs"
if (CONFIGS / "expected.json").exists():
    EXPECTED: dict[str, Any] = json.loads((CONFIGS / "expected.json").read_text())["files"]
else:
    EXPECTED = {}

real_files = pytest.mark.skipif(not EXPECTED, reason=f"the real configuration files are not at {CONFIGS}")

# Beside the unknown keys, which `expected.json` lists: the one warning that each of these files deserves.
ODDITIES = {
    "fragments/readme_research_agent.yaml": (PolicyWarning, 'key "config" stands here again, first in line 7'),
    "fragments/spec_enterprise_retention_redact.yaml": (PolicyWarning, "MLflow keeps artifacts in s3:// stores"),
    "fragments/spec_full_schema.yaml": (PolicyWarning, "tracking_uri names a folder, mlruns"),
    "fragments/upgrade_old_config.yaml": (PolicyWarning, "tracking_uri names a folder, mlruns"),
    "whole/mlflow_optimization.yaml": (PolicyWarning, "settings under config.mlflow are not read; move them to"),
}


def load_with_warnings(source: Any) -> tuple[Policy, list[warnings.WarningMessage]]:
    """The policy, and what it warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        policy = Policy.load(source)
    return policy, told


@real_files
def test_there_are_26_real_files() -> None:
    """Each file has its expectation, and each expectation its file."""
    assert set(EXPECTED) == {str(file.relative_to(CONFIGS)) for file in CONFIGS.glob("*/*.yaml")}
    assert len(EXPECTED) == 26


@real_files
@pytest.mark.parametrize("file", EXPECTED)
def test_a_real_file_means_what_it_says(file: str) -> None:
    """Exactly the settings that stand in a real file are set, and exactly the overrides of its nodes."""
    policy, _ = load_with_warnings(CONFIGS / file)
    overrides = {name: each.model_dump(exclude_unset=True) for name, each in policy.nodes.items()}

    assert EXPECTED[file]["settings"] == {key: getattr(policy, key) for key in policy.model_fields_set - {"nodes"}}
    assert overrides == EXPECTED[file].get("node_overrides", {})


@real_files
@pytest.mark.parametrize("file", EXPECTED)
def test_a_real_file_warns_of_what_is_odd_and_of_nothing_else(file: str) -> None:
    """One warning for each unknown key of the settings, and one for each oddity, with file and line."""
    _, told = load_with_warnings(CONFIGS / file)
    messages = sorted(str(each.message) for each in told)
    unknown = [key for key in EXPECTED[file]["unknown_under_mlflow"] if key != "use_mlflow_39_tracing"]
    expected = [f'ignored unknown key "{key}"' for key in unknown]
    if "use_mlflow_39_tracing" in EXPECTED[file]["unknown_under_mlflow"]:
        expected.append("use_mlflow_39_tracing is accepted, but it is ignored")
    if file in ODDITIES:
        category, text = ODDITIES[file]
        expected.append(text)
        assert [category] == [each.category for each in told]

    assert len(expected) == len(messages)
    assert all(message.startswith(f"{CONFIGS / file}:") for message in messages)
    assert all(sum(text in message for message in messages) == 1 for text in expected)


HOMES: dict[str, dict[str, Any]] = {
    "config.observability.mlflow": {"config": {"observability": {"mlflow": {"log_prompts": False}}}},
    "observability.mlflow": {"observability": {"mlflow": {"log_prompts": False}}, "nodes": ["..."]},
    "with an empty other home": {
        "observability": {"mlflow": {"log_prompts": False}},
        "config": {"observability": None},
    },
}


@pytest.mark.parametrize("home", HOMES)
def test_settings_are_found_at_home(home: str) -> None:
    """Settings are read under either of their two homes."""
    assert Policy(log_prompts=False) == Policy.load(HOMES[home])


@pytest.mark.parametrize(
    "workflow",
    [
        {"flow": {"name": "x"}, "edges": []},
        {"config": None},
        {"config": {"observability": []}},
        {"observability": {"mlflow": None}},
        {"observability": "off"},
        {"schema_version": "1.0", "nodes": None},
        {"edges": [], "nodes": "all"},
    ],
    ids=str,
)
def test_a_workflow_without_settings_has_the_defaults(workflow: dict[str, Any]) -> None:
    """A workflow that says nothing of ours is no error."""
    assert Policy() == Policy.load(workflow)


NODES: dict[str, tuple[Any, dict[str, Any]]] = {
    "by id": ([{"id": "a", "prompt": "x", "log_prompts": False}], {"a": {"log_prompts": False}}),
    "by name": ([{"name": "a", "log_prompts": False}], {"a": {"log_prompts": False}}),
    "by id and name": ([{"id": "a", "name": "The A", "log_prompts": False}], {"a": {"log_prompts": False}}),
    "below mlflow": ([{"id": "a", "mlflow": {"log_prompts": False, "run": 1}}], {"a": {"log_prompts": False}}),
    "in both places": (
        [{"id": "a", "redact_pii": True, "mlflow": {"log_prompts": False}}],
        {"a": {"redact_pii": True, "log_prompts": False}},
    ),
    "as a mapping": ({"a": {"prompt": "x", "log_prompts": False}}, {"a": {"log_prompts": False}}),
    "its own switch": ([{"id": "a", "enabled": False, "retention_days": "x"}], {}),
    "a name that no node of ours can have": ([{"id": "a:b", "prompt": "x"}], {}),
    "no mapping": (["...", 7, None], {}),
    "no name": ([{"prompt": "x"}], {}),
}


@pytest.mark.parametrize("case", NODES)
def test_overrides_are_found_among_a_workflows_own_keys(case: str) -> None:
    """Of a workflow's nodes what is ours is taken, wherever it stands, and all else left alone."""
    nodes, expected = NODES[case]

    assert Policy(nodes=expected) == Policy.load({"edges": [], "nodes": nodes})


def test_nodes_may_stand_among_the_settings_too() -> None:
    """Entries under the settings and those of the workflow's own list are taken together."""
    policy = Policy.load(
        {
            "observability": {"mlflow": {"nodes": {"a": {"log_prompts": False}, "b": {"redact_pii": True}}}},
            "nodes": [{"id": "a", "artifact_level": "minimal"}],
        }
    )

    assert {"a", "b"} == set(policy.nodes)
    assert (policy.for_node(("a",)).log_prompts, policy.for_node(("a",)).artifact_level) == (False, "minimal")


def test_a_misspelt_key_of_a_node_is_not_silently_somebody_elses() -> None:
    """A node's key that is nearly one of ours is ignored with a warning."""
    with pytest.warns(PolicyWarning, match='policy: ignored key "log_promts"; did you mean "log_prompts"'):
        Policy.load({"edges": [], "nodes": [{"id": "a", "log_promts": False}]})


def test_a_setting_outside_its_home_is_not_silently_ignored() -> None:
    """A setting at the top of a workflow is ignored with a warning that says where it belongs."""
    with pytest.warns(
        PolicyWarning, match=r"policy: log_prompts is not read .* move it to config.observability.mlflow"
    ):
        Policy.load({"flow": {}, "log_prompts": False})


def test_unknown_keys_at_any_depth_are_warnings(tmp_path: Path) -> None:
    """An unknown key in a workflow's settings is told with its line, also inside a section, and the rest holds."""
    file = tmp_path / "workflow.yaml"
    file.write_text(
        "observability:\n  mlflow:\n    judges: {}\n    redact_pii: true\n"
        "    redaction:\n      strategi: mask\n    budget:\n      - max_cost_usd: 1\n        period: day\n"
    )
    policy, told = load_with_warnings(file)

    assert Policy.load({"redact_pii": True, "redaction": {}, "budget": {"max_cost_usd": 1}}) == policy
    assert [
        f'{file}:3: ignored unknown key "judges"; did you mean "enable_judges"?',
        f'{file}:6: ignored unknown key "strategi" in redaction; did you mean "strategy"?',
        f'{file}:9: ignored unknown key "period" in budget.0',
    ] == [str(each.message) for each in told]


def test_a_bad_value_is_an_error_in_a_workflow_too(tmp_path: Path) -> None:
    """Only what is unknown is forgiven: a known key with a bad value is an error with its line."""
    file = tmp_path / "workflow.yaml"
    file.write_text("config:\n  observability:\n    mlflow:\n      zzz: 1\n      log_prompts: never\n")

    with pytest.raises(PolicyError, match=r"workflow.yaml:5: log_prompts: expected true or false"):
        Policy.load(file)


def test_other_parts_may_hold_anything(tmp_path: Path) -> None:
    """Foreign tags, bad dates, odd keys and duplicates in a workflow's other parts are no errors."""
    file = tmp_path / "workflow.yaml"
    file.write_text(
        "flow: !Ref name\nsecret: !!python/name:os.system\ndate: 2024-13-45\n? [a, b]\n: c\n= : =\n"
        "observability:\n  mlflow:\n    redact_pii: true\n"
    )

    assert Policy(redact_pii=True) == Policy.load(file)


def test_a_key_twice_in_a_workflow_is_a_warning(tmp_path: Path) -> None:
    """The last of two counts, as YAML readers have it, and it is told."""
    file = tmp_path / "workflow.yaml"
    file.write_text("observability:\n  mlflow:\n    log_prompts: true\n    log_prompts: false\n")

    with pytest.warns(PolicyWarning, match=r'workflow.yaml:4: key "log_prompts" stands here again, first in line 3'):
        policy = Policy.load(file)
    assert policy.log_prompts is False
