"""Phone numbers: with a calling code by its length, national ones by their grouping and the words before them."""

# ruff: noqa: PLR2004 - numbers of digits and letters, as the formats themselves have them

from __future__ import annotations

import re
from typing import Any

from langchain_mlflow_cost.redaction.detectors.addresses import IPV4
from langchain_mlflow_cost.redaction.detectors.data.phone_lengths import PHONE_LENGTHS
from langchain_mlflow_cost.redaction.detectors.view import WORD, Span, View
from langchain_mlflow_cost.redaction.re2_search import is_in, spans, text_pattern, text_set

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
_ONLY_DATES = re.compile(
    rf"{_YEAR}([-/. ])[01]?[0-9]\1[0-3]?[0-9](?:[ -]+[0-9]{{1,2}})?"
    rf"|[0-3]?[0-9]([-/.])[0-3]?[0-9]\2{_YEAR}(?: +[0-9]{{1,2}})?"
    rf"|[0-9]+\.[0-9]+|{_YEAR}[ ]?[-/][ ]?{_YEAR}",
    re.ASCII,
)
_PHONE_WORDS = text_pattern(
    r"\b(?:tel(?:e?ph?one?s?|efon\w*|efoon\w*|\b)|phones?|ph|call(?:ed|ing|s|back)?|cell(?:ulare?|phone|s)?|cel|"
    r"mobiles?|mob|mobil\w*|fax|whats ?app|sms|text(?: me| us)?|dial(?:ed|ling)?|ring|reach(?:ed|able)?|"
    r"contact(?:s|ed)?|hotline|helpline|landline|voicemail|handy\w*|rufnummer|durchwahl|anruf\w*|t[ée]l(?:[ée]phone)?|"
    r"m[óo]vil|celular|portable|fixe|appel\w*|ll[áa]m\w*|chiam\w*|ligue|gsm|puhelin|telefone?|n[úu]mero|signal|viber|"
    r"pager|number(?: is)?|num|nr)\b|\b[tmpfcw][:.] ?$"
    r"|тел|телефон|звон|моб|電話|电话|手机|手機|携帯|전화|연락|휴대|फ़ोन|फोन|هاتف|جوال|τηλ|טלפון|נייד|โทร"
)
_OTHER_WORDS = text_pattern(
    r"\b(?:orders?|invoice|inv|account|acct|a/c|ids?|ref(?:erence)?|ticket|case|serial|sn|s/n|sku|isbn(?:-1[03])?|issn|"
    r"ean|upc|gtin|asin|doi|tracking|shipment|parcel|part|model|build|version|rev|revision|zip|postal|postcode|code|"
    r"amount|total|price|cost|sum|usd|eur|gbp|timestamp|epoch|unix|time|date|dated|pid|port|pp|vol|volume|pmid|batch|"
    r"lot|policy|claim|patent|vat|tax|ein|npi|iban|bic|swift|routing|sort|card|visa|mastercard|amex|uid|uuid|gid|imei|"
    r"imsi|iccid|vin|row|line|page|pages|hash|commit|sha|md5|job|run|task|bug|issue|pr|pull|request|transaction|txn|"
    r"booking|confirmation|reservation|flight|passport|licen[cs]e|student|employee|member|customer|product|item|"
    r"release|firmware|lat|lon|latitude|longitude|coordinates?|score|ratio|size|bytes|length|duration|seed|checksum|"
    r"barcode|record|entry|docket|permit|contract|quote|po|rma|register|registration|ssn|social|security|national|"
    r"siren|siret|cpf|cnpj|abn|nhs|medicare|population|serie)\b"
)
# Says which of the two are there in the time that looking for one takes.
_KINDS_OF_WORDS = text_set(_PHONE_WORDS.pattern, _OTHER_WORDS.pattern)
_ANY_NUMBER = re.compile(rb"[ ._:#-]*(?:number|num|nr|no|numero)(?: is)?")
_NO_PHONE_AFTER = tuple(mark.encode() for mark in "$€£¥₹#%")
_NEAR = 32
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
        for here, stop in _phones_in(view, start, end):
            found.append((here, stop, "PHONE_NUMBER"))
            done = stop


def _may_be_bare(view: View, start: int, digits: int) -> bool:
    """Dismiss quickly what most numbers in JSON are: digits with neither a plus nor a word before them."""
    if digits > 15:
        return False
    text = view.ascii
    return (
        text.startswith("0", start)
        or text[max(0, start - 2) : start].strip(" (").endswith("+")
        or text.startswith(")", start + digits)
        or is_in(_PHONE_WORDS, view.before(start, _NEAR))
    )


def _in_decimal(text: str, start: int) -> bool:
    return start > 1 and text[start - 1] == "." and text[start - 2].isdigit()


def _phones_in(view: View, start: int, end: int) -> list[tuple[int, int]]:
    """Find the numbers in a stretch of digits, which may be several, or begin with a date."""
    text = view.ascii
    # The bracket, the plus or both before the first digit.
    low = start
    while low > 0 and text[low - 1] in "+(" and start - low < 3:
        low -= 1
    before = text[low - 1] if low else " "
    is_glued = before in WORD
    if not is_glued and ("+" in text[low:start] or text.startswith("0", start)):
        found = _international(text, low, start, end)
        if found:
            return [found]
    if (is_glued and not before.islower()) or (before in "-/\\&." and low > 1 and text[low - 2] in WORD):
        return []
    hint: int | None = None
    numbers = []
    for here, stop in _shapes(text, low, end):
        if hint is None:
            hint = _hint(view, low)
        if _is_phone_shape(view, here, stop, hint) and (not is_glued or _GLUED_SHAPE.match(text, here)):
            numbers.append((here, stop))
    if numbers or is_glued:
        return numbers
    if hint is None:
        hint = _hint(view, low)
    return _hinted_phone(view, low, start, end) if hint > 0 else []


def _international(text: str, low: int, start: int, end: int) -> tuple[int, int] | None:
    match = _INTERNATIONAL.search(text, low, min(end + 12, len(text)))
    stop = _international_end(match) if match and match.start() <= start else -1
    if not match or stop < 0:
        return None
    closed = text[low] == "(" and text.count(")", low, stop) == text.count("(", low, stop)
    return (low if closed else match.start()), stop


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
    """Say what the words before a number make of it: a phone (1), something else (-1), nothing (0)."""
    before = view.before(start, _NEAR)
    line = before.rfind(b"\n")
    if line >= 0:
        # On the line before it only if nothing else stands before the number on its own.
        before = before[line + 1 :] if before[line + 1 :].strip() else before.rstrip()
    if before.endswith(_NO_PHONE_AFTER):
        return -1
    kinds = _KINDS_OF_WORDS.Match(before)
    if not kinds:
        return 0
    phone = _last_end(_PHONE_WORDS, before) if 0 in kinds else -1
    other = _last_end(_OTHER_WORDS, before) if 1 in kinds else -1
    # "order number 4155550132": the plain word "number" says nothing against the word before it.
    if other >= 0 and phone > other and _ANY_NUMBER.fullmatch(before, other, phone):
        return -1
    if phone < other:
        return -1
    # "Number 8, pp. 1371-1374": the word belongs to another number.
    return 0 if _ANY_DIGIT_BYTES.search(before, phone) else 1


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
    # China's bare numbers are as long as many an id: a word must say so.
    return hint > 0 if value.isdigit() else digits >= 8


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


def _hinted_phone(view: View, low: int, start: int, end: int) -> list[tuple[int, int]]:
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
        extension = _EXTENSION_PATTERN.match(text, stop)
        stop = extension.end() if extension else stop
        if not _goes_on(text, stop) or text[stop] in _JOINTS:
            return [(low, stop)]
    return []


_BARE_DIGITS = re.compile(r"[0-9]{7,15}(?![0-9])", re.ASCII)
_EXTENSION_PATTERN = re.compile(_EXTENSION, re.ASCII)
