"""Payment cards and social security numbers: digits that check digits or the words before them make one."""

# ruff: noqa: PLR2004, E501 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re

from langchain_mlflow_cost.redaction.detectors.secret_names import plain_name
from langchain_mlflow_cost.redaction.detectors.view import Span, View, in_row, is_glued
from langchain_mlflow_cost.redaction.re2_search import is_in, text_pattern

# Between the groups: a blank or two, a hyphen, a full stop, a slash; the same throughout.
_SEP = r"(?:[ ]{1,2}|[.\-/])"
_CARD = re.compile(
    r"(?<![0-9])(?<![0-9][.])(?=[1-6])(?:[0-9]{12,19}"  # of the issuers' first digits
    rf"|[0-9]{{4}}({_SEP})[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{1,4}}(?:\1[0-9]{{1,3}})?"
    rf"|[0-9]{{4}}({_SEP})[0-9]{{6}}\2[0-9]{{4,5}}"
    rf"|[0-9]{{4}}({_SEP})[0-9]{{4}}\3[0-9]{{5}})(?![0-9])(?![.][0-9])",
    re.ASCII,
)
# Over the end of a line, with what quotations, comments and tables put in front of the next; with `_`.
_LOOSE = r"(?:_|[ .-]|[ .-]?\r?\n[ \t>|*#/-]{0,8})"
_LOOSE_CARD = re.compile(
    rf"(?<![0-9])[2-6][0-9]{{3}}{_LOOSE}(?:[0-9]{{4}}{_LOOSE}[0-9]{{4}}{_LOOSE}[0-9]{{4}}|[0-9]{{6}}{_LOOSE}[0-9]{{5}})(?![0-9])",
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
_SEPARATORS = b" .-/_\r\n\t>|*#"


def passes_luhn(digits: str) -> bool:
    """Check the last digit by ISO/IEC 7812-1, annex B."""
    return _luhn(digits.encode())


def _luhn(data: bytes) -> bool:
    plain = data[::-2]
    return (sum(plain) - _ZERO * len(plain) + sum(data[-2::-2].translate(_DOUBLED))) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Say whether digits are a card's where a name says so: a check digit or an issuer is enough, since people mistype."""
    return (
        digits.isdigit()
        and digits.isascii()
        and ((12 <= len(digits) <= 19 and passes_luhn(digits)) or _ISSUERS.fullmatch(digits.encode()) is not None)
    )


def find_cards(view: View, found: list[Span]) -> None:
    """Find payment cards, also where other numbers stand before or after them: 4111 1111 1111 1111 12/26."""
    text = view.ascii
    for start, end in view.runs.cards:
        position = start
        while match := _CARD.search(text, position, end):
            here, stop = match.span()
            if not _is_card(view, here, stop):
                # The group behind may be no part of it.
                last = stop
                stop = here + _FOUR_GROUPS
                if stop >= match.end() or text[stop] not in " .-/" or not _is_card(view, here, stop):
                    if last == end and end - here <= _FOUR_GROUPS:
                        break  # too little is left behind the first group
                    position = here + 1
                    continue
            found.append((here, stop, "CREDIT_CARD"))
            view.because(here, stop, "card: issuer, length and check digit")
            position = stop
    done = 0
    for start in view.accounts:
        # The mark behind the first group, or behind a later one.
        if start >= done and text[start].isdigit() and text[start + 4 : start + 5] in _LOOSE_MARKS:
            for match in _LOOSE_CARD.finditer(text, max(done, start - 2 * _FOUR_GROUPS), start + 2 * _FOUR_GROUPS):
                if match.start() <= start and _is_card(view, *match.span()):
                    found.append((*match.span(), "CREDIT_CARD"))
                    view.because(*match.span(), "card, in pieces: issuer, length and check digit")
                    done = match.end()


_FOUR_GROUPS = 4 * 4 + 3
_LOOSE_MARKS = frozenset("_ -\r\n.")
# Words in whose company a number in one piece is a card, whatever its length.
_CARD_WORDS = text_pattern(
    r"\bcards?\b|cardnum|card_?n|credit|debit|\bvisa|master ?card|\bamex|american express|maestro|discover|diners|\bjcb\b|"
    r"union ?pay|\bpan\b|\bcc(?:n|num|_)?\b|\bcarte\b|\bkarten?|kreditk|tarjeta|cart[aã]o|\bcarta\b|\bkaart|\bkort|\bkarty?\b|карт|カード|카드|卡"
)
# What other numbers have in one piece: twelve and thirteen digits are articles and times, fifteen that begin with 1
# ids, seventeen and more ids of 64 bits. One in ten passes Luhn.
_LENGTHS_OF_CARDS = frozenset({14, 15, 16})
_ID_WORDS = text_pattern(
    r"(?:\bid|_id|[a-z]id|\bids|uuid|guid|key|seq(?:uence)?|offset|hash|nonce|epoch|timestamp|\bts|time|trace|span|block|blk|snowflake|parcel|tracking|"
    r"\border|commit|counter|bytes|cycles|ns|rowid|oid|lsn|xid|addr|0x)[\"']?[ \t]*[=:(#/_-]{0,2}[ \t\"']*$"
)


def _is_card(view: View, start: int, end: int) -> bool:
    text = view.ascii
    digits = view.bytes[start:end].translate(None, _SEPARATORS)
    if not (_luhn(digits) and _ISSUERS.fullmatch(digits) is not None and len(set(digits)) > 1):
        return False
    if is_glued(text, start, end):
        # The magnetic stripe: %B4111111111111111^DOE/JOHN^2812...
        return text[start - 1 : start] == "B" and text[end : end + 1] == "^"
    if end - start == len(digits):
        usual = len(digits) in _LENGTHS_OF_CARDS and not is_in(_ID_WORDS, view.before(start, 24))
        stripe = text[start - 1 : start] == ";" and text[end : end + 1] == "="
        return usual or stripe or is_in(_CARD_WORDS, view.before(start, 48))
    # In a row of other numbers with the same between them, four groups are chance.
    mark = text[start + 4]
    if digits[:1] == b"1" and not digits.startswith(b"1800"):
        return False  # airlines' cards are written in other groups
    return mark not in " ." or not in_row(text, start, end, 2) or is_in(_CARD_WORDS, view.before(start, 48))


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
                view.because(start, end, "nine digits after a word that says so")
            continue
        for match in _SSN.finditer(text, start, end):
            here = match.start()
            before = view.before(here, 48)
            doubtful = is_glued(text, here, match.end()) or is_in(_CODE, before)
            # With blanks between, among other numbers: a row of a table.
            doubtful = doubtful or (
                match[1] == " " and (in_row(text, here, match.end(), 2) or match.span() != (start, end))
            )
            if not doubtful or is_in(_SSN_WORDS, before):
                found.append((here, match.end(), "US_SSN"))
                view.because(here, match.end(), "three, two and four digits")
    for name, start, end in view.columns:
        if SSN_NAME.search(plain_name(name)) and NINE_DIGITS.fullmatch(text, start, end):
            found.append((start, end, "US_SSN"))
            view.because(start, end, f"column {name!r}")


SSN_NAME = re.compile(
    r"(?:^|_)(?:ssns?|social_security(?:_(?:number|no|num))?|us_ssn|itin|tin|tax_?id(?:_?(?:number|no))?|taxpayer_?id(?:_?number)?)$"
)
NINE_DIGITS = re.compile(r"[0-9]{3}[ .-]?[0-9]{2}[ .-]?[0-9]{4}", re.ASCII)
