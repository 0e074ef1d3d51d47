"""Values of every shape: what becomes of them, and that the result is JSON of the same shape."""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import math
import uuid
from typing import Annotated, Any, NamedTuple

import pydantic
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from mlflow.tracing.utils import TraceJSONEncoder

from langchain_mlflow_cost.redaction import ENTITIES, FIELD, SECRET, Redactor, compile_rules
from langchain_mlflow_cost.redaction.cache import LeafCache
from langchain_mlflow_cost.redaction.plain import Converted
from langchain_mlflow_cost.redaction.walk import RedactionError

ALL = compile_rules(entities=ENTITIES)
NONE = compile_rules(entities=[])
CARD = 4111111111111111
MAIL = "bob@example.com"


class Color(enum.Enum):
    RED = "red"


class Name(enum.StrEnum):
    MAIL = MAIL


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    note: str


class Person(pydantic.BaseModel):
    name: str
    mail: str
    born: dt.date | None = None
    friends: list["Person"] = []


class Shouting:
    def __str__(self) -> Any:
        return f"shout {MAIL}"


class Broken:
    def __str__(self) -> None:
        raise ValueError(MAIL)


class Login(NamedTuple):
    user: str
    password: str
    port: int = 22


TOKEN = "Zt9ECcNQf2suOoOOsgAw8sQ3"

CASES = {
    "string": (f"a {MAIL}", "a [EMAIL_ADDRESS]"),
    "list": ([1, MAIL, None, True], [1, "[EMAIL_ADDRESS]", None, True]),
    "tuple": ((MAIL, 2), ["[EMAIL_ADDRESS]", 2]),
    "dict": ({"a": MAIL, "b": {"c": [MAIL]}}, {"a": "[EMAIL_ADDRESS]", "b": {"c": ["[EMAIL_ADDRESS]"]}}),
    "key": ({MAIL: 1}, {"[EMAIL_ADDRESS]": 1}),
    "keys that become equal": ({"a@x.com": 1, "b": 2, "c@x.com": 3}, {"[EMAIL_ADDRESS]": 1, "b": 2, "[EMAIL_ADDRESS] (2)": 3}),
    "int key": ({CARD: 1, 7: 2}, {"[CREDIT_CARD]": 1, "7": 2}),
    "other keys": ({None: 1, True: 2, (1, MAIL): 3}, {"null": 1, "true": 2, "(1, '[EMAIL_ADDRESS]')": 3}),
    "int": ([CARD, -5, 10**15], ["[CREDIT_CARD]", -5, 10**15]),
    "negative card": ([-CARD], ["-[CREDIT_CARD]"]),
    "float": ([float(CARD), 0.5], ["[CREDIT_CARD]", 0.5]),
    "large int": ([2**70, -(2**64)], [2**70, -(2**64)]),
    "not a number": ([math.nan, math.inf], [None, None]),
    "decimal": ([decimal.Decimal(CARD), decimal.Decimal("1.50")], ["[CREDIT_CARD]", "1.50"]),
    "bytes": ([b"mail bob@example.com", bytearray(b"x")], ["b'mail [EMAIL_ADDRESS]'", "b'x'"]),
    "set": ({MAIL}, "{'[EMAIL_ADDRESS]'}"),
    "uuid": (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "datetime": (dt.datetime(2024, 5, 6, 7, 8, tzinfo=dt.UTC), "2024-05-06 07:08:00+00:00"),
    "enum": ([Color.RED, Name.MAIL, Level.LOW], ["Color.RED", "[EMAIL_ADDRESS]", 1]),
    "dataclass": (Point(1, MAIL), {"x": 1, "note": "[EMAIL_ADDRESS]"}),
    "model": (Person(name="Bob", mail=MAIL), {"name": "Bob", "mail": "[EMAIL_ADDRESS]", "born": None, "friends": []}),
    "model in model": (
        Person(name="A", mail="x", born=dt.date(2000, 1, 2), friends=[Person(name="B", mail=MAIL)]),
        {"name": "A", "mail": "x", "born": "2000-01-02", "friends": [{"name": "B", "mail": "[EMAIL_ADDRESS]", "born": None, "friends": []}]},
    ),
    "secret of pydantic": ({"k": pydantic.SecretStr("hunter2hunter2")}, {"k": "**********"}),
    "document": (Document(page_content=MAIL, metadata={"source": MAIL}), {"id": None, "metadata": {"source": "[EMAIL_ADDRESS]"}, "page_content": "[EMAIL_ADDRESS]", "type": "Document"}),
    "content blocks": (
        [{"type": "text", "text": MAIL}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
        [{"type": "text", "text": "[EMAIL_ADDRESS]"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
    ),
    "object": ([Shouting()], ["shout [EMAIL_ADDRESS]"]),
    "object without a text": ([Broken()], ["<Broken>"]),
    "class": ([Person], ["<class 'test_shapes.Person'>"]),
    "lone surrogate": (["a\ud800b", {"\udc00": 1}], ["a\ufffdb", {"\ufffd": 1}]),
    "json in a string": ({"arguments": '{"to": "bob@example.com", "n": 4111111111111111}'}, {"arguments": '{"to":"[EMAIL_ADDRESS]","n":"[CREDIT_CARD]"}'}),
    "json in a string, nothing in it": ({"arguments": '{ "a":  1 }'}, {"arguments": '{ "a":  1 }'}),
    "json in a string, twice": (json.dumps([json.dumps({"a": MAIL})]), '["{\\"a\\":\\"[EMAIL_ADDRESS]\\"}"]'),
    "json in a string, field": ('{"password": "x y"}', '{"password":"[SECRET]"}'),
    "json in a string, name twice": ('{"a": "bob@example.com", "a": 1}', '{"a": "[EMAIL_ADDRESS]", "a": 1}'),
    "escapes": ("first line\nbob@example.com\\nbob@example.com", "first line\n[EMAIL_ADDRESS]\\[EMAIL_ADDRESS]"),
    "keys that are written alike": ({1: "a", "1": "b"}, {"1 (int)": "a", "1": "b"}),
    "empty": ([{}, [], "", None], [{}, [], "", None]),
    "bytes, an address alone": ([b"bob@example.com"], ["b'[EMAIL_ADDRESS]'"]),
    # A name and its value side by side, as headers are given.
    "pairs": ([["Authorization", f"Bearer {TOKEN}"], ["accept", "*/*"]], [["Authorization", "[SECRET]"], ["accept", "*/*"]]),
    "pairs as tuples": ([("x-api-key", TOKEN), ("a", "b")], [["x-api-key", "[SECRET]"], ["a", "b"]]),
    "pairs of bytes": ([(b"authorization", f"Bearer {TOKEN}".encode())], [["b'authorization'", "[SECRET]"]]),
    "pairs that are none": ([["password", "required"], ["token", "count"], ["key", "value"]], [["password", "required"], ["token", "count"], ["key", "value"]]),
    "pair of a token": ([["api_key", "[SECRET]"]], [["api_key", "[SECRET]"]]),
    "named tuple": (Login("bob", "opensesame"), ["bob", "[SECRET]", 22]),
    "named tuple in a list": ([Login(MAIL, "")], [["[EMAIL_ADDRESS]", "", 22]]),
    "bytes under a name": ({"password": b"hunter2", "api_key": bytearray(TOKEN.encode())}, {"password": "[SECRET]", "api_key": "[SECRET]"}),
    "set under a name": ({"password": {"hunter2"}, "scopes": {"read"}}, {"password": "[SECRET]", "scopes": "{'read'}"}),
    "list under a name": ({"password": ["hunter2", None, {"x": 1}]}, {"password": ["[SECRET]", None, {"x": 1}]}),
    "tuple under a name": ({"password": ("a1b2c3", b"d4e5f6")}, {"password": ["[SECRET]", "[SECRET]"]}),
    # Nineteen digits fit into 64 bits, and the name counts more than the check digit.
    "numbers under a name": (
        {"pan": 4012888888881881002, "cvv": 123, "otp": 482913, "ssn": 536904399, "phone": 4155550132, "span": 4012888888881881002},
        {"pan": "[CREDIT_CARD]", "cvv": "[SECRET]", "otp": "[SECRET]", "ssn": "[US_SSN]", "phone": "[PHONE_NUMBER]", "span": 4012888888881881002},
    ),
    "twenty digits under a name": ({"pan": 40128888888818810021}, {"pan": 40128888888818810021}),
    "name and value in fields": ({"name": "API_KEY", "value": TOKEN}, {"name": "API_KEY", "value": "[SECRET]"}),
    "name and value, innocent": ({"name": "REGION", "value": "eu-west-1"}, {"name": "REGION", "value": "eu-west-1"}),
    # JSON Lines: what is found by a field's name, and a line with nothing in it stays as it is written.
    "json lines": ('{"user":"bob","password":"x y z"}\n{ "a": 1 }\n', '{"user":"bob","password":"[SECRET]"}\n{ "a": 1 }\n'),
    "json lines, lists": (f"[1, 2]\r\n[{CARD}]\r\n\r\n", '[1, 2]\r\n["[CREDIT_CARD]"]\r\n\r\n'),
    "json lines, nothing in them": ('{ "a": 1 }\n{"b":2}', '{ "a": 1 }\n{"b":2}'),
    "json lines that are none": ('{"password": "hunter2x"}\nthat was it', '{"password": "[SECRET]"}\nthat was it'),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_shape(name: Any) -> None:
    """Each value becomes the JSON that is expected, with nothing found left in it."""
    value, expected = CASES[name]

    assert Redactor(ALL).tree(value)[0] == expected


@pytest.mark.parametrize("name", CASES)
def test_again_from_the_cache(name: Any) -> None:
    """A second look gives the same, counts included."""
    redactor = Redactor(ALL)

    assert redactor.json(CASES[name][0]) == redactor.json(CASES[name][0])


PLAIN = {
    "messages": [
        SystemMessage("be nice"),
        HumanMessage("hello", id="1", name="bob"),
        AIMessage("hi", id="2", tool_calls=[{"name": "f", "args": {"a": [1, 2.5]}, "id": "c"}], usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        ToolMessage("ok", tool_call_id="c", artifact={"k": [1]}),
        HumanMessage([{"type": "text", "text": "x"}]),
    ],
    "documents": [Document(page_content="p", metadata={"n": 1})],
    "point": Point(1, "n"),
    "person": Person(name="A", mail="x", friends=[Person(name="B", mail="y")]),
    "when": dt.datetime(2024, 5, 6, tzinfo=dt.UTC),
    "id": uuid.UUID(int=7),
    "price": decimal.Decimal("1.5"),
    "kinds": [Name.MAIL.name, Level.LOW, Color.RED, (1, 2), {3}],
    "bytes": b"x",
    "large": 2**70,
    1: {None: 2},
}  # fmt: skip


@pytest.mark.parametrize("rules", [NONE, compile_rules(entities=["CREDIT_CARD"])], ids=["no rules", "rules"])
def test_written_as_mlflow_writes_it(rules: Any) -> None:
    """What is not redacted is the JSON that MLflow's own encoder stores, so that its pages show it alike."""
    mlflow_text = json.dumps(PLAIN, cls=TraceJSONEncoder, ensure_ascii=False)

    assert Redactor(rules).tree(PLAIN)[0] == json.loads(mlflow_text)


def test_message_that_gets_its_id_later_is_not_stale() -> None:
    """LangGraph sets a message's id after it was first seen: it must not be remembered by identity."""
    message = AIMessage(MAIL)
    redactor = Redactor(ALL)
    before, _ = redactor.tree([message])
    message.id = "run-1"
    message.additional_kwargs["later"] = MAIL
    after, _ = redactor.tree([message])

    assert (before[0]["id"], before[0]["additional_kwargs"]) == (None, {})
    assert (after[0]["id"], after[0]["additional_kwargs"]) == ("run-1", {"later": "[EMAIL_ADDRESS]"})


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("additional_kwargs", {}, {"a": 1}),
        ("additional_kwargs", {"a": 1}, {"a": True}),
        ("additional_kwargs", {"a": 1}, {"a": 1.0}),
        ("name", None, ""),
        ("artifact", {}, []),
        ("artifact", None, "null"),
        ("artifact", [], "[]"),
        ("artifact", 0, False),
        ("artifact", b"{}", "b'{}'"),
    ],
)
def test_models_that_differ_a_little_are_not_mixed_up(field: Any, first: Any, second: Any) -> None:
    """Two messages with a field that is equal to Python, or nearly so, are each written as they are."""
    messages = [ToolMessage("a", tool_call_id="1", **{field: value}) for value in (first, second)]

    assert Redactor(ALL).json(messages)[0] == json.dumps(
        [json.loads(Redactor(ALL).json(message)[0]) for message in messages], separators=(",", ":")
    )


@pytest.mark.parametrize("rules", [NONE, ALL], ids=["no rules", "rules"])
def test_converted_model_follows_its_content(rules: Any) -> None:
    """A model in another form is converted anew when its content is another, and is not taken for the model itself."""
    message = HumanMessage("first")
    redactor = Redactor(rules)

    def form(message: Any) -> Any:
        return {"said": message.content, "id": message.id}

    texts = [redactor.json([message, Converted(message, form)])[0]]
    message.id = "run-1"
    message.content = "second"
    texts.append(redactor.json([message, Converted(message, form)])[0])

    assert [json.loads(text)[1] for text in texts] == [{"said": "first", "id": None}, {"said": "second", "id": "run-1"}]
    assert [json.loads(text)[0]["type"] for text in texts] == ["human", "human"]


def test_converted_model_is_redacted_and_counted_each_time() -> None:
    """What was remembered counts again in the next payload."""
    redactor = Redactor(ALL)
    value = [Converted(HumanMessage(MAIL), lambda message: message.content)] * 2

    assert redactor.tree(value) == (["[EMAIL_ADDRESS]"] * 2, {"EMAIL_ADDRESS": 2})
    assert redactor.tree(value) == (["[EMAIL_ADDRESS]"] * 2, {"EMAIL_ADDRESS": 2})


def test_converted_model_without_a_key() -> None:
    """A model that cannot be remembered is converted each time."""
    message = ToolMessage("a", tool_call_id="1", artifact=Shouting())

    assert Redactor(ALL).tree(Converted(message, lambda one: str(one.artifact)))[0] == "shout [EMAIL_ADDRESS]"


def test_conversion_that_fails_drops_the_payload() -> None:
    """An error in it is one of redaction, and says nothing of the message."""

    def fail(message: Any) -> None:
        raise ValueError(message.content)

    with pytest.raises(RedactionError, match=r"^ValueError$"):
        Redactor(ALL).json(Converted(HumanMessage(MAIL), fail))


def test_models_of_two_classes_are_not_mixed_up() -> None:
    """Equal fields of another class are another model."""
    redactor = Redactor(ALL)

    assert [one["type"] for one in redactor.tree([HumanMessage("a"), SystemMessage("a")])[0]] == ["human", "system"]


def test_model_with_a_serialiser_is_written_by_it() -> None:
    """A model that writes itself in its own way is asked each time."""

    class Own(pydantic.BaseModel):
        a: str

        @pydantic.field_serializer("a")
        def write(self, value: str) -> str:
            return f"<{value}>"

    redactor = Redactor(ALL)

    assert redactor.tree([Own(a=MAIL), Own(a="x")])[0] == [{"a": "<[EMAIL_ADDRESS]>"}, {"a": "<x>"}]


class Inner(pydantic.BaseModel):
    names: list[Annotated[str, pydantic.PlainSerializer(lambda _: "masked")]] = []
    maybe: Annotated[str, pydantic.PlainSerializer(lambda _: "masked")] | None = None

    @functools.cached_property
    def derived(self) -> Any:
        return "hidden"


@pytest.mark.parametrize("rules", [NONE, ALL], ids=["no rules", "rules"])
def test_model_that_masks_a_part_of_itself(rules: Any) -> None:
    """What a model's own serialisers hide, however deep in its types, stays hidden; so does what it only remembers."""
    model = Inner(names=["raw"], maybe="raw")
    assert model.derived == "hidden"

    assert Redactor(rules).tree([model])[0] == [{"names": ["masked"], "maybe": "masked"}]


@pytest.mark.parametrize("rules", [NONE, ALL], ids=["no rules", "rules"])
def test_cycle(rules: Any) -> None:
    """A value that holds itself is marked where it comes round again, and written once for each place else."""
    value: dict[str, Any] = {"a": [1]}
    value["a"].append(value)
    value["b"] = value["a"]

    assert Redactor(rules).tree(value)[0] == {"a": [1, "[cycle]"], "b": [1, "[cycle]"]}


@pytest.mark.parametrize("rules", [NONE, ALL], ids=["no rules", "rules"])
def test_deep_nesting(rules: Any) -> None:
    """However deep, the result can be read again."""
    value: Any = MAIL
    for _ in range(50_000):
        value = [value]

    text, _ = Redactor(rules).json(value)

    assert MAIL not in text
    assert "[nested deeper than" in text
    json.loads(text)


def test_linked_models() -> None:
    """A chain of models longer than any recursion limit is cut off, too."""
    chain = Person(name="end", mail=MAIL)
    for _ in range(3_000):
        chain = Person.model_construct(name="x", mail="y", born=None, friends=[chain])

    assert MAIL not in Redactor(ALL).json(chain)[0]


def test_shared_value_does_not_explode() -> None:
    """Thirty lists, each twice in the next one, are a billion values: the payload is cut long before."""
    value: list[Any] = [MAIL]
    for _ in range(30):
        value = [value, value]

    text, _ = Redactor(ALL, max_payload_chars=5_000).json(value)

    assert len(text) <= 5_000
    assert MAIL not in text


def test_what_fails_says_nothing() -> None:
    """An error inside names its type and holds nothing of the payload."""

    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise KeyError(MAIL)

    with pytest.raises(RedactionError) as caught:
        Redactor(ALL).json([Hostile(a=1)])

    assert str(caught.value) == "KeyError"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_counts_are_of_every_place() -> None:
    """The same value in three places counts three times, also when the cache knows it."""
    redactor = Redactor(ALL)
    value = {"a": MAIL, "b": [MAIL, {MAIL: AIMessage(MAIL)}]}

    assert redactor.json(value)[1] == {"EMAIL_ADDRESS": 4}
    assert redactor.json(value)[1] == {"EMAIL_ADDRESS": 4}


FIELDS = {
    "password": ({"password": "hunter2"}, {"password": "[SECRET]"}),
    "password of words": ({"db_password": "correct horse"}, {"db_password": "[SECRET]"}),
    "password as a number": ({"password": 12345678}, {"password": "[SECRET]"}),
    "camel case": ({"apiKey": "a1b2c3d4e5f6a7b8"}, {"apiKey": "[SECRET]"}),
    "header": ({"Authorization": "Bearer abc123def456"}, {"Authorization": "[SECRET]"}),
    "list": ({"passwords": ["hunter2", "sesame1"]}, {"passwords": ["[SECRET]", "[SECRET]"]}),
    "ssn": (
        {"ssn": "078051120", "social_security_number": 219099998},
        {"ssn": "[US_SSN]", "social_security_number": "[US_SSN]"},
    ),
    "phone": ({"phone": "555 0132", "mobile": 4155550132}, {"phone": "[PHONE_NUMBER]", "mobile": "[PHONE_NUMBER]"}),
    "name and value": ({"name": "API_KEY", "value": "a1b2c3d4e5f6a7b8"}, {"name": "API_KEY", "value": "[SECRET]"}),
    "name and value of something else": ({"name": "city", "value": "a1b2c3d4e5f6a7b8"}, None),
    "value of a list": (
        {"key": "password", "value": ["hunter2", 7]},
        {"key": "password", "value": ["[SECRET]", "[SECRET]"]},
    ),
    "counters": ({"total_tokens": 123456789, "max_tokens": 4096, "tokenizer": "cl100k_base"}, None),
    "streamed token": ({"token": "Hello", "tokens": ["Hel", "lo"]}, None),
    "nothing": ({"password": None, "api_key": "", "secret": "none", "token": "<TOKEN>"}, None),
    "schema": ({"properties": {"password": {"type": "string", "minLength": 8}}}, None),
    "keys of other things": ({"primary_key": "id", "key": "name", "cache_key": "user-1234567890-profile"}, None),
    "public": ({"public_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD"}, None),
}


@pytest.mark.parametrize("name", FIELDS)
def test_field_name_counts(name: Any) -> None:
    """A field's name says what its value is, where the value alone does not."""
    value, expected = FIELDS[name]

    assert Redactor(ALL).tree(value)[0] == (value if expected is None else expected)


def test_field_names_count_only_for_chosen_entities() -> None:
    """Without SECRET and US_SSN, passwords and social security numbers are nobody's business."""
    rules = compile_rules(entities=["EMAIL_ADDRESS"])

    assert Redactor(rules).tree({"password": "hunter2", "ssn": "078051120"})[0] == {
        "password": "hunter2",
        "ssn": "078051120",
    }


@pytest.mark.parametrize("key", ["Notes", "NOTES", "my_notes", "notes_2"])
def test_keys_are_globs_in_any_case(key: Any) -> None:
    """The value of a named field goes whatever it is."""
    redactor = Redactor(compile_rules(entities=[], keys=["*notes*"]))

    assert redactor.tree({key: {"a": [1, 2]}, "x": 1}) == ({key: "[FIELD]", "x": 1}, {FIELD: 1})


def test_a_named_field_is_counted_once() -> None:
    """The token of a field is left alone by a second pass."""
    redactor = Redactor(compile_rules(entities=[], keys=["note"]))

    assert redactor.tree({"note": "[FIELD]"}) == ({"note": "[FIELD]"}, {})


def test_name_of_a_field_is_no_reason_for_a_longer_one() -> None:
    """A key without a star names one field."""
    redactor = Redactor(compile_rules(entities=[], keys=["note"]))

    assert redactor.tree({"notes": 1, "note": 2})[0] == {"notes": 1, "note": "[FIELD]"}


def test_cache_is_bounded() -> None:
    """The oldest go when there are too many, or too long ones."""
    cache = LeafCache(max_entries=10, max_chars=1_000)
    redactor = Redactor(ALL, cache=cache)
    for i in range(100):
        redactor.text(f"text {i} " + "x" * 200)

    assert len(cache) <= 5
    assert cache.chars <= 1_000
    redactor.text("y" * 900)
    assert cache.chars <= 1_000


def test_cache_lets_go_of_many_at_once() -> None:
    """Of a full cache an eighth goes: one by one, a state of 100,000 texts took the square of the time."""
    cache = LeafCache(max_entries=800)
    cache.put_all((str(number), number, 1) for number in range(801))

    assert len(cache) == 700
    assert (cache.get("100"), cache.get("101"), cache.chars) == (None, 101, 700)


def test_secret_never_in_the_error_of_text() -> None:
    """`text` fails as `json` does."""
    with pytest.raises(RedactionError, match=r"^[A-Za-z]+Error$"):
        Redactor(ALL).text(b"bob@example.com")  # type: ignore[arg-type]


def test_stream_is_one_text() -> None:
    """Pieces of a streamed value, joined, are one text: no piece of it is recognised alone."""
    pieces = ["ghp_A1b2C3d4E5f6G7h8", "I9j0K1l2M3n4O5p6Q7r8"]

    assert Redactor(ALL).text("".join(pieces)) == ("[SECRET]", {SECRET: 1})
