"""What a policy means, node by node: settings are laid over one another once, and give a frozen `NodePolicy`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.node_patterns import NodePattern, PatternError, Specificity
from langchain_mlflow_cost.nodes import NodePath, path_text
from langchain_mlflow_cost.notices import nearest, warn, without_credentials
from langchain_mlflow_cost.policy.node_policy import NodePolicy
from langchain_mlflow_cost.policy.problems import PolicyWarning, Problem, dotted
from langchain_mlflow_cost.redaction import FIELD, Rules, compile_rules
from langchain_mlflow_cost.redaction.detectors import PII_ENTITIES, SECRET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

    from langchain_mlflow_cost.budgets.local import BudgetRule
    from langchain_mlflow_cost.policy.node_policy import Level
    from langchain_mlflow_cost.policy.reading import Location
    from langchain_mlflow_cost.policy.settings import NodeOverrides, Policy, Redaction

Strategy: TypeAlias = Literal["redact", "mask", "hash", "drop"]
Engine: TypeAlias = Literal["builtin", "presidio"]


@dataclass(frozen=True, slots=True)
class Effective:
    """Settings with some entries' overrides laid over them."""

    log_prompts: bool
    log_artifacts: bool
    artifact_level: Level
    max_payload_chars: int
    secrets: bool
    personal: bool
    listed: frozenset[str] | None  # the personal entities, where a list was given
    strategy: Strategy
    strategies: tuple[tuple[str, Strategy], ...]
    hash_key: SecretStr | None
    keys: tuple[str, ...]
    patterns: tuple[tuple[str, str], ...]
    engine: Engine

    @classmethod
    def of(cls, policy: Policy) -> Effective:
        """Return a policy's own settings."""
        start = cls(
            log_prompts=policy.log_prompts,
            log_artifacts=policy.log_artifacts,
            artifact_level=policy.artifact_level,
            max_payload_chars=policy.max_payload_chars,
            secrets=policy.redact_secrets,
            personal=policy.redact_pii,
            listed=None,
            strategy="redact",
            strategies=(),
            hash_key=None,
            keys=(),
            patterns=(),
            engine="builtin",
        )
        return start.with_redaction(policy.redaction)

    def under(self, overrides: NodeOverrides) -> Effective:
        """Lay one entry over these settings, key by key."""
        plain = {
            key: value
            for key in ("log_prompts", "log_artifacts", "artifact_level", "max_payload_chars")
            if (value := getattr(overrides, key)) is not None
        }
        if overrides.redact_secrets is not None:
            plain["secrets"] = overrides.redact_secrets
        if overrides.redact_pii is not None:
            plain["personal"] = overrides.redact_pii
        changed = replace(self, **plain)
        return changed if overrides.redaction is None else changed.with_redaction(overrides.redaction)

    def with_redaction(self, redaction: Redaction) -> Effective:
        """Lay an entry's `redaction` over these settings, key by key."""
        changes: dict[str, Any] = {
            "keys": tuple(dict.fromkeys((*self.keys, *redaction.keys))),
            "patterns": tuple({**dict(self.patterns), **redaction.patterns}.items()),
        }
        if redaction.entities is not None:
            personal = frozenset(redaction.entities).difference({SECRET}, dict(changes["patterns"]))
            # A list without any personal entity switches them off here, and narrows nothing for a node further in.
            changes |= {"personal": bool(personal), "listed": personal or self.listed}
            changes["secrets"] = self.secrets or SECRET in redaction.entities
        if isinstance(redaction.strategy, str):
            changes |= {"strategy": redaction.strategy, "strategies": ()}
        elif redaction.strategy is not None:
            changes["strategies"] = tuple({**dict(self.strategies), **redaction.strategy}.items())
        changes |= {key: value for key in ("hash_key", "engine") if (value := getattr(redaction, key)) is not None}
        return replace(self, **changes)

    @property
    def entities(self) -> frozenset[str]:
        """All entities to look for."""
        personal = (self._all_personal() if self.listed is None else self.listed) if self.personal else frozenset()
        return personal | ({SECRET} if self.secrets else frozenset())

    def _all_personal(self) -> frozenset[str]:
        if self.engine != "presidio":
            return PII_ENTITIES
        # Imported here because the extra is optional and takes seconds.
        from langchain_mlflow_cost.redaction import presidio  # noqa: PLC0415 - see above

        return PII_ENTITIES | presidio.supported_entities()

    @property
    def level(self) -> Level:
        """The level in effect."""
        return self.artifact_level if self.log_artifacts else "minimal"

    def compiled(self) -> Rules:
        """Compile the rules for redaction.

        Raises:
            PolicyError: Some rule cannot be; its key stands below `redaction`.
        """
        return compile_rules(
            entities=self.entities,
            strategies=self._strategy_of_each(),
            hash_key=None if self.hash_key is None else self.hash_key.get_secret_value().encode(),
            keys=self.keys,
            patterns=dict(self.patterns),
            engine=self.engine,
        )

    def _strategy_of_each(self) -> dict[str, str] | str:
        if not self.strategies:
            return self.strategy
        every = (*self.entities, *dict(self.patterns), FIELD)
        return {**dict.fromkeys(every, self.strategy), **dict(self.strategies)}

    def plain(self) -> dict[str, Any]:
        """Return what applies, for people to read."""
        return {
            "log_prompts": self.log_prompts,
            "artifact_level": self.level,
            "entities": sorted(self.entities),
            "strategy": dict.fromkeys((*sorted(self.entities), *dict(self.patterns)), self.strategy)
            | dict(self.strategies),
            "keys": list(self.keys),
            "patterns": dict(self.patterns),
            "engine": self.engine,
            "max_payload_chars": self.max_payload_chars,
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of `nodes`."""

    pattern: NodePattern
    overrides: NodeOverrides
    budgets: tuple[BudgetRule, ...]

    @property
    def location(self) -> Location:
        return ("nodes", self.pattern.text)


class Resolution:
    """What a policy means, node by node. Each question is worked out once; threads may do so twice, to the same end."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._defaults = Effective.of(policy)
        self._known: dict[NodePolicy, NodePolicy] = {}
        self._by_path: dict[NodePath, NodePolicy] = {}
        self.entries = tuple(self._entry(text, overrides) for text, overrides in policy.nodes.items())

    @staticmethod
    def _entry(text: str, overrides: NodeOverrides) -> _Entry:
        try:
            pattern = NodePattern.parse(text)
        except PatternError as error:
            raise Problem(f'node pattern "{text}" {error}', ("nodes", text)) from None
        return _Entry(pattern, overrides, tuple(budget.rule(text) for budget in overrides.budget))

    def for_node(self, path: NodePath) -> NodePolicy:
        """Return what applies at a node."""
        known = self._by_path.get(path)
        if known is None:
            known = self._by_path.setdefault(path, self._resolve(path))
        return known

    def _covering(self, path: NodePath) -> list[_Entry]:
        """The entries that a node is under, the least specific first."""
        found: list[tuple[Specificity, str, _Entry]] = []
        for entry in self.entries:
            specificity = entry.pattern.specificity(path)
            if specificity is not None:
                found.append((specificity, entry.pattern.text, entry))
        return [entry for _, _, entry in sorted(found, key=lambda each: each[:2])]

    def _effective(self, entries: Sequence[_Entry]) -> Effective:
        effective = self._defaults
        for entry in entries:
            effective = effective.under(entry.overrides)
        return effective

    def _resolve(self, path: NodePath) -> NodePolicy:
        entries = self._covering(path)
        effective = self._effective(entries)
        try:
            rules = effective.compiled()
        except PolicyError as error:
            # Each entry was compiled alone when the policy was loaded; only two that lie over one another can still
            # disagree, such as an engine from one and an entity that it does not know from another.
            warn(f"policy: node {path_text(path)}: its payloads are dropped: {error}", PolicyWarning)
            rules = self._defaults.compiled()
            effective = replace(effective, log_prompts=False, artifact_level="minimal")
        node_policy = NodePolicy(effective.level, effective.log_prompts, (rules,), effective.max_payload_chars)
        return self._known.setdefault(node_policy, node_policy)

    def check(self) -> None:
        """Find what is wrong with any entry, alone or beside another.

        Raises:
            Problem: With the place of the setting.
        """
        alone: list[tuple[Location, Policy | NodeOverrides, Effective]] = [((), self._policy, self._defaults)]
        alone += [(each.location, each.overrides, self._defaults.under(each.overrides)) for each in self.entries]
        unknown = [problem for each in alone for problem in self._unknown_entities(*each)]
        if unknown:
            raise Problem(str(unknown[0]), unknown[0].location, unknown[1:])
        for each in alone:
            self._check_alone(*each)
        # In an order of their own, so that a policy is refused or taken whatever the order in the file.
        for first, second in combinations(sorted(self.entries, key=lambda entry: entry.pattern.text), 2):
            key = _disagreement(first.overrides, second.overrides)
            rival = first.pattern.rival_path(second.pattern) if key else None
            if key and rival is not None:
                raise Problem(
                    f'"{first.pattern.text}" and "{second.pattern.text}" both mean node "{path_text(rival)}", are '
                    f"equally specific and set {dotted(key)} to different values; make one of them more specific",
                    (*second.location, *key),
                )

    def _check_alone(self, location: Location, written: Policy | NodeOverrides, effective: Effective) -> None:
        if written.log_artifacts is False and written.artifact_level == "full":
            at = (*location, "artifact_level")
            raise Problem(f"{dotted(at)}: full contradicts log_artifacts: false beside it; leave out one of them", at)
        redaction = written.redaction
        if redaction is not None and redaction.entities is not None:
            at = (*location, "redaction", "entities")
            if written.redact_pii and not effective.personal:
                raise Problem(
                    f"{dotted(at)}: holds no personal entity, which contradicts redact_pii: true beside it; "
                    "leave out one of them",
                    at,
                )
        try:
            effective.compiled()
        except PolicyError as error:
            raise problem_of(error, location, "redaction") from None

    @staticmethod
    def _unknown_entities(
        location: Location, written: Policy | NodeOverrides, effective: Effective
    ) -> Iterator[Problem]:
        redaction = written.redaction
        if redaction is None or effective.engine == "presidio":
            return  # What it knows depends on its version and set-up: it says itself what it does not.
        known = (*sorted(PII_ENTITIES), SECRET, *dict(effective.patterns))
        at = (*location, "redaction")
        named: list[tuple[str, Location]] = [
            (entity, (*at, "entities", i)) for i, entity in enumerate(redaction.entities or ())
        ]
        if isinstance(redaction.strategy, Mapping):
            named += [(entity, (*at, "strategy", entity)) for entity in redaction.strategy if entity != FIELD]
        for entity, place in named:
            if entity not in known:
                near = nearest(entity, known)
                remedy = f"known are {', '.join(known)}, and others with engine: presidio"
                if near:
                    remedy = f'did you mean "{near}"?'
                elif entity == FIELD:
                    remedy = "the fields that `keys` names are found without it, leave it out"
                yield Problem(f'{dotted(place)}: unknown entity "{entity}"; {remedy}', place)

    def explain(self, paths: Iterable[NodePath]) -> dict[str, Any]:
        """See `Policy.explain`."""
        examples = [(entry.pattern.text, entry.pattern.example) for entry in self.entries]
        return {
            "settings": _shown(self._policy.model_dump(mode="json", exclude_none=True)),
            "outside_nodes": self._defaults.plain(),
            "nodes": [
                {
                    "node": path_text(path),
                    "entry": text,
                    "entries": [entry.pattern.text for entry in reversed(covering)],
                    **self._effective(covering).plain(),
                    "budgets": [
                        {"max_cost_usd": str(rule.max_cost_usd), "scope": rule.scope, "node": rule.node}
                        for entry in covering
                        for rule in entry.budgets
                    ],
                }
                for text, path in [*examples, *((None, path) for path in paths)]
                for covering in [self._covering(path)]
            ],
        }


def _shown(value: Any) -> Any:
    """The same without the user and password of any URL."""
    if isinstance(value, dict):
        return {key: _shown(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return without_credentials(value) if isinstance(value, str) else value


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


def problem_of(error: PolicyError, location: Location, section: str) -> Problem:
    """Say of an error about one section of the settings where it stands.

    Its key may begin with the section or below it, and is not split further: a name in it may hold dots itself.
    """
    key = (error.key or section).removeprefix(f"{section}.")
    at = (*location, section, *([] if key == section else key.split(".", 1)))
    return Problem(f"{dotted(at)}: {str(error).removeprefix(f'{error.key}: ')}", at)
