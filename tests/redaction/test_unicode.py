"""Values written with other characters than ASCII's, and text of other scripts around them."""

from typing import Any

import pytest

from langchain_mlflow_cost.redaction import ENTITIES, Found, Redactor, compile_rules, scan

ALL = compile_rules(entities=ENTITIES)

CASES = {
    "full-width digits": ("电话：１３８１２３４５６７８", "１３８１２３４５６７８", "PHONE_NUMBER"),
    "full-width card": ("４１１１ １１１１ １１１１ １１１１", "４１１１ １１１１ １１１１ １１１１", "CREDIT_CARD"),
    "full-width address": ("ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ", "EMAIL_ADDRESS"),
    "full-width at": ("bob＠example.com", "bob＠example.com", "EMAIL_ADDRESS"),
    "arabic digits": ("٤١١١ ١١١١ ١١١١ ١١١١", "٤١١١ ١١١١ ١١١١ ١١١١", "CREDIT_CARD"),
    "persian digits": ("۱۹۲.۱۶۸.۱.۱", "۱۹۲.۱۶۸.۱.۱", "IP_ADDRESS"),
    "devanagari digits": ("४१११११११११११११११", "४१११११११११११११११", "CREDIT_CARD"),
    "mathematical digits": ("𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏", "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏", "CREDIT_CARD"),
    "zero-width space": ("4111\u200b1111\u200b1111\u200b1111", "4111\u200b1111\u200b1111\u200b1111", "CREDIT_CARD"),
    "zero-width joiner in an address": ("b\u200dob@exam\u200dple.com", "b\u200dob@exam\u200dple.com", "EMAIL_ADDRESS"),
    "tag characters": ("bob\U000e0041@example.com", "bob\U000e0041@example.com", "EMAIL_ADDRESS"),
    "byte order mark": ("\ufeffbob@example.com", "bob@example.com", "EMAIL_ADDRESS"),
    "soft hyphen": ("bob@exam\u00adple.com", "bob@exam\u00adple.com", "EMAIL_ADDRESS"),
    "right-to-left marks": ("\u202bbob@example.com\u202c", "bob@example.com", "EMAIL_ADDRESS"),
    "invisible in a key": ("ghp_A1b2C3d4E5f6\u2060G7h8I9j0K1l2M3n4O5p6Q7r8", "ghp_A1b2C3d4E5f6\u2060G7h8I9j0K1l2M3n4O5p6Q7r8", "SECRET"),
    "no-break hyphens": ("078\u201105\u20111123", "078\u201105\u20111123", "US_SSN"),
    "en dashes": ("415–555–0132", "415–555–0132", "PHONE_NUMBER"),
    "minus signs": ("00−1A−2B−3C−4D−5E", "00−1A−2B−3C−4D−5E", "MAC_ADDRESS"),
    "no-break spaces": ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "IBAN_CODE"),
    "thin spaces": ("+49\u200930\u20091234567", "+49\u200930\u20091234567", "PHONE_NUMBER"),
    "glued to chinese": ("邮箱bob@example.com谢谢", "bob@example.com", "EMAIL_ADDRESS"),
    "glued to japanese": ("番号は4111111111111111です", "4111111111111111", "CREDIT_CARD"),
    "glued to korean": ("주소192.168.1.1입니다", "192.168.1.1", "IP_ADDRESS"),
    "in hebrew": ("הכתובת bob@example.com שלי", "bob@example.com", "EMAIL_ADDRESS"),
    "in arabic": ("رقمي ٠٥٠ 4111 1111 1111 1111", "4111 1111 1111 1111", "CREDIT_CARD"),
    "letters of the local part": ("an jürgen.weiß@example.com:", "jürgen.weiß@example.com", "EMAIL_ADDRESS"),
    "letters of the domain": ("a.b@bücher.example.de!", "a.b@bücher.example.de", "EMAIL_ADDRESS"),
    "cyrillic address": ("почта иван@пример.рф тут", "иван@пример.рф", "EMAIL_ADDRESS"),
    "phone word in russian": ("Телефон: 8 (495) 123-45-67", "8 (495) 123-45-67", "PHONE_NUMBER"),
    "emoji around": ("👩‍👩‍👧 bob@example.com ❤️", "bob@example.com", "EMAIL_ADDRESS"),
    "emoji before, far": ("👍🏽" * 50 + " bob@example.com", "bob@example.com", "EMAIL_ADDRESS"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_found_in_the_text_as_it_is(name: Any) -> None:
    """The stretch is that of the original text, invisible characters inside it included."""
    text, value, entity = CASES[name]
    start = text.index(value)

    assert scan(text, ALL) == [Found(start, start + len(value), entity)]


@pytest.mark.parametrize(
    "text",
    [
        "他在2023年，（约）12.5万人参加；比例：３：２！",
        "Größe 12–14, S. 3–5 — „gut“",
        "❤️ 👩‍👩‍👧 12 345",
        "a\u200bb\u200cc",
        "Ⅳ ½ ² ①②③ ٣",
        "𝚤 𝛼 𝛁 123 456",
    ],
)
def test_ordinary_text_is_left_as_it_is(text: Any) -> None:
    """Other scripts, dashes and emoji are no reason to change a text."""
    assert Redactor(ALL).text(text) == (text, {})


def test_many_different_look_alikes_at_once() -> None:
    """More kinds than are replaced one by one."""
    kinds = "".join(chr(code) for code in range(0xFF21, 0xFF5B) if chr(code).isalpha())
    text = kinds + " \u200b ４１１１１１１１１１１１１１１１"
    start = text.index("４")

    assert scan(text, ALL) == [Found(start, start + 16, "CREDIT_CARD")]


@pytest.mark.parametrize("other", ["𝚤", "𝛼", "\U000e0041", "\u3164", "ﬁ", "\ufffd"])
def test_offsets_behind_other_odd_characters(other: Any) -> None:
    """A character that is neither folded nor taken out counts as one."""
    text = f"{other} \u200b １ {other} bob@example.com"
    start = text.index("bob")

    assert scan(text, ALL) == [Found(start, len(text), "EMAIL_ADDRESS")]
