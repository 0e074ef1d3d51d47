"""What a policy means: defaults, and what applies in each node."""

from __future__ import annotations

import copy
import itertools
import pickle
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost import limits
from langchain_mlflow_cost.budgets.rules import Budget
from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.nodes import parsed_path
from langchain_mlflow_cost.policy.settings import NodePolicy, Policy
from langchain_mlflow_cost.redaction import Redactor, compile_rules
from langchain_mlflow_cost.redaction.detectors import PII_ENTITIES, SECRET

unhurried = settings(deadline=None)  # The machine may be busy.


def written(**settings: Any) -> Policy:
    """A policy of settings as people write them, mappings and all."""
    return Policy(**settings)


DEFAULTS = {
    "enabled": True,
    "tracking_uri": None,
    "experiment_name": "langchain_mlflow_cost",
    "run_name": None,
    "log_prompts": True,
    "log_artifacts": True,
    "artifact_level": "standard",
    "redact_secrets": True,
    "redact_pii": False,
    "max_payload_chars": 100_000,
    "async_logging": True,
    "autolog_enabled": True,
    "retention_days": None,
    "enable_judges": False,
    "enable_prompt_registry": False,
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_defaults(key: str) -> None:
    """A policy of nothing has the documented defaults."""
    assert DEFAULTS[key] == getattr(Policy.load(None), key)


def test_outside_any_node_the_defaults_apply() -> None:
    """The empty path is under no entry, not even `**`."""
    policy = written(nodes={"**": {"log_prompts": False}}, max_payload_chars=10)

    assert NodePolicy(
        log_prompts=True,
        artifact_level="standard",
        rules=(compile_rules(entities=[SECRET]),),
        max_payload_chars=10,
    ) == policy.for_node(())


NODES: dict[str, dict[str, Any]] = {
    "*": {"artifact_level": "full"},
    "team": {"log_prompts": False, "max_payload_chars": 50},
    "team/writer": {"log_prompts": True},
    "w*": {"log_artifacts": False},
}
APPLIES = {
    ("other",): (True, "full", 100_000),
    ("team",): (False, "full", 50),
    ("team", "critic"): (False, "full", 50),
    ("team", "writer"): (True, "minimal", 50),
    ("team", "writer", "tool"): (True, "minimal", 50),
    ("writer",): (True, "minimal", 100_000),
}


@pytest.mark.parametrize("path", APPLIES, ids="/".join)
def test_entries_are_laid_over_one_another_key_by_key(path: tuple[str, ...]) -> None:
    """The most specific entry wins for each key; what it leaves out comes from the next, at last from the defaults."""
    found = written(nodes=NODES).for_node(path)

    assert APPLIES[path] == (found.log_prompts, found.artifact_level, found.max_payload_chars)


@unhurried
@given(st.permutations(list(NODES)), st.lists(st.sampled_from(["team", "writer", "w", "x"]), max_size=3).map(tuple))
def test_the_order_of_entries_decides_nothing(order: list[str], path: tuple[str, ...]) -> None:
    """A policy means the same in any order of its entries."""
    assert written(nodes=NODES).for_node(path) == written(nodes={name: NODES[name] for name in order}).for_node(path)


def entities(settings: dict[str, Any], path: tuple[str, ...] = ()) -> set[str]:
    """What is looked for at a node."""
    told = Policy.load(settings).explain([path])
    return set(told["nodes"][-1]["entities"])


EMAIL = "EMAIL_ADDRESS"
PHONE = "PHONE_NUMBER"
CHOSEN: dict[str, tuple[dict[str, Any], tuple[str, ...], set[str]]] = {
    "secrets by default": ({}, (), {SECRET}),
    "nothing": ({"redact_secrets": False}, (), set()),
    "all": ({"redact_pii": True}, (), {SECRET, *PII_ENTITIES}),
    "personal alone": ({"redact_pii": True, "redact_secrets": False}, (), set(PII_ENTITIES)),
    "narrowed": ({"redact_pii": True, "redaction": {"entities": [EMAIL]}}, (), {SECRET, EMAIL}),
    "widened": ({"redaction": {"entities": [EMAIL]}}, (), {SECRET, EMAIL}),
    "a list counts whatever the switch beside it says": (
        {"redact_pii": False, "redaction": {"entities": [EMAIL]}},
        (),
        {SECRET, EMAIL},
    ),
    "listed secrets": ({"redact_secrets": False, "redaction": {"entities": [SECRET]}}, (), {SECRET}),
    "an empty list": ({"redaction": {"entities": []}}, (), {SECRET}),
    "node off": (
        {"redaction": {"entities": [EMAIL]}, "nodes": {"a": {"redact_pii": False}}},
        ("a",),
        {SECRET},
    ),
    "node without secrets": ({"nodes": {"a": {"redact_secrets": False}}}, ("a",), set()),
    "node on": ({"nodes": {"a": {"redact_pii": True}}}, ("a",), {SECRET, *PII_ENTITIES}),
    "node on keeps the list": (
        {
            "redaction": {"entities": [EMAIL]},
            "nodes": {"a": {"redact_pii": False}, "a/b": {"redact_pii": True}},
        },
        ("a", "b"),
        {SECRET, EMAIL},
    ),
    "node has its own list": (
        {"redaction": {"entities": [EMAIL]}, "nodes": {"a": {"redaction": {"entities": [PHONE]}}}},
        ("a",),
        {SECRET, PHONE},
    ),
    "a list of secrets alone narrows no node": (
        {"redaction": {"entities": [SECRET]}, "nodes": {"a": {"redact_pii": True}}},
        ("a",),
        {SECRET, *PII_ENTITIES},
    ),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_which_entities_are_looked_for(case: str) -> None:
    """`redact_pii` and `redact_secrets` switch, `redaction.entities` narrows and widens, for one node as for all."""
    settings, path, expected = CHOSEN[case]

    assert expected == entities(settings, path)


def redacted(policy: Policy, text: str, path: tuple[str, ...] = ()) -> str | None:
    """The text as it would be stored at a node."""
    return Redactor(policy.for_node(path).rules[0]).text(text)[0]


def test_a_node_adds_patterns_and_field_names() -> None:
    """A node's patterns and field names come to those of the defaults: adding one cannot switch another off."""
    told = written(
        redaction={"keys": ["token"], "patterns": {"ORDER": "ORD-[0-9]+"}},
        nodes={"a": {"redaction": {"keys": ["pin"], "patterns": {"TICKET": "TIC-[0-9]+"}}}},
    ).explain()["nodes"][0]

    assert (told["keys"], told["patterns"]) == (["token", "pin"], {"ORDER": "ORD-[0-9]+", "TICKET": "TIC-[0-9]+"})


def test_strategies_by_entity_are_merged() -> None:
    """A node that sets one entity's strategy leaves those of the others as they are."""
    told = written(
        redact_pii=True,
        redaction={"strategy": "mask"},
        nodes={"a": {"redaction": {"strategy": {EMAIL: "hash"}}}},
    ).explain()["nodes"][0]["strategy"]

    assert (told[EMAIL], told[PHONE], told[SECRET]) == ("hash", "mask", "mask")


def test_one_strategy_for_all_replaces_those_by_entity() -> None:
    """A node that sets one strategy for all leaves none of the defaults' by entity."""
    told = written(
        redact_pii=True,
        redaction={"strategy": {EMAIL: "hash"}},
        nodes={"a": {"redaction": {"strategy": "mask"}}},
    ).explain()["nodes"][0]["strategy"]

    assert {"mask"} == set(told.values())


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("redact", "to [EMAIL_ADDRESS]"), ("mask", "to ****"), ("drop", None), ({EMAIL: "mask"}, "to ****")],
    ids=str,
)
def test_the_strategy_reaches_the_rules(strategy: object, expected: str | None) -> None:
    """What a policy says is what its rules do."""
    policy = Policy.load({"redact_pii": True, "redaction": {"strategy": strategy}})

    assert expected == redacted(policy, "to bob@example.com")


def test_a_hash_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`${VAR}` as key gives the same tokens as the key itself."""
    monkeypatch.setenv("TRACE_HASH_KEY", "correct horse")
    settings: dict[str, Any] = {"redact_pii": True, "redaction": {"strategy": "hash"}}
    tokens = {
        redacted(Policy.load({**settings, "redaction": {**settings["redaction"], "hash_key": key}}), "bob@example.com")
        for key in ("${TRACE_HASH_KEY}", "correct horse")
    }

    assert len(tokens) == 1


def test_nodes_alike_share_one_object() -> None:
    """Nodes with equal settings have the same `NodePolicy`, so that what is made for it can be kept by it."""
    policy = written(nodes={"a": {"log_prompts": False}, "b": {"log_prompts": False}, "c": {"log_prompts": True}})

    assert policy.for_node(("a",)) is policy.for_node(("b", "x"))
    assert policy.for_node(()) is policy.for_node(("c",))


PRIVATE: dict[str, tuple[dict[str, Any], bool]] = {
    "defaults": ({"log_prompts": False}, True),
    "node": ({"nodes": {"a": {"log_prompts": False}}}, True),
    "node said true": ({"nodes": {"a": {"log_prompts": True}}}, False),
    "none": ({}, False),
}


@pytest.mark.parametrize("case", PRIVATE)
def test_a_policy_knows_whether_a_node_is_private(case: str) -> None:
    """Traces are held only where some node may have `log_prompts: false`."""
    settings, expected = PRIVATE[case]

    assert expected == Policy.load(settings).has_private_nodes


def test_budgets_of_the_policy_and_of_nodes() -> None:
    """A node has the budgets of all entries that it is under; the policy's own are apart."""
    policy = Policy.load(
        {
            "budget": {"max_cost_usd": 1},
            "nodes": {
                "team": {"budget": [{"max_cost_usd": "0.50", "on_exceeded": "warn"}]},
                "writer": {"budget": {"max_cost_usd": 0.1, "scope": "session", "unpriced": "raise"}},
            },
        }
    )
    whole = Budget(max_cost_usd=Decimal(1))
    team = Budget(max_cost_usd=Decimal("0.50"), on_exceeded="warn").in_nodes("team")
    writer = Budget(max_cost_usd=Decimal("0.1"), scope="session", unpriced="raise").in_nodes("writer")

    assert (whole,) == policy.budgets
    assert (whole, team, writer) == policy.all_budgets


def test_money_is_what_was_written() -> None:
    """0.1 is a tenth, not the binary number next to it, and `1e-3`, a text in YAML 1.1, is a thousandth."""
    limits = [Policy.load({"budget": {"max_cost_usd": value}}).budgets[0].max_cost_usd for value in (0.1, "1e-3", 2)]

    assert [Decimal("0.1"), Decimal("0.001"), Decimal(2)] == limits


def test_a_policy_is_its_own_copy() -> None:
    """A policy never changes, so copies are the policy itself."""
    policy = written(nodes={"a": {"log_prompts": False}})

    assert policy is copy.copy(policy)
    assert policy is copy.deepcopy(policy)


def test_a_changed_copy_is_checked_and_resolved_anew() -> None:
    """What the old policy worked out does not hold for a changed one, nor does a change escape the check."""
    policy = Policy(max_payload_chars=10)
    policy.for_node(())
    private = policy.model_copy(update={"log_prompts": False})

    assert (private.for_node(()).log_prompts, private.for_node(()).max_payload_chars) == (False, 10)
    with pytest.raises(PolicyError):
        policy.model_copy(update={"artifact_level": "none"})


def test_a_policy_can_be_sent_to_another_process() -> None:
    """A pickled policy comes back equal, though what it compiled cannot be pickled."""
    policy = Policy.load({"redaction": {"hash_key": "k", "patterns": {"T": "t[0-9]"}}, "nodes": {"a": {}}})

    assert policy == pickle.loads(pickle.dumps(policy))


def test_a_policy_survives_its_own_dump() -> None:
    """A policy made from the fields of another is equal to it."""
    policy = Policy.load({"redact_pii": True, "redaction": {"entities": [EMAIL], "strategy": {EMAIL: "mask"}}})

    assert policy == Policy.load({name: getattr(policy, name) for name in Policy.model_fields})


def test_equal_settings_are_equal_policies() -> None:
    """What a policy has worked out so far does not count."""
    used = Policy(redact_pii=True)
    used.for_node(("a",))

    assert used == Policy(redact_pii=True)


def test_a_repr_holds_no_credentials() -> None:
    """Keys, and URLs that may hold passwords, are not in a policy's repr."""
    policy = Policy.load(
        {
            "tracking_uri": "http://bob:s3same@127.0.0.1:5000",
            "redaction": {"hash_key": "s3same"},
            "budget": {"max_cost_usd": 1, "scope": "session", "store": "redis://:s3same@127.0.0.1"},
        }
    )

    assert "s3same" not in repr(policy)
    assert "s3same" not in repr(policy.for_node(()))
    assert "s3same" not in str(policy.explain())


def test_explain_names_the_entries() -> None:
    """For each entry, and each node asked for, it is told which entries apply, the most specific first."""
    told = written(nodes={"team": {"log_prompts": False}, "team/w*": {}}).explain([("team", "writer")])

    assert [(each["node"], each["entry"]) for each in told["nodes"]] == [
        ("team", "team"),
        ("team/w", "team/w*"),
        ("team/writer", None),
    ]
    assert told["nodes"][-1]["entries"] == ["team/w*", "team"]


def test_entries_that_disagree_only_together_withhold_the_payload() -> None:
    """Rules that cannot be compiled where two entries meet drop that node's payloads, with a warning."""
    pytest.importorskip("presidio_analyzer")
    policy = Policy.load(
        {
            "redaction": {"engine": "presidio"},
            "nodes": {
                "a": {"redaction": {"engine": "builtin"}},
                "b": {"redaction": {"entities": ["PERSON"]}},
            },
        }
    )

    with pytest.warns(UserWarning, match="payloads are dropped"):
        found = policy.for_node(("a", "b"))
    assert (found.log_prompts, found.artifact_level) == (False, "minimal")


values = st.fixed_dictionaries(
    {},
    optional={
        "log_prompts": st.booleans(),
        "artifact_level": st.sampled_from(["minimal", "standard"]),
        "redact_pii": st.booleans(),
    },
)
node_names = st.sampled_from(["a", "b", "a/b", "*", "**", "a*", "*b", "a/*", "*/b", "a/**", "**/a/b"])
node_paths = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(tuple)


def meaning(nodes: dict[str, Any], path: tuple[str, ...]) -> NodePolicy | str:
    """What applies at a node; `refused` where the policy is refused."""
    try:
        return Policy(nodes=nodes).for_node(path)
    except PolicyError:
        return "refused"


@unhurried
@given(st.dictionaries(node_names, values, max_size=3), node_paths)
def test_any_entries_in_any_order(nodes: dict[str, Any], path: tuple[str, ...]) -> None:
    """A policy is refused, or means the same, whatever the order of its entries in the file."""
    found = [meaning(dict(items), path) for items in itertools.permutations(nodes.items())]

    assert all(each == found[0] for each in found)


@unhurried
@given(st.dictionaries(node_names, values, max_size=3), node_paths, st.sampled_from(["a", "b", "ab"]))
def test_nothing_inside_escapes_its_node(nodes: dict[str, Any], path: tuple[str, ...], inner: str) -> None:
    """Where an entry silences a node, only an entry that is deeper inside can let prompts out again."""
    outer_meaning, inner_meaning = meaning(nodes, path), meaning(nodes, (*path, inner))
    if "refused" in (outer_meaning, inner_meaning):
        return
    assert isinstance(outer_meaning, NodePolicy)
    assert isinstance(inner_meaning, NodePolicy)
    told = Policy(nodes=nodes).explain([path, (*path, inner)])["nodes"][-2:]
    if told[0]["entries"] == told[1]["entries"]:
        assert outer_meaning.log_prompts == inner_meaning.log_prompts


def test_explain_tells_a_name_with_a_slash_from_a_node_inside() -> None:
    r"""The node called `a/b`, written `a\/b`, is not the node `b` in `a`, and each is told what applies to it."""
    policy = written(nodes={r"a\/b": {"log_prompts": False}, "a/b": {"artifact_level": "full"}})
    told = {each["node"]: each for each in policy.explain([("a/b",), ("a", "b")])["nodes"][2:]}

    assert {r"a\/b": (False, "standard"), "a/b": (True, "full")} == {
        node: (each["log_prompts"], each["artifact_level"]) for node, each in told.items()
    }
    assert [r"a\/b", "a/b"] == [each["node"] for each in policy.explain()["nodes"]]


@pytest.mark.parametrize("form", ["node_{}", "node_{:04}*", "*_{:04}", "team/node_{}"])
def test_a_policy_of_many_nodes_loads_at_once(form: str) -> None:
    """What 2,000 entries take to load grows with their number: 3.5 s where each was compared with each."""
    nodes = {form.format(at): {"log_prompts": at % 2 == 0} for at in range(2_000)}
    start_s = time.process_time()
    policy = written(nodes=nodes)

    took_s = time.process_time() - start_s

    assert took_s < 1.5
    assert not policy.for_node(parsed_path(form.format(1).replace("*", ""))).log_prompts


def test_explain_writes_amounts_as_amounts() -> None:
    """What arithmetic made of a limit is told as it was meant, without an exponent."""
    policy = written(
        budget={"max_cost_usd": 0.00035 * 1.5},
        nodes={"a": {"budget": {"max_cost_usd": "1e-7"}}},
        prices={"overrides": {"own": {"input": Decimal("1E+1")}}},
    )
    told = policy.explain()

    assert "0.000525" == told["settings"]["budget"][0]["max_cost_usd"]
    assert "0.0000001" == told["nodes"][0]["budgets"][0]["max_cost_usd"]
    assert "10" == told["settings"]["prices"]["overrides"]["own"]["input"]


def test_nodes_that_are_remembered_are_bounded() -> None:
    """Names out of data do not fill the memory, and what was forgotten is worked out again."""
    policy = written(nodes={"a": {"log_prompts": False}})
    with limits.replaced(remembered_nodes=10):
        found = [policy.for_node(("a", str(at))) for at in range(100)]

    assert 1 == len(set(map(id, found)))
    assert policy.for_node(("a", "0")) is found[0]
