"""OpenTelemetry's meter provider, where the program has set one: asked for at every call, and so without an import."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

_INTERNAL: Final = "opentelemetry.metrics._internal"
_NAME: Final = "langchain_mlflow_cost"


def meter_provider() -> Any:
    """The provider that the program, or MLflow for its own metrics, has set; None where nobody has.

    The public `get_meter_provider()` gives a stand-in then, which cannot be told from a real one without a private name
    either, and on which every record would cost something. Read in opentelemetry-api 1.30 and 1.45.
    """
    module = sys.modules.get(_INTERNAL)
    return None if module is None else getattr(module, "_METER_PROVIDER", None)


def meter_of(provider: Any) -> Any:
    """This library's own meter there."""
    try:
        own = version(_NAME.replace("_", "-"))
    except PackageNotFoundError:
        own = ""
    return provider.get_meter(_NAME, own)
