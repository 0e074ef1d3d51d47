"""A tracking store that counts what arrives, in place of a database.

It is the far end of MLflow's own export: what it is handed has passed every processor, exporter and guard.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

import orjson
from mlflow.entities import Experiment, TraceInfo
from mlflow.store.tracking.abstract_store import AbstractStore

if TYPE_CHECKING:
    from mlflow.entities.span import Span

SCHEME: Final = "counting"


@dataclass(slots=True)
class Arrived:
    """What came out of one measured run."""

    spans: list[Span] = field(default_factory=list)
    traces: list[TraceInfo] = field(default_factory=list)

    def exported_bytes(self) -> int:
        """Bytes of JSON: the spans as the SQL store would write them, and the traces' metadata and tags."""
        return sum(len(orjson.dumps(span.to_dict(), default=dict)) for span in self.spans) + sum(
            len(orjson.dumps(trace.to_dict(), default=str)) for trace in self.traces
        )


class CountingStore(AbstractStore):
    """Keeps spans and traces until they are taken; counting itself waits until the clock has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._arrived = Arrived()

    def take(self, traces: int, timeout_s: float) -> Arrived:
        """Wait until so many traces are in, or for `timeout_s`, and hand over all that came."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(self._arrived.traces) < traces and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            arrived, self._arrived = self._arrived, Arrived()
            return arrived

    def log_spans(self, location: str, spans: list[Span], tracking_uri: str | None = None) -> list[Span]:  # noqa: ARG002, MLflow's signature
        """Take spans."""
        with self._changed:
            self._arrived.spans.extend(spans)
        return spans

    def start_trace(self, trace_info: TraceInfo) -> TraceInfo:
        """Take what MLflow says of a whole trace once its root has ended."""
        # MLflow uploads the spans a second time, as an artifact, for a store that does not say that it has them.
        trace_info.tags["mlflow.trace.spansLocation"] = "TRACKING_STORE"
        with self._changed:
            self._arrived.traces.append(trace_info)
            self._changed.notify_all()
        return trace_info

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Any experiment there is asked for."""
        return Experiment(experiment_id, "benchmark", "", "active")

    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        """Any experiment there is asked for."""
        return Experiment("0", experiment_name, "", "active")


@cache
def counting_store() -> CountingStore:
    """The store, which MLflow exports to from now on."""
    import mlflow

    # No public function registers a scheme but an entry point, which needs an installed package.
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    store = CountingStore()
    _tracking_store_registry.register(SCHEME, lambda *_, **__: store)
    mlflow.set_tracking_uri(f"{SCHEME}://here")
    return store
