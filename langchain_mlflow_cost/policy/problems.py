"""Telling a user what is wrong with a setting: where it stands, what was expected and found, what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.policy.lines import Location

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError

    from langchain_mlflow_cost.policy.lines import Settings

KnownKeys: TypeAlias = Callable[[Location], tuple[str, ...]]
"""Which keys there are below a location."""


class PolicyWarning(UserWarning):
    """Something in a policy that is allowed but probably not meant, such as an unknown key in a workflow file."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value with a tag that is not plain YAML: harmless in a part that is not read; no setting has such a type."""

    tag: str


class Problem(ValueError):  # noqa: N818 - it never reaches a user; what does is a PolicyError
    """What is wrong with a setting, and which; where it stands is known to whoever read it."""

    def __init__(self, text: str, location: Location, others: Sequence[Problem] = ()) -> None:
        super().__init__(text)
        self.location = location
        self.others = tuple(others)
        """What was found together with it."""


def problem_of(error: PolicyError, location: Location, section: str) -> Problem:
    """Say of an error about one section of the settings where it stands.

    Its key may begin with the section or below it, and is not split further: a name in it may hold dots itself.
    """
    key = (error.key or section).removeprefix(f"{section}.")
    at = (*location, section, *([] if key == section else key.split(".", 1)))
    return Problem(f"{dotted(at)}: {str(error).removeprefix(f'{error.key}: ')}", at)


# Values of these may be or hold credentials.
_UNQUOTED: Final = frozenset({"hash_key", "tracking_uri", "store"})


class Located(NamedTuple):
    """One thing that is wrong, as a user reads it."""

    line: int
    """0 where there is no file."""
    text: str
    """With the place of the setting."""
    at: Location


def policy_error(found: Iterable[Located]) -> PolicyError:
    """Put all that was found into one error, a line for each, in the order of the file."""
    ordered = sorted(found, key=lambda each: each.line)
    return PolicyError("\n".join(dict.fromkeys(each.text for each in ordered)), key=dotted(ordered[0].at) or None)


def problems_in(settings: Settings, error: ValidationError, known_keys: KnownKeys) -> list[Located]:
    """Say of all that pydantic found where it stands."""
    found_at: list[Located] = []
    for each in error.errors(include_url=False):
        at = settings.as_written(each["loc"])
        context = each.get("ctx") or {}
        problem = context.get("error")
        if isinstance(problem, Problem):
            for one in (problem, *problem.others):
                at = settings.as_written(one.location)
                found_at.append(Located(settings.line(at) or 0, f"{settings.where(at)}: {one}", at))
            continue
        if each["type"] == "extra_forbidden":
            text = unknown_key(at, known_keys)
        elif each["type"] == "missing":
            at, key = at[:-1], at[-1]
            text = f"{dotted(at)} needs {key}; add it"
        else:
            expected, remedy = _expected(each["type"], each["input"], context, each["msg"])
            if remedy:
                remedy = _as_it_should_be(each["type"], each["input"], at) or remedy
            found = described(each["input"]) if _UNQUOTED.isdisjoint(at) else "something else"
            text = f"{dotted(at)}: {expected}" + (f", found {found}; {remedy}" if remedy else "")
        found_at.append(Located(settings.line(at) or 0, f"{settings.where(at)}: {text}", at))
    return found_at


def dotted(location: Location) -> str:
    """Write a location as a path: `nodes.writer.budget.0.max_cost_usd`."""
    return ".".join(str(step) for step in location if step != "[key]")


_CORRECT: Final = "correct it or leave the key out"

# By pydantic's names of its errors: what was expected, and what to do about it.
_EXPECTED: Final = {
    "int_type": ("expected a whole number", _CORRECT),
    "dict_type": ("expected a mapping", _CORRECT),
    "model_type": ("expected a mapping", _CORRECT),
    "model_attributes_type": ("expected a mapping", _CORRECT),
    "tuple_type": ("expected a list", _CORRECT),
    "is_instance_of": ("expected a number", _CORRECT),
    "decimal_type": ("expected a number", _CORRECT),
    "finite_number": ("expected a number", _CORRECT),
    "invalid_key": ("expected a text as key", "put it in quotes"),
    "string_too_short": ("expected a text", "write one or leave the key out"),
}

_BOUNDS: Final = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than_equal": ("of at most", "le"),
}


def _expected(kind: str, value: object, context: Mapping[str, Any], message: str) -> tuple[str, str | None]:
    """Say what was expected instead of a value, and what to do; with None the first says it all."""
    if isinstance(context.get("error"), ValueError):
        return str(context["error"]), None
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        near = nearest(value, choices) if isinstance(value, str) else None
        return f"expected {_either(choices)}", f'did you mean "{near}"?' if near else "write one of these"
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        return f"expected a number {word} {context[bound]}", _CORRECT
    if kind == "bool_type":
        is_quoted = isinstance(value, str) and value.strip().lower() in _QUOTED
        return "expected true or false", "write it without quotes" if is_quoted else _CORRECT
    if kind == "string_type":
        return "expected a text", "put it in quotes" if isinstance(value, bool | int | float) else _CORRECT
    return _EXPECTED.get(kind, (message, None))


_QUOTED: Final = frozenset({"true", "false", "yes", "no", "on", "off"})
"""What YAML reads as true or false where it has no quotes."""
_LISTS: Final = frozenset({"entities", "keys", "trace_metadata"})
_QUOTED_LENGTH: Final = 40


def _as_it_should_be(kind: str, value: object, at: Location) -> str | None:
    """Write a value in the form that was meant, for the two that are most often written in another one."""
    # `nodes.budget` is a node of that name.
    limit = next((step for step in reversed(at) if isinstance(step, str)), "") == "budget" and at != ("nodes", "budget")
    if limit and kind in {"model_type", "model_attributes_type"} and not isinstance(value, bool):
        amount = value if isinstance(value, int | float) else "0.50"
        one = f"{{max_cost_usd: {amount}}}"
        return f"write `{one}`" if isinstance(at[-1], int) else f"write `budget: {one}`, or a list of such"
    if kind == "tuple_type" and at[-1] in _LISTS and isinstance(value, str) and len(value) <= _QUOTED_LENGTH:
        return f"write `[{value if re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', value) else json.dumps(value)}]`"
    return None


def _either(choices: Sequence[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else "".join(choices)


def unknown_key(location: Location, known_keys: KnownKeys, *, list_known: bool = True) -> str:
    """Name an unknown key and the one that was probably meant."""
    parent, key = location[:-1], str(location[-1])
    known = known_keys(parent)
    near = nearest(key, known)
    text = f'unknown key "{key}"' + (f" in {dotted(parent)}" if parent else "")
    if parent[:1] == ("nodes",) and key in known_keys(()):
        return f"{text}; it holds for the whole policy, here are known {', '.join(known)}"
    if near:
        return f'{text}; did you mean "{near}"?'
    return f"{text}; known are {', '.join(known)}" if list_known else text


_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (Mapping, "a mapping"),
    ((list, tuple), "a list"),
)


def described(value: object) -> str:
    """Say what a value is, for a message; long texts are not quoted whole."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, str):
        cut = value if len(value) <= _QUOTED_LENGTH else f"{value[:_QUOTED_LENGTH]}..."
        return f'the text "{cut}"'
    if isinstance(value, int | float | Decimal):
        if value != value:  # noqa: PLR0124 - true of nan alone
            return "nan, which is not a number"
        # Python refuses to write out an `int` of thousands of digits.
        is_long = isinstance(value, int) and abs(value) >= 10**_QUOTED_LENGTH
        return f"a number of more than {_QUOTED_LENGTH} digits" if is_long else f"the number {value}"
    if isinstance(value, Unreadable):
        return f"a value tagged {value.tag}"
    return next((words for kind, words in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")
