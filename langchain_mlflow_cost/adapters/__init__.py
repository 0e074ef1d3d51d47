"""All that is not public in MLflow, LangChain and OpenTelemetry, one file an idea.

Read in MLflow 3.15 to 3.18, OpenTelemetry SDK 1.30 to 1.45. `tests/core/test_internals.py` names each of them and
fails when one is gone or behaves otherwise.
"""
