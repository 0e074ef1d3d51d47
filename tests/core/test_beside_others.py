"""Other handlers, tracers and settings beside the handler: they lose nothing, and what they decide stays."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat, FakeText
from langchain_core.callbacks import BaseCallbackManager
from langchain_core.callbacks.manager import AsyncCallbackManager
from langchain_core.messages import AIMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from opentelemetry.sdk.trace import SpanProcessor
from stored_traces import all_traces, only_trace, use_experiment
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def _events(model: FakeText, config: Any) -> list[str]:
    return [event["event"] async for event in model.astream_events("hi", config, version="v2")]


ASYNC_WAYS: dict[str, Callable[[FakeText, Any], Any]] = {
    "ainvoke": lambda model, config: model.ainvoke("hi", config),
    "abatch": lambda model, config: model.abatch(["hi", "ho"], config),
    "agenerate": lambda model, config: model.agenerate(["hi", "ho"], callbacks=config["callbacks"]),
}


@pytest.mark.filterwarnings("ignore:The `copy` method is deprecated")  # The oldest langchain-core's tracers call it.
@pytest.mark.parametrize("way", ASYNC_WAYS)
def test_tracers_hear_of_string_models(store: str, way: str) -> None:
    """A collector of runs hears of the same calls of string models in async code as it does without the handler."""
    alone, beside = RunCollectorCallbackHandler(), RunCollectorCallbackHandler()
    asyncio.run(ASYNC_WAYS[way](FakeText(), {"callbacks": [alone]}))
    handler = MlflowCostHandler()
    asyncio.run(ASYNC_WAYS[way](FakeText(), {"callbacks": [beside, handler]}))

    assert [run.name for run in alone.traced_runs] == [run.name for run in beside.traced_runs] != []
    assert len({run.id for run in beside.traced_runs}) == len(beside.traced_runs)
    assert handler.summary().llm_calls == (1 if way == "ainvoke" else handler.summary().llm_calls)


def test_events_of_string_models_are_streamed(store: str) -> None:
    """`astream_events` tells of a string model what it tells without the handler."""
    alone = asyncio.run(_events(FakeText(), {}))

    assert asyncio.run(_events(FakeText(), given(MlflowCostHandler()))) == alone


def test_langchain_still_tells_one_kind_alone() -> None:
    """Once `on_llm_start` tells both kinds by itself, the mend in `adapters/async_string_models.py` can go."""
    original = inspect.unwrap(AsyncCallbackManager.on_llm_start)

    assert "if inline_handlers:" in inspect.getsource(original)
    assert "else:\n                non_inline_tasks.append(" in inspect.getsource(original)


def test_autolog_without_traces_stays_so(store: str) -> None:
    """With `autolog(log_traces=False)` nothing is recorded; costs and budgets go on."""
    mlflow.langchain.autolog(log_traces=False)
    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    handler = MlflowCostHandler()
    graph.invoke(ASK, given(handler))
    spent = handler.summary().total_cost_usd

    assert spent > 0
    assert all_traces() == []
    with pytest.raises(BudgetExceededError):
        graph.invoke(ASK, given(MlflowCostHandler({"budget": {"max_cost_usd": 0}})))


class Before(SpanProcessor):
    """A processor that somebody puts before all others, as MLflow 3.18's autologs may."""


def test_the_guard_is_first_again(store: str) -> None:
    """What is put before the guard stands behind it from the next invocation on."""
    from mlflow.tracing import provider

    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    handler = MlflowCostHandler()
    graph.invoke(ASK, given(handler))
    composite = provider.provider.get()._active_span_processor
    before = Before()
    composite._span_processors = (before, *composite._span_processors)
    graph.invoke(ASK, given(handler))
    first, *others = composite._span_processors

    assert type(first).__name__ == "SpanGuard"
    assert before in others


@pytest.fixture
def counted_managers() -> Iterator[list[int]]:
    """How many callback managers were made, as somebody counts who patches their constructor after autolog."""
    mlflow.langchain.autolog()
    made = [0]
    patched = BaseCallbackManager.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made[0] += 1
        patched(self, *args, **kwargs)

    BaseCallbackManager.__init__ = init  # type: ignore[method-assign]
    yield made
    BaseCallbackManager.__init__ = patched  # type: ignore[method-assign]


def test_a_patch_between_autolog_and_the_first_run_is_called_always(store: str, counted_managers: list[int]) -> None:
    """Instrumentors such as OpenInference's patch the constructor of callback managers: none is passed by."""
    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    handler, made = MlflowCostHandler(), []
    for _ in range(3):
        before = counted_managers[0]
        graph.invoke(ASK, given(handler))
        made.append(counted_managers[0] - before)

    assert made[0] == made[1] == made[2] > 0


WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAA="


@pytest.mark.parametrize("audio_format", ["wav", None])
def test_an_audio_answer_is_kept_as_autolog_keeps_it(store: str, audio_format: str | None) -> None:
    """OpenAI's audio models answer beside the content: transcript and file are stored as MLflow's tracer stores them."""
    spoken = AIMessage("", additional_kwargs={"audio": {"id": "audio_1", "data": WAV, "transcript": "Good morning."}})
    options = {"audio": {"format": audio_format, "voice": "alloy"}} if audio_format else {}

    def outputs(config: Any) -> Any:
        FakeChat(answers=[spoken]).bind(**options).invoke("hi", config)
        (span,) = (span for span in only_trace().data.spans if span.span_type == "CHAT_MODEL")
        return _shape(span.outputs)

    mlflow.langchain.autolog()
    theirs = outputs({})
    use_experiment("ours")
    ours = outputs(given(MlflowCostHandler({"artifact_level": "full", "redact_secrets": False})))

    assert "Good morning." in str(ours)
    assert theirs == ours


def _shape(value: Any) -> Any:
    """Without the ids of attachments, which are new each time."""
    if isinstance(value, dict):
        return {key: _shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_shape(member) for member in value]
    return value.partition("?")[0].rpartition("/")[0] if str(value).startswith("mlflow-attachment") else value
