"""Times as people type them: a day, a moment, `7d`, a time zone."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import typer

from langchain_mlflow_cost.notices import nearest

_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_SPAN: Final = re.compile(r"(\d{1,6})([mhdw])")


def read_zone(name: str) -> tzinfo:
    """Read `UTC`, `local` or a name such as `Europe/Berlin`.

    Raises:
        typer.BadParameter: There is none of that name.
    """
    if name.lower() == "local":
        return _local_zone()
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        near = nearest(name, sorted(available_timezones()))
        remedy = f"did you mean {near}?" if near else "expected a name such as Europe/Berlin, UTC, or local"
        raise typer.BadParameter(f"no time zone {name}; {remedy}", param_hint="--timezone") from error


def _local_zone() -> tzinfo:
    """The machine's zone, with its changes of clocks where it is told which zone that is; else as it is now."""
    name = os.environ.get("TZ", "").removeprefix(":")
    try:
        if name:
            return ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as rules:
            return ZoneInfo.from_file(rules)
    except (KeyError, ValueError, OSError):
        # Rules in `TZ` itself (`CET-1CEST`), or a system that keeps them elsewhere.
        return datetime.now().astimezone().tzinfo or UTC


def read_period(
    since: str | None, until: str | None, last: str | None, zone: tzinfo
) -> tuple[int | None, int | None, int | None]:
    """Read when a report's traces began: from, to (milliseconds since the epoch), and the latest so many.

    Args:
        since: A day, a moment, or `7d`: so long ago.
        until: A day, whose end is meant, a moment, or so long ago.
        last: `100` traces, or `7d`.
        zone: Whose days, and whose moments where none is told.

    Raises:
        typer.BadParameter: One of them cannot be read, or they exclude each other.
    """
    since_ms = None if since is None else _moment(since, zone, "--since")
    until_ms = None if until is None else _moment(until, zone, "--until", is_end=True)
    most = None
    if last is not None:
        length = _SPAN.fullmatch(last)
        if length is not None:
            if since is not None:
                raise typer.BadParameter(f"{last} and --since say both from when on", param_hint="--last")
            since_ms = _ms((datetime.now(UTC) if until_ms is None else _at(until_ms)) - _length(length))
        elif last.isdecimal() and int(last) > 0:
            most = int(last)
        else:
            raise typer.BadParameter(f"{last!r} is no number of traces, and no 24h, 7d or 4w", param_hint="--last")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise typer.BadParameter("ends before it begins", param_hint="--until")
    return since_ms, until_ms, most


def read_length(text: str, option: str) -> timedelta:
    """Read `30d`, `4w`, `12h`.

    Raises:
        typer.BadParameter: It is none.
    """
    length = _SPAN.fullmatch(text.strip())
    if length is None:
        raise typer.BadParameter(f"{text!r} is no 30d, 4w or 12h", param_hint=option)
    return _length(length)


def _moment(text: str, zone: tzinfo, option: str, *, is_end: bool = False) -> int:
    length = _SPAN.fullmatch(text)
    if length is not None:
        return _ms(datetime.now(UTC) - _length(length))
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no 2026-11-01, 2026-11-01T09:30 or 7d", param_hint=option) from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone)
    if is_end and re.fullmatch(r"[\d-]+", text):
        # The day's end by its clock: one on which the clocks are changed has not 24 hours.
        found = (found.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
    return _ms(found)


def _length(found: re.Match[str]) -> timedelta:
    return int(found[1]) * _UNITS[found[2]]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
