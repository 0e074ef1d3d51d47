"""Pictures, sound and fonts in base64: not searched and not changed, since chance makes a key's shape in megabytes of it."""

# ruff: noqa: E501 - a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction.re2_search import byte_pattern, is_in, spans

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.detectors.view import Span

# What a file begins with, in base64: PNG, JPEG, GIF, WebP and WAV (RIFF), BMP with its usual header, TIFF, MP4 and its
# kin, MP3 (ID3, or a frame), Ogg, FLAC, WebM, AVIF and HEIC, WOFF, ICO, PDF is text and not one of them.
_MAGIC = byte_pattern(
    r"(?:iVBORw0KGgo|/9j/[234]|R0lGOD[dl]h|UklGR|Qk[01][A-Za-z0-9+/]{4}AAAA|SUkqA|TU0AK|AAAA[A-Za-z0-9+/]{3}mdHlw|SUQz[AB]|//[uv][QUk]|"
    r"T2dnUw|ZkxhQw|GkXfo|d09GM|d09GR|AAABAA)[A-Za-z0-9+/]{48}"
)
# For what is no longer than a key, it takes less time than RE2 to begin.
_MAGIC_OF_FEW, _FEW = re.compile(_MAGIC.pattern), 200
_RUN = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)
_ALL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LETTERS = frozenset(_ALL)
_GLUED = _LETTERS | frozenset("=_-")
_SHORTEST = 48
# To look for pictures costs as much as to look at so many.
_MANY = 400


def pictures(text: str, data: bytes) -> list[tuple[int, int]]:
    """Give where strict base64 of a known kind of file stands, whole: from its first letter to its last."""
    result: list[tuple[int, int]] = []
    done = 0
    for start, _ in spans(_MAGIC, data):
        if start < done or (start and text[start - 1] in _GLUED):
            continue
        run = _RUN.match(text, start)
        assert run is not None
        done = run.end()
        # Strict: four letters for three bytes, the end filled up; what was cut off says nothing of itself.
        if (done - start) % 4 == 0 and (done == len(text) or text[done] not in _GLUED):
            result.append((start, done))
    return result


def may_be_in_picture(found: list[Span], text: str, data: bytes) -> bool:
    """Say whether anything that was found goes on in what may be base64, or holds the beginning of a picture."""
    return len(found) > _MANY or any(
        (end - start > _SHORTEST and _begins_picture(data[start:end]))
        or (start > 0 and text[start - 1] in _LETTERS and _is_long(text, start, end))
        or (end < len(text) and text[end] in _LETTERS and _is_long(text, start, end))
        for start, end, _ in found
    )


def _begins_picture(found: bytes) -> bool:
    return is_in(_MAGIC, found) if len(found) > _FEW else _MAGIC_OF_FEW.search(found) is not None


def _is_long(text: str, start: int, end: int) -> bool:
    """Say whether what was found and the letters around it are together as long as the shortest picture."""
    before, after = text[max(0, start - _SHORTEST) : start], text[end : end + _SHORTEST]
    return len(before) - len(before.rstrip(_ALL)) + end - start + len(after) - len(after.lstrip(_ALL)) > _SHORTEST


def outside(found: list[Span], kept: list[tuple[int, int]]) -> list[Span]:
    """Leave out what was found inside of a picture."""
    result = []
    number = 0
    for one in sorted(found):
        while number < len(kept) and kept[number][1] <= one[0]:
            number += 1
        if number == len(kept) or not (kept[number][0] < one[1] and one[0] < kept[number][1]):
            result.append(one)
    return result
