"""What a user may decide: the settings as written, checked; what they mean for a node is a `NodePolicy`."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)

from langchain_mlflow_cost.budgets.rules import Budget, check_store
from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.notices import warn
from langchain_mlflow_cost.policy.checking import check_graph
from langchain_mlflow_cost.policy.judges import JudgeBudget, Judges
from langchain_mlflow_cost.policy.lines import ONE_FOR_ALL, Location, Settings
from langchain_mlflow_cost.policy.node_policy import Level, NodePolicy
from langchain_mlflow_cost.policy.problems import (
    Located,
    PolicyWarning,
    Problem,
    described,
    dotted,
    policy_error,
    problem_of,
    problems_in,
    unknown_key,
)
from langchain_mlflow_cost.policy.reading import path_of, read_file, read_mapping
from langchain_mlflow_cost.policy.resolution import Resolution
from langchain_mlflow_cost.pricing.book import ModelRates, PriceBook
from langchain_mlflow_cost.pricing.doubts import PriceDoubt, price_doubts
from langchain_mlflow_cost.tracking_stores import doubt_about
from langchain_mlflow_cost.written import SETTINGS, Expanded, Fraction, Text, Usd, expand

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_mlflow_cost.node_patterns import NodePattern
    from langchain_mlflow_cost.nodes import NodePath
    from langchain_mlflow_cost.policy.checking import PolicyCheck

__all__ = ["Budget", "NodeOverrides", "NodePolicy", "Policy", "PolicyWarning", "Prices", "Redaction"]

Strategy: TypeAlias = Literal["redact", "mask", "hash", "drop"]
Engine: TypeAlias = Literal["builtin", "presidio"]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_budgets(value: object) -> object:
    match value:
        case None:
            return ()
        case list():
            return tuple(value)
        case tuple():
            return value
        case _:
            return (value,)


def _empty_if_nothing(value: object) -> object:
    """A section whose keys are all commented out is an empty section."""
    return {} if value is None else value


def _as_secret(value: object) -> object:
    expanded = expand(value)
    return SecretStr(expanded) if isinstance(expanded, str) else expanded


def _by_entity(value: object) -> object:
    """One strategy for all, as a mapping with one entry, so that each is checked where it stands."""
    return value if value is None or isinstance(value, Mapping) else {ONE_FOR_ALL: value}


def _one_for_all(value: dict[str, Strategy] | None) -> dict[str, Strategy] | Strategy | None:
    return value[ONE_FOR_ALL] if value is not None and value.keys() == {ONE_FOR_ALL} else value


if TYPE_CHECKING:
    Strategies: TypeAlias = Strategy | dict[str, Strategy] | None
else:
    # Not the union that it is: pydantic would report what is wrong with a value once for each of its members.
    Strategies = Annotated[
        dict[str, Strategy] | None,
        BeforeValidator(_by_entity),
        AfterValidator(_one_for_all),
        PlainSerializer(lambda value: value),
    ]

Names: TypeAlias = Annotated[tuple[Text, ...], BeforeValidator(_as_tuple)]
Length: TypeAlias = Annotated[int, Field(ge=1, le=10**12)]
Days: TypeAlias = Annotated[int, Field(ge=1, le=366_000)]


class Redaction(BaseModel):
    """How text that must not be stored is found and replaced."""

    model_config = SETTINGS

    entities: Names | None = None
    """Exactly the personal entities to look for, whatever `redact_pii` says beside it. `SECRET` in it stands for
    `redact_secrets: true`. Without the key: all personal entities if `redact_pii`."""

    strategy: Strategies = None
    """What stands in place of a found text: `redact` its entity's name in brackets, `mask` `****`, `hash` a keyed
    token (same value, same token), `drop` removes the whole string that holds it. One for all, or a mapping from
    entity or pattern name. Default `redact`."""

    hash_key: Annotated[SecretStr | None, BeforeValidator(_as_secret)] = Field(default=None, repr=False)
    """Key of `hash`; the same key gives the same tokens in every process. Default: random per process. `${VAR}` is an
    environment variable."""

    keys: Names = ()
    """Names of fields, of attributes of spans too, whose value always goes. A node's list is added to the defaults'."""

    allow_keys: Names | None = None
    """Names of fields of which alone the values are kept, in mappings at any depth; a value stays if its own field or
    one around it is listed. Bare strings and the content of messages go unless `content` is listed; names and structure
    (roles, types, ids, counts, cost) stay. A node's list takes the place of the defaults'. Default: all are kept."""

    patterns: Annotated[dict[str, str], BeforeValidator(_empty_if_nothing)] = {}
    """Name to regular expression (RE2's syntax): texts of your own to find. A node's are added to the defaults'."""

    engine: Engine | None = None
    """`builtin` (default), or `presidio`, which also finds `PERSON`, `LOCATION` and more, and needs its extra."""

    @field_validator("hash_key")
    @classmethod
    def _not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise ValueError("expected a text, found an empty one; leave the key out for a random one")
        return value


if TYPE_CHECKING:
    JudgesOrNot: TypeAlias = Judges | bool
else:
    # Not the union that it is, as above.
    JudgesOrNot = Annotated[
        Judges,
        WrapValidator(lambda value, check: value if isinstance(value, bool) else check(value)),
        PlainSerializer(lambda value: value if isinstance(value, bool) else value.model_dump()),
    ]

Budgets: TypeAlias = Annotated[tuple[Budget, ...], BeforeValidator(_as_budgets)]


class Prices(BaseModel):
    """Prices of your own, and where to look for the others."""

    model_config = SETTINGS

    aliases: Annotated[dict[str, str], BeforeValidator(_empty_if_nothing)] = {}
    """A model's name, as in the response, to the `model` or `provider/model` whose price it has."""

    overrides: Annotated[dict[str, dict[str, Usd]], BeforeValidator(_empty_if_nothing)] = {}
    """Model to USD per million tokens by class (`input`, `output`, `cache_read`, ...), and `request` in USD a call."""

    discounts: Annotated[dict[str, Fraction], BeforeValidator(_empty_if_nothing)] = {}
    """Provider, model or `*` to the fraction taken off: `0.2` is 20 %."""

    tools: Annotated[dict[Text, Usd], BeforeValidator(_empty_if_nothing)] = {}
    """A tool's name to USD a call of it: a search, a database, a service that bills by the call."""


class NodeOverrides(BaseModel):
    """What holds for one node and everything that runs inside it; what is left out comes from the defaults."""

    model_config = SETTINGS

    log_prompts: bool | None = None
    log_artifacts: bool | None = None
    artifact_level: Level | None = None
    redact_secrets: bool | None = None
    redact_pii: bool | None = None
    redaction: Redaction | None = None
    max_payload_chars: Length | None = None
    budget: Budgets = ()


POLICY_VARIABLE = "LANGCHAIN_MLFLOW_COST_POLICY"
"""An environment variable: the path of the policy where a program names none."""


_JUDGES: Final = Judges()


class Policy(BaseModel):
    """All settings, checked.

    Made from keywords, `from_yaml`, or `load`, each of which raises `PolicyError`. It never changes.
    """

    model_config = SETTINGS

    enabled: bool = True
    """Off: the handler does nothing at all, and `configure` changes nothing."""

    tracking_uri: Expanded = Field(default=None, repr=False)
    """Where `configure` sends traces. None: what MLflow already has, else `sqlite:///mlflow.db`. `${VAR}` is an
    environment variable."""

    experiment_name: Text = "langchain_mlflow_cost"
    """The experiment that `configure` sets."""

    run_name: Text | None = None
    """The trace's name, set by `configure`; `{timestamp}` and `{workflow_name}` are filled in."""

    log_prompts: bool = True
    """False: no text that the model was told or said is stored, wherever in the trace it travels."""

    log_artifacts: bool = True
    """False: no payloads, as `artifact_level: minimal`."""

    artifact_level: Level = "standard"
    """Which payloads are stored: `minimal` none, `standard` those of models, tools, retrievers and the root, `full`
    all."""

    redact_secrets: bool = True
    """Find provider keys, tokens, passwords, private keys and credentials in URLs: the entity `SECRET`."""

    redact_pii: bool = False
    """Find the personal entities: e-mail addresses, phone, card and account numbers and the like."""

    redaction: Annotated[Redaction, BeforeValidator(_empty_if_nothing)] = Redaction()
    """How what is found is replaced, and what else is to be found."""

    max_payload_chars: Length = 100_000
    """A longer payload is cut, and says so in it (`[cut: 1234 more characters]`, `[cut: 12 more]`): long texts at their
    end, then lists in their middle, so that a conversation's beginning and last answer stay, and small fields. What
    stays was redacted before it was cut.
    """

    nodes: dict[str, NodeOverrides] = {}
    """Overrides for single nodes: node pattern to settings."""

    budget: Budgets = ()
    """What model calls may cost: one budget or a list of them."""

    prices: Annotated[Prices, BeforeValidator(_empty_if_nothing)] = Prices()
    """Prices of your own."""

    session_store: Expanded = Field(default=None, repr=False)
    """The URL of a Redis for what belongs to a session in all processes: numbers under `redaction.hash_key` by which
    every worker recognises the private text that others heard (never the text), and budgets of sessions, users and
    tags without a `store` of their own. `${VAR}` is an environment variable."""

    async_logging: bool = True
    """Whether `configure` lets MLflow export in the background."""

    autolog_enabled: bool = True
    """Switch `mlflow.langchain.autolog()` on if it is off: for the whole process, see below."""

    trace_metadata: Names = ()
    """Keys of the run's metadata that go to the trace's, redacted, where MLflow's search finds them."""

    retention_days: Days | None = None
    """`mlflow-cost prune` deletes traces older than so many days, and their files. Nothing else deletes anything."""

    enable_judges: JudgesOrNot = False
    """Judge a sample of finished traces, as they are stored, with MLflow's scorers: `true`, or a mapping, below."""

    enable_prompt_registry: bool = False
    """Show which prompts of MLflow's registry a node used, in which version: linked to the trace, as `cost.prompts` on
    the node's span and its models', and in `mlflow-cost report --by prompt`."""

    if not TYPE_CHECKING:  # Type checkers and editors keep the signature that they derive from the fields.

        def __init__(self, **settings: Any) -> None:
            """Check the settings, as `load` checks a mapping."""
            self._fill(read_mapping(settings, **_KEYS))

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> Self:
        """Read a policy, or the one in a workflow, from a YAML file.

        Raises:
            PolicyError: With the file, the line, the key and what to do.
        """
        return cls._filled(read_file(path_of(path), **_KEYS))

    @classmethod
    def load(cls, policy: Policy | Mapping[str, Any] | str | os.PathLike[str] | None) -> Policy:
        """Make a policy of whatever form it comes in: nothing, a path to YAML, a mapping, a policy.

        Nothing is the path in the environment variable `LANGCHAIN_MLFLOW_COST_POLICY`, else the defaults.

        Raises:
            PolicyError: It is none of these, or not right.
        """
        match policy:
            case None:
                return cls._of_environment()
            case Policy():
                return policy
            case str() | os.PathLike():
                return cls.from_yaml(policy)
            case Mapping():
                return cls._filled(read_mapping(policy, **_KEYS))
            case _:
                raise PolicyError(
                    f"policy: expected a Policy, a mapping or the path of a YAML file, found {described(policy)}"
                )

    @classmethod
    def _of_environment(cls) -> Policy:
        path = os.environ.get(POLICY_VARIABLE)
        if not path:
            return cls()
        try:
            return cls.from_yaml(path)
        except PolicyError as error:
            raise PolicyError(f"{error} (the file is named by the environment variable {POLICY_VARIABLE})") from None

    def for_node(self, path: NodePath) -> NodePolicy:
        """Return what applies at a node.

        Args:
            path: Names from the outermost graph's node inwards; `()` is outside any node.
        """
        return self._resolution.for_node(path)

    @property
    def has_private_nodes(self) -> bool:
        """Whether some node may have `log_prompts: false`, so that traces must be held until they end."""
        return not self.log_prompts or any(overrides.log_prompts is False for overrides in self.nodes.values())

    @property
    def session_key(self) -> bytes | None:
        """The key under which private text is marked for other processes: that of `redaction.hash_key`."""
        key = self.redaction.hash_key
        return None if key is None else key.get_secret_value().encode()

    @property
    def node_patterns(self) -> tuple[NodePattern, ...]:
        """The patterns of the entries of `nodes`."""
        return tuple(entry.pattern for entry in self._resolution.entries)

    @property
    def judges(self) -> Judges | None:
        """How finished traces are judged; None where they are not."""
        return self.enable_judges if isinstance(self.enable_judges, Judges) else _JUDGES if self.enable_judges else None

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets at the top level, to which every call counts, each with its store."""
        return tuple(budget.kept_in(self.session_store) for budget in self.budget)

    @property
    def all_budgets(self) -> tuple[Budget, ...]:
        """The budgets at the top level and those of all node entries."""
        of_nodes = (budget for entry in self._resolution.entries for budget in entry.budgets)
        return (*self.budgets, *(budget.kept_in(self.session_store) for budget in of_nodes))

    def price_book(self, fallback: Callable[[str | None, str], ModelRates | None] | None = None) -> PriceBook:
        """Return the prices, with `fallback` as the last place to look in.

        Raises:
            PolicyError: Prices that cannot be used; not raised for a policy that was loaded.
        """
        return PriceBook(
            aliases=self.prices.aliases,
            overrides=self.prices.overrides,
            discounts=self.prices.discounts,
            fallback=fallback,
        )

    def price_doubts(self, fallback: Callable[[str | None, str], ModelRates | None]) -> tuple[str, ...]:
        """Say which aliases lead to no price and which discounts are for nobody, each with its place.

        Args:
            fallback: As for `price_book`. Asked only about names that no other list has.
        """
        doubts: tuple[PriceDoubt, ...] = self.__dict__.get("_price_doubts", ())
        return tuple(doubt.text for doubt in doubts if not doubt.is_dispelled(fallback))

    def explain(self, paths: Iterable[NodePath] = ()) -> dict[str, Any]:
        """Say what applies where: plain values, nothing secret among them.

        Args:
            paths: Nodes to add to those that the entries mean.

        Returns:
            `settings`: all settings. `outside_nodes`: what applies outside any node. `nodes`: one mapping for each
            entry and each of `paths`, with `node` (a path), `entry` (the pattern; None for one of `paths`), `entries`
            (all patterns that apply, the most specific first) and the settings that apply.
        """
        return self._resolution.explain(paths)

    def check(self, graph: Any) -> PolicyCheck:
        """Say what the policy means for a graph, without running it.

        Args:
            graph: A compiled graph: of `StateGraph`, `create_agent`, `@entrypoint`, deepagents. Subgraphs, agents in
                the closures of tools, and tasks are looked for.

        Returns:
            For each entry of `nodes`, whether it meets nodes, meets none, or cannot be known, as graphs may be made at
            run time; for each node, what holds there. Print it to read it.

        Raises:
            TypeError: It is no graph.
        """
        return check_graph(self._resolution, graph)

    @cached_property
    def _resolution(self) -> Resolution:
        return Resolution(self)

    @classmethod
    def _filled(cls, settings: Settings) -> Self:
        policy = cls.__new__(cls)
        policy._fill(settings)  # noqa: SLF001 - a policy being made, by its own class
        return policy

    def _fill(self, settings: Settings) -> None:
        values, hints = settings.values, list(settings.hints)
        while True:
            try:
                self.__pydantic_validator__.validate_python(values, self_instance=self)
                break
            except ValidationError as error:
                unknown = [e["loc"] for e in error.errors(include_url=False) if e["type"] == "extra_forbidden"]
                if not (settings.is_workflow and unknown):
                    raise policy_error(self._all_problems(settings, values, error)) from None
                unknown.sort(key=lambda loc: settings.line(loc) or 0)
                hints += [f"{settings.where(loc)}: ignored {_forgiven(settings, loc)}" for loc in unknown]
                values = _without(values, unknown)
        if settings.faults:
            raise policy_error(Located(*fault) for fault in settings.faults)
        for hint in hints:
            warn(hint, PolicyWarning)
        for location, text, category in _doubts(self):
            warn(f"{settings.where(location)}: {text}", category)
        prices = self.prices
        # Not a field, so that policies that say the same are equal wherever they were read.
        self.__dict__["_price_doubts"] = tuple(
            doubt._replace(text=f"{settings.where(('prices', *doubt.location))}: {doubt.text}")
            for doubt in price_doubts(prices.aliases, prices.overrides, prices.discounts)
        )

    @classmethod
    def _all_problems(cls, settings: Settings, values: Mapping[str, Any], error: ValidationError) -> list[Located]:
        """All that is wrong: some of it shows only where the rest is right, so what is wrong is taken out by and by."""
        found = [Located(*fault) for fault in settings.faults]
        gone: list[Location] = []
        while True:
            told = problems_in(settings, error, _known_keys)
            # What is missing or contradicted because it was taken out is not the user's fault.
            found += [
                each
                for each in told
                if not any(each.at == at[: len(each.at)] or dotted(at) in each.text for at in gone)
            ]
            more = [each.at for each in told if each.at not in gone]
            if not more or () in more:
                return found
            gone += more
            values = _cut_out(values, gone)
            try:
                cls.__pydantic_validator__.validate_python(values, self_instance=cls.__new__(cls))
            except ValidationError as next_error:
                error = next_error
            else:
                return found

    @field_validator("session_store")
    @classmethod
    def _can_be_opened(cls, value: str | None) -> str | None:
        if value is not None:
            check_store(value, "session_store")
        return value

    @field_validator("nodes", mode="before")
    @classmethod
    def _no_nodes(cls, value: object) -> object:
        return _empty_if_nothing(value)

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        self.__dict__.pop("_resolution", None)
        self._resolution.check()
        if self.session_store is not None:
            try:
                check_store(self.session_store)
            except PolicyError as error:
                raise problem_of(error, (), "session_store") from None
            if self.has_private_nodes and self.redaction.hash_key is None:
                raise Problem(
                    "session_store: private text is told to other workers under a key that all of them have; set "
                    "redaction.hash_key, such as ${HASH_KEY}",
                    ("session_store",),
                )
        try:
            self.price_book()
        except PolicyError as error:
            raise problem_of(error, (), "prices") from None
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Return a policy with some settings changed, checked like any other."""
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **(update or {})})

    # It never changes, so it is its own copy; what it compiled can be neither copied nor pickled.
    def with_hash_key(self, key: str) -> Policy:
        """The same policy, which makes keyed tokens under that key where it names none of its own.

        Args:
            key: For processes that are to make the same tokens of the same values.
        """
        if self.redaction.hash_key is not None:
            return self
        redaction = self.redaction.model_copy(update={"hash_key": SecretStr(key)})
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return _restored(type(self), {**fields, "redaction": redaction})

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., Policy], tuple[type[Policy], dict[str, Any]]]:
        return _restored, (type(self), {name: getattr(self, name) for name in self.model_fields_set})


_SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "redaction": Redaction,
    "budget": Budget,
    "prices": Prices,
    "enable_judges": Judges,
}


def _known_keys(location: Location) -> tuple[str, ...]:
    """The keys that there can be directly below a location."""
    names = [step for step in location if isinstance(step, str)]
    if len(names) == len(("nodes", "pattern")) and names[0] == "nodes":
        return tuple(NodeOverrides.model_fields)
    if names == ["enable_judges", "budget"]:
        return tuple(JudgeBudget.model_fields)
    return tuple((_SECTIONS.get(names[-1], NodeOverrides) if names else Policy).model_fields)


def _forgiven(settings: Settings, location: Location) -> str:
    return unknown_key(settings.as_written(location), _known_keys, list_known=False)


def _restored(cls: type[Policy], settings: dict[str, Any]) -> Policy:
    return cls(**settings)


_KEYS: Final[dict[str, Any]] = {
    "node_keys": tuple(NodeOverrides.model_fields),
    "policy_keys": tuple(Policy.model_fields),
}


_RUN_NAME_PARTS: Final = ("timestamp", "workflow_name")


def _doubts(policy: Policy) -> list[tuple[Location, str, type[Warning]]]:
    """What is allowed but will not do what is probably meant."""
    doubts: list[tuple[Location, str, type[Warning]]] = []
    doubt = doubt_about(policy.tracking_uri or "")
    if doubt is not None:
        # Not a DeprecationWarning: Python shows those in `__main__` alone.
        doubts.append((("tracking_uri",), doubt, PolicyWarning))
    for part in re.findall(r"\{([^{}]*)\}", policy.run_name or ""):
        if part not in _RUN_NAME_PARTS:
            text = f"run_name: {{{part}}} stays as it is; known are {{timestamp}} and {{workflow_name}}"
            doubts.append((("run_name",), text, PolicyWarning))
    at_top: list[tuple[Location, Iterable[Budget]]] = [(("budget",), policy.budget)]
    of_nodes = [(("nodes", pattern, "budget"), overrides.budget) for pattern, overrides in policy.nodes.items()]
    for location, budgets in at_top + of_nodes:
        for index, budget in enumerate(budgets):
            if budget.per is not None and budget.kept_in(policy.session_store).store is None:
                text = (
                    f"per: {budget.per} without a store: the sum is this process's alone, and a restart forgets it; "
                    "set store, or session_store for all, to the URL of a Redis"
                )
                doubts.append(((*location, index, "per"), text, PolicyWarning))
    return doubts


def _without(values: Mapping[str, Any], locations: Iterable[Location]) -> dict[str, Any]:
    """The same settings without some keys; what is shared with the caller's is not changed."""
    result = _unshared(values)
    for location in locations:
        at: Any = result
        for step in location[:-1]:
            if isinstance(at, list) or not isinstance(step, int):
                at = at[step]
        del at[location[-1]]
    return result  # type: ignore[no-any-return]


def _cut_out(values: Mapping[str, Any], locations: Iterable[Location]) -> dict[str, Any]:
    """The same settings without what stands at some locations; a list goes as a whole."""
    result = _unshared(values)
    for location in locations:
        keys = list(itertools.takewhile(lambda step: isinstance(step, str) and step != "[key]", location))
        at: Any = result
        for step in keys[:-1]:
            at = at.get(step) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.pop(keys[-1], None)
    return result  # type: ignore[no-any-return]


def _unshared(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _unshared(each) for key, each in value.items()}
    return [_unshared(each) for each in value] if isinstance(value, list | tuple) else value
