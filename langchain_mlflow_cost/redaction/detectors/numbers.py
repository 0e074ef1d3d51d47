"""Payment cards and social security numbers: digits that check digits or the words before them make one."""

# ruff: noqa: PLR2004 - numbers of digits and letters, as the formats themselves have them

from __future__ import annotations

import re

from langchain_mlflow_cost.redaction.detectors.view import Span, View, is_glued
from langchain_mlflow_cost.redaction.re2_search import is_in, text_pattern

_CARD = re.compile(
    r"(?<![0-9])(?<![0-9][.])(?=[1-6])(?:[0-9]{12,19}"  # of the issuers' first digits
    r"|[0-9]{4}([ .-])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}([ .-])[0-9]{6}\2[0-9]{4,5}"
    r"|[0-9]{4}([ .-])[0-9]{4}\3[0-9]{5})(?![0-9])(?![.][0-9])",
    re.ASCII,
)
# Issuers' first digits and the lengths that they use. Source: ISO/IEC 7812 and the networks' own pages.
_ISSUERS = re.compile(
    rb"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    rb"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    rb"|3[47][0-9]{13}"  # American Express
    rb"|(?:30[0-59]|36[0-9]|3[89][0-9])[0-9]{11}(?:[0-9]{2})?"  # Diners Club
    rb"|35[0-9]{14}|(?:1800|2131)[0-9]{11}"  # JCB
    rb"|6[0-9]{15,18}"  # Discover, UnionPay, RuPay, Maestro
    rb"|(?:50|5[6-9]|6[37])[0-9]{11,17}|(?:5018|5020|5038|5[678][0-9]{2}|6304|6390|6759|676[1-3])[0-9]{8}"  # Maestro
    rb"|220[0-4][0-9]{12,15}"  # Mir
    rb"|1[0-9]{14}",  # UATP
    re.ASCII,
)
_DOUBLED = bytes.maketrans(b"0123456789", bytes((2 * digit if digit < 5 else 2 * digit - 9) for digit in range(10)))
_ZERO = ord("0")
_SEPARATORS = b" .-"


def passes_luhn(digits: str) -> bool:
    """Check the last digit by ISO/IEC 7812-1, annex B."""
    return _luhn(digits.encode())


def _luhn(data: bytes) -> bool:
    plain = data[::-2]
    return (sum(plain) - _ZERO * len(plain) + sum(data[-2::-2].translate(_DOUBLED))) % 10 == 0


def find_cards(view: View, found: list[Span]) -> None:
    """Find payment cards, also where other numbers stand before or after them: 4111 1111 1111 1111 12/26."""
    text = view.ascii
    for start, end in view.runs.cards:
        position = start
        while match := _CARD.search(text, position, end):
            here, stop = match.span()
            if not _is_card(view, here, stop):
                # The group behind may be no part of it.
                stop = here + _FOUR_GROUPS
                if stop >= match.end() or text[stop] not in " .-" or not _is_card(view, here, stop):
                    position = here + 1
                    continue
            found.append((here, stop, "CREDIT_CARD"))
            position = stop


_FOUR_GROUPS = 4 * 4 + 3


def _is_card(view: View, start: int, end: int) -> bool:
    digits = view.bytes[start:end].translate(None, _SEPARATORS)
    return (
        _luhn(digits)
        and _ISSUERS.fullmatch(digits) is not None
        and not is_glued(view.ascii, start, end)
        and len(set(digits)) > 1
    )


_SSN = re.compile(
    r"(?<![0-9])(?<![0-9][.-])(?!000|666|9)[0-9]{3}([ .-])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9])(?![.-][0-9])",
    re.ASCII,
)
_SSN_BARE = re.compile(r"(?!000|666|9)[0-9]{3}(?!00)[0-9]{2}(?!0000)[0-9]{4}", re.ASCII)
_SSN_WORDS = text_pattern(r"\bssns?\b|social.{0,3}sec|\bsoc\.? sec|tax ?payer id|\bss ?(?:#|no|number)|\btin\b")
_CODE = text_pattern(
    r"(?:[a-z0-9]-|#)$|(?:part|sku|item|order|model|serial|ref(?:erence)?|invoice|case|ticket|lot|batch|p/?n|s/?n)"
    r"[ .:#]*(?:no\.?|number|id)?[ .:#]*$"
)


def find_social_security(view: View, found: list[Span]) -> None:
    """Find numbers in the usual groups, and nine digits in a row behind a word that says what they are."""
    text = view.ascii
    for start, end in view.runs.social:
        if end - start == 9:
            if (
                _SSN_BARE.match(text, start, end)
                and not is_glued(text, start, end)
                and is_in(_SSN_WORDS, view.before(start, 48))
            ):
                found.append((start, end, "US_SSN"))
            continue
        for match in _SSN.finditer(text, start, end):
            here = match.start()
            before = view.before(here, 48)
            doubtful = is_glued(text, here, match.end()) or is_in(_CODE, before)
            if not doubtful or is_in(_SSN_WORDS, before):
                found.append((here, match.end(), "US_SSN"))
