"""All that is not public in MLflow, LangChain and OpenTelemetry, one file an idea."""
