"""Where settings stand in their file: a tree of lines beside the plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Location: TypeAlias = tuple[str | int, ...]
"""Keys of mappings and positions in lists, from the outermost inwards."""

ONE_FOR_ALL: Final = "*"
"""The key under which a value stands that is for all keys of a mapping, where there may be one instead."""


@dataclass(slots=True)
class Lines:
    """The line of one value, and those of what is in it; empty where there is no file."""

    line: int | None = None
    inner: dict[str | int, Lines] = field(default_factory=dict)

    def at(self, *steps: str | int) -> Lines:
        """The lines below a location; empty ones where nothing is written there."""
        lines = self
        for step in steps:
            lines = lines.inner.get(step) or Lines()
        return lines

    def of(self, location: Location) -> int | None:
        """The line of the innermost part of a location that is written down."""
        line, lines = self.line, self
        for step in location:
            inner = lines.inner.get(step)
            if inner is None:
                break
            line, lines = inner.line or line, inner
        return line


@dataclass
class Settings:
    """The settings as written, and where.

    Attributes:
        name: Names the source in messages: the path of a file, else `policy`.
        values: Key to value, plain; under `nodes` a mapping from pattern to overrides, whichever way it was written.
        lines: Where they stand.
        is_workflow: They are a part of something larger, whose other parts are not ours to judge.
        hints: Warnings found while reading, each with where.
        faults: What is wrong whatever the values are: the line, the words, and the setting.
    """

    name: str
    values: dict[str, Any]
    lines: Lines = field(default_factory=Lines)
    is_workflow: bool = False
    hints: list[str] = field(default_factory=list)
    faults: list[tuple[int, str, Location]] = field(default_factory=list)

    def where(self, location: Location) -> str:
        """Name the place of a setting: `observability.yaml:14`; without lines the name alone."""
        return place(self.name, self.line(location))

    def line(self, location: Location) -> int | None:
        """The line of a setting, or of the innermost part of its location that is written down."""
        return self.lines.of(location)

    def as_written(self, location: Location) -> Location:
        """Leave out the positions in a list or mapping that stands for what was written as one value."""
        steps: list[str | int] = []
        values: Any = self.values
        for step in location:
            one_for_all = step == ONE_FOR_ALL and not isinstance(values, Mapping)
            one_for_a_list = isinstance(step, int) and not isinstance(values, list | Mapping)
            if (
                one_for_all
                or one_for_a_list
                or (isinstance(values, Mapping) and isinstance(step, int) and step not in values)
            ):
                continue
            steps.append(step)
            try:
                values = values[step]
            except (KeyError, IndexError, TypeError):
                values = None
        return tuple(steps)


def place(name: str, line: int | None) -> str:
    """Name a line of a source, or the source alone."""
    return name if line is None else f"{name}:{line}"
