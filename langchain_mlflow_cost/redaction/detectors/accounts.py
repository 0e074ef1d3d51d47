"""Bank accounts and wallets: what has a checksum."""

# ruff: noqa: PLR2004 - numbers of digits and letters, as the formats themselves have them

from __future__ import annotations

import hashlib
import re

from langchain_mlflow_cost.redaction.detectors.data.iban_lengths import IBAN_LENGTHS
from langchain_mlflow_cost.redaction.detectors.view import WORD, Span, View

_IBAN_WHOLE = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,29}", re.ASCII)
_SEPARATORS = frozenset(" -")


_LETTER_VALUES = {ord(letter): str(value) for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 10)}


def passes_mod_97(iban: str) -> bool:
    """Check an IBAN without separators by ISO 7064."""
    return int((iban[4:] + iban[:4]).translate(_LETTER_VALUES)) % 97 == 1


def find_ibans(view: View, found: list[Span]) -> None:
    """Find account numbers, written in one or with a space or hyphen after every four characters."""
    done = 0
    for start in view.accounts:
        end = _iban_end(view.ascii, start) if start >= done else -1
        if end > 0:
            found.append((start, end, "IBAN_CODE"))
            done = end


def _iban_end(text: str, start: int) -> int:
    """Give where the account number ends that begins at `start`; -1 if there is none."""
    wanted = IBAN_LENGTHS.get(text[start : start + 2])
    if not wanted:
        return -1
    separator = text[start + 4 : start + 5]
    if separator in _SEPARATORS:
        end = start + wanted + (wanted - 1) // 4
        value = text[start:end].replace(separator, "")
    else:
        end = start + wanted
        value = text[start:end]
    if len(value) != wanted or not _IBAN_WHOLE.fullmatch(value) or (end < len(text) and text[end] in WORD):
        return -1
    return end if passes_mod_97(value) else -1


_WALLET = re.compile(
    r"(?:(?:bc1|tb1|ltc1)[02-9ac-hj-np-z]{11,87}+|(?:BC1|LTC1)[02-9AC-HJ-NP-Z]{11,87}+"
    r"|[13LMDT][1-9A-HJ-NP-Za-km-z]{25,34}+|0x[0-9a-fA-F]{40})(?!\w)",
    re.ASCII,
)
_BASE58 = {character: i for i, character in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_BECH32 = {character: i for i, character in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}


def find_wallets(view: View, found: list[Span]) -> None:
    """Find addresses of currencies that have a checksum, and Ethereum's, of which few have one."""
    for start in view.accounts:
        match = _WALLET.match(view.ascii, start)
        if not match:
            continue
        value = match.group()
        if value.startswith("0x"):
            real = len(set(value[2:])) > 4
        elif value[:3].lower() in {"bc1", "tb1", "ltc"}:
            real = passes_bech32(value.lower())
        else:
            real = passes_base58check(value)
        if real:
            found.append((start, match.end(), "CRYPTO"))


def passes_base58check(address: str) -> bool:
    """Check the four bytes at the end of an old-style address (Bitcoin, Litecoin, Dogecoin, Tron)."""
    number = 0
    for character in address:
        number = number * 58 + _BASE58[character]
    try:
        data = number.to_bytes(25, "big")
    except OverflowError:
        return False
    return hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]


def passes_bech32(address: str) -> bool:
    """Check the six characters at the end of a segwit address, by BIP 173 and BIP 350."""
    prefix, _, data = address.rpartition("1")
    values = [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]
    values += [_BECH32.get(character, 0) for character in data]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> i & 1:
                check ^= generator
    return check in {1, 0x2BC830A3}
