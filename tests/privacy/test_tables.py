"""Data that a private node was told row by row stands in no other node by columns, or value by value."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from fakes import Chat, graph
from langchain_core.tools import tool
from leaks import Sinks, kept, letters

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

POLICIES: dict[str, dict[str, Any]] = {
    "private": {"artifact_level": "full", "nodes": {"analyst": {"log_prompts": False}}},
    "open": {"artifact_level": "full"},
}
TOLD: dict[str, Callable[[pd.DataFrame], str]] = {
    # As LangChain's SQLDatabase answers.
    "tuples": lambda frame: str(list(frame.itertuples(index=False, name=None))),
    "printed": lambda frame: frame.to_string(),
    "CSV": lambda frame: frame.to_csv(index=False),
    "records": lambda frame: str(frame.to_dict("records")),
    "JSON in lines": lambda frame: frame.to_json(orient="records", lines=True),
    "HTML": lambda frame: frame.to_html(),
    "YAML": lambda frame: yaml.safe_dump(frame.to_dict("records"), sort_keys=False),
    "key=value": lambda frame: "\n".join(f"NAME={name}\nCONTRACT={contract}" for name, contract in frame.to_numpy()),
    "bullets": lambda frame: "\n".join(f"* {value}" for row in frame.to_numpy() for value in row),
    "a form": lambda frame: "\n\n".join(f"**Full name:** {name}\n**Contract:** {it}" for name, it in frame.to_numpy()),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", TOLD)
def test_a_query_whose_rows_the_state_keeps(sinks: Sinks, how: str, policy: str) -> None:
    """A private analyst is told the rows of a query; a public node keeps the frame for others, and writes to a customer."""
    people = [(f"{letters(5)} {letters(4)}".title(), f"{letters(3)}-{number}071") for number in range(1, 5)]
    words = kept()
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE customers (name TEXT, contract TEXT)")
        database.executemany("INSERT INTO customers VALUES (?, ?)", people)
        frame = pd.read_sql_query("SELECT * FROM customers", database)

    @tool
    def sql_query(query: str) -> str:
        """Ask the database."""
        return TOLD[how](frame)

    def analyst(_: Any) -> Any:
        rows = sql_query.invoke({"query": "SELECT * FROM customers"})
        Chat(reply="four are late").invoke(f"The query gave:\n{rows}\nWho is late?")
        return {}

    def writer(_: Any) -> Any:
        Chat().invoke(f"Write to {people[2][0]} about {people[2][1]}.")
        return {"extra": {"frames": {"one": frame.to_dict()}, "rows": [*frame["name"]], "note": words}}

    app = graph(("analyst", analyst), ("writer", writer))
    app.invoke({"messages": []}, {"callbacks": [MlflowCostHandler(POLICIES[policy])]})
    stored = sinks.everything()
    there = [value for person in people for value in person if value.encode() in stored]

    assert there == ([] if policy == "private" else [value for person in people for value in person])
    assert words.encode() in stored
