"""Runs of letters as 64-bit numbers, and large sets of such numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_mlflow_cost.redaction.letters import Codes, Positions

SHINGLE: Final = 12
"""Letters and digits that must agree in a row. Fewer would find common phrases, more would miss short prefixes."""
ORDINARY: Final = 40
"""Letters that must agree in a row where all of them are of ordinary words."""

Hashes = NDArray[np.uint64]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: an odd constant that spreads neighbours well


def _powers() -> Hashes:
    powers = np.empty(SHINGLE, dtype=np.uint64)
    power = np.uint64(1)
    with np.errstate(over="ignore"):
        for index in range(SHINGLE):
            powers[index] = power
            power = power * _MULTIPLIER
    return powers


_POWERS = _powers()


def _mixed(total: Hashes) -> Hashes:
    total ^= total >> np.uint64(29)
    total *= _MULTIPLIER
    return total


def hashes_of(codes: Codes, length: int) -> Hashes:
    """One hash for each run of `length` letters."""
    count = len(codes) - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    wide = codes.astype(np.uint64)
    total = wide[:count].copy()
    part = np.empty(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(1, length):
            np.multiply(wide[offset : offset + count], _POWERS[offset], out=part)
            total += part
        return _mixed(total)


_LONG_OFFSETS: Final = (*range(0, ORDINARY - SHINGLE, SHINGLE), ORDINARY - SHINGLE)


def joined(parts: Iterable[Hashes], length: int) -> Hashes:
    """One hash for each run of `length` letters, of those of the pieces of `SHINGLE` letters that cover it."""
    with np.errstate(over="ignore"):
        total: Hashes | None = None
        for part in parts:
            total = part.copy() if total is None else total * _MULTIPLIER + part
        assert total is not None
        return _mixed(total + np.uint64(length))


def long_hashes(short: Hashes) -> Hashes:
    """One hash for each run of `ORDINARY` letters, of those of its runs of `SHINGLE`."""
    count = len(short) - _LONG_OFFSETS[-1]
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    return joined((short[offset : offset + count] for offset in _LONG_OFFSETS), ORDINARY)


class Known:
    """A growing set of hashes."""

    __slots__ = ("_filter", "_fresh", "_sorted")

    def __init__(self) -> None:
        self._fresh: list[Hashes] = []
        self._sorted: Hashes = np.empty(0, dtype=np.uint64)
        self._filter = np.zeros(1, dtype=bool)

    def __len__(self) -> int:
        return len(self._sorted) + sum(map(len, self._fresh))

    def add(self, hashes: Hashes) -> None:
        """Add some; `settle` sorts them in."""
        if len(hashes):
            self._fresh.append(hashes)

    def settle(self) -> None:
        """Make what was added known to `found_in`."""
        if not self._fresh:
            return
        # Sorting and comparing neighbours: `np.unique` takes a hash table, 20 times slower for distinct numbers.
        merged = np.sort(np.concatenate((*self._fresh, self._sorted)))
        self._sorted = merged[np.concatenate(([True], merged[1:] != merged[:-1]))]
        self._fresh = []
        bits = min(max(len(self._sorted).bit_length() + 2, 10), 25)
        self._filter = np.zeros(1 << bits, dtype=bool)
        self._filter[self._sorted >> np.uint64(64 - bits)] = True

    def found_in(self, hashes: Hashes) -> Positions:
        """The places of those hashes that are known."""
        if not len(self._sorted) or not len(hashes):
            return np.empty(0, dtype=np.intp)
        # Most are not: a look into a small table tells so many times faster than a search.
        bits = len(self._filter).bit_length() - 1
        likely = np.nonzero(self._filter[hashes >> np.uint64(64 - bits)])[0]
        if not len(likely):
            return likely
        wanted = hashes[likely]
        # Looking up in order is many times faster than at random.
        order = np.argsort(wanted)
        ordered = wanted[order]
        at = np.searchsorted(self._sorted, ordered)
        at[at == len(self._sorted)] = 0
        return np.sort(likely[order[self._sorted[at] == ordered]])


def winnowed(hashes: Hashes, wanted: NDArray[np.bool_], window: int) -> Hashes:
    """Some of the wanted hashes, of which each stretch of `window` wanted ones has at least one: the smallest."""
    if not wanted.any():
        return np.empty(0, dtype=np.uint64)
    masked = np.where(wanted, hashes, _NONE)
    if len(masked) < window:
        least: Hashes = np.min(masked, keepdims=True)
        return least
    smallest, width = masked, 1
    while 2 * width <= window:
        smallest = np.minimum(smallest[:-width], smallest[width:])
        width *= 2
    if width < window:
        smallest = np.minimum(smallest[: width - window], smallest[window - width :])
    # Neighbouring windows mostly have the same one.
    chosen = smallest[np.concatenate(([True], smallest[1:] != smallest[:-1]))]
    kept: Hashes = chosen[chosen != _NONE]
    return kept


_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)


def keyed(hashes: Hashes, key: bytes) -> Hashes:
    """Each hash by SipHash-2-4 under a key of 16 bytes: without it nobody can tell which text a number is of."""
    k0, k1 = np.frombuffer(key, dtype="<u8")
    v0 = np.full(len(hashes), k0 ^ np.uint64(0x736F6D6570736575), dtype=np.uint64)
    v1 = np.full(len(hashes), k1 ^ np.uint64(0x646F72616E646F6D), dtype=np.uint64)
    v2 = np.full(len(hashes), k0 ^ np.uint64(0x6C7967656E657261), dtype=np.uint64)
    v3 = np.full(len(hashes), k1 ^ np.uint64(0x7465646279746573), dtype=np.uint64)
    length = np.uint64(8 << 56)
    with np.errstate(over="ignore"):
        for block in (hashes, np.full(len(hashes), length, dtype=np.uint64)):
            v3 ^= block
            for _ in range(2):
                v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0 ^= block
        v2 ^= np.uint64(0xFF)
        for _ in range(4):
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    mixed: Hashes = v0 ^ v1 ^ v2 ^ v3
    return mixed


def _turned(value: Hashes, bits: int) -> Hashes:
    turned: Hashes = (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))
    return turned


def _sip_round(v0: Hashes, v1: Hashes, v2: Hashes, v3: Hashes) -> tuple[Hashes, Hashes, Hashes, Hashes]:
    v0 = v0 + v1
    v1 = _turned(v1, 13) ^ v0
    v0 = _turned(v0, 32)
    v2 = v2 + v3
    v3 = _turned(v3, 16) ^ v2
    v0 = v0 + v3
    v3 = _turned(v3, 21) ^ v0
    v2 = v2 + v1
    v1 = _turned(v1, 17) ^ v2
    return v0, v1, _turned(v2, 32), v3
