"""A real LangGraph agent on a loopback model server: what `mlflow-cost demo` runs, without a key or a network."""
