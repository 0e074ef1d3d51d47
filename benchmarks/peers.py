"""Other tracers of LangChain, each with its own export cut off just before the network. All are optional."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# The same four kinds of text that the benchmark's texts hold, as a user of these masks would write them.
RULES: Final = (
    (re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}"), "[EMAIL]"),
    (re.compile(r"\+?\d{1,2}[ .-]?\(?\d{3}\)?[ .-]?\d{3}[ .-]?\d{4}"), "[PHONE]"),
    (re.compile(r"\b\d{15,16}\b"), "[CARD]"),
    (re.compile(r"sk-[A-Za-z0-9_-]{20,}"), "[KEY]"),
)
# OpenTelemetry's own limit on its queue; no graph here makes more spans in one run.
QUEUE: Final = 2_048
NEVER_MS: Final = 3_600_000


def masked(value: Any) -> Any:
    """The value with every rule applied to every text in it."""
    if isinstance(value, str):
        for pattern, stand_in in RULES:
            value = pattern.sub(stand_in, value)
        return value
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item) for item in value]
    return value


class CountingExporter(SpanExporter):
    """Keeps spans until they are counted, after the clock has stopped."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans."""
        self._spans.extend(spans)
        return SpanExportResult.SUCCESS

    def take(self) -> tuple[int, int]:
        """Spans and bytes of JSON since the last call."""
        spans, self._spans = self._spans, []
        return len(spans), sum(len(span.to_json(indent=None).encode()) for span in spans)


class Peer:
    """A tracer that is made once, switched on for each run, and drained after it."""

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[list[Any]]],
        flush: Callable[[], object],
        take: Callable[[], tuple[int, int]],
    ) -> None:
        self.open, self.flush, self.take = opened, flush, take


def _always(callbacks: list[Any]) -> Callable[[], AbstractContextManager[list[Any]]]:
    @contextmanager
    def opened() -> Iterator[list[Any]]:
        yield callbacks

    return opened


@cache
def langfuse(*, mask: bool) -> Peer:
    """Langfuse's handler, with `mask` or without."""
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    exporter, public_key = CountingExporter(), f"pk-lf-{mask}"
    client = Langfuse(
        public_key=public_key,
        secret_key="sk-lf",
        base_url="http://127.0.0.1:9",
        tracer_provider=TracerProvider(),
        span_exporter=exporter,
        flush_at=QUEUE,
        flush_interval=NEVER_MS / 1_000,
        mask=(lambda *, data, **_: masked(data)) if mask else None,
    )
    return Peer(_always([CallbackHandler(public_key=public_key)]), client.flush, exporter.take)


@cache
def langsmith(*, anonymize: bool) -> Peer:
    """LangSmith's tracer, with its anonymizer or without; its thread serialises while the graph runs."""
    import requests
    from langchain_core.tracers import LangChainTracer
    from langsmith import Client
    from langsmith.anonymizer import create_anonymizer

    taken = [0, 0]

    class Sink(requests.Session):
        def request(self, method: str | bytes, url: str | bytes, *_: Any, **kwargs: Any) -> requests.Response:  # noqa: ARG002, the signature of requests
            body = kwargs.get("data") or b""
            body = body if isinstance(body, bytes) else body.read() if hasattr(body, "read") else b"".join(body)
            if body.startswith(b"{"):
                taken[0] += len(json.loads(body).get("post", ()))
            taken[1] += len(body)
            answer = requests.Response()
            answer.status_code = 202
            answer._content = b"{}"  # noqa: SLF001, requests has no public way to make an answer
            return answer

    client = Client(
        api_url="http://127.0.0.1:9",
        api_key="none",
        session=Sink(),
        info={
            "batch_ingest_config": {
                "use_multipart_endpoint": False,
                "size_limit": 100,
                "size_limit_bytes": 20_000_000,
                "scale_up_nthreads_limit": 1,
                "scale_up_qsize_trigger": 1_000,
                "scale_down_nempty_trigger": 4,
            }
        },
        anonymizer=create_anonymizer([{"pattern": rule, "replace": text} for rule, text in RULES])
        if anonymize
        else None,
    )

    def take() -> tuple[int, int]:
        spans, size = taken
        taken[:] = [0, 0]
        return spans, size

    return Peer(_always([LangChainTracer(client=client, project_name="benchmark")]), client.flush, take)


@cache
def openinference(*, hide: bool) -> Peer:
    """OpenInference's instrumentation, whole or with inputs and outputs hidden."""
    from openinference.instrumentation import TraceConfig
    from openinference.instrumentation.langchain import LangChainInstrumentor

    exporter, provider = CountingExporter(), TracerProvider()
    processor = BatchSpanProcessor(
        exporter, max_queue_size=QUEUE, max_export_batch_size=QUEUE, schedule_delay_millis=NEVER_MS
    )
    provider.add_span_processor(processor)
    config = TraceConfig(hide_inputs=hide, hide_outputs=hide)

    @contextmanager
    def opened() -> Iterator[list[Any]]:
        LangChainInstrumentor().instrument(tracer_provider=provider, config=config)
        try:
            yield []
        finally:
            LangChainInstrumentor().uninstrument()

    return Peer(opened, provider.force_flush, exporter.take)
