"""Finding the settings in a document: it is a policy, or a workflow with a policy in it and overrides in its nodes.

Knows the shapes in which settings are written, not what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.policy.lines import Lines, Settings, place
from langchain_mlflow_cost.policy.problems import described

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKFLOW_KEYS: Final = frozenset({"config", "observability", "flow", "schema_version", "state", "edges"})
"""Top-level keys of which one is enough to tell a workflow from a file that is only a policy."""

_HOMES: Final[tuple[tuple[str, ...], ...]] = (("config", "observability", "mlflow"), ("observability", "mlflow"))
"""Where the settings of a workflow may stand."""

_IGNORED_KEYS: Final = {
    "use_mlflow_39_tracing": "it is ignored: MLflow 3 tracing is the only kind there is; delete the key",
}


def settings_in(
    name: str, document: Mapping[str, Any], lines: Lines, *, node_keys: Sequence[str], policy_keys: Sequence[str]
) -> Settings:
    """Find the settings in a document, and bring its nodes into one form.

    Args:
        name: Names the source in messages.
        document: Plain values; it is not changed.
        lines: Where they stand.
        node_keys: What a node may override; other keys of a workflow's nodes are not ours.
        policy_keys: All settings.

    Raises:
        PolicyError: Its settings or nodes have no form that is known.
    """
    if not WORKFLOW_KEYS.isdisjoint(document):
        return _workflow_settings(name, document, lines, node_keys=node_keys, policy_keys=policy_keys)
    settings = Settings(name, dict(document), Lines(lines.line, dict(lines.inner)))
    _drop_ignored(settings)
    if isinstance(document.get("nodes"), Mapping | list):
        nodes = _Nodes(settings)
        for pattern, overrides, where in nodes.listed(document["nodes"], lines.at("nodes")):
            nodes.add(pattern, overrides, where)
        nodes.done()
    elif "nodes" in document and document["nodes"] is None:
        settings.values["nodes"] = {}
    return settings


def _workflow_settings(
    name: str, document: Mapping[str, Any], lines: Lines, *, node_keys: Sequence[str], policy_keys: Sequence[str]
) -> Settings:
    outer = Settings(name, dict(document), lines)
    filled: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for home in _HOMES:
        found = _below(document, *home)
        if isinstance(found, Mapping):
            filled[home] = found
        elif found is not None:
            dotted = ".".join(home)
            raise PolicyError(
                f"{outer.where(home)}: {dotted}: expected a mapping of settings, found {described(found)}; "
                "write `key: value` lines below it, such as `enabled: true`",
                key=dotted,
            )
    if len(filled) > 1 and len({id(found) for found in filled.values()}) > 1:
        both = " and ".join(".".join(home) for home in filled)
        raise PolicyError(
            f"{outer.where(('observability', 'mlflow'))}: settings stand under both {both}; move them to one place",
            key="observability.mlflow",
        )
    below = lines.at(*next(iter(filled))) if filled else Lines()
    values = dict(next(iter(filled.values()), {}))
    settings = Settings(name, values, Lines(below.line, dict(below.inner)), is_workflow=True)
    if not filled and _below(document, "config", "mlflow") is not None:
        settings.hints.append(
            f"{outer.where(('config', 'mlflow'))}: settings under config.mlflow are not read; "
            "move them to config.observability.mlflow"
        )
    settings.hints.extend(
        f"{outer.where((key,))}: {key} is not read at the top of a workflow; move it to config.observability.mlflow"
        for key in document
        if key in policy_keys and key != "nodes"
    )
    _drop_ignored(settings)
    nodes = _Nodes(settings)
    inner = settings.values.get("nodes")
    if inner is not None and not isinstance(inner, Mapping | list):
        return settings  # What is wrong with it is told when it is checked.
    for pattern, overrides, where in nodes.listed(inner, below.at("nodes")):
        nodes.add(pattern, overrides, where)
    for pattern, overrides, where in nodes.of_workflow(document.get("nodes"), lines.at("nodes"), node_keys):
        nodes.add(pattern, overrides, where)
    nodes.done()
    return settings


def _below(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _drop_ignored(settings: Settings) -> None:
    for key, hint in _IGNORED_KEYS.items():
        if key in settings.values:
            settings.hints.append(f"{settings.where((key,))}: {key} is accepted, but {hint}")
            del settings.values[key]


class _Nodes:
    """The entries of `nodes` in one form, whichever way they were written: pattern to overrides, with their lines."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._values: dict[str, Any] = {}
        self._lines: dict[str | int, Lines] = {}

    def done(self) -> None:
        """Put them into the settings."""
        self._settings.values["nodes"] = self._values
        self._settings.lines.inner["nodes"] = Lines(self._settings.line(("nodes",)), self._lines)

    def listed(self, nodes: object, lines: Lines) -> Iterator[tuple[str, Any, Lines]]:
        """Pattern, overrides and lines of each entry, as a policy writes them: a mapping, or a list with names."""
        for name, overrides, where in _items(nodes, lines):
            yield self._pattern_text(name, overrides, where), overrides, where

    def of_workflow(self, nodes: object, lines: Lines, node_keys: Sequence[str]) -> Iterator[tuple[str, Any, Lines]]:
        """The same of a workflow's nodes: what is not among our keys is somebody else's."""
        for name, written, where in _items(nodes, lines):
            overrides, inner = self._own_keys(written, where, node_keys) if isinstance(written, Mapping) else ({}, {})
            if overrides:
                yield self._pattern_text(name, overrides, where), overrides, Lines(where.line, inner)

    def add(self, pattern: str, overrides: Any, lines: Lines) -> None:
        """Add an entry; the same pattern may come twice, if it says the same or something else."""
        known = self._values.get(pattern)
        if not isinstance(known, Mapping) or not isinstance(overrides, Mapping):
            self._values[pattern], self._lines[pattern] = overrides, lines
            return
        for key, value in overrides.items():
            if key in known and known[key] != value:
                raise PolicyError(
                    f'{place(self._settings.name, lines.of((key,)))}: {key} is set twice for node "{pattern}", '
                    "to different values; keep one of them",
                    key=f"nodes.{pattern}.{key}",
                )
        self._values[pattern] = {**known, **overrides}
        before = self._lines[pattern]
        self._lines[pattern] = Lines(before.line, {**before.inner, **lines.inner})

    def _own_keys(
        self, item: Mapping[str, Any], lines: Lines, node_keys: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str | int, Lines]]:
        own: dict[str, Any] = {}
        own_lines: dict[str | int, Lines] = {}
        nested = item.get("mlflow")
        for part, below in ((item, lines), (nested if isinstance(nested, Mapping) else {}, lines.at("mlflow"))):
            for key, value in part.items():
                if key not in node_keys:
                    # A misspelt `log_promts: false` would be silently ignored as somebody else's.
                    near = nearest(key, node_keys, cutoff=0.85)
                    if near is not None:
                        where = place(self._settings.name, below.of((key,)))
                        self._settings.hints.append(f'{where}: ignored key "{key}"; did you mean "{near}"?')
                    continue
                if key in own and own[key] != value:
                    raise PolicyError(
                        f"{place(self._settings.name, lines.line)}: {key} is set twice for this node, "
                        "to different values; keep one of them",
                        key=key,
                    )
                own[key], own_lines[key] = value, below.at(key)
        return own, own_lines

    def _pattern_text(self, name: object, overrides: object, lines: Lines) -> str:
        if isinstance(name, str | int) and not isinstance(name, bool):
            return str(name)
        found = described(overrides if name is None and not isinstance(overrides, Mapping) else name)
        raise PolicyError(
            f"{place(self._settings.name, lines.line)}: an item of nodes needs an id or a name that is a text, "
            f"found {found}; write `- id: writer`, in quotes if YAML has a meaning of its own for it",
            key="nodes",
        )


def _items(nodes: object, lines: Lines) -> Iterator[tuple[object, object, Lines]]:
    """Name, overrides and lines of each entry; none if there is nothing that could hold any."""
    if isinstance(nodes, Mapping):
        for name, overrides in nodes.items():
            yield name, overrides, lines.at(name)
    elif isinstance(nodes, list):
        for at, item in enumerate(nodes):
            name, overrides = _named(item) if isinstance(item, Mapping) else (None, item)
            yield name, overrides, lines.at(at)


def _named(item: Mapping[str, Any]) -> tuple[object, dict[str, Any]]:
    """Split an item of a list into its node's name and the rest. With both, `id` is the name that the graph knows."""
    rest = dict(item)
    name = rest.pop("name", None)
    return rest.pop("id", name), rest
