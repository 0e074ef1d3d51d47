"""What one asks of traces in Spark: what a policy would have kept out, them without it, prices, sums."""

from __future__ import annotations

import pickle
import secrets
import warnings
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from pyspark.sql import functions as sf

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.reports.dimensions import dimensions
from langchain_mlflow_cost.spark import workers
from langchain_mlflow_cost.spark.tables import CHANGED, Tables, rows_of, tables_of, with_prices, with_redacted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime, tzinfo

    from pyspark.sql import DataFrame

    PolicyLike = Policy | Mapping[str, Any] | str | os.PathLike[str] | None


def scan(traces: DataFrame | Tables, policy: PolicyLike) -> DataFrame:
    """Find what a policy would have redacted or dropped, as `mlflow-cost scan` does; never the text.

    Args:
        traces: Spans, or all tables of a store.
        policy: A `Policy`, a mapping, or the path of a YAML file; None for that of the environment, else the defaults.

    Returns:
        `trace_id`, `entity` (also `PRIVATE_TEXT`, `DROPPED`, and `UNREADABLE` for spans that are no JSON), `channel`,
        `node`, `count`: one row for each combination that a trace has.

    Raises:
        PolicyError: The policy is not right, or is off.
    """
    schema = "trace_id string, entity string, channel string, node string, count bigint"
    return _mapped(rows_of(tables_of(traces)), partial(workers.findings, _shipped(_switched_on(policy))), schema)


@overload
def redact(traces: Tables, policy: PolicyLike) -> Tables: ...
@overload
def redact(traces: DataFrame, policy: PolicyLike) -> DataFrame: ...
def redact(traces: Any, policy: PolicyLike) -> Any:
    """Give traces as a policy would have had them, as `mlflow-cost scan --fix` writes them.

    A span that is no JSON has no `content` afterwards. Keyed tokens are the same on all workers; without
    `redaction.hash_key` they are others each time.

    Args:
        traces: Spans, or all tables of a store.
        policy: As for `scan`.

    Returns:
        What was given, in the same columns.

    Raises:
        PolicyError: The policy is not right, or is off.
    """
    tables = tables_of(traces)
    # A worker's own key would make other tokens of the same value.
    keyed = _switched_on(policy).with_hash_key(secrets.token_hex(32))
    made = with_redacted(tables, _mapped(rows_of(tables), partial(workers.redacted, _shipped(keyed)), CHANGED))
    return made if isinstance(traces, Tables) else made.spans


@overload
def reprice(
    traces: Tables,
    policy: PolicyLike = None,
    *,
    all_calls: bool = False,
    models: Iterable[str] = (),
    at: datetime | None = None,
) -> Tables: ...
@overload
def reprice(
    traces: DataFrame,
    policy: PolicyLike = None,
    *,
    all_calls: bool = False,
    models: Iterable[str] = (),
    at: datetime | None = None,
) -> DataFrame: ...
def reprice(
    traces: Any,
    policy: PolicyLike = None,
    *,
    all_calls: bool = False,
    models: Iterable[str] = (),
    at: datetime | None = None,
) -> Any:
    """Give stored calls the price that they should have had, as `mlflow-cost reprice` does. Running traces stay.

    Args:
        traces: Spans, or all tables of a store, of which `spans` and `metadata` change.
        policy: Whose prices, as for `scan`.
        all_calls: Also calls that have a price.
        models: Only calls of these; empty for all.
        at: By the price lists of that moment; None for those of each call's own.

    Returns:
        What was given, in the same columns.

    Raises:
        PolicyError: The policy is not right.
    """
    tables = tables_of(traces)
    asked = _priced_by(policy, all_calls, models, at)
    made = with_prices(tables, _mapped(rows_of(_without_payload(tables)), partial(workers.repriced, asked), CHANGED))
    return made if isinstance(traces, Tables) else made.spans


def price_changes(
    traces: DataFrame | Tables,
    policy: PolicyLike = None,
    *,
    all_calls: bool = False,
    models: Iterable[str] = (),
    at: datetime | None = None,
) -> DataFrame:
    """Say what `reprice` would change.

    Args:
        traces: As for `reprice`, like all others.
        policy: Whose prices.
        all_calls: Also calls that have a price.
        models: Only calls of these.
        at: By the price lists of that moment.

    Returns:
        `trace_id`, `model`, `before_usd` (null where it had no price), `now_usd`, `calls` and `left_because`: a row for
        each call with another price, and one for each reason for which `calls` of a trace stay as they are.

    Raises:
        PolicyError: The policy is not right.
    """
    schema = "trace_id string, model string, before_usd double, now_usd double, calls bigint, left_because string"
    asked = _priced_by(policy, all_calls, models, at)
    return _mapped(rows_of(_without_payload(tables_of(traces))), partial(workers.price_changes, asked), schema)


def sum_up(
    traces: DataFrame | Tables,
    by: str = "",
    *,
    zone: tzinfo = UTC,
    experiments: Mapping[str, str] | None = None,
) -> DataFrame:
    """Add up what calls cost, as `mlflow-cost report` does.

    Args:
        traces: Spans, or all tables of a store: users, sessions, tags and prompts stand beside the spans.
        by: What sums are told apart by, with commas between: `node`, `model`, `day`, `user`, `tag:team`, ...; empty for
            all together.
        zone: Whose days, weeks and months.
        experiments: Names, by id; None for the ids.

    Returns:
        A column for each of `by`, then those of a report: `cost_usd`, `calls`, `input_tokens`, ... (docs/reports.md).

    Raises:
        ValueError: `by` has a name that is none.
    """
    names = tuple(each.name for each in dimensions(by, zone)) if by else ()
    labels = [f"`{name}` string" for name in names]
    numbers = [f"{name} {'double' if name.endswith('_usd') else 'bigint'}" for name in workers.ADDED]
    spans = _mapped(
        rows_of(_without_payload(tables_of(traces))),
        partial(workers.counted, by, zone, dict(experiments) if experiments else None),
        ", ".join(["trace_id string", *labels, *numbers, "_model string", "_unpriced_model string"]),
    )
    groups = [sf.col(f"`{name}`") for name in names]
    sums = spans.groupBy(*groups).agg(
        sf.countDistinct(sf.when(sf.col("calls") > 0, sf.col("trace_id"))).alias("traces"),
        *(sf.sum(name).alias(name) for name in workers.ADDED),
        sf.collect_set("_model").alias("models"),
        sf.collect_set("_unpriced_model").alias("unpriced_models"),
    )
    told = ["cost_usd double", "traces bigint", *numbers, "models array<string>", "unpriced_models array<string>"]
    return _mapped(sums, partial(workers.as_fields, names), ", ".join([*labels, *told]))


def _mapped(frame: DataFrame, function: Callable[..., Any], schema: str) -> DataFrame:
    with warnings.catch_warnings():
        # Spark 4.3 says so of every function; what it hands over here are texts and numbers, which pandas 3 only
        # marks otherwise where they are missing.
        warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)
        return frame.mapInPandas(function, schema)


def _switched_on(policy: PolicyLike) -> Policy:
    loaded = Policy.load(policy)
    if not loaded.enabled:
        raise PolicyError("policy: enabled is false: it keeps nothing out")
    return loaded


def _shipped(policy: Policy) -> bytes:
    return pickle.dumps(policy)


def _priced_by(
    policy: PolicyLike, all_calls: bool, models: Iterable[str], at: datetime | None
) -> workers.PriceQuestion:
    return workers.PriceQuestion(_shipped(Policy.load(policy)), at, not all_calls, frozenset(models))


def _without_payload(tables: Tables) -> Tables:
    """Prices and sums ask nothing of assessments."""
    return Tables(tables.spans, tables.info, tables.tags, tables.metadata)
