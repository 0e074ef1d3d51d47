"""What a policy would have kept out of a stored trace: found, counted, and the trace without it.

Values in, values out: spans as MLflow stores them (`Span.to_dict()`, the column `content` of the table `spans`) and
what stands beside them. The rules are those of recording: levels, redaction, private nodes and their texts elsewhere.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.spans import SpanAttributeKey
from langchain_mlflow_cost.attributes import loaded
from langchain_mlflow_cost.messages import private_strings
from langchain_mlflow_cost.nodes import node_path, parsed_path, path_text
from langchain_mlflow_cost.redaction.private_json import without_private_text
from langchain_mlflow_cost.redaction.private_text import PrivateText
from langchain_mlflow_cost.redaction.walk import Redactor
from langchain_mlflow_cost.tracing.admission import COUNT_PREFIXES, HEARD_TYPE_VALUES, NAME_KEYS
from langchain_mlflow_cost.tracing.structure import is_info_structure, is_structure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_mlflow_cost.nodes import NodePath
    from langchain_mlflow_cost.policy.node_policy import Kind, NodePolicy
    from langchain_mlflow_cost.policy.settings import Policy

PRIVATE_TEXT: Final = "PRIVATE_TEXT"
"""Instead of an entity: a text that a private node was told or said."""
DROPPED: Final = "DROPPED"
"""Instead of an entity: a payload that the level does not keep."""
_CHANNELS: Final = {
    SpanAttributeKey.INPUTS: "inputs",
    SpanAttributeKey.OUTPUTS: "outputs",
    SpanAttributeKey.CHAT_TOOLS: "tools",
}
_MODEL_KINDS: Final = frozenset({'"LLM"', '"CHAT_MODEL"', '"EMBEDDING"'})
_STATE_KINDS: Final = frozenset({'"CHAIN"', '"AGENT"', '"PARSER"'})
_PREVIEWS: Final = {
    "request_preview": SpanAttributeKey.INPUTS,
    "response_preview": SpanAttributeKey.OUTPUTS,
    "mlflow.traceInputs": SpanAttributeKey.INPUTS,
    "mlflow.traceOutputs": SpanAttributeKey.OUTPUTS,
}
"""What shows the beginning of which payload of the root."""
_CUT: Final = "..."
"""How MLflow ends a preview that goes on."""
_ID_KEYS: Final = frozenset({"mlflow.trace.session", "mlflow.trace.user", "session_id", "client_request_id"})
_EXCEPTION_TYPES: Final = frozenset({"exception.type", "exception_type"})
_STREAMS: Final = ("new_token", "stream", "mlflow.chunk.item")


class Finding(NamedTuple):
    """What a policy would have kept out: never the text."""

    entity: str
    """An entity, `PRIVATE_TEXT`, or `DROPPED`."""
    channel: str
    """`inputs`, `outputs`, `attributes`, `tools`, `events`, `status`, `names`, `previews`, `tags`, `metadata`, ..."""
    node: str
    """The path of the node; empty outside any."""


@dataclass
class Beside:
    """What MLflow keeps of a trace beside its spans."""

    fields: dict[str, str | None] = field(default_factory=dict)
    """`request_preview`, `response_preview`, `client_request_id`, `session_id`, `trace_name`."""
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    assessments: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """By id: texts and JSON, such as `value` and `rationale`."""


@dataclass
class Cleaned:
    """A trace as the policy would have had it."""

    spans: list[dict[str, Any]]
    beside: Beside
    found: Counter[Finding]


class StoredPolicy:
    """A policy, asked about stored traces.

    Args:
        policy: Whose levels, redaction and private nodes hold. Payloads are not cut.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._redactors: dict[int, tuple[Redactor, ...]] = {}

    def clean(self, spans: Sequence[Mapping[str, Any]], beside: Beside) -> Cleaned:
        """Find in a trace what the policy would have kept out, and give the trace without it.

        Args:
            spans: All of its spans, in any order; not changed.
            beside: Not changed either.
        """
        paths = _paths(spans)
        private = self._private_text(spans, paths)
        found: Counter[Finding] = Counter()
        cleaned = [self._span(span, paths[span.get("span_id")], private, found) for span in spans]
        made = self._beside(beside, private, found)
        root = next((at for at, span in enumerate(spans) if not span.get("parent_span_id")), None)
        if root is not None:
            before, after = (each.get("attributes") or {} for each in (spans[root], cleaned[root]))
            for old, new in ((beside.fields, made.fields), (beside.metadata, made.metadata)):
                _cut_anew(old, new, before, after, found)
        return Cleaned(cleaned, made, found)

    def _redactors_of(self, policy: NodePolicy) -> tuple[Redactor, ...]:
        known = self._redactors.get(id(policy))
        if known is None:
            made = tuple(Redactor(rules, max_payload_chars=10**9) for rules in policy.rules)
            known = self._redactors[id(policy)] = made
        return known

    def _private_text(self, spans: Sequence[Mapping[str, Any]], paths: Mapping[Any, NodePath]) -> PrivateText:
        """What the stored spans of private nodes were told and said, where it was stored at all."""
        private = PrivateText()
        for span in spans:
            policy = self._policy.for_node(paths[span.get("span_id")])
            if policy.log_prompts:
                continue
            attributes = span.get("attributes") or {}
            is_model = attributes.get(SpanAttributeKey.SPAN_TYPE) in HEARD_TYPE_VALUES
            for key in (SpanAttributeKey.INPUTS, SpanAttributeKey.OUTPUTS):
                # What a node was given is public; what its models were told, and what it returned, is not.
                if attributes.get(key) and (is_model or key == SpanAttributeKey.OUTPUTS):
                    for told in private_strings(loaded(attributes[key])):
                        private.add(told.text)
        return private

    # --- spans --------------------------------------------------------------------------------------------------------

    def _span(
        self, span: Mapping[str, Any], path: NodePath, private: PrivateText, found: Counter[Finding]
    ) -> dict[str, Any]:
        policy, kind = self._policy.for_node(path), _kind(span)
        look = _Look(policy, self._redactors_of(policy), private, path_text(path), found)
        made = dict(span)
        made["name"] = look.text(str(span.get("name") or ""), "names")
        made["attributes"] = {
            key: kept
            for key, value in (span.get("attributes") or {}).items()
            if (kept := look.attribute(key, value, kind)) is not None
        }
        made["events"] = [each for event in span.get("events") or () if (each := look.event(event)) is not None]
        status = span.get("status")
        message = status.get("message") if isinstance(status, dict) else None
        if message:
            kept = look.text(message, "status") if policy.keeps_exceptions else look.drop("status") or ""
            made["status"] = {**status, "message": kept}  # type: ignore[dict-item]  # it is one, having a message
        return made

    # --- beside them --------------------------------------------------------------------------------------------------

    def _beside(self, beside: Beside, private: PrivateText, found: Counter[Finding]) -> Beside:
        policy = self._policy.for_node(())
        look = _Look(policy, self._redactors_of(policy), private, "", found)
        return Beside(
            fields={key: look.beside(key, value, "previews") for key, value in beside.fields.items()},
            tags={key: look.beside(key, value, "tags") or "" for key, value in beside.tags.items()},
            metadata={key: look.beside(key, value, "metadata") or "" for key, value in beside.metadata.items()},
            assessments={
                each: {key: look.beside(key, value, "assessments") for key, value in fields.items()}
                for each, fields in beside.assessments.items()
            },
        )


@dataclass
class _Look:
    """One node's policy over the texts of one span."""

    policy: NodePolicy
    redactors: tuple[Redactor, ...]
    private: PrivateText
    node: str
    found: Counter[Finding]

    def drop(self, channel: str) -> Any:
        """Count a payload that does not stay; None stands for it."""
        self.found[Finding(PRIVATE_TEXT if not self.policy.log_prompts else DROPPED, channel, self.node)] += 1
        return None

    def _note(self, counts: Mapping[str, int], channel: str) -> None:
        for entity, count in counts.items():
            self.found[Finding(entity, channel, self.node)] += count

    def text(self, text: str, channel: str) -> str:
        """A text, redacted and without private text; JSON stays JSON."""
        # First: what is redacted within a private text would leave pieces of it that nobody knows.
        made, hits = without_private_text(text, self.private)
        if hits:
            self.found[Finding(PRIVATE_TEXT, channel, self.node)] += hits
        tree = loaded(made)
        if tree is made:
            for redactor in self.redactors:
                told, counts = redactor.text(made)
                # What only looks new, such as a token that is written again, is not.
                self._note(counts if told != made else {}, channel)
                made = told or ""
        else:
            for redactor in self.redactors:
                written, counts = redactor.json(tree)
                if counts and (told_tree := loaded(written)) != tree:
                    self._note(counts, channel)
                    made, tree = written, told_tree
        return made

    def value(self, value: Any, channel: str) -> Any:
        """A value of an attribute: a text, or what OpenTelemetry's attributes also hold, lists of texts and numbers."""
        if isinstance(value, str):
            return self.text(value, channel)
        return loaded(self.text(json.dumps(value), channel)) if isinstance(value, list | dict) else value

    def attribute(self, key: str, value: Any, kind: Kind) -> Any:
        """An attribute as it may stay; None where it may not."""
        channel = _CHANNELS.get(key, "attributes")
        if key in keys.OURS or is_structure(key, value) or (key.startswith(COUNT_PREFIXES) and _is_number(value)):
            return value
        if key not in NAME_KEYS:
            keeps = self.policy.keeps_payload if channel in {"inputs", "outputs"} else self.policy.keeps_details
            if not keeps(kind):
                return self.drop(channel) if value not in (None, "null", "", '""', "{}", "[]") else None
        if not isinstance(value, str):
            return self.value(value, channel)
        if any(rules.hides(key) for rules in self.policy.rules) and not _is_token(value, self.policy):
            self._note({"FIELD": 1}, channel)
            return json.dumps("[FIELD]")
        return self.text(value, "names" if key in NAME_KEYS else channel)

    def event(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """An event as it may stay; None where it may not."""
        attributes = event.get("attributes") or {}
        name = str(event.get("name") or "")
        if name.startswith(_STREAMS) and not self.policy.keeps_stream:
            self.drop("stream")
            return None
        if not self.policy.keeps_exceptions:
            kept = {key: value for key, value in attributes.items() if key in _EXCEPTION_TYPES}
            if any(value for key, value in attributes.items() if key not in kept):
                self.drop("events")
            return {**event, "name": self.text(name, "names"), "attributes": kept}
        made = {key: self.value(value, "events") for key, value in attributes.items()}
        return {**event, "name": self.text(name, "names"), "attributes": made}

    def beside(self, key: str, value: str | None, channel: str) -> str | None:
        """A field beside the spans."""
        if not value or is_info_structure(key, value) or key.startswith(("cost.", "policy.")):
            return value
        if key in _PREVIEWS:
            return self.text(value, channel) if self.policy.keeps_payload("root") else self.drop(channel)
        if key in _ID_KEYS:
            for redactor in self.redactors:
                value, counts = redactor.rules.keyed(value, key)
                self._note(counts, channel)
            return value
        return self.text(value, channel)


def _cut_anew(
    old: Mapping[str, str | None],
    new: dict[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    found: Counter[Finding],
) -> None:
    """Take previews that were cut from what the root says now: a key or a field that the cut broke is not recognised.

    Args:
        old: As stored; values by their names, some of which are previews.
        new: The same, cleaned as texts; changed.
        before: The root's attributes as stored.
        after: And cleaned.
        found: Where it is counted.
    """
    for name, key in _PREVIEWS.items():
        shown = old.get(name)
        if not shown or not shown.endswith(_CUT) or new.get(name) is None or before.get(key) == after.get(key):
            continue
        kept = after.get(key)
        whole = kept if isinstance(kept, str) else ""
        said = _same_text(loaded(before.get(key)), loaded(whole), shown.removesuffix(_CUT))
        whole = whole if said is None else said
        made = whole if len(whole) <= len(shown) else whole[: len(shown) - len(_CUT)] + _CUT
        if made != shown and new[name] == shown:
            found[Finding(DROPPED, "previews", "")] += 1
        new[name] = made


def _same_text(before: Any, after: Any, beginning: str) -> str | None:
    """What became of the text with such a beginning, such as the last message: it stands in the same place."""
    if isinstance(before, str):
        return after if before.startswith(beginning) and isinstance(after, str) else None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(value, after.get(name)) for name, value in before.items()]
    elif isinstance(before, list) and isinstance(after, list):
        pairs = list(zip(before, after, strict=False))
    return next((found for pair in pairs if (found := _same_text(*pair, beginning)) is not None), None)


def _paths(spans: Sequence[Mapping[str, Any]]) -> dict[Any, NodePath]:
    """The node of each span: as this library wrote it, else as LangGraph's metadata tells it, else its parent's."""
    by_id = {span.get("span_id"): span for span in spans}
    found: dict[Any, NodePath] = {}

    def path(span_id: Any, depth: int = 0) -> NodePath:
        if span_id in found:
            return found[span_id]
        span = by_id.get(span_id)
        if span is None or depth > len(by_id):
            return ()
        attributes = span.get("attributes") or {}
        told = loaded(attributes.get("policy.node"))
        if isinstance(told, str):
            found[span_id] = parsed_path(told)
        else:
            metadata = loaded(attributes.get("metadata"))
            own = node_path(metadata) if isinstance(metadata, dict) else ()
            found[span_id] = own or path(span.get("parent_span_id"), depth + 1)
        return found[span_id]

    for span_id in by_id:
        path(span_id)
    return found


def _kind(span: Mapping[str, Any]) -> Kind:
    kind = (span.get("attributes") or {}).get(SpanAttributeKey.SPAN_TYPE)
    if kind in _MODEL_KINDS:
        return "model"
    if not span.get("parent_span_id"):
        return "root"
    return "state" if kind in _STATE_KINDS else "work"


def _is_token(value: str, policy: NodePolicy) -> bool:
    told = loaded(value)
    return not isinstance(told, str) or any(rules.is_token(told) for rules in policy.rules)


def _is_number(value: Any) -> bool:
    return isinstance(loaded(value), int | float)
