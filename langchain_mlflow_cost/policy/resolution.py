"""What a policy means, node by node: settings are laid over one another once, and give a frozen `NodePolicy`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from pydantic import SecretStr

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.node_patterns import NodePattern, PatternError, PatternIndex, Specificity, possible_rivals
from langchain_mlflow_cost.nodes import path_text
from langchain_mlflow_cost.notices import nearest, warn, without_credentials
from langchain_mlflow_cost.policy.node_policy import NodePolicy
from langchain_mlflow_cost.policy.problems import PolicyWarning, Problem, dotted, problem_of
from langchain_mlflow_cost.redaction import FIELD, Rules, compile_rules
from langchain_mlflow_cost.redaction.detectors import NATIONAL_ENTITIES, PII_ENTITIES, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from langchain_mlflow_cost.budgets.rules import NodeBudget
    from langchain_mlflow_cost.nodes import NodePath
    from langchain_mlflow_cost.policy.lines import Location
    from langchain_mlflow_cost.policy.settings import NodeOverrides, Policy

    Layers: TypeAlias = Sequence[Policy | NodeOverrides]
    """The policy's own settings, and over them those of entries, the most specific last."""


class _RuleSettings(TypedDict):
    """What `compile_rules` takes."""

    entities: frozenset[str]
    strategies: dict[str, str] | str
    hash_key: bytes | None
    keys: tuple[str, ...]
    allow_keys: tuple[str, ...] | None
    patterns: dict[str, str]
    engine: str


def _rule_settings(layers: Layers) -> _RuleSettings:
    """Lay what is said of redaction over one another, key by key."""
    secrets = personal = False
    listed: frozenset[str] = frozenset()  # the personal entities, where a list was given
    by_entity: dict[str, str] = {}
    hash_key: SecretStr | None = None
    keys: dict[str, None] = {}
    allow_keys: tuple[str, ...] | None = None
    patterns: dict[str, str] = {}
    strategy, engine = "redact", "builtin"
    for layer in layers:
        secrets = secrets if layer.redact_secrets is None else layer.redact_secrets
        personal = personal if layer.redact_pii is None else layer.redact_pii
        redaction = layer.redaction
        if redaction is None:
            continue
        keys |= dict.fromkeys(redaction.keys)
        allow_keys = allow_keys if redaction.allow_keys is None else tuple(redaction.allow_keys)
        patterns |= redaction.patterns
        if redaction.entities is not None:
            chosen = frozenset(redaction.entities).difference({SECRET}, patterns)
            # A list without any personal entity switches them off here, and narrows nothing for a node further in.
            personal, listed = bool(chosen), chosen or listed
            secrets = secrets or SECRET in redaction.entities
        if isinstance(redaction.strategy, str):
            strategy, by_entity = redaction.strategy, {}
        else:
            by_entity = {**by_entity, **(redaction.strategy or {})}
        hash_key = redaction.hash_key or hash_key
        engine = redaction.engine or engine
    entities = frozenset({SECRET} if secrets else ())
    if personal:
        entities |= listed or _all_personal(engine)
    every = (*sorted(entities), *patterns, FIELD)
    return {
        "entities": entities,
        "strategies": {**dict.fromkeys(every, strategy), **by_entity} if by_entity else strategy,
        "hash_key": None if hash_key is None else hash_key.get_secret_value().encode(),
        "keys": tuple(keys),
        "allow_keys": allow_keys,
        "patterns": patterns,
        "engine": engine,
    }


def _all_personal(engine: str) -> frozenset[str]:
    if engine != "presidio":
        return PII_ENTITIES
    # Imported here because the extra is optional and takes seconds.
    from langchain_mlflow_cost.redaction import presidio  # noqa: PLC0415 - see above

    return PII_ENTITIES | presidio.default_entities()


def _says_of_redaction(overrides: NodeOverrides) -> bool:
    return not (overrides.redact_secrets is None and overrides.redact_pii is None and overrides.redaction is None)


def _innermost(layers: Layers, key: str) -> Any:
    """What the most specific layer says that says anything; the policy's own says something of every key."""
    return next(value for layer in reversed(layers) if (value := getattr(layer, key)) is not None)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of `nodes`."""

    pattern: NodePattern
    overrides: NodeOverrides
    budgets: tuple[NodeBudget, ...]

    @property
    def location(self) -> Location:
        return ("nodes", self.pattern.text)


class Resolution:
    """What a policy means, node by node. Each question is worked out once; threads may do so twice, to the same end."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known: dict[NodePolicy, NodePolicy] = {}
        self._by_path: dict[NodePath, NodePolicy] = {}
        self.entries = tuple(self._entry(text, overrides) for text, overrides in policy.nodes.items())
        self._index = PatternIndex((entry.pattern, entry) for entry in self.entries)

    @staticmethod
    def _entry(text: str, overrides: NodeOverrides) -> _Entry:
        try:
            pattern = NodePattern.parse(text)
        except PatternError as error:
            raise Problem(f'node pattern "{text}" {error}', ("nodes", text)) from None
        return _Entry(pattern, overrides, tuple(budget.in_nodes(text) for budget in overrides.budget))

    def for_node(self, path: NodePath) -> NodePolicy:
        """Return what applies at a node."""
        known = self._by_path.get(path)
        if known is None:
            if len(self._by_path) >= limits().remembered_nodes:
                self._by_path.clear()
            known = self._by_path.setdefault(path, self._resolve(path))
        return known

    def _covering(self, path: NodePath) -> list[_Entry]:
        """The entries that a node is under, the least specific first."""
        found: list[tuple[Specificity, str, _Entry]] = []
        for pattern, entry in self._index.candidates(path):
            specificity = pattern.specificity(path)
            if specificity is not None:
                found.append((specificity, pattern.text, entry))
        return [entry for _, _, entry in sorted(found, key=lambda each: each[:2])]

    def _layers(self, entries: Sequence[_Entry]) -> Layers:
        return [self._policy, *(entry.overrides for entry in entries)]

    def _rules(self, layers: Layers) -> Rules:
        return compile_rules(**_rule_settings(layers))

    def _resolve(self, path: NodePath) -> NodePolicy:
        layers = self._layers(self._covering(path))
        node_policy = NodePolicy(
            _innermost(layers, "artifact_level") if _innermost(layers, "log_artifacts") else "minimal",
            _innermost(layers, "log_prompts"),
            (),
            _innermost(layers, "max_payload_chars"),
        )
        try:
            node_policy = replace(node_policy, rules=(self._rules(layers),))
        except PolicyError as error:
            # Each entry was compiled alone when the policy was loaded; only two that lie over one another can still
            # disagree, such as an engine from one and an entity that it does not know from another.
            warn(f"policy: node {path_text(path)}: its payloads are dropped: {error}", PolicyWarning)
            rules = (self._rules([self._policy]),)
            node_policy = replace(node_policy, rules=rules, log_prompts=False, artifact_level="minimal")
        return self._known.setdefault(node_policy, node_policy)

    def check(self) -> None:
        """Find what is wrong with any entry, alone or beside another.

        Raises:
            Problem: With the place of the setting.
        """
        alone: list[tuple[Location, Policy | NodeOverrides, Layers]] = [((), self._policy, [self._policy])]
        alone += [(entry.location, entry.overrides, self._layers([entry])) for entry in self.entries]
        unknown = [problem for each in alone for problem in _unknown_entities(*each)]
        if unknown:
            raise Problem(str(unknown[0]), unknown[0].location, unknown[1:])
        for location, written, layers in alone:
            _check_contradictions(location, written, layers)
            if written is self._policy or _says_of_redaction(written):  # type: ignore[arg-type]  # else an entry
                try:
                    self._rules(layers)
                except PolicyError as error:
                    raise problem_of(error, location, "redaction") from None
        self._check_rivals()

    def _check_rivals(self) -> None:
        # In an order of their own, so that a policy is refused or taken whatever the order in the file.
        entries = sorted(self.entries, key=lambda entry: entry.pattern.text)
        for one, other in possible_rivals([entry.pattern for entry in entries]):
            first, second = entries[one], entries[other]
            key = _disagreement(first.overrides, second.overrides)
            rival = first.pattern.rival_path(second.pattern) if key else None
            if key and rival is not None:
                raise Problem(
                    f'"{first.pattern.text}" and "{second.pattern.text}" both mean node "{path_text(rival)}", are '
                    f"equally specific and set {dotted(key)} to different values; make one of them more specific",
                    (*second.location, *key),
                )

    def explain(self, paths: Iterable[NodePath]) -> dict[str, Any]:
        """See `Policy.explain`."""
        asked: list[tuple[str | None, NodePath]] = [(each.pattern.text, each.pattern.example) for each in self.entries]
        asked += [(None, path) for path in paths]
        return {
            "settings": _shown(self._policy.model_dump(exclude_none=True)),
            "outside_nodes": self._explained((), ()),
            "nodes": [
                {
                    "node": path_text(path),
                    "entry": text,
                    "entries": [entry.pattern.text for entry in reversed(covering)],
                    **self._explained(path, covering),
                    "budgets": [
                        {"limit": each.in_words(), "scope": each.scope, "node": each.node}
                        | {"max_cost_usd": None if each.max_cost_usd is None else readable(each.max_cost_usd)}
                        for entry in covering
                        for each in entry.budgets
                    ],
                }
                for text, path in asked
                for covering in [self._covering(path)]
            ],
        }

    def _explained(self, path: NodePath, covering: Sequence[_Entry]) -> dict[str, Any]:
        applied, rules = self.for_node(path), _rule_settings(self._layers(covering))
        entities, strategies = sorted(rules["entities"]), rules["strategies"]
        return {
            "log_prompts": applied.log_prompts,
            "artifact_level": applied.artifact_level,
            "entities": entities,
            "strategy": dict.fromkeys((*entities, *rules["patterns"]), strategies)
            if isinstance(strategies, str)
            else strategies,
            "keys": list(rules["keys"]),
            "allow_keys": None if rules["allow_keys"] is None else list(rules["allow_keys"]),
            "patterns": rules["patterns"],
            "engine": rules["engine"],
            "max_payload_chars": applied.max_payload_chars,
        }


def _check_contradictions(location: Location, written: Policy | NodeOverrides, layers: Layers) -> None:
    if written.log_artifacts is False and written.artifact_level == "full":
        at = (*location, "artifact_level")
        raise Problem(f"{dotted(at)}: full contradicts log_artifacts: false beside it; leave out one of them", at)
    lists_entities = written.redaction is not None and written.redaction.entities is not None
    if written.redact_pii and lists_entities and _rule_settings(layers)["entities"] <= {SECRET}:
        at = (*location, "redaction", "entities")
        raise Problem(
            f"{dotted(at)}: holds no personal entity, which contradicts redact_pii: true beside it; "
            "leave out one of them",
            at,
        )


def _unknown_entities(location: Location, written: Policy | NodeOverrides, layers: Layers) -> Iterator[Problem]:
    redaction = written.redaction
    if redaction is None:
        return
    at = (*location, "redaction")
    named: list[tuple[str, Location]] = [
        (entity, (*at, "entities", i)) for i, entity in enumerate(redaction.entities or ())
    ]
    if isinstance(redaction.strategy, Mapping):
        named += [(entity, (*at, "strategy", entity)) for entity in redaction.strategy if entity != FIELD]
    written_redaction = [layer.redaction for layer in layers if layer.redaction is not None]
    if not named or [each.engine for each in written_redaction if each.engine][-1:] == ["presidio"]:
        return  # What presidio knows depends on its version and set-up: it says itself what it does not.
    patterns = [name for each in written_redaction for name in each.patterns]
    known = (*sorted(PII_ENTITIES), SECRET, *patterns, *sorted(NATIONAL_ENTITIES))
    for entity, place in named:
        if entity not in known:
            near = nearest(entity, known)
            remedy = f"known are {', '.join(known)}, and others with engine: presidio"
            if near:
                remedy = f'did you mean "{near}"?'
            elif entity == FIELD:
                remedy = "the fields that `keys` names are found without it, leave it out"
            yield Problem(f'{dotted(place)}: unknown entity "{entity}"; {remedy}', place)


def _shown(value: Any) -> Any:
    """The same as plain values: amounts to read, no secrets, no user and password in any URL."""
    match value:
        case Mapping():
            return {key: _shown(each) for key, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
        case Decimal():
            return readable(value)
        case SecretStr():
            return str(value)
        case str():
            return without_credentials(value)
    return value


def _disagreement(first: NodeOverrides, second: NodeOverrides) -> tuple[str, ...] | None:
    """The key that both entries set to different values. Budgets and field names add up, so they never disagree."""
    for key in ("log_prompts", "log_artifacts", "artifact_level", "redact_secrets", "redact_pii", "max_payload_chars"):
        mine, yours = getattr(first, key), getattr(second, key)
        if mine is not None and yours is not None and mine != yours:
            return (key,)
    if first.redaction is None or second.redaction is None:
        return None
    for key in ("entities", "strategy", "hash_key", "engine", "patterns"):
        mine, yours = getattr(first.redaction, key), getattr(second.redaction, key)
        if isinstance(mine, Mapping) and isinstance(yours, Mapping):
            for name in sorted(mine.keys() & yours.keys()):
                if mine[name] != yours[name]:
                    return ("redaction", key, name)
        elif mine is not None and yours is not None and mine != yours:
            return ("redaction", key)
    return None
