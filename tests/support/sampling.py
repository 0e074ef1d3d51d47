"""Which cases of a matrix run at every change: `@pytest.mark.sampled(is_in=...)`; all of them run at night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def in_turn(**tables: Collection[Any]) -> Callable[..., bool]:
    """Each value of the first parameter with one value of the second, which take turns.

    Every value of both is tried, since the first has no fewer.
    """
    (one, rows), (other, columns) = ((name, list(values)) for name, values in tables.items())
    assert len(rows) >= len(columns)
    return lambda **case: rows.index(case[one]) % len(columns) == columns.index(case[other])
