"""What the scripted model answers satisfies the schema, whatever it is made of, and takes every way that it leaves."""

from __future__ import annotations

import itertools
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, Base64Bytes, BaseModel, Field, IPvAnyAddress, Json, TypeAdapter

from langchain_mlflow_cost.proof.shapes import Shapes


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    code: Annotated[str, Field(pattern=r"^\d{5}$")]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    home: Address | None


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


KINDS: dict[str, Any] = {
    "enum": Colour,
    "union": int | Address | None,
    "discriminated": Annotated[Cat | Dog, Field(discriminator="kind")],
    "recursive": Tree,
    "decimal": Decimal,
    "decimal places": Annotated[Decimal, Field(max_digits=6, decimal_places=2, gt=0)],
    "times": tuple[date, datetime, time, timedelta],
    "ids": tuple[UUID, AnyUrl, IPvAnyAddress],
    "json": Annotated[Any, Json],
    "bytes": Base64Bytes,
    "steps": Annotated[int, Field(ge=7, multiple_of=5)],
    "steps below": Annotated[int, Field(le=13, multiple_of=5)],
    "open": Annotated[float, Field(gt=0, lt=1)],
    "lengths": Annotated[str, Field(min_length=3, max_length=8)],
    "some": Annotated[list[Address], Field(min_length=2, max_length=3)],
    "named by an enum": dict[Colour, int],
    "named by a pattern": dict[Annotated[str, Field(pattern="^[a-z]+_[0-9]+$")], str],
    "phone": Annotated[str, Field(pattern=r"^\+[1-9]\d{6,14}$")],
    "order": Annotated[str, Field(pattern="^ORD-[0-9]{5}$")],
    "hash": Annotated[str, Field(pattern="^[a-f0-9]{32}$")],
    "currency": Annotated[str, Field(pattern="^[A-Z]{3}$")],
}


def shapes() -> Shapes:
    numbers = itertools.count()
    return Shapes(lambda most: f"text number {next(numbers)}"[:most])


@pytest.mark.parametrize("kind", KINDS)
def test_values_satisfy_their_schema(kind: str) -> None:
    """In each of many turns."""
    adapter, made = TypeAdapter(KINDS[kind]), shapes()

    for _ in range(12):
        adapter.validate_python(made.of_schema(adapter.json_schema(), "place"))


@pytest.mark.parametrize(
    ("kind", "ways"),
    [
        (int | None, {int, type(None)}),
        (Annotated[list[str], Field(max_length=5)], {0, 1, 2}),
        (Annotated[float, Field(ge=0)], {"low", "high"}),
        (Cat | Dog | None, {Cat, Dog, type(None)}),
    ],
)
def test_every_way_is_taken(kind: Any, ways: set[Any]) -> None:
    """Nothing at all, none, one and several, a small and a large number, each of the alternatives."""
    adapter, made = TypeAdapter(kind), shapes()
    values = [adapter.validate_python(made.of_schema(adapter.json_schema(), "place")) for _ in range(9)]

    def way(value: Any) -> Any:
        if isinstance(value, list):
            return len(value)
        return ("high" if value >= 1 else "low") if isinstance(value, float) else type(value)

    assert {way(value) for value in values} == ways
