"""Reading settings: plain values and their lines from YAML, or from a mapping in the same forms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.policy.lines import Lines, Settings
from langchain_mlflow_cost.policy.problems import Unreadable, described
from langchain_mlflow_cost.policy.workflow import settings_in

if TYPE_CHECKING:
    import os

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
        document, lines = loader.document()
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
    settings = settings_in(name, document, lines, node_keys=node_keys, policy_keys=policy_keys)
    for key, first, line in loader.duplicates:
        text = f'{name}:{line}: key "{key}" stands here again, first in line {first}'
        if settings.is_workflow:
            settings.hints.append(f"{text}; the last one counts")
        else:
            settings.faults.append((line, f"{text}; keep one of them", (key,)))
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
    return settings_in("policy", plain, Lines(), node_keys=node_keys, policy_keys=policy_keys)


def _plain(value: Any) -> Any:
    """The same with every mapping a dict, which is all that pydantic's strict mode takes."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


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
        self._built: dict[yaml.Node, tuple[Any, dict[str | int, Lines]]] = {}

    def document(self) -> tuple[Any, Lines]:
        """Build the one document of the file, with its lines; None if it is empty."""
        root = self.get_single_node()
        if root is None:
            return None, Lines()
        value, inner = self._build(root)
        return value, Lines(None, inner)

    def _build(self, node: yaml.Node) -> tuple[Any, dict[str | int, Lines]]:
        """A value, and the lines of what is in it."""
        # An anchor's node is met once for each alias. One within itself ends in a RecursionError.
        if node not in self._built:
            self._built[node] = self._new(node)
        return self._built[node]

    def _new(self, node: yaml.Node) -> tuple[Any, dict[str | int, Lines]]:
        lines: dict[str | int, Lines] = {}
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            self._note_duplicates(node)
            self.flatten_mapping(node)
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = _key(key_node)
                mapping[key], inner = self._build(value_node)
                lines[key] = Lines(key_node.start_mark.line + 1, inner)
            return mapping, lines
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            items = []
            for at, item_node in enumerate(node.value):
                item, inner = self._build(item_node)
                items.append(item)
                lines[at] = Lines(item_node.start_mark.line + 1, inner)
            return items, lines
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix("tag:yaml.org,2002:") in _SCALARS:
            try:
                return self.construct_object(node), lines
            except ValueError:  # `!!int abc`, or a number of thousands of digits
                return Unreadable(node.tag), lines
        return Unreadable(node.tag), lines

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
