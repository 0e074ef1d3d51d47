"""Private text is known by its letters however it is written, JSON keeps its form, and ordinary words are nobody's."""

from __future__ import annotations

import base64
import html
import json
import quopri
import re
import unicodedata
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

from langchain_mlflow_cost.redaction.letters import folded
from langchain_mlflow_cost.redaction.private_json import without_private_text
from langchain_mlflow_cost.redaction.private_text import TOKEN, PrivateText

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = {
    "English": 'Zymurgist\'s knee: naïve & swollen, "12 mg" of Qorvex < daily >',
    "Russian": "Пароль от сейфа Ёжика лежит под зелёным ковром, йод рядом",
    "Vietnamese": "Bệnh nhân Đặng Thị Hường bị tiểu đường từ năm ngoái",
    "German": "Größere Maßnahmen für Frau Weißmüller in der Straße",
    "Greek": "Ο ασθενής Οδυσσέας πάσχει από διαβήτη εδώ και χρόνια",
    "Turkish": "Işıl İnönü'nün kalbi çok hızlı atıyor bugün",
    "Japanese": "患者の山田さんはカルテによるとペニシリンにアレルギーがあります",
    "Korean": "환자 김민수 씨는 당뇨병을 앓고 있습니다 그리고",
    "Hindi": "मरीज़ रमेश कुमार को मधुमेह है और दवा चाहिए",
}


def in_tags(text: str) -> str:
    return " ".join(f"<b>{word}</b>" for word in text.split(" "))


def numbered(text: str) -> str:
    return " ".join(f"{number} {word}" for number, word in enumerate(text.split(" "), 1))


WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "title case": str.title,
    "swapped case": str.swapcase,
    "composed": lambda text: unicodedata.normalize("NFC", text),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "narrow no-break spaces": lambda text: text.replace(" ", "\u202f"),
    "ideographic spaces, lines": lambda text: text.replace(" ", "\u3000\r\n\t"),
    "zero width": "\u200b".join,
    "soft hyphens": "\u00ad".join,
    "word joiners": "\u2060".join,
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "no punctuation": lambda text: "".join(c for c in text if c.isalnum() or c == " " or unicodedata.combining(c)),
    "JSON": json.dumps,
    "JSON four times": lambda text: json.dumps(json.dumps(json.dumps(json.dumps(text)))),
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda text: repr(text.encode()),
    "repr of repr of bytes": lambda text: repr(repr(text.encode())),
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "octal spaces": lambda text: text.replace(" ", "\\040"),
    "long escapes": lambda text: "".join(f"\\U{ord(c):08x}" for c in text),
    "escapes in braces": lambda text: "".join(f"\\u{{{ord(c):x}}}" for c in text),
    "URL": quote,
    "URL twice": lambda text: quote(quote(text)),
    "URL five times": lambda text: quote(quote(quote(quote(quote(text))))),
    "form": lambda text: quote_plus(quote_plus(text)),
    "HTML": html.escape,
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "numbers of HTML": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "hexadecimal numbers of HTML": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "names of HTML": lambda text: html.escape(text).replace("ï", "&iuml;").replace("ü", "&uuml;"),
    "quoted-printable": lambda text: quopri.encodestring(text.encode()).decode(),
    "quoted-printable, spaces too": lambda text: quopri.encodestring(text.encode(), quotetabs=True).decode(),
    "URL of JSON of HTML": lambda text: quote(json.dumps(html.escape(text))),
    "HTML of JSON of a URL": lambda text: html.escape(json.dumps(quote(text))),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs, between others": lambda text: base64.urlsafe_b64encode(
        b"\x00\xff" + text.encode() + b"!"
    ).decode(),
    "base64 in lines": lambda text: base64.encodebytes(text.encode() * 2).decode(),
    "tags between": in_tags,
    "numbers between": numbered,
    "escaped tags between": lambda text: html.escape(in_tags(text)),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=list(WRITTEN))
@pytest.mark.parametrize("language", TEXTS)
def test_a_text_is_known_however_it_is_written(language: str, written: Callable[[str], str]) -> None:
    """Of a private text nothing is left in any spelling but signs and what is too short to say anything."""
    private = PrivateText()
    private.add(TEXTS[language])
    spelled = written(TEXTS[language])
    scrubbed, hits = private.scrub(f"It was: {spelled} (so they said)")

    assert hits
    assert scrubbed.startswith("It was: ")
    assert scrubbed.endswith("so they said)")
    # Signs stay, a tag, and what of base64's last group is another text's.
    left = scrubbed.removeprefix("It was: ").removesuffix("so they said)").replace(TOKEN, " ")
    assert len(folded(left).codes) <= 8, left
    assert not set(re.findall(r"\w{3,}", TEXTS[language].casefold())) & set(re.findall(r"\w{3,}", left.casefold()))


@pytest.mark.parametrize("name", [name for name in WRITTEN if "base64" not in name])
def test_what_was_told_in_another_spelling_is_known(name: str) -> None:
    """The other way round: what was heard escaped is found where it stands plainly."""
    text = TEXTS["German"]
    spelled = WRITTEN[name](text)
    private = PrivateText()
    private.add(spelled)

    assert private.scrub(f"It was {text}.")[1]


def known(*texts: str) -> PrivateText:
    private = PrivateText()
    for text in texts:
        private.add(text)
    return private


RESERVATION = json.dumps(
    {
        "reservation_id": "QX7WPL",
        "origin": "LAX",
        "destination": "BOS",
        "scheduled_departure_time_est": "14:00:00",
        "total_baggages": 2,
        "nonfree_baggages": 0,
        "passengers": [{"first_name": "Zoltan", "last_name": "Kovacsev", "dob": "1971-03-09"}],
        "notes": "Prefers the aisle because of his Zymurgist knee",
    }
)


@pytest.mark.parametrize(
    "around",
    [
        lambda text: text,
        lambda text: json.dumps({"content": text, "name": "get_reservation_details", "type": "tool"}),
        lambda text: json.dumps({"outer": json.dumps({"content": text})}),
        lambda text: json.dumps([{"function": {"name": "update_passengers", "arguments": text}}]),
    ],
    ids=["itself", "a message", "twice in strings", "arguments"],
)
def test_keys_and_form_stay(around: Callable[[str], str]) -> None:
    """A private JSON document stays one wherever it is: its values go, its keys and the tool's name do not."""
    written = around(RESERVATION)
    scrubbed, hits = without_private_text(written, known(RESERVATION))

    assert hits
    assert _keys(json.loads(scrubbed)) == _keys(json.loads(written))
    for value in ("QX7WPL", "Zoltan", "Kovacsev", "1971-03-09", "Zymurgist", "aisle"):
        assert value not in scrubbed
    for name in ("get_reservation_details", "update_passengers"):
        assert (name in scrubbed) == (name in written)


def _keys(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "[") and value != TOKEN:
        return _keys(json.loads(value))
    if isinstance(value, dict):
        return {key: _keys(member) for key, member in value.items()}
    return [_keys(member) for member in value] if isinstance(value, list) else None


def test_another_customers_answer_keeps_its_form_and_values() -> None:
    """Two answers of one tool have their keys and small values in common, and nothing else is taken away."""
    other = RESERVATION
    for old, new in {"QX7WPL": "8JX2WO", "Zoltan": "Mercy", "Kovacsev": "Igwe", "1971-03-09": "1988-12-01"}.items():
        other = other.replace(old, new)
    other = json.dumps({**json.loads(other), "notes": "none"})

    assert without_private_text(other, known(RESERVATION)) == (other, 0)


def test_a_key_that_is_somebodys_words_goes() -> None:
    """A key that no program would have is private like a value, and two of them stay two."""
    private = known("john_smith_diabetic", "Jane Kowalsky has asthma")
    scrubbed, hits = without_private_text(
        '{"john_smith_diabetic": 1, "Jane Kowalsky has asthma": 2, "age": 3}', private
    )

    assert hits == 2
    assert json.loads(scrubbed) == {TOKEN: 1, f"{TOKEN} (2)": 2, "age": 3}


@pytest.mark.parametrize(
    "spread",
    [
        lambda text: [text[at : at + 4] for at in range(0, len(text), 4)],
        list,
        lambda text: text.split(),
        lambda text: [{"token": text[at : at + 4], "logprob": -0.5} for at in range(0, len(text), 4)],
        lambda text: [{"type": "token", "index": at} | {"delta": text[at : at + 5]} for at in range(0, len(text), 5)],
    ],
    ids=["fours", "letters", "words", "tokens", "deltas"],
)
def test_a_text_that_is_spread_goes(spread: Callable[[str], Any]) -> None:
    """A text of which each member of a list has a piece is found, and the list stays one."""
    text = "Zoltan's Qorvexil level was measured again by Dr Igwenagu"
    scrubbed, hits = without_private_text(json.dumps({"parts": spread(text), "ok": True}), known(text))

    assert hits
    assert json.loads(scrubbed)["ok"] is True
    left = "".join(c for c in scrubbed if c.isalnum())
    assert not any(word in scrubbed for word in ("Zolt", "Qorv", "meas", "agai"))
    assert "Igwe" not in left


TOLD = "I would like to cancel the flight that I have booked for my sister, because she is pregnant and cannot travel."


@pytest.mark.parametrize(
    ("text", "is_private"),
    [
        ("I would like to cancel my order", False),
        ("because she is nice", False),
        ("that I have booked for my friends", False),
        (TOLD, True),
        (TOLD.lower().removesuffix("."), True),
        ("He wrote that he would like to cancel the flight that I have booked for my sister today", True),
        ("I would like to cancel the fli...", True),
        ("I would like to canc… ", True),
        ("I would like to cancel the fl[cut: 70 more characters]", True),
    ],
)
def test_ordinary_words(text: str, is_private: bool) -> None:
    """A few words that everybody says are nobody's; a sentence is, and a long piece of it, and its beginning cut off."""
    assert bool(known(TOLD).scrub(text)[1]) == is_private


@pytest.mark.parametrize("sentence", ["Yes, I am pregnant", "She left him again", "The answer is no, sir"])
def test_a_whole_sentence_goes_from_twelve_letters_on(sentence: str) -> None:
    """A whole sentence or line is recognised in any text, whatever its words."""
    private = known(f"Well.\n{sentence}. That is it, and nothing else at all.")

    assert private.scrub(f"he told me: {sentence}, and so on and on") == (f"he told me: {TOKEN}, and so on and on", 1)


@pytest.mark.parametrize(
    "text",
    [
        "Is there anything else that I can help you with today?",
        "Thank you very much for all your help!",
        "Could you please provide me with your user ID and your email address?",
        "You're welcome. Have a great day, and please let me know if you need any further assistance.",
    ],
)
def test_courtesies_are_everybodys(text: str) -> None:
    """A sentence of words that a dialogue about anything has tells nothing of anybody, whoever said it."""
    private = known(f"{text} My sister is ill.", text)

    assert private.scrub(text) == (text, 0)
    assert private.scrub("My sister is ill.")[1]


@pytest.mark.parametrize(
    ("text", "is_private"),
    [
        ("Flight Number: HAT0417", True),
        ("Flight Number: none", False),
        ("- **Payment Method:** cash", False),
        ("I have paid for the return flight already", False),
        ("Trip: return flight", True),
        ("Number of passengers who are pregnant: one", True),
    ],
)
def test_labels_and_short_lines(text: str, is_private: bool) -> None:
    """A label of ordinary words is everybody's; a short line of them is known where a line begins or ends."""
    told = (
        "Flight Number: HAT0417\n- **Payment Method:** cash\nreturn flight\nNumber of passengers who are pregnant: one"
    )

    assert bool(known(told).scrub(text)[1]) == is_private


@pytest.mark.parametrize(
    ("text", "is_private"),
    [
        ("it was in May that we went to the", False),
        ("cabin is Basic, we said", False),
        ("I took 40 of the pills then", False),
        ("he paid with card 4417 then", True),
        ("for some Qorvexil then", True),
        ("for Rose Baker then", True),
    ],
)
def test_a_piece_must_tell_enough(text: str, is_private: bool) -> None:
    """Two ordinary words with one digit or capital beside them are not somebody's; a number or a name with them is."""
    told = (
        "Well, it was in May that we went to the lake, and my cabin is Basic, and I took 40 of the pills, paid with card "
        "4417 for some Qorvexil, and kept all of it for Rose Baker"
    )

    assert bool(known(told).scrub(text)[1]) == is_private


@pytest.mark.parametrize("value", ["thank you", "credit_card", "approved", "2026-11-21", "14:00:00", "20261121"])
def test_short_ordinary_strings_are_nobodys(value: str) -> None:
    """A short string of ordinary words, a date or a number is left where it stands."""
    text = f"well, {value} is what it says"

    assert known(value).scrub(text) == (text, 0)


@pytest.mark.parametrize("value", ["Bob Lee", "a1-b2-c3", "HAT0417", "078-05-1120"])
def test_short_strings_that_tell_something_go(value: str) -> None:
    """A short private string with a digit, a name or a rare word is recognised as a whole."""
    private = known(value)

    assert private.scrub(f"well, {value} is what it says") == (f"well, {TOKEN} is what it says", 1)
    assert private.scrub(f"well, x{value}x is what it says")[1] == 0


def test_addresses_at_one_host_are_not_the_same() -> None:
    """A private e-mail address goes; another one at the same company does not, and neither does the company's page."""
    private = known(
        "Write to ann.archer@northwind-logistics-example.com, or see https://www.northwind-logistics-example.com/a"
    )

    assert private.scrub("ann.archer@northwind-logistics-example.com")[1]
    assert private.scrub("ANN.ARCHER@Northwind-Logistics-Example.com")[1]
    for other in (
        "bo.brandt@northwind-logistics-example.com",
        "susann@northwind-logistics-example.com",
        "https://www.northwind-logistics-example.com/prices",
    ):
        assert private.scrub(f"ask {other} now") == (f"ask {other} now", 0)


def test_a_payload_is_looked_at_again_after_something_was_added() -> None:
    """What is remembered of a payload holds until more is private."""
    private, payload = known(TEXTS["German"]), json.dumps({"note": f"so {TEXTS['English']}"})
    before = [without_private_text(payload, private) for _ in range(2)]
    private.add(TEXTS["English"])

    assert before == [(payload, 0)] * 2
    assert without_private_text(payload, private)[1] == 1

    private.withhold_everything()

    assert json.loads(without_private_text(payload, private)[0]) == {"note": TOKEN}
