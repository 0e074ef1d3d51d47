r"""Recognise private files otherwise than by their base64: as bytes, and as bytes that stand in a text.

A program prints its state: `b'\x89PNG\r\n'`, hexadecimal digits, a list of numbers, bytes that were read as Latin-1.
Pure: bytes and strings in, positions out.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_mlflow_cost.redaction.letters import characters, letters_of
from langchain_mlflow_cost.redaction.private_index import FILE_SHARE, Index, Marks, Spans
from langchain_mlflow_cost.redaction.shingles import SHINGLE, hashes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_mlflow_cost.redaction.letters import Codes, Letters

_HEX = re.compile(r"[0-9a-fA-F]{2}(?:[ :]?[0-9a-fA-F]{2}){39,}")
_NUMBERS = re.compile(r"\d{1,3}(?:,\s{0,8}\d{1,3}){39,}")
_LONGEST_GAP: Final = 24
"""Letters in a row that bytes of a picture or of sound hardly have without one that is none."""
_FEWEST_BINARY: Final = 8
_HIGHEST: Final = 0xFF
_SHARE: Final = 0.5


def is_mostly_known(content: bytes, known: Sequence[Index | Marks]) -> bool:
    """Whether most of a file is of files that are known.

    Two pictures have a header, a profile of colours or a font in common: some pieces alone say nothing of a whole file.
    """
    for codes in _codes(content):
        pieces = int(np.count_nonzero(hashes_of(codes, SHINGLE) % np.uint64(FILE_SHARE) == 0))
        found = {int(at) for each in known for at in each.found_files(codes)}
        if pieces and len(found) > pieces * _SHARE:
            return True
    return False


def written_files(seen: Letters, plain: str, known: Sequence[Index | Marks]) -> Spans:
    """Where in a text bytes stand of which a piece is known, from the first character to behind the last.

    Args:
        seen: The characters of the text, and where they stand.
        plain: The same as a text.
        known: Pieces of private files.
    """
    return [
        (int(seen.starts[first]), int(seen.ends[last - 1]))
        for first, last, content in _written(plain, seen.codes)
        if any(len(each.found_files(codes)) for codes in _codes(content) for each in known)
    ]


def _written(plain: str, codes: Codes) -> Iterator[tuple[int, int, bytes]]:
    for run in _HEX.finditer(plain):
        digits = run[0].translate(_NO_SIGNS)
        yield *run.span(), bytes.fromhex(digits[: len(digits) // 2 * 2])
    for run in _NUMBERS.finditer(plain):
        numbers = [int(number) for number in run[0].split(",")]
        if max(numbers) <= _HIGHEST:
            yield *run.span(), bytes(numbers)
    # White space is no sign: an escape for a new line is read as a blank.
    is_sign = (codes < ord("\t")) | ((codes > ord("\r")) & (codes < ord(" "))) | (codes > ord("~"))
    binary = np.nonzero(is_sign & (codes <= _HIGHEST))[0]
    if len(binary) < _FEWEST_BINARY:
        return
    breaks = np.nonzero(np.diff(binary) > _LONGEST_GAP)[0] + 1
    for places in np.split(binary, breaks):
        if len(places) >= _FEWEST_BINARY:
            first, last = int(places[0]), int(places[-1]) + 1
            yield first, last, plain[first:last].encode("latin-1", "replace")


_NO_SIGNS: Final = str.maketrans("", "", " :")


def _codes(content: bytes) -> Iterator[Codes]:
    """The letters of the base64 of bytes, wherever in a file they may begin."""
    for offset in range(3):
        encoded = base64.b64encode(content[offset:]).decode()
        yield letters_of(characters(encoded))[0].codes
