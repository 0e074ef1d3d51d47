"""Payment cards and social security numbers: digits that check digits or the words before them make one."""

# ruff: noqa: PLR2004 - numbers of digits and letters, as the formats themselves have them

from __future__ import annotations

import re

from langchain_mlflow_cost.detectors.view import Span, View, is_glued, text_pattern

_CARD = re.compile(
    r"(?<![0-9])(?<![0-9][.])(?:[0-9]{12,19}"
    r"|[0-9]{4}([ .-])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}([ .-])[0-9]{6}\2[0-9]{4,5}"
    r"|[0-9]{4}([ .-])[0-9]{4}\3[0-9]{5})(?![0-9])(?![.][0-9])",
    re.ASCII,
)
# Issuers' first digits and the lengths that they use. Source: ISO/IEC 7812 and the networks' own pages.
_ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|(?:30[0-59]|36[0-9]|3[89][0-9])[0-9]{11}(?:[0-9]{2})?"  # Diners Club
    r"|35[0-9]{14}|(?:1800|2131)[0-9]{11}"  # JCB
    r"|6[0-9]{15,18}"  # Discover, UnionPay, RuPay, Maestro
    r"|(?:50|5[6-9]|6[37])[0-9]{11,17}|(?:5018|5020|5038|5[678][0-9]{2}|6304|6390|6759|676[1-3])[0-9]{8}"  # Maestro
    r"|220[0-4][0-9]{12,15}"  # Mir
    r"|1[0-9]{14}",  # UATP
    re.ASCII,
)
_DOUBLED = bytes((2 * digit if digit < 5 else 2 * digit - 9) for digit in range(10))
_DOUBLED_ASCII = {ord("0") + digit: doubled for digit, doubled in enumerate(_DOUBLED)}
_ZERO = ord("0")
_NO_SEPARATORS = str.maketrans("", "", " .-()/")


def passes_luhn(digits: str) -> bool:
    """Check the last digit by ISO/IEC 7812-1, annex B."""
    data = digits.encode()
    plain = data[::-2]
    return (sum(plain) - _ZERO * len(plain) + sum(map(_DOUBLED_ASCII.__getitem__, data[-2::-2]))) % 10 == 0


def find_cards(view: View, found: list[Span]) -> None:
    """Find payment cards, also where other numbers stand before or after them: 4111 1111 1111 1111 12/26."""
    text = view.ascii
    for start, end, digits in view.number_runs:
        if digits < 12:
            continue
        position = start
        while match := _CARD.search(text, position, end):
            here, stop = match.span()
            if not _is_card(text, here, stop):
                # The group behind may be no part of it.
                stop = here + _FOUR_GROUPS
                if stop >= match.end() or text[stop] not in " .-" or not _is_card(text, here, stop):
                    position = here + 1
                    continue
            found.append((here, stop, "CREDIT_CARD"))
            position = stop


_FOUR_GROUPS = 4 * 4 + 3


def _is_card(text: str, start: int, end: int) -> bool:
    digits = text[start:end].translate(_NO_SEPARATORS)
    return (
        _ISSUERS.fullmatch(digits) is not None
        and passes_luhn(digits)
        and not is_glued(text, start, end)
        and len(set(digits)) > 1
    )


_SSN = re.compile(
    r"(?<![0-9])(?<![0-9][.-])(?!000|666|9)[0-9]{3}([ .-])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9])(?![.-][0-9])",
    re.ASCII,
)
_SSN_BARE = re.compile(r"(?!000|666|9)[0-9]{3}(?!00)[0-9]{2}(?!0000)[0-9]{4}", re.ASCII)
_SSN_WORDS = text_pattern(r"\bssns?\b|social.{0,3}sec|\bsoc\.? sec|tax ?payer id|\bss ?(?:#|no|number)|\btin\b")
_CODE_WORDS = text_pattern(
    r"(?:part|sku|item|order|model|serial|ref(?:erence)?|invoice|case|ticket|lot|batch|p/?n|s/?n)"
    r"[ .:#]*(?:no\.?|number|id)?[ .:#]*$"
)


# Every digit as 0: what a stretch looks like is told faster than what it is.
_SHAPE = bytes.maketrans(b"123456789", b"000000000")


def find_social_security(view: View, found: list[Span]) -> None:
    """Find numbers in the usual groups, and nine digits in a row behind a word that says what they are."""
    text = view.ascii
    for start, end, digits in view.number_runs:
        if digits < 9:
            continue
        if end - start == digits:
            if (
                digits == 9
                and _SSN_BARE.match(text, start, end)
                and not is_glued(text, start, end)
                and _SSN_WORDS.search(view.before(start, 48))
            ):
                found.append((start, end, "US_SSN"))
            continue
        shape = view.bytes[start:end].translate(_SHAPE)
        if b"000-00-0000" not in shape and b"000 00 0000" not in shape and b"000.00.0000" not in shape:
            continue
        for match in _SSN.finditer(text, start, end):
            here = match.start()
            before = view.before(here, 48)
            doubtful = is_glued(text, here, match.end()) or _CODE_BEFORE.search(before) or _CODE_WORDS.search(before)
            if not doubtful or _SSN_WORDS.search(before):
                found.append((here, match.end(), "US_SSN"))


_CODE_BEFORE = text_pattern(r"(?:[a-z0-9]-|#)$")
