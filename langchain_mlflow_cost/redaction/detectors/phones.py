"""Phone numbers: with a calling code by its length, national ones by their grouping and the words before them."""

# ruff: noqa: PLR2004, E501, C901, PLR0911, PLR0912 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import Any

from langchain_mlflow_cost.redaction.detectors.addresses import IPV4
from langchain_mlflow_cost.redaction.detectors.data.phone_lengths import PHONE_LENGTHS
from langchain_mlflow_cost.redaction.detectors.secret_names import plain_name
from langchain_mlflow_cost.redaction.detectors.view import WORD, Span, View, in_row
from langchain_mlflow_cost.redaction.re2_search import is_in, spans, text_pattern, text_set, which

_EXTENSION = r"(?:[ ,;]{0,2}(?:extension|ext\.?|x|#)[ .:]?[0-9]{1,6}(?![0-9]))?"
# Shapes that are a phone number's and hardly anything else's.
_PHONE = re.compile(
    r"(?<![0-9])(?:"
    # North America, with 1 or another calling code before it
    r"(?:(?:00)?1[ .\-]?|[1-9][0-9]{0,2}[ .-])?(?:\([2-9][0-9]{2}\)[ .\-]?|[2-9][0-9]{2}[ .\-/])"
    r"[2-9][0-9]{2}[ .\-][0-9]{4}"
    r"|0[1-9](?P<p>[ .-])[0-9]{2}(?:(?P=p)[0-9]{2}){3}"  # France
    r"|\(0?[1-9][0-9]{0,4}\)[ \-/]{0,3}[0-9]{2,5}(?:[ \-/]?[0-9]{2,5}){1,3}"  # an area in brackets
    r"|0[1-9][0-9]{0,4}(?:[ ]?[/\-][ ]?|[ ])[0-9]{2,8}(?:[ \-][0-9]{2,5}){0,4}"  # a trunk prefix
    r"|1[3-9][0-9](?P<c>[ -])[0-9]{4}(?P=c)[0-9]{4}|1[3-9][0-9]{9}"  # China
    r"|8[ -]?\(?[0-9]{3}\)?[ -]?[0-9]{3}[ -][0-9]{2}[ -]?[0-9]{2}"  # Russia
    r"|[6-9][0-9]{4}[ -][0-9]{5}"  # India
    r"|[6-9][0-9]{2}(?: [0-9]{2}){3}"  # Spain
    r"|[1-9][0-9](?P<m>[ -])9?[0-9]{4}(?P=m)[0-9]{4}"  # Mexico, Brazil
    r")(?![0-9])" + _EXTENSION,
    re.ASCII,
)
_INTERNATIONAL = re.compile(
    r"(?P<plus>\+|(?<![0-9])(?:00|011)[ .-]?)[ ]?(?P<rest>\(?[1-9][0-9 ().\-/]{5,24}[0-9])" + _EXTENSION, re.ASCII
)
_GROUP = re.compile(r"[0-9]+", re.ASCII)
_YEAR, _MONTH, _DAY = r"(?:19|20)[0-9]{2}", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12][0-9]|3[01])"
_DATE = re.compile(
    rf"{_YEAR}([-/. ]){_MONTH}\1{_DAY}(?![0-9])"
    # In either order; 01.42.68.53.00 goes on, and is a number in France.
    rf"|(?<![0-9]){_DAY}([-/. ]){_DAY}\2(?:{_YEAR}|[0-9]{{2}}(?!\2[0-9]))(?![0-9])",
    re.ASCII,
)
# A card that no issuer has, whatever stands before it: no country writes its numbers so.
_DIGITS_OF_CARD = 16
# The sign itself, and the end of it as it is in a URL.
_PLUS = frozenset("+Bb")
_CARD = re.compile(r"[1-9][0-9]{3}(?:[ .-][1-9][0-9]{3}){3}", re.ASCII)
_ONLY_DATES = re.compile(
    rf"{_YEAR}([-/. ])[01]?[0-9]\1[0-3]?[0-9](?:[ -]+[0-9]{{1,2}})?"
    rf"|[0-3]?[0-9]([-/.])[0-3]?[0-9]\2{_YEAR}(?: +[0-9]{{1,2}})?"
    rf"|[0-9]+\.[0-9]+|{_YEAR}[ ]?[-/][ ]?{_YEAR}",
    re.ASCII,
)
_PHONE_WORDS = text_pattern(
    r"\b(?:tel(?:e?ph?one?s?|efon\w*|efoon\w*|\b)|phones?|ph|cell(?:ulare?|phone)s?|cel|mobiles?|mob|mobil\w*|fax|whats ?app|sms|"
    r"dial(?:ed|ling)?|hotline|helpline|landline|voicemail|handy\w*|rufnummer|durchwahl|anruf\w*|t[ée]l(?:[ée]phone)?|"
    r"m[óo]vil|celular|gsm|puhelin|telefone?|viber|appel\w*|llam\w*|chiam\w*|ligue|wa_id|"
    # Words that also mean something else, in phrases in which they do not.
    r"(?:call|text|ring|reach|contact|phone)(?:ed|ing|s)?(?: (?:me|us|him|her|them|you|back|it|anyone|someone|now|today|on|at|from|under|via)){1,2}|"
    r"(?:my|her|his|your|our|their|new|contact|callback|call-back|office|home|work|emergency|support|service|cell|daytime|personal|best) "
    r"(?:number|no\.?|cell|line|contact)|number(?:'s| is)|(?:please|can|just) (?:call|ring|text)|callers?(?: id)?)\b|\b(?:contact|cells?|calls?|callers?) ?:"
    r"|тел|телефон|звон|моб|電話|电话|手机|手機|携帯|전화|연락|휴대|फ़ोन|फोन|هاتف|جوال|τηλ|טלפון|נייד|โทร|n[úu]m[ée]ro(?: est| es|:| de)"
)
# Words that only sometimes mean a telephone: the number must look like one, too.
_WEAK_WORDS = text_pattern(
    r"\b(?:call(?:ed|ing|s|back)?|cells?|text(?:ed)?|ring|reach(?:ed|able)?|contact(?:s|ed)?|number|num|nr|portable|fixe|signal|pager|"
    r"n[úu]mero|from|at)\b|\b[tmpfcw][:.] ?$"
)
_OTHER_WORDS = text_pattern(
    r"\b(?:orders?|invoice|inv|account|acct|a/c|ids?|ref(?:erence)?|ticket|case|serial|sn|s/n|sku|isbn(?:-1[03])?|issn|"
    r"ean|upc|gtin|asin|doi|tracking|shipment|parcel|part|model|build|version|rev|revision|zip|postal|postcode|code|"
    r"amount|total|price|cost|sum|usd|eur|gbp|timestamp|epoch|unix|time|date|dated|pid|port|pp|vol|volume|pmid|batch|"
    r"lot|policy|claim|patent|vat|tax|ein|npi|iban|bic|swift|routing|sort|card|visa|mastercard|amex|uid|uuid|gid|imei|"
    r"imsi|iccid|vin|row|line|page|pages|hash|commit|sha|md5|job|run|task|bug|issue|pr|pull|request|transaction|txn|"
    r"booking|confirmation|reservation|flight|passport|licen[cs]e|student|employee|member|customer|product|item|"
    r"release|firmware|lat|lon|latitude|longitude|coordinates?|score|ratio|size|bytes|length|duration|seed|checksum|"
    r"barcode|record|entry|docket|permit|quote|po|rma|register|registration|ssn|social|security|national|"
    r"siren|siret|cpf|cnpj|abn|nhs|medicare|population|serie|bbox|rect|points?|polygon|matrix|vector|tid|nid|addr|cpu|prio|ram|blk|chunk|seq|ttl)\b"
)
# Says which of the two are there in the time that looking for one takes.
_KINDS_OF_WORDS = text_set(_PHONE_WORDS.pattern, _OTHER_WORDS.pattern, _WEAK_WORDS.pattern)
_ANY_NUMBER = re.compile(rb"[ ._:#-]*(?:number|num|nr|no|numero)(?: is)?")
_NO_PHONE_AFTER = tuple(mark.encode() for mark in "$€£¥₹#%")
_NEAR = 32
_CLOSE = 16
_NO_SEPARATORS = str.maketrans("", "", " .-()/")


def find_phones(view: View, found: list[Span]) -> None:
    """Find phone numbers where nothing else was found."""
    text = view.ascii
    found.sort()
    taken = found.copy()
    last = len(taken)
    done = -1
    near = 0
    for start, end, digits in view.runs.numbers:
        if digits < 7 or start < done:
            continue
        # The cheap questions first: in JSON most numbers are dates and ids, in a list of people most are known by now.
        while near < last and taken[near][1] <= start:
            near += 1
        if (near < last and taken[near][0] < end) or _in_decimal(text, start):
            continue
        if end - start < 20 and _ONLY_DATES.fullmatch(text, start, end):
            continue
        if digits == end - start and not _may_be_bare(view, start, digits):
            continue
        if digits == _DIGITS_OF_CARD and _CARD.fullmatch(text, start, end) and text[start - 1 : start] not in _PLUS:
            continue
        for here, stop in _phones_in(view, start, end):
            found.append((here, stop, "PHONE_NUMBER"))
            view.because(here, stop, "number with a calling code, or with the groups or the words of a telephone's")
            done = stop
    for start in view.accounts:
        if text.startswith("1-8", start):
            _vanity(view, start, found)
    for name, start, end in view.columns:
        if PHONE_NAME.search(plain_name(name)) and PHONE_VALUE.fullmatch(text, start, end):
            found.append((start, end, "PHONE_NUMBER"))
            view.because(start, end, f"column {name!r}")


PHONE_NAME = re.compile(
    r"(?:^|_)(?:(?:tele)?phones?|telefon[eo]?s?|mobiles?|mobilephones?|cell(?:phone|ular)?s?|fax(?:es)?|tels?|whats_?app|msisdns?|wa_?ids?|"
    r"celular|movil|handy|"
    r"(?:(?:tele)?phone|mobile|cell(?:phone)?|fax|tel|contact|whats_?app|sms|caller|callback|sender|recipient)_?(?:numbers?|nos?|num|nr)|"
    r"(?:from|to)_?(?:phone|number)|phone_?e_?164|phone_?(?:home|work|mobile|cell|main|office|primary|secondary))_?[0-9]?$"
)
PHONE_VALUE = re.compile(r"\+?[0-9(][0-9 ().\-/]{5,24}(?:\D{0,6}[0-9]{1,6})?", re.ASCII)
_VANITY = re.compile(
    r"1-8(?:00|88|77|66|55|44|33)-(?=[A-Z0-9-]*[A-Z]{3})[A-Z0-9]{1,8}(?:-[A-Z0-9]{2,8}){0,2}(?![A-Za-z0-9-])", re.ASCII
)


def _vanity(view: View, start: int, found: list[Span]) -> None:
    """Find 1-800-FLOWERS: free of charge, and written in letters."""
    match = _VANITY.match(view.ascii, start)
    if match and 10 <= len(match.group().replace("-", "")) <= 14:
        found.append((*match.span(), "PHONE_NUMBER"))
        view.because(*match.span(), "number in letters")


def _may_be_bare(view: View, start: int, digits: int) -> bool:
    """Dismiss quickly what most numbers in JSON are: digits with neither a plus nor a word before them."""
    if digits > 15:
        return False
    text = view.ascii
    return (
        text.startswith("0", start)
        or text[max(0, start - 2) : start].strip(" (").endswith("+")
        or text.startswith(")", start + digits)
        or text[max(0, start - 3) : start].upper() == "%2B"
        or is_in(_PHONE_WORDS, view.before(start, _NEAR))
        or (digits <= 11 and is_in(_WEAK_WORDS, view.before(start, _NEAR)))
    )


def _in_decimal(text: str, start: int) -> bool:
    """Say whether a number goes on what stands before it: 0.4155550132, 10:30:00 2026."""
    return start > 1 and text[start - 1] in ".:" and text[start - 2].isdigit()


def _phones_in(view: View, start: int, end: int) -> list[tuple[int, int]]:
    """Find the numbers in a stretch of digits, which may be several, or begin with a date."""
    text = view.ascii
    # The bracket, the plus or both before the first digit.
    low = start
    while low > 0 and text[low - 1] in "+(" and start - low < 3:
        low -= 1
    before = text[low - 1] if low else " "
    if before in "Bb" and text[max(0, start - 3) : start].upper() == "%2B":
        # A plus in a URL.
        stop = _international_after(text, start, end)
        return [(start - 3, stop)] if stop > 0 else []
    is_glued = before in WORD
    if not is_glued and ("+" in text[low:start] or text.startswith("0", start)):
        found = _international(text, low, start, end)
        if found:
            return [found]
    if is_glued and not before.islower():
        return []
    if (
        before in "-/\\&."
        and low > 1
        and text[low - 2] in WORD
        and not (before == "." and text[low - 2].isalpha() and _GLUED_SHAPE.match(text, low))
    ):
        return []
    hint: int | None = None
    numbers = []
    for here, stop in _shapes(text, low, end):
        if hint is None:
            hint = _hint(view, low)
        if _is_phone_shape(view, here, stop, hint) and (not is_glued or _GLUED_SHAPE.match(text, here)):
            if hint == 0 and _is_chance(view, here, stop, low):
                continue
            numbers.append((here, stop))
    if numbers or is_glued:
        return numbers
    if hint is None:
        hint = _hint(view, low)
    if hint >= 0 and (stop := _dashed(text, start, end)) > 0:
        return [(start, stop)]
    if hint <= 0:
        return []
    return _hinted_phone(view, low, start, end, strong=hint > 1 or _AFTER.match(text, end) is not None)


# Ring 410 1334 back, cell 9176-8683 (evenings).
_AFTER = re.compile(r" (?:back\b|\([a-z])", re.ASCII)
# Bytes in a listing, behind their address.
_LISTING = re.compile(rb"[0-9a-f]:[ \t]+$")


def _is_chance(view: View, start: int, end: int, low: int) -> bool:
    """Say whether groups of digits with nothing that says what they are stand among other numbers."""
    text = view.ascii
    value = text[start:end]
    if " " not in value or "(" in value or "-" in value:
        return False
    if start > low and text[start - 1] == " ":
        return True  # behind other digits of the same stretch
    if in_row(text, start, end, 1) or _LISTING.search(view.before(start, 12)) or text[start - 1 : start] == "\t":
        return True
    groups = _GROUP.findall(value)
    # 477 424 693 1100: no country has this calling code.
    return (
        len(groups) > 3
        and len(groups[-1]) == 4
        and len(groups[0]) < 4
        and not value.startswith("0")
        and groups[0] not in PHONE_LENGTHS
    )


# A calling code without a plus, and hyphens: 972-50-123-4567.
_DASHED = re.compile(r"([1-9][0-9]{0,2})-([0-9]{1,3}-[0-9]{3,4}-[0-9]{3,4})(?![\w.-])", re.ASCII)


def _dashed(text: str, start: int, end: int) -> int:
    if text.find("-", start, start + 4) < 0:
        return -1
    match = _DASHED.match(text, start, end + 1)
    limits = PHONE_LENGTHS.get(match[1]) if match else None
    if not match or not limits or _DATE.match(match.group()):
        return -1
    count = len(match[2]) - match[2].count("-")
    return match.end() if limits[0] <= count <= limits[1] and count >= 8 else -1


def _international(text: str, low: int, start: int, end: int) -> tuple[int, int] | None:
    match = _INTERNATIONAL.search(text, low, min(end + 12, len(text)))
    stop = _international_end(match) if match and match.start() <= start else -1
    if not match or stop < 0:
        return None
    closed = text[low] == "(" and text.count(")", low, stop) == text.count("(", low, stop)
    return (low if closed else match.start()), stop


def _international_after(text: str, start: int, end: int) -> int:
    """Give where a number ends whose plus is written as in a URL; -1 if it is none."""
    match = _INTERNATIONAL.match("+" + text[start : min(end + 12, len(text))])
    stop = _international_end(match) if match else -1
    return start + stop - 1 if stop > 0 else -1


def _shapes(text: str, low: int, end: int) -> list[tuple[int, int]]:
    """Give the stretches that look like a phone number; nearly always the first begins where the digits begin."""
    limit = end + 12
    match = _PHONE.match(text, low, limit)
    shapes = []
    if match:
        shapes.append(match.span())
        low = match.end()
        if end - low < 7:
            return shapes
    elif end - low < 12:
        return shapes
    for match in _PHONE.finditer(text, low, limit):
        here = match.start()
        if here >= end:
            break
        if not (text[here - 1] in "-./" and text[here - 2].isdigit()):
            shapes.append(match.span())
    return shapes


_GLUED_SHAPE = re.compile(r"\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-][0-9]{4}", re.ASCII)


def _hint(view: View, start: int) -> int:
    """Say what the words before a number make of it: a phone (2), perhaps (1), something else (-1), nothing (0)."""
    before = view.before(start, _NEAR)
    line = before.rfind(b"\n")
    if line >= 0:
        # On the line before it only if nothing else stands before the number on its own.
        before = before[line + 1 :] if before[line + 1 :].strip() else before.rstrip()
    if before.endswith(_NO_PHONE_AFTER):
        return -1
    kinds = which(_KINDS_OF_WORDS, before)
    if not kinds:
        return 0
    strong = _last_end(_PHONE_WORDS, before) if 0 in kinds else -1
    weak = _last_end(_WEAK_WORDS, before) if 2 in kinds else -1
    phone = max(strong, weak)
    other = _last_end(_OTHER_WORDS, before) if 1 in kinds else -1
    # "order number 4155550132": the plain word "number" says nothing against the word before it.
    if other >= 0 and phone > other and _ANY_NUMBER.fullmatch(before, other, phone):
        return -1
    if phone < other:
        return -1
    # "Number 8, pp. 1371-1374": the word belongs to another number.
    if _ANY_DIGIT_BYTES.search(before, phone):
        return 0
    near = strong >= 0 and len(before) - strong <= _CLOSE and not _ANY_DIGIT_BYTES.search(before, strong)
    return 2 if near else 1


def _last_end(pattern: Any, data: bytes) -> int:
    last = -1
    for _, end in spans(pattern, data):
        last = end
    return last


_ANY_DIGIT_BYTES = re.compile(rb"[0-9]")


_NOT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_JOINTS = frozenset(".-/:")
_YEAR_IN_BRACKETS = re.compile(r"\((?:19|20)[0-9]{2}\)", re.ASCII)
_ZIP = re.compile(r"0[0-9]{4}-[0-9]{4}", re.ASCII)


def _is_phone_shape(view: View, start: int, end: int, hint: int) -> bool:
    text = view.ascii
    value = text[start:end]
    if hint < 0 or _goes_on(text, end) or _DATE.match(value) or _YEAR_IN_BRACKETS.match(value):
        return False
    if hint == 0 and _ZIP.fullmatch(value):
        return False
    digits = len(view.bytes[start:end].translate(None, _NOT_DIGITS))
    if value[0] in "0(" and not value.startswith("00"):
        return (9 if hint == 0 else 7) <= digits <= (19 if "x" in value else 13)
    # China's bare numbers are as long as many an id: a word must say so, and one that may mean else right before it.
    if value.isdigit():
        return hint > 1 or (hint > 0 and is_in(_WEAK_WORDS, view.before(start, 9)) and not _UNIT.match(text, end))
    return digits >= 8


def _goes_on(text: str, end: int) -> bool:
    """Say whether what stands behind a number makes it a part of something longer."""
    following = text[end : end + 2]
    return following[:1] in WORD or (following[:1] in _JOINTS and following[1:].isdigit())


def _international_end(match: re.Match[str]) -> int:
    """Give where a number with a calling code ends; -1 if it is none."""
    rest = match.group("rest")
    if "-." in rest or ".-" in rest:
        return -1  # a drawing's path: 003-.37.224-.67
    digits = rest.translate(_NO_SEPARATORS)
    for length in (1, 2, 3):
        limits = PHONE_LENGTHS.get(digits[:length])
        if limits:
            break
    else:
        return -1
    fewest, most = limits
    # The trunk prefix is often left in: +44 (0)20 7946 0958.
    trunk = 1 if "(0)" in rest else 0
    count = 0
    best = -1
    for group in _GROUP.finditer(rest):
        count += len(group.group())
        if length + fewest <= count - trunk <= length + most + (digits[length : length + 1] == "0"):
            best = group.end()
    if best < 0:
        return -1
    text = match.string
    end = match.start("rest") + best
    if end == match.end("rest"):
        end = match.end()
    if end < len(text) and text[end] in WORD:
        return -1
    if match.group("plus") != "+" and rest.isdigit() and best < 9:
        return -1
    return end


_HINTED = re.compile(
    r"\(?[0-9]{1,6}(?: [0-9]{1,3})?\)?(?:[ ./-]{1,2}\(?[0-9]{1,8}\)?|\([0-9]{1,5}\)[ -]?[0-9]{1,5}){1,6}"
    r"|\([0-9]{1,5}\)[0-9]{4,9}",
    re.ASCII,
)


# What a word that only sometimes means a telephone must be followed by, at once.
_WEAK_SHAPE = re.compile(
    r"\(?[2-9][0-9]{2}\)?[ .-]?[2-9][0-9]{2}[ .-]?[0-9]{4}|[2-9][0-9]{2}-[0-9]{4}|0[0-9]{9,10}"
    r"|[0-9]{2,5}(?P<s>[ .-])[0-9]{2,5}(?:(?P=s)[0-9]{2,5}){0,4}|\+?1[ .-]?[2-9][0-9]{9}|1[3-9][0-9]{9}",
    re.ASCII,
)


def _hinted_phone(view: View, low: int, start: int, end: int, *, strong: bool) -> list[tuple[int, int]]:
    """Take what a word such as "phone" announces, if it is as long as a phone number."""
    text = view.ascii
    if _DATE.match(text, start) or IPV4.match(text, start):
        return []
    for match in (_BARE_DIGITS.match(text, start, end), _HINTED.match(text, low, end)):
        if match is None:
            continue
        value = match.group()
        digits = len(value.encode().translate(None, _NOT_DIGITS))
        if not 7 <= digits <= 15 or value.count(".") == 1 or ("." in value and " " in value):
            continue
        stop = match.end()
        weak = not strong and (
            not _WEAK_SHAPE.fullmatch(value)
            or (value.isdigit() and not is_in(_WEAK_WORDS, view.before(match.start(), 9)))
            or (digits < 9 and "-" not in value)
            or in_row(text, match.start(), stop, 1)
        )
        if weak or _UNIT.match(text, stop):
            continue
        extension = _EXTENSION_PATTERN.match(text, stop)
        stop = extension.end() if extension else stop
        if not _goes_on(text, stop) or text[stop] in _JOINTS:
            return [(low, stop)]
    return []


_UNIT = re.compile(r" ?(?:in [0-9]|ms\b|bytes|rows|times|[kmgt]i?b\b|%|x\b|s\b|,[0-9])", re.ASCII | re.IGNORECASE)
_BARE_DIGITS = re.compile(r"[0-9]{7,15}(?![0-9])", re.ASCII)
_EXTENSION_PATTERN = re.compile(_EXTENSION, re.ASCII)
