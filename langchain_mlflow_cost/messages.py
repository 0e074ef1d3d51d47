"""What a message, chunk, tool call, generation, error or response says: the one place that knows where text stands.

Looked at by their fields alone, so plain objects do as well as LangChain's. Nothing here recurses: payloads may be
nested deeper than Python's stack.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import orjson

from langchain_mlflow_cost.record_names import FIELDS, KINDS

# --- text, to count its tokens ---------------------------------------------------------------------------------------

_REASONING_KEYS: Final = ("reasoning_content", "reasoning")
"""Where integrations keep a model's reasoning beside its content (Groq, DeepSeek, Ollama, xAI)."""
_ARGUMENTS: Final = frozenset({"args", "arguments", "input", "partial_json"})
_CALL_BLOCKS: Final = frozenset(
    {"tool_use", "tool_call", "tool_call_chunk", "function_call", "function", "custom_tool_call", "input_json_delta"}
)
"""Blocks that a message repeats in its tool calls."""
_NOT_SPOKEN: Final = frozenset(
    {
        "type", "id", "index", "role", "status", "signature", "thought_signature", "encrypted_content", "mime_type",
        "media_type", "format", "detail", "cache_control", "cachePoint", "url", "image_url", "file_id", "call_id",
        "tool_call_id", "tool_use_id", "annotations", "citations", "logprobs", "extras", "finish_reason",
    }
)  # fmt: skip
"""Fields of blocks that nobody reads as text: structure, and files, which are not billed by their text."""
_FILE_CHARS: Final = 64
"""A base64 text shorter than this is no file."""


def sent_text(prompt: Any, tools: Any = None) -> str:
    """Everything that is sent as text, to count its tokens: messages with tool calls and reasoning, and the tools.

    Args:
        prompt: A string, a message, blocks, or lists of these, nested as they are.
        tools: Definitions of tools, which are sent as JSON.
    """
    parts = _joined(prompt, "\n")
    return f"{parts}\n{_as_json(tools)}" if tools else parts


def said_text(generations: Any) -> str:
    """The text of all answers, reasoning and tool calls included, to count its tokens."""
    return _joined(generations, "")


def chunk_text(token: Any, chunk: Any) -> str:
    """What one streamed chunk says. Reasoning and tool calls come in pieces without a token.

    On the way of every token: whoever calls it so often looks for itself whether the token is a text.
    """
    if token and type(token) is str:
        return token
    try:
        message = getattr(chunk, "message", None)
        if message is None:
            return str(getattr(chunk, "text", "") or "") or _joined(token, "")
        fields = message.__dict__
        content, pieces = fields["content"], fields.get("tool_call_chunks")
        calls = "".join(map(_call_text, pieces)) if pieces else ""
        if type(content) is str and not fields.get("additional_kwargs"):
            said = content
        else:
            said = "".join(_texts(_parts_of_message(fields, without_calls=bool(pieces))))
        # Apart from the name of a tool: what ends where another word begins is not recognised.
        return f"{said}\n{calls}" if said and begins_call(message) else said + calls
    except Exception:  # noqa: BLE001 - whatever an integration streams, its text is only counted
        return _written(token)


def begins_call(message: Any) -> bool:
    """Whether a call of a tool begins in a streamed chunk's message."""
    pieces = getattr(message, "tool_call_chunks", None)
    return bool(pieces and pieces[0].get("name"))


def is_text_alone(prompt: Any) -> bool:
    """Whether a prompt has no images, sounds or files, whose tokens its text does not tell."""
    return all(block.get("type", "text") in _TEXT_BLOCKS for block in blocks_of(prompt))


_TEXT_BLOCKS: Final = frozenset(
    {"text", "input_text", "output_text", "thinking", "reasoning", "reasoning_content", "tool_use", "tool_call",
     "function_call", "text-plain"}
)  # fmt: skip


def blocks_of(messages: Any) -> Iterator[Mapping[str, Any]]:
    """The content blocks of messages, in lists nested as they are, in order."""
    pending = [messages]
    while pending:
        value = pending.pop()
        if isinstance(value, (list, tuple)):
            pending.extend(reversed(value))
            continue
        content = getattr(value, "content", None)
        if isinstance(content, (list, tuple)):
            yield from (block for block in content if isinstance(block, Mapping))


def _joined(value: Any, between: str) -> str:
    if type(value) is str:
        return value
    try:
        return between.join(_texts(value))
    except Exception:  # noqa: BLE001 - whatever cannot be read is counted by its length
        return _written(value)


def _written(value: Any) -> str:
    """A value as text: its leaves alone where it is nested too deeply to be written; nothing where it refuses."""
    try:
        return str(value)
    except RecursionError:
        return " ".join(told.text for told in private_strings(value, is_data=True) if told.kind != "file")
    except Exception:  # noqa: BLE001 - a hostile object: nobody else can write it either
        return ""


def _texts(root: Any) -> Iterator[str]:
    """Texts in order. A block's tool call is left to the message's own list of calls."""
    pending: list[Any] = [root]
    room = _MOST_CONTAINERS
    while pending and room:
        value = pending.pop()
        kind = type(value)
        if kind is str:
            if value:
                yield value
        elif kind is list or kind is tuple:
            pending.extend(reversed(value))
            room -= 1
        elif value is not None and not isinstance(value, _WORDLESS):
            parts = _parts(value)
            pending.extend(reversed(parts) if len(parts) > 1 else parts)
            room -= 1


_WORDLESS: Final = (int, float, bytes, bytearray, memoryview)
_MOST_CONTAINERS: Final = 200_000
"""More are not counted: a value that holds itself has no end."""


def _parts(value: Any) -> list[Any]:
    if type(value) is dict:
        return _parts_of_block(value)
    fields = getattr(value, "__dict__", None)
    if fields and "content" in fields:
        return _parts_of_message(fields)
    if isinstance(value, Mapping):
        return _parts_of_block(value)
    for name in ("content", "message", "text"):
        if (part := getattr(value, name, None)) is not None and not callable(part):
            return [part]
    if isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, str):
        return list(value)
    return [_written(value)]


def _parts_of_message(fields: Mapping[str, Any], *, without_calls: bool = False) -> list[Any]:
    content, more = fields["content"], fields.get("additional_kwargs")
    calls = () if without_calls else (*(fields.get("tool_calls") or ()), *(fields.get("invalid_tool_calls") or ()))
    if not more and not calls and not without_calls:
        return [content]
    has_calls = without_calls or bool(calls)
    more = more if isinstance(more, Mapping) else {}
    parts: list[Any] = []
    if more and not _has_reasoning(content):
        parts.append(next((found for key in _REASONING_KEYS if (found := more.get(key))), None))
    if has_calls and isinstance(content, (list, tuple)):
        parts += [block for block in content if not (isinstance(block, Mapping) and block.get("type") in _CALL_BLOCKS)]
    else:
        parts.append(content)
    parts += [_call_text(call) for call in calls]
    if not has_calls:
        parts += [more.get("tool_calls"), more.get("function_call")]
    return parts


def _call_text(call: Any) -> str:
    if not isinstance(call, dict):
        call = {name: getattr(call, name, None) for name in ("name", "args")}
    arguments = call.get("args") or ""
    return (call.get("name") or "") + (arguments if type(arguments) is str else _written(arguments))


def _has_reasoning(content: Any) -> bool:
    return isinstance(content, (list, tuple)) and any(
        isinstance(block, Mapping) and block.get("type") in ("reasoning", "thinking", "reasoning_content")
        for block in content
    )


def _parts_of_block(block: Mapping[Any, Any]) -> list[Any]:
    parts: list[Any] = []
    for key, member in block.items():
        if key in _NOT_SPOKEN or member is None:
            continue
        if isinstance(member, str):
            if len(member) < _FILE_CHARS or " " in member[:_FILE_CHARS] or key in ("text", "thinking", "reasoning"):
                parts.append(member)
        elif key in _ARGUMENTS:
            parts.append(_as_json(member))
        else:
            parts.append(member)
    return parts


def _as_json(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=_written, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        return _written(value)


# --- everything that somebody told or said ---------------------------------------------------------------------------


class Told(NamedTuple):
    """One piece of what somebody told or said."""

    text: str
    kind: Literal["words", "name", "file"]
    """`words`: anybody's. `name`: an identifier, somebody's as well unless the program declares it (`declared_names`),
    such as a tool's name or a field's. `file`: base64."""
    data: bytes = b""
    """The bytes of a file."""


_CONTENT: Final = 0
"""Fields of a message, block, response or definition: some of them are structure."""
_DATA: Final = 1
"""Somebody's own fields, as in arguments: none is structure."""
_COUNTS: Final = 2
"""Usage: numbers are structure, text is text."""


_DATA_KEYS: Final = frozenset(
    {"args", "arguments", "input", "artifact", "parsed", "metadata", "default", "enum", "examples", "const", "kwargs"}
)
_COUNT_KEYS: Final = frozenset(
    {
        "usage", "usage_metadata", "token_usage", "input_token_details", "output_token_details", "input_tokens_details",
        "output_tokens_details", "prompt_tokens_details", "completion_tokens_details", "cost", "cost_details",
        "total_cost", "server_tool_use", "amazon-bedrock-invocationMetrics", "logprob",
    }
)  # fmt: skip
_SCHEMA_NAMES: Final = frozenset({"required", "propertyOrdering", "$ref", "$defs", "$schema"})

_NAME: Final = re.compile(r"[A-Za-z_$][\w$.-]{0,63}")
_REFERENCE: Final = re.compile(r"#?(?:/[\w$.-]{1,64}){1,6}|https?://json-schema\.org/[\w/#.-]{1,64}")
_MIME: Final = re.compile(r"[a-z]{4,12}/[a-z0-9.+-]{2,40}(?:; ?charset=[a-zA-Z0-9-]{3,12})?")
_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{1,99}(?:@[0-9a-z-]{1,20})?")
_PROVIDER: Final = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
_ID: Final = re.compile(
    r"(?:[a-z_]{1,12}-{1,2})?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?:-[0-9]{1,3})?"
    r"|(?:chatcmpl-|cmpl-|gen-|file-|run-{1,2}|lc_run-{1,2}|(?:lc|call|toolu|tooluse|msg|resp|rs|fc|ws|fs|ci|ig|cu|ctc|mcp|srvtoolu"
    r"|req|fp|file|asst|thread|batch|cntr|container)_)(?=[A-Za-z_-]*[0-9])[0-9A-Za-z_-]{8,120}"
)
"""Ids that LangChain and the providers make: a UUID, or a prefix of theirs and letters with a digit among them."""


def _is_short_word(key: str) -> bool:
    """Whether a key is a word that is recognised nowhere, whoever said it."""
    return len(key) < _SHORT_WORD and key.isalpha() and key.islower()


_SHORT_WORD: Final = 12
"""Letters from which a word by itself is recognised (`redaction/private_text.py`)."""


def is_name(text: str) -> bool:
    """Whether a text could be an identifier of a program."""
    return _NAME.fullmatch(text) is not None


def _is_kind(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(member, str) and member.casefold() in KINDS for member in value)
    return isinstance(value, str) and value.casefold() in KINDS


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


_STRUCTURE: Final = (
    # Fields, and what their value must look like to be structure: whatever else stands there is somebody's words.
    (("type", "role", "object", "format", "detail", "finish_reason", "stop_reason", "status", "service_tier",
      "reasoning_effort", "effort", "tool_choice"), _is_kind),
    (("id", "tool_call_id", "call_id", "tool_use_id", "item_id", "run_id", "response_id", "previous_response_id",
      "request_id", "system_fingerprint"), lambda value: isinstance(value, UUID) or _matches(_ID, value)),
    (("mime_type", "media_type", "mimeType", "content_type", "content-type"), lambda value: _matches(_MIME, value)),
    (("model", "model_name", "model_id", "model_version", "ls_model_name"), lambda value: _matches(_MODEL_NAME, value)),
    (("model_provider", "ls_provider", "ls_model_type", "ls_integration", "_type"),
     lambda value: _matches(_PROVIDER, value)),
    (("$ref", "$schema"), lambda value: _matches(_REFERENCE, value)),
)  # fmt: skip
_IS_STRUCTURE: Final = {name: check for names, check in _STRUCTURE for name in names}


def is_structural(field: str, value: Any) -> bool:
    """Whether a value in a field of this name is structure: a role, a type, an id of theirs, a count, a cost."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool) and (
            field in _COUNT_FIELDS or field.endswith(("_tokens", "_cost", "_count"))
        )
    check = _IS_STRUCTURE.get(field)
    return check is not None and bool(check(value))


_COUNT_FIELDS: Final = frozenset(
    {"input_tokens", "output_tokens", "total_tokens", "index", "cost", "reasoning", "audio"}
)
_MAX_JSON_IN_STRINGS: Final = 4
"""JSON in a string in JSON: tool arguments, rarely twice."""
_FEWEST_DIGITS: Final = 6
"""Shorter numbers say nothing by themselves."""
_MESSAGE_FIELDS: Final = ("content", "message", "generations", "page_content", "text", "tool_calls")


class _Seen:
    """Containers that were walked, kept alive so that no other takes their id."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Any] = {}

    def is_new(self, value: Any, mode: int) -> bool:
        key = (id(value), mode)
        if key in self._known:
            return False
        self._known[key] = value
        return True


def private_strings(value: Any, *, is_data: bool = False) -> Iterator[Told]:
    """Everything in a value that somebody may have told or said, in order; deny by default.

    All fields are walked (content, `additional_kwargs`, `response_metadata`, names, arguments, artifacts, errors with
    their notes, bodies and causes, JSON in strings, bytes, sets, objects) except structure, which is known by the exact
    name of its field and by what its value looks like: kinds, roles, MIME types, reasons of an end, ids, model names,
    usage. Anything else under such a name is words.

    Args:
        value: A message, prompt, chunk, generation, response, definition of a tool, parameters, an error, or
            collections of these. Iterators are not consumed.
        is_data: The fields are somebody's own, as in arguments: none of them is structure.

    Raises:
        Exception: What a hostile object raises when its fields are read. Whoever hears must then take everything for
            private. An object that cannot be written as text is passed over: nobody else can write it either.
    """
    seen = _Seen()
    # What is to be walked, its field's name, its mode, how many strings around it were JSON.
    pending: list[tuple[Any, str, int, int]] = [(value, "", _DATA if is_data else _CONTENT, 0)]
    while pending:
        member, field, mode, depth = pending.pop()
        kind = type(member)
        if kind is str:
            yield from _strings(member, field, mode)
            if depth < _MAX_JSON_IN_STRINGS and (loaded := _loaded(member)) is not None:
                pending.append((loaded, "", _DATA, depth + 1))
        elif member is None or kind is bool:
            continue
        elif kind is int or kind is float or isinstance(member, (int, float, Decimal)):
            if mode != _COUNTS and len(number := str(member)) >= _FEWEST_DIGITS:
                yield Told(number, "words")
        elif isinstance(member, (bytes, bytearray, memoryview)):
            yield from _bytes(bytes(member))
        elif seen.is_new(member, mode):
            if kind is list and mode == _DATA and len(member) > 1 and all(type(one) is str for one in member):
                # A text that was split into words.
                yield Told(" ".join(member), "words")
            keys, children = _children(member, field, mode)
            yield from keys
            pending.extend((*child, depth) for child in reversed(children))


_Children = list[tuple[Any, str, int]]


def _children(  # noqa: PLR0911 - the order counts
    value: Any, field: str, mode: int
) -> tuple[Iterable[Told], _Children]:
    """What a value's own names say, and its members with their field and mode."""
    if isinstance(value, Mapping):
        return _members(value.items(), mode)
    if isinstance(value, (list, tuple, set, frozenset, deque)) or (
        isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, str)
    ):
        return (), [(member, field, mode) for member in value]
    if isinstance(value, str):
        return (), [(str.__str__(value), field, mode)]
    if isinstance(value, Enum):
        return (), [(value.value, field, mode)]
    if isinstance(value, BaseException):
        return _error(value, mode)
    if isinstance(value, type):
        return _class(value)
    fields = _fields(value)
    if fields is not None:
        names, children = _members(fields.items(), mode, are_names=True)
        # A class of the user's own may show more than its fields; a record's text is its fields once more.
        return names, children if _is_record(type(value)) else [*children, (_shown(value), "", _DATA)]
    if callable(value) and (name := getattr(value, "__name__", None)):
        return (Told(str(name), "name"),), [(getattr(value, "__doc__", None), "", _CONTENT)]
    if isinstance(value, (UUID, date, datetime, time)):
        return (), [(str(value), field, mode)]
    return (), [(_shown(value), "", _DATA)]


_NAMED: Final = frozenset({"parameters", "input_schema", "inputSchema", "schema", "description", "function", "strict"})
"""What stands beside the name of a tool or of an answer's form, in its definition."""
_FIELDS_OF_SCHEMA: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})


def declared_names(params: Any) -> Iterator[str]:
    """Names that the program declares in what it sends with a call: of parameters, tools, and the fields of schemas.

    Args:
        params: LangChain's `invocation_params`.
    """
    if isinstance(params, Mapping):
        yield from (key for key in params if isinstance(key, str))
    seen = _Seen()
    pending: list[Any] = [params]
    while pending:
        value = pending.pop()
        if isinstance(value, (str, bytes, int, float)) or value is None or not seen.is_new(value, _CONTENT):
            continue
        if isinstance(value, type):
            yield value.__name__
            schema = getattr(value, "model_json_schema", None)
            pending.append(schema() if callable(schema) else {"properties": getattr(value, "__annotations__", {})})
        elif isinstance(value, Mapping):
            yield from _names_in_definition(value)
            pending.extend(member for key, member in value.items() if key not in _DATA_KEYS)
        elif isinstance(value, (list, tuple)):
            pending.extend(value)


def _names_in_definition(definition: Mapping[Any, Any]) -> Iterator[str]:
    name = definition.get("name") or (definition.get("title") if "properties" in definition else None)
    if isinstance(name, str) and not _NAMED.isdisjoint(definition):
        yield name
    for key in _FIELDS_OF_SCHEMA:
        fields = definition.get(key)
        if isinstance(fields, Mapping):
            yield from (field for field in fields if isinstance(field, str))


def merged_chunks(chunks: Sequence[Any]) -> list[Any]:
    """What the chunks of a stream say together, field by field; each alone as well where they do not fit together."""
    if not chunks:
        return []
    try:
        return [chunks[0] if len(chunks) == 1 else chunks[0] + list(chunks[1:])]
    except Exception:  # noqa: BLE001 - an integration's own chunks: their words in a row say the same
        words = "".join(told.text for told in private_strings(list(chunks)) if told.kind != "file")
        return [*chunks, words]


def _shown(value: Any) -> str:
    """What an object's text says; the address of one that has none of its own says nothing."""
    bases = [vars(base) for base in type(value).__mro__ if base not in (object, SimpleNamespace)]
    return _written(value) if any("__str__" in base or "__repr__" in base for base in bases) else ""


def _members(items: Iterable[tuple[Any, Any]], mode: int, *, are_names: bool = False) -> tuple[list[Told], _Children]:
    told: list[Told] = []
    children: _Children = []
    for key, member in items:
        if type(key) is not str:
            if isinstance(key, (str, bytes, tuple, frozenset)) or not isinstance(key, (int, float, type(None))):
                children.append((key if not isinstance(key, Enum) else key.value, "", _DATA))
            elif len(number := str(key)) >= _FEWEST_DIGITS:
                told.append(Told(number, "words"))
            key = ""  # noqa: PLW2901 - no field of ours
        elif not are_names and (
            mode == _DATA
            or (not _is_short_word(key) and key not in FIELDS and key not in _SCHEMA_NAMES and key not in _COUNT_KEYS)
        ):
            told.append(Told(key, "name" if _NAME.fullmatch(key) else "words"))
        if mode == _DATA:
            children.append((member, key, _DATA))
            continue
        check = _IS_STRUCTURE.get(key)
        if check is not None and check(member):
            continue
        if key in _DATA_KEYS:
            children.append((member, key, _DATA))
        else:
            children.append((member, key, _COUNTS if mode == _COUNTS or key in _COUNT_KEYS else mode))
    return told, children


def _strings(text: str, field: str, mode: int) -> Iterator[Told]:
    if not text:
        return
    if mode != _DATA and (field == "name" or field in _SCHEMA_NAMES) and _NAME.fullmatch(text):
        yield Told(text, "name")
        return
    data = _file(text)
    yield Told(text, "words") if data is None else Told(text, "file", data)


def _file(text: str) -> bytes | None:
    """The bytes of a text that is base64, as a data URL or bare."""
    if len(text) < _FILE_CHARS or " " in text[:_FILE_CHARS]:
        return None
    encoded = text.partition(";base64,")[2] or text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        pass
    if "-" not in encoded and "_" not in encoded:
        return None
    try:
        # Google's integrations write the alphabet of URLs.
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _bytes(data: bytes) -> Iterator[Told]:
    if not data:
        return
    yield Told(base64.b64encode(data).decode(), "file", data)
    try:
        yield Told(data.decode(), "words")
    except UnicodeDecodeError:
        return


def _loaded(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a record; None for an object that shows nothing of itself but its text."""
    kind = type(value)
    own: dict[str, Any] = getattr(value, "__dict__", {})
    if hasattr(kind, "__pydantic_fields__"):
        extra = getattr(value, "__pydantic_extra__", None)
        return {**own, **extra} if isinstance(extra, Mapping) else own
    if (names := getattr(kind, "__dataclass_fields__", None)) is not None:
        return {name: getattr(value, name, None) for name in names}
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        return {attribute.name: getattr(value, attribute.name, None) for attribute in attributes}
    return own if kind is SimpleNamespace or any(name in own for name in _MESSAGE_FIELDS) else None


def _is_record(kind: type) -> bool:
    return any(hasattr(kind, mark) for mark in ("__pydantic_fields__", "__dataclass_fields__", "__attrs_attrs__"))


def _error(error: BaseException, mode: int) -> tuple[Iterable[Told], _Children]:
    children: _Children = [
        (_written(error), "", mode),
        (error.args, "", _DATA),
        (getattr(error, "__notes__", None), "", mode),
        (error.__cause__, "", mode),
        (error.__context__, "", mode),
        (getattr(error, "exceptions", None), "", mode),
    ]
    for name, member in vars(error).items():
        # An HTTP client's request and response show an address; what they hold is told beside them, as `body`.
        if name not in ("__notes__", "request", "response") or isinstance(member, (str, Mapping, list)):
            children.append((member, name, _DATA if name in ("body", "llm_output", "observation") else mode))
    return (), children


def _class(kind: type) -> tuple[Iterable[Told], _Children]:
    """A class that stands for the form of an answer: its schema."""
    told = (Told(kind.__name__, "name"),)
    schema = getattr(kind, "model_json_schema", None)
    if callable(schema):
        return told, [(schema(), "", _CONTENT)]
    return told, [(kind.__doc__, "", _CONTENT)] if kind.__module__ != "builtins" else []
