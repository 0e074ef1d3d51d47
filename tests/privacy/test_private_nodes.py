"""`log_prompts: false` on one node: what its model was told and said is in no byte, however it travels."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from fakes import Chat, State, graph
from langchain_core.messages import AIMessage, HumanMessage
from leaks import Sinks, kept, letters, prose, spelling_in
from sampling import in_turn

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}

SECRETS: dict[str, Callable[[], str]] = {
    "prose": prose,
    "one long word": lambda: letters(24),
    "lines": lambda: "\n".join(letters(8) for _ in range(6)),
    "Cyrillic": lambda: "Пароль от сейфа: " + "".join(chr(0x430 + ord(c) % 32) for c in letters(24)),
    "Chinese": lambda: "".join(chr(0x4E00 + ord(c) * 37) for c in letters(30)),
    "short Chinese": lambda: "".join(
        chr(0x4E00 + ord(a) * 37 + ord(b)) for a, b in zip(letters(9), letters(9), strict=True)
    ),
    "accents": lambda: "é".join(letters(9) for _ in range(5)),
    "emoji": lambda: "🦭".join(letters(14) for _ in range(3)),
    "short phrase": lambda: f"{letters(4)} {letters(3)} {letters(3)}",
    "code with digits": lambda: f"{letters(3)}-{len(letters(1))}{letters(4)}9",
}

JOURNEYS: dict[str, Callable[[str], Any]] = {
    "as it is": lambda text: text,
    "in a sentence": lambda text: f"he said: {text}, and left",
    "in a message": HumanMessage,
    "in JSON": lambda text: json.dumps({"a": text}),
    "in JSON in JSON": lambda text: json.dumps({"a": json.dumps({"b": text})}),
    "in a list": lambda text: {"found": [{"x": (text,)}]},
    "as a key": lambda text: {text: 1},
    "as tool arguments": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {"q": text}, "id": "1"}]),
    "repr": lambda text: repr([text]),
    "bytes": lambda text: text.encode(),
    "repr of bytes": lambda text: repr(text.encode()),
    "base64": lambda text: base64.b64encode(b"xy: " + text.encode() + b" zzz").decode(),
    "URL": lambda text: f"https://example.org/?q={quote(text)}",
    "upper case": lambda text: text.upper() if text.isascii() else text,
    "letter by letter": list,
    "pieces of four": lambda text: [text[i : i + 4] for i in range(0, len(text), 4)],
    "words": lambda text: text.split(),
    "chunks of messages": lambda text: [AIMessage(text[i : i + 5]) for i in range(0, len(text), 5)],
    "tokens and numbers": lambda text: [{"token": text[i : i + 4], "logprob": -0.5} for i in range(0, len(text), 4)],
}


def forms(secret: str) -> dict[str, str]:
    """How a secret might still be read from what is stored."""
    return {"whole": secret} | {f"{separator!r}": separator.join(pieces) for separator, pieces in _pieces(secret)}


def _pieces(secret: str) -> list[tuple[str, list[str]]]:
    by_four = [json.dumps(secret[i : i + 4], ensure_ascii=False)[1:-1] for i in range(0, len(secret), 4)]
    by_one = [json.dumps(c, ensure_ascii=False)[1:-1] for c in secret]
    return [('","', by_one), ('", "', by_one), ('","', by_four), ('", "', by_four), ('","', secret.split())]


def leak(secret: str, stored: bytes) -> str | None:
    for name, form in forms(secret).items():
        if len(form) > 5 and (spelling_in(form, stored) or form.encode() in stored):
            return name
    escaped = json.dumps(secret)[1:-1]
    return "escaped tail" if not secret.isascii() and escaped[-24:].encode() in stored else None


@pytest.mark.sampled(is_in=in_turn(journey=JOURNEYS, kind=SECRETS))
@pytest.mark.parametrize("journey", JOURNEYS)
@pytest.mark.parametrize("kind", SECRETS)
def test_travelling_text(sinks: Sinks, kind: str, journey: str) -> None:
    """A private prompt is gone in every form in which the state may carry it, before and after the private node."""
    secret, companion = SECRETS[kind](), kept()

    def before(state: State) -> State:
        return {"extra": [companion, JOURNEYS[journey](secret)]}

    def quiet(state: State) -> State:
        Chat(reply="fine").invoke([HumanMessage(secret)])
        return {}

    def after(state: State) -> State:
        Chat(reply="fine").invoke([HumanMessage(f"{companion} {state['extra'][1]!r}")])
        return {"messages": [AIMessage(str(state["extra"]))]}

    graph(("before", before), ("quiet", quiet), ("after", after)).invoke(
        {"messages": [("user", "hi")]}, {"callbacks": [MlflowCostHandler(POLICY)]}
    )
    stored = sinks.everything()

    assert leak(secret, stored) is None
    assert companion.encode() in stored
