"""Reading settings: from YAML, with the line of every key, and out of a whole workflow file or mapping.

Knows the shapes in which settings are written, not what they mean: that is `policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.notices import nearest

if TYPE_CHECKING:
    import os

Location: TypeAlias = tuple[str | int, ...]

ONE_FOR_ALL: Final = "*"
"""The key under which a value stands that is for all keys of a mapping, where there may be one instead."""

WORKFLOW_KEYS: Final = frozenset({"config", "observability", "flow", "schema_version", "state", "edges"})
"""Top-level keys of which one is enough to tell a workflow from a file that is only a policy."""

_IGNORED_KEYS: Final = {
    "use_mlflow_39_tracing": "it is ignored: MLflow 3 tracing is the only kind there is; delete the key",
}


class LinedMapping(dict[str, Any]):
    """A mapping that remembers where its keys stand."""

    def __init__(self, *args: Any) -> None:
        self.lines: dict[str, int] = {}
        super().__init__(*args)


class LinedList(list[Any]):
    """A list that remembers where its items stand."""

    def __init__(self, *args: Any) -> None:
        self.lines: list[int] = []
        super().__init__(*args)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value with a tag that is not plain YAML: harmless in a part that is not read; no setting has such a type."""

    tag: str


@dataclass
class Settings:
    """The settings as written, and where.

    Attributes:
        name: Names the source in messages: the path of a file, else `policy`.
        values: Key to value; under `nodes` a mapping from pattern to overrides, whichever way it was written.
        is_workflow: They are a part of something larger, whose other parts are not ours to judge.
        hints: Warnings found while reading, each with where.
    """

    name: str
    values: dict[str, Any]
    is_workflow: bool = False
    hints: list[str] = field(default_factory=list)

    def where(self, location: Location) -> str:
        """Name the place of a setting: `observability.yaml:14`; without lines the name alone."""
        return _place(self.name, self.line(location))

    def line(self, location: Location) -> int | None:
        """The line of a setting, or of the innermost part of its location that is written down."""
        return _line(self.values, location)

    def as_written(self, location: Location) -> Location:
        """Leave out the positions in a list or mapping that stands for what was written as one value."""
        steps: list[str | int] = []
        values: Any = self.values
        for step in location:
            one_for_all = step == ONE_FOR_ALL and not isinstance(values, Mapping)
            one_for_a_list = isinstance(step, int) and not isinstance(values, list | Mapping)
            if (
                one_for_all
                or one_for_a_list
                or (isinstance(values, Mapping) and isinstance(step, int) and step not in values)
            ):
                continue
            steps.append(step)
            try:
                values = values[step]
            except (KeyError, IndexError, TypeError):
                values = None
        return tuple(steps)


_STORE_SCHEME: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://|databricks$)", re.IGNORECASE)
_YAML_LINE: Final = re.compile(r"\s*(?:[\[{]|---|- |[^/\\:]+:(?:\s|$))")
_EXPECTED_PATH: Final = "policy: expected the path of a YAML file"


def path_of(source: str | os.PathLike[str]) -> Path:
    """Take the path of a policy.

    Raises:
        PolicyError: It is where MLflow stores, which the policy only names.
    """
    # Without the address itself: it may hold a password.
    if isinstance(source, str) and _STORE_SCHEME.match(source):
        raise PolicyError(
            f'{_EXPECTED_PATH}, found a URL; for where MLflow stores, pass a mapping: {{"tracking_uri": "..."}}'
        )
    return Path(source)


def read_file(path: Path, *, node_keys: Sequence[str], policy_keys: Sequence[str]) -> Settings:
    """Read the settings in a YAML file, which may be a policy or a whole workflow.

    Args:
        path: As it shall be named in messages.
        node_keys: What a node may override; other keys of a workflow's nodes are not ours.
        policy_keys: All settings.

    Raises:
        PolicyError: It cannot be read, is no YAML, or holds no settings in a form that is known.
    """
    name = str(path)
    text = _text(path)
    try:
        loader = _Loader(text)
        document = loader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PolicyError(
            f"{name}:{mark.line + 1 if mark else 1}: not YAML: {error.problem or error.context}; "
            "indent with spaces, quote texts that begin with a special character"
        ) from None  # The error quotes the lines around it, and one of them may hold a key.
    except yaml.reader.ReaderError as error:
        raise PolicyError(
            f"{name}: not YAML: character U+{error.character:04X} at position {error.position}; delete it"
        ) from None
    except RecursionError:
        raise PolicyError(f"{name}: nested too deeply, or an alias is in its own anchor; write it out") from None
    if document is None:
        return Settings(name, {})
    if not isinstance(document, Mapping):
        raise PolicyError(
            f"{name}:1: expected a mapping of settings, found {described(document)}; "
            "write `key: value` lines, such as `artifact_level: minimal`"
        )
    settings = _settings(name, document, node_keys=node_keys, policy_keys=policy_keys)
    for key, first, line in loader.duplicates:
        text = f'{name}:{line}: key "{key}" stands here again, first in line {first}'
        if not settings.is_workflow:
            raise PolicyError(f"{text}; keep one of them", key=key)
        settings.hints.append(f"{text}; the last one counts")
    return settings


def read_mapping(mapping: Mapping[str, Any], *, node_keys: Sequence[str], policy_keys: Sequence[str]) -> Settings:
    """Read the settings in a mapping, in the same forms as a file's.

    Raises:
        PolicyError: It holds no settings in a form that is known.
    """
    for key in mapping:
        if not isinstance(key, str):
            raise PolicyError(f"policy: expected texts as keys, found {described(key)}; put it in quotes")
    try:
        plain = _plain(mapping)
    except RecursionError:
        raise PolicyError("policy: nested too deeply, or a mapping is in itself; write it out") from None
    return _settings("policy", plain, node_keys=node_keys, policy_keys=policy_keys)


def _plain(value: Any) -> Any:
    """The same with every mapping a dict, which is all that pydantic's strict mode takes."""
    if isinstance(value, Mapping):
        return LinedMapping((key, _plain(each)) for key, each in value.items())
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


_QUOTED_LENGTH: Final = 40

_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (Mapping, "a mapping"),
    ((list, tuple), "a list"),
)


def described(value: object) -> str:
    """Say what a value is, for a message; long texts are not quoted whole."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, str):
        cut = value if len(value) <= _QUOTED_LENGTH else f"{value[:_QUOTED_LENGTH]}..."
        return f'the text "{cut}"'
    if isinstance(value, int | float | Decimal):
        if value != value:  # noqa: PLR0124 - true of nan alone
            return "nan, which is not a number"
        return f"the number {value}"
    if isinstance(value, Unreadable):
        return f"a value tagged {value.tag}"
    return next((words for kind, words in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")


_FOUND_YAML: Final = "found a YAML text; save it in a file, or pass what it says as a mapping (yaml.safe_load)"


def _text(path: Path) -> str:
    if "\n" in str(path):
        raise PolicyError(f"{_EXPECTED_PATH}, {_FOUND_YAML}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PolicyError(f"{path}:{line}: not UTF-8; save the file in that encoding") from None
    except IsADirectoryError:
        raise PolicyError(f"{path}: is a directory; name the YAML file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        if len(path.parts) == 1 and _YAML_LINE.match(str(path)):
            raise PolicyError(f"{_EXPECTED_PATH}, {_FOUND_YAML}") from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise PolicyError(
            f"{path}: cannot be read: {reason}; give the path of a YAML file, a mapping or a Policy"
        ) from None


class _Loader(yaml.SafeLoader):
    """YAML's plain types and no others, with lines. A key is its text as written: YAML 1.1 takes `no:` for false."""

    # Dates stay texts: `run_name: 2024-01-01`; and PyYAML raises a bare ValueError for 2024-13-01. `=` is one too.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute, never changed
        first: [(tag, expression) for tag, expression in resolvers if not tag.endswith((":timestamp", ":value"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.duplicates: list[tuple[str, int, int]] = []
        self._built: dict[yaml.Node, Any] = {}

    def document(self) -> Any:
        """Build the one document of the file; None if it is empty."""
        root = self.get_single_node()
        return None if root is None else self._build(root)

    def _build(self, node: yaml.Node) -> Any:
        # An anchor's node is met once for each alias. One within itself ends in a RecursionError.
        if node not in self._built:
            self._built[node] = self._new(node)
        return self._built[node]

    def _new(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            self._note_duplicates(node)
            self.flatten_mapping(node)
            mapping = LinedMapping()
            for key_node, value_node in node.value:
                key = _key(key_node)
                mapping[key] = self._build(value_node)
                mapping.lines[key] = key_node.start_mark.line + 1
            return mapping
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            items = LinedList(self._build(item) for item in node.value)
            items.lines = [item.start_mark.line + 1 for item in node.value]
            return items
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix("tag:yaml.org,2002:") in _SCALARS:
            try:
                return self.construct_object(node)
            except ValueError:  # `!!int abc`, or a number of thousands of digits
                return Unreadable(node.tag)
        return Unreadable(node.tag)

    def _note_duplicates(self, node: yaml.MappingNode) -> None:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = _key(key_node), key_node.start_mark.line + 1
            if key in first and key_node.tag != "tag:yaml.org,2002:merge":
                self.duplicates.append((key, first[key], line))
            first.setdefault(key, line)


_SCALARS: Final = frozenset({"str", "int", "float", "bool", "null"})


def _key(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else f"<{node.tag}>"


def _place(name: str, line: int | None) -> str:
    return name if line is None else f"{name}:{line}"


def _line(values: object, location: Location) -> int | None:
    """The line of the innermost part of the location that is written down."""
    line: int | None = None
    for step in location:
        if isinstance(values, Mapping):
            if step not in values:
                break
            line = values.lines.get(str(step), line) if isinstance(values, LinedMapping) else line
            values = values[step]
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            line = values.lines[step] if isinstance(values, LinedList) else line
            values = values[step]
        else:
            break
    return line


def _settings(
    name: str, document: Mapping[str, Any], *, node_keys: Sequence[str], policy_keys: Sequence[str]
) -> Settings:
    if not WORKFLOW_KEYS.isdisjoint(document):
        return _workflow_settings(name, document, node_keys=node_keys, policy_keys=policy_keys)
    settings = Settings(name, _copy(document))
    _drop_ignored(settings)
    if "nodes" in settings.values:
        settings.values["nodes"] = _nodes(settings, document["nodes"], node_keys=None)
    return settings


def _workflow_settings(
    name: str, document: Mapping[str, Any], *, node_keys: Sequence[str], policy_keys: Sequence[str]
) -> Settings:
    outer = Settings(name, _copy(document), is_workflow=True)
    config = document.get("config")
    homes = {
        "config.observability.mlflow": _below(config, "observability", "mlflow"),
        "observability.mlflow": _below(document, "observability", "mlflow"),
    }
    filled: dict[str, Mapping[str, Any]] = {}
    for home, found in homes.items():
        if isinstance(found, Mapping):
            filled[home] = found
        elif found is not None:
            where = outer.where(tuple(home.split(".")))
            raise PolicyError(
                f"{where}: {home}: expected a mapping of settings, found {described(found)}; "
                "write `key: value` lines below it, such as `enabled: true`",
                key=home,
            )
    if len(filled) > 1 and len({id(found) for found in filled.values()}) > 1:
        where = outer.where(("observability", "mlflow"))
        raise PolicyError(
            f"{where}: settings stand under both {' and '.join(filled)}; move them to one place",
            key="observability.mlflow",
        )
    settings = Settings(name, _copy(next(iter(filled.values()), {})), is_workflow=True)
    if not filled and _below(config, "mlflow") is not None:
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
    inner, listed = settings.values.get("nodes"), document.get("nodes")
    merged = LinedMapping()
    for nodes, foreign in ((inner, None), (listed, node_keys)):
        _merge_nodes(settings, merged, _nodes(settings, nodes, node_keys=foreign))
    settings.values["nodes"] = merged
    return settings


def _below(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _copy(mapping: Mapping[str, Any]) -> LinedMapping:
    copy = LinedMapping(mapping)
    copy.lines = dict(mapping.lines) if isinstance(mapping, LinedMapping) else {}
    return copy


def _drop_ignored(settings: Settings) -> None:
    for key, hint in _IGNORED_KEYS.items():
        if key in settings.values:
            settings.hints.append(f"{settings.where((key,))}: {key} is accepted, but {hint}")
            del settings.values[key]


def _nodes(settings: Settings, nodes: object, *, node_keys: Sequence[str] | None) -> Any:
    """Bring overrides into one form, a mapping from pattern to overrides.

    With `node_keys` they are a workflow's nodes: what is not among these keys is somebody else's.
    """
    items = _items(nodes)
    if items is None:
        return nodes if node_keys is None else LinedMapping()
    merged = LinedMapping()
    for name, written, line in items:
        where = _place(settings.name, line)
        overrides = written
        if node_keys is not None:
            overrides = _own_keys(settings, written, node_keys, where) if isinstance(written, Mapping) else None
            if not overrides:
                continue
        one = LinedMapping({_pattern_text(name, overrides, where): overrides})
        one.lines = {pattern: line for pattern in one if line is not None}
        _merge_nodes(settings, merged, one)
    return merged


def _items(nodes: object) -> list[tuple[object, object, int | None]] | None:
    """Name, overrides and line of each entry; None if there is nothing that could hold any."""
    match nodes:
        case None:
            return []
        case Mapping():
            return [(name, overrides, _line(nodes, (name,))) for name, overrides in nodes.items()]
        case list():
            return [
                (*(_named(item) if isinstance(item, Mapping) else (None, item)), _line(nodes, (at,)))
                for at, item in enumerate(nodes)
            ]
        case _:
            return None


def _named(item: Mapping[str, Any]) -> tuple[object, LinedMapping]:
    """Split an item of a list into its node's name and the rest. With both, `id` is the name that the graph knows."""
    rest = _copy(item)
    name = rest.pop("name", None)
    return rest.pop("id", name), rest


def _pattern_text(name: object, overrides: object, where: str) -> str:
    if isinstance(name, str | int) and not isinstance(name, bool):
        return str(name)
    found = described(overrides if name is None and not isinstance(overrides, Mapping) else name)
    raise PolicyError(
        f"{where}: an item of nodes needs an id or a name that is a text, found {found}; "
        "write `- id: writer`, in quotes if YAML has a meaning of its own for it",
        key="nodes",
    )


def _own_keys(settings: Settings, item: Mapping[str, Any], node_keys: Sequence[str], where: str) -> LinedMapping:
    own = LinedMapping()
    nested = item.get("mlflow")
    for part in (item, nested if isinstance(nested, Mapping) else {}):
        for key, value in part.items():
            line = _line(part, (key,))
            place = _place(settings.name, line)
            if key not in node_keys:
                # A misspelt `log_promts: false` would be silently ignored as somebody else's.
                near = nearest(key, node_keys, cutoff=0.85)
                if near is not None:
                    settings.hints.append(f'{place}: ignored key "{key}"; did you mean "{near}"?')
                continue
            if key in own and own[key] != value:
                raise PolicyError(
                    f"{where}: {key} is set twice for this node, to different values; keep one of them", key=key
                )
            own[key] = value
            if line is not None:
                own.lines[key] = line
    return own


def _merge_nodes(settings: Settings, merged: LinedMapping, more: Any) -> None:
    """Add entries; the same pattern may come twice, if it says the same or something else."""
    for name, overrides in more.items():
        known = merged.get(name)
        if not isinstance(known, Mapping) or not isinstance(overrides, Mapping):
            merged[name] = overrides
            if isinstance(more, LinedMapping) and name in more.lines:
                merged.lines[name] = more.lines[name]
            continue
        joined = _copy(known)
        for key, value in overrides.items():
            if key in joined and joined[key] != value:
                place = _place(settings.name, _line(overrides, (key,)))
                raise PolicyError(
                    f'{place}: {key} is set twice for node "{name}", to different values; keep one of them',
                    key=f"nodes.{name}.{key}",
                )
            joined[key] = value
            if isinstance(overrides, LinedMapping) and key in overrides.lines:
                joined.lines[key] = overrides.lines[key]
        merged[name] = joined
