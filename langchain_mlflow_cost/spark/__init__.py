"""Scan, redact, price again and sum up as many stored traces as a Spark cluster holds (extra `spark`).

Each function takes the spans as a DataFrame, or all `Tables` of a store, and gives DataFrames; nothing runs before
they are asked for. Spark puts the rows of a trace together and adds up; what is done to a trace, on Spark's workers, is
the code that `mlflow-cost scan`, `reprice` and `report` run on one machine. See docs/spark.md.
"""

from __future__ import annotations

try:
    import pyspark as _pyspark
except ImportError as error:
    raise ImportError(
        'langchain_mlflow_cost.spark needs an extra: pip install "langchain-mlflow-cost[spark]"'
    ) from error

from langchain_mlflow_cost.spark.functions import price_changes, redact, reprice, scan, sum_up
from langchain_mlflow_cost.spark.tables import Tables, otel_spans, unity_catalog

del _pyspark

__all__ = ["Tables", "otel_spans", "price_changes", "redact", "reprice", "scan", "sum_up", "unity_catalog"]
