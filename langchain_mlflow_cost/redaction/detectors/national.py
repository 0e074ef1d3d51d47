"""Numbers that states give people, where a check digit tells them from others: each an entity, found only if listed.

The check digits are a few lines each; python-stdnum, whose import takes a third of a second, is the judge in the tests.
"""

# ruff: noqa: PLR2004, E501 - lengths and moduli, as the states themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from langchain_mlflow_cost.redaction.detectors.view import WORD, Span, View
from langchain_mlflow_cost.redaction.re2_search import byte_pattern, is_in, spans, text_pattern

if TYPE_CHECKING:
    from collections.abc import Callable


class National(NamedTuple):
    """One kind of number. To add one: a row in `NATIONAL` and one in the tests' table of python-stdnum's modules."""

    what: str
    pattern: str
    """In RE2's syntax, separators included."""
    is_valid: Callable[[str], bool]
    """Asked with letters and digits alone, in capitals."""
    examples: tuple[str, ...]
    words: str = ""
    """One of which must stand before it, where the check digit alone lets one in ten through."""


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _luhn(digits: str) -> bool:
    doubled = [int(one) * (2 if i % 2 else 1) for i, one in enumerate(reversed(digits))]
    return sum(one // 10 + one % 10 for one in doubled) % 10 == 0


def _nhs(value: str) -> bool:
    check = 11 - _weighted(value[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check % 11 == int(value[9]) and check != 10


def _nif(value: str) -> bool:
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(value[:8]) % 23] == value[8]


def _nie(value: str) -> bool:
    return _nif(str("XYZ".index(value[0])) + value[1:])


_ODD_VALUES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _codice_fiscale(value: str) -> bool:
    numbers = [int(one) if one.isdigit() else ord(one) - 65 for one in value[:15]]
    total = sum(_ODD_VALUES[one] if i % 2 == 0 else one for i, one in enumerate(numbers))
    return chr(65 + total % 26) == value[15]


def _date(text: str, *, century_months: bool = False) -> bool:
    month, day = int(text[2:4]), int(text[4:6])
    return 1 <= (month % 20 if century_months else month) <= 12 and 1 <= day <= 31


def _pesel(value: str) -> bool:
    return (10 - _weighted(value, (1, 3, 7, 9) * 2 + (1, 3)) % 10) % 10 == int(value[10]) and _date(
        value, century_months=True
    )


def _mod_11_pair(value: str, weights: tuple[int, ...], size: int) -> bool:
    """Check two digits at the end, each by the sum of all before it (Brazil)."""
    for position in (size, size + 1):
        rest = _weighted(value[:position], weights[-position:]) % 11
        if int(value[position]) != (0 if rest < 2 else 11 - rest):
            return False
    return len(set(value)) > 1


def _cpf(value: str) -> bool:
    return _mod_11_pair(value, (11, 10, 9, 8, 7, 6, 5, 4, 3, 2), 9)


def _cnpj(value: str) -> bool:
    return _mod_11_pair(value, (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2), 12)


def _verhoeff(value: str) -> bool:
    check = 0
    for i, one in enumerate(reversed(value)):
        step = int(one)
        for _ in range(i % 8):
            step = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[step]
        # The group of the symmetries of a pentagon.
        turn, flip = check % 5, check // 5
        turn = (turn - step % 5 if flip else turn + step % 5) % 5
        check = turn + 5 * (flip ^ (step // 5))
    return check == 0 and value[0] not in "01" and value != value[::-1]


def _nir(value: str) -> bool:
    number = value[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(value[13:])


def _bsn(value: str) -> bool:
    return _weighted(value, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and int(value) > 0


def _belgium(value: str) -> bool:
    # Of those born since 2000, with a 2 in front.
    return _date(value) and any(97 - int(prefix + value[:9]) % 97 == int(value[9:]) for prefix in ("", "2"))


def _personnummer(value: str) -> bool:
    return _luhn(value[-10:]) and _date(value[-10:])


def _hetu(value: str) -> bool:
    return (
        "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(value[:6] + value[-4:-1]) % 31] == value[-1]
        and 1 <= int(value[2:4]) <= 12
    )


def _fodselsnummer(value: str) -> bool:
    first = -_weighted(value, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = -_weighted(value, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return str(first) + str(second) == value[9:] and 1 <= int(value[:2]) % 40 <= 31 and 1 <= int(value[2:4]) % 40 <= 12


def _ric(value: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return (
        "10X98765432"[_weighted(value[:17], weights) % 11] == value[17]
        and _date(value[8:14])
        and value[6:8] in {"19", "20"}
    )


def _tfn(value: str) -> bool:
    return _weighted(value, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _abn(value: str) -> bool:
    return (
        _weighted(str(int(value[0]) - 1) + value[1:], (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) % 89 == 0
        if value[0] != "0"
        else False
    )


def _tckn(value: str) -> bool:
    odd, even = sum(map(int, value[0:9:2])), sum(map(int, value[1:8:2]))
    tenth = (7 * odd - even) % 10
    return value[0] != "0" and int(value[9]) == tenth and (odd + even + tenth) % 10 == int(value[10])


def _idnr(value: str) -> bool:
    check = 10
    for one in value[:10]:
        check = 2 * ((int(one) + check) % 10 or 10) % 11
    counts = sorted(value[:10].count(digit) for digit in set(value[:10]))
    return (11 - check) % 10 == int(value[10]) and value[0] != "0" and counts[-1] in {2, 3} and counts.count(1) >= 7


def _ahv(value: str) -> bool:
    return (10 - _weighted(value, (1, 3) * 6) % 10) % 10 == int(value[12])


NATIONAL: dict[str, National] = {
    "UK_NHS": National("United Kingdom: NHS number, mod 11", r"\b[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}\b", _nhs, ("401 023 2137",), r"nhs|patient|health"),
    "ES_NIF": National("Spain: NIF, mod 23", r"\b[0-9]{8}-?[A-HJ-NP-TV-Z]\b", _nif, ("12345678Z", "54362315-K")),
    "ES_NIE": National("Spain: NIE, mod 23", r"\b[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]\b", _nie, ("X2482300W",)),
    "IT_FISCAL_CODE": National("Italy: codice fiscale", r"\b[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]\b", _codice_fiscale, ("RCCMNL83S18D969H",)),
    "PL_PESEL": National("Poland: PESEL", r"\b[0-9]{11}\b", _pesel, ("44051401359",), r"pesel"),
    "BR_CPF": National("Brazil: CPF", r"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", _cpf, ("123.456.789-09",)),
    "BR_CNPJ": National("Brazil: CNPJ", r"\b[0-9]{2}\.[0-9]{3}\.[0-9]{3}/[0-9]{4}-[0-9]{2}\b", _cnpj, ("16.727.230/0001-97",)),
    "IN_AADHAAR": National("India: Aadhaar, Verhoeff", r"\b[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}\b", _verhoeff, ("2341 2341 2346",)),
    "FR_NIR": National("France: number of social security, mod 97", r"\b[1-478] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b", _nir, ("2 95 10 99 126 111 93",)),
    "NL_BSN": National("Netherlands: BSN", r"\b[0-9]{4}\.?[0-9]{2}\.?[0-9]{3}\b", _bsn, ("1112.22.333",), r"bsn|sofi|burgerservice"),
    "BE_NN": National("Belgium: national number, mod 97", r"\b[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}[.-][0-9]{2}\b", _belgium, ("85.07.30-033.28",)),
    "SE_PERSONNUMMER": National("Sweden: personnummer, Luhn", r"\b(?:19|20)?[0-9]{6}[-+][0-9]{4}\b", _personnummer, ("880320-0016",)),
    "FI_PERSONAL_IDENTITY_CODE": National("Finland: hetu, mod 31", r"\b[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]\b", _hetu, ("131052-308T",)),
    "NO_FODSELSNUMMER": National("Norway: fødselsnummer", r"\b[0-9]{6} ?[0-9]{5}\b", _fodselsnummer, ("151086 95088",)),
    "CN_RIC": National("China: number of the resident's card", r"\b[1-9][0-9]{16}[0-9Xx]\b", _ric, ("360426199101010071",)),
    "AU_TFN": National("Australia: tax file number", r"\b[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}\b", _tfn, ("123 456 782",), r"tfn|tax file"),
    "AU_ABN": National("Australia: business number, mod 89", r"\b[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}\b", _abn, ("83 914 571 673",)),
    "CA_SIN": National("Canada: social insurance number, Luhn", r"\b[1-79][0-9]{2}[ -][0-9]{3}[ -][0-9]{3}\b", _luhn, ("123-456-782",)),
    "TR_TCKN": National("Turkey: kimlik no", r"\b[1-9][0-9]{10}\b", _tckn, ("17291716060",), r"kimlik|tckn|\btc\b|t\.c\."),
    "DE_TAX_ID": National("Germany: Steuer-Identifikationsnummer", r"\b[1-9][0-9](?: [0-9]{3}){3}\b|\b[1-9][0-9]{10}\b", _idnr, ("36 574 261 809",), r"steuer|idnr|tax|tin\b"),
    "CH_AHV": National("Switzerland: AHV number", r"\b756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}\b", _ahv, ("756.9217.0769.85",)),
    "ZA_ID": National("South Africa: identity number, Luhn", r"\b[0-9]{13}\b", lambda value: _luhn(value) and _date(value), ("7503305044089",), r"identity|id no|id number|south african"),
}  # fmt: skip

_PLAIN = re.compile(r"[^A-Za-z0-9]")


def finder(name: str) -> Callable[[View, list[Span]], None]:
    """Give what finds one kind."""
    row = NATIONAL[name]
    anchor = byte_pattern(row.pattern)
    words = text_pattern(row.words) if row.words else None

    def find(view: View, found: list[Span]) -> None:
        text = view.ascii
        for start, end in spans(anchor, view.bytes):
            if (start and text[start - 1] in ".-" and text[start - 2 : start - 1] in WORD) or text[
                end : end + 1
            ] in WORD - {""}:
                continue
            value = _PLAIN.sub("", text[start:end]).upper()
            if row.is_valid(value) and (words is None or is_in(words, view.before(start, 48))):
                found.append((start, end, name))
                view.because(start, end, row.what)

    return find
