"""The proof from start to end: the user's graph run with planted texts, stored apart, searched, and told."""

from __future__ import annotations

import hashlib
import json
import platform
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Literal

import mlflow

from langchain_mlflow_cost.adapters.stand_ins import stood_in
from langchain_mlflow_cost.adapters.store_calls import flush_traces
from langchain_mlflow_cost.adapters.telemetry import switch_telemetry_off
from langchain_mlflow_cost.handler import MlflowCostHandler
from langchain_mlflow_cost.node_patterns import NodePattern
from langchain_mlflow_cost.nodes import parsed_path
from langchain_mlflow_cost.proof.looking import Texts
from langchain_mlflow_cost.proof.observer import NodeSeen, Observer
from langchain_mlflow_cost.proof.offline import offline
from langchain_mlflow_cost.proof.planting import GIVEN, PROSE, Planter
from langchain_mlflow_cost.proof.rounds import run_rounds, words_of
from langchain_mlflow_cost.proof.script import ScriptedModel
from langchain_mlflow_cost.proof.search import StoreSearch
from langchain_mlflow_cost.redaction.rules import scan
from langchain_mlflow_cost.trace_pages import trace_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from langchain_mlflow_cost.policy.node_policy import NodePolicy
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.proof.planting import Plant
    from langchain_mlflow_cost.proof.rounds import Rounds
    from langchain_mlflow_cost.proof.search import Searched

Verdict = Literal["found", "not proved", "none found"]
EXIT_CODES: Final[dict[Verdict, int]] = {"none found": 0, "found": 1, "not proved": 2}
_EXPERIMENT: Final = "proof"
_PACKAGES: Final = (
    "langchain-mlflow-cost", "langchain", "langchain-core", "langgraph", "mlflow", "mlflow-skinny", "mlflow-tracing",
    "opentelemetry-sdk", "google-re2", "presidio-analyzer",
)  # fmt: skip


@dataclass(frozen=True)
class Leak:
    """A planted text that the store has and must not."""

    plant: Plant
    why: str
    """Why it must not."""
    spelling: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What was run, planted, searched and found."""

    nodes: dict[str, NodeSeen]
    unreached: tuple[str, ...]
    """Nodes that did not run, or never to their end."""
    unreached_private: tuple[str, ...]
    """Private ones among them, and entries with `log_prompts: false` that no node that ran is under."""
    rounds: Rounds
    plants: tuple[Plant, ...]
    must_go: dict[int, str]
    """Numbers of the planted texts that must not be stored, and why."""
    may_stay: int
    """How many of the others were found: that the search finds what is there."""
    before: int
    """Private texts that an earlier trace of the same thread had stored, before a private node was told them."""
    leaks: tuple[Leak, ...]
    searched: Searched
    traces: int
    model_calls: int
    refused: tuple[str, ...]
    """Hosts that were asked for and refused."""
    ran_tools: bool

    @property
    def verdict(self) -> Verdict:
        """`not proved` where something private did not run, or nothing was stored: never `none found` then."""
        if self.leaks:
            return "found"
        return "not proved" if self.why_not else "none found"

    @property
    def why_not(self) -> list[str]:
        """Why nothing is proved."""
        told = [
            f"private and {'only failed' if node in self.nodes else 'not reached'}: {node}"
            for node in self.unreached_private
        ]
        if not self.traces:
            told.append("no trace was stored")
        if not self.must_go:
            told.append("nothing was planted that the policy keeps out")
        if self.searched.unread:
            told.append("not all of the store could be read")
        return told


def prove_graph(
    load: Callable[[], Any],
    policy: Policy,
    folder: Path,
    *,
    inputs: Sequence[Any] = (),
    given: Sequence[str] = (),
    most_rounds: int = 12,
    run_tools: bool = False,
) -> Proof:
    """Run a graph with planted texts under a policy, into a store of its own, and search that.

    Args:
        load: Makes the graph; called when nothing can leave this machine any more.
        policy: Where traces go and what may be spent is left out of it.
        folder: Where the store is made. Empty, or not there yet.
        inputs: Of the graph, with `{plant}` where texts are planted. None: made from its schema.
        given: Texts of the user's own that must not be stored either.
        most_rounds: How often the graph runs at most.
        run_tools: Whether its tools and retrievers run, and may ask other machines; else they answer planted texts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder.resolve()}/mlflow.db"
    variables = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_EXPERIMENT_NAME": _EXPERIMENT,
        "MLFLOW_MODEL_CATALOG_URI": "",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with offline(variables, closed=not run_tools) as refused, _own_store(uri, folder):
        graph = load()
        # The user's module may have pointed MLflow elsewhere when it was loaded.
        _point_to(uri)
        rules = [each for path in ((), *_example_paths(policy)) for each in policy.for_node(path).rules]
        planter = Planter(lambda value: any(scan(value, each) for each in rules), given)
        script = ScriptedModel(planter, words_of(graph))
        early: set[int] = set()
        with stood_in(script, tools=not run_tools) as stand_ins:
            observer = Observer(planter, stand_ins.renew)
            handler = MlflowCostHandler(_for_proof(policy))

            def note_stored() -> None:
                flush_traces(uri)
                early.update(_stored_now(folder, planter, observer))

            rounds = run_rounds(
                graph,
                planter,
                script,
                [handler, observer],
                most=most_rounds,
                inputs=inputs,
                reached=lambda node: _is_reached(node, observer.nodes),
                stored=note_stored,
            )
        flush_traces(uri)
        traces = _count_traces()
    return _judged(policy, planter, observer, rounds, folder, early, traces, tuple(refused), run_tools=run_tools)


@contextmanager
def _own_store(uri: str, folder: Path) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    switch_telemetry_off()
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment(_EXPERIMENT, artifact_location=str(folder.resolve() / "artifacts"))
    mlflow.set_experiment(_EXPERIMENT)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _point_to(uri: str) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(_EXPERIMENT)


def _for_proof(policy: Policy) -> Policy:
    """The policy without what reaches out of the proof: stores of others, budgets, judges."""
    nodes = {pattern: overrides.model_copy(update={"budget": ()}) for pattern, overrides in policy.nodes.items()}
    changes: dict[str, Any] = {"tracking_uri": None, "session_store": None, "budget": (), "nodes": nodes}
    changes |= {"enable_judges": False, "enable_prompt_registry": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The policy's own warnings were told when it was read.
        return policy.model_copy(update=changes)


def _count_traces() -> int:
    client = mlflow.MlflowClient()
    ids = [each.experiment_id for each in client.search_experiments()]
    return sum(map(len, trace_pages(client, ids, with_spans=False)))


def _stored_now(folder: Path, planter: Planter, observer: Observer) -> set[int]:
    """Texts that are stored and that no private node was told yet: they belong to a trace of their own."""
    open_plants = {each.text: each.number for each in planter.plants if each.number not in observer.private}
    found = StoreSearch(Texts(open_plants, by_beginning=True)).paths([folder]).found
    return {open_plants[hit.text] for hit in found}


# --- what must not be stored ------------------------------------------------------------------------------------------


def _example_paths(policy: Policy) -> Iterator[Any]:
    for pattern in policy.nodes:
        yield NodePattern.parse(pattern).example


def _is_reached(node: str, seen: dict[str, NodeSeen]) -> bool:
    """Whether a node ran to its end; an agent's path is reached with any node in it."""
    return any(each.ended > 0 for path, each in seen.items() if path == node or path.startswith(f"{node}/"))


def _must_go(
    plants: Sequence[Plant], observer: Observer, policies: Sequence[NodePolicy], early: set[int]
) -> dict[int, str]:
    """Which planted texts must not be stored, and why."""
    nothing_kept = all(each.artifact_level == "minimal" or not each.log_prompts for each in policies)
    told = {}
    for plant in plants:
        if plant.kind == GIVEN:
            told[plant.number] = "you named it"
        elif plant.kind != PROSE and all(_covers(each, plant) for each in policies):
            told[plant.number] = f"redacted everywhere: {plant.kind}"
        elif plant.number in observer.private and plant.number not in early:
            told[plant.number] = "a private node was told it, said it or came by it"
        elif nothing_kept:
            told[plant.number] = "no payload is stored anywhere"
    return told


def _covers(policy: NodePolicy, plant: Plant) -> bool:
    return any(scan(plant.text, rules) for rules in policy.rules)


def _judged(
    policy: Policy,
    planter: Planter,
    observer: Observer,
    rounds: Rounds,
    folder: Path,
    early: set[int],
    traces: int,
    refused: tuple[str, ...],
    *,
    run_tools: bool,
) -> Proof:
    plants = tuple(planter.plants)
    policies = [policy.for_node(()), *observer.policies.values()]
    policies += [policy.for_node(parsed_path(node)) for node in rounds.expected]
    must_go = _must_go(plants, observer, policies, early)
    searched = StoreSearch(Texts((each.text for each in plants), by_beginning=True)).paths([folder])
    by_text = {each.text: each for each in plants}
    leaks, stayed = [], set()
    for hit, places in searched.found.items():
        plant = by_text[hit.text]
        if plant.number in must_go:
            leaks.append(Leak(plant, must_go[plant.number], hit.spelling, tuple(places)))
        else:
            stayed.add(plant.number)
    unreached = tuple(node for node in rounds.expected if not _is_reached(node, observer.nodes))
    return Proof(
        nodes=observer.nodes,
        unreached=unreached,
        unreached_private=tuple(_private_unreached(policy, unreached, observer.nodes)),
        rounds=rounds,
        plants=plants,
        must_go=must_go,
        may_stay=len(stayed),
        before=len(early & observer.private),
        leaks=tuple(sorted(leaks, key=lambda each: each.plant.number)),
        searched=searched,
        traces=traces,
        model_calls=observer.model_calls,
        refused=refused,
        ran_tools=run_tools,
    )


def _private_unreached(policy: Policy, unreached: Sequence[str], seen: dict[str, NodeSeen]) -> Iterator[str]:
    yield from (node for node in unreached if not policy.for_node(parsed_path(node)).log_prompts)
    # A node that only a graph made at run time has, and that began and never ended.
    yield from (
        node
        for node, each in seen.items()
        if each.is_private and not each.ended and each.failures and node not in unreached
    )
    for text, overrides in policy.nodes.items():
        pattern = NodePattern.parse(text)
        paths = [parsed_path(node) for node in (*seen, *unreached)]
        if overrides.log_prompts is False and not any(map(pattern.covers, paths)):
            yield f'whatever the entry "{text}" is for: no such node ran'


# --- told -------------------------------------------------------------------------------------------------------------


def as_json(proof: Proof, named: dict[str, str]) -> dict[str, Any]:
    """The proof for a machine: with hashes and versions, and without a text."""
    searched = proof.searched
    return {
        "verdict": proof.verdict,
        "why_not": proof.why_not,
        **named,
        "versions": versions(),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": [vars(each) for each in proof.rounds.done],
        "tools_ran": proof.ran_tools,
        "hosts_refused": list(proof.refused),
        "model_calls": proof.model_calls,
        "traces": proof.traces,
        "nodes": {
            name: {
                "private": each.is_private,
                "ended": each.ended,
                "failed": dict(each.failures),
                "model_calls": each.model_calls,
                "tool_calls": each.tool_calls,
            }
            for name, each in sorted(proof.nodes.items())
        },
        "not_reached": list(proof.unreached),
        "not_reached_private": list(proof.unreached_private),
        "cannot_be_seen": list(proof.rounds.open_nodes),
        "planted": _by_kind(proof.plants),
        "must_not_be_stored": _by_kind([each for each in proof.plants if each.number in proof.must_go]),
        "may_be_stored_and_found": proof.may_stay,
        "stored_by_an_earlier_trace_of_the_thread": proof.before,
        "found": [
            {
                "kind": leak.plant.kind,
                "planted_in": leak.plant.place,
                "why_not_allowed": leak.why,
                "spelling": leak.spelling,
                "places": list(leak.places),
            }
            for leak in proof.leaks
        ],
        **searched.as_json(),
    }


def _by_kind(plants: Sequence[Plant]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in plants:
        counts[each.kind] = counts.get(each.kind, 0) + 1
    return dict(sorted(counts.items()))


def versions() -> dict[str, str]:
    """Of what decides what is stored."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def fingerprint(content: bytes) -> str:
    """SHA-256, as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def settings_fingerprint(policy: Policy) -> str:
    """SHA-256 of what the policy says, whatever its file's layout."""
    told = policy.explain()["settings"]
    return fingerprint(json.dumps(told, sort_keys=True, default=str).encode())
