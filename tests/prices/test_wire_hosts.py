"""Where a model is, as its constructor says, decides what it costs: through the handler and the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_openai import ChatOpenAI
from wire import Reply, replay

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from langchain_mlflow_cost import CostSummary


def _summary(model: str) -> CostSummary:
    """What the handler says of one call to a server on this machine."""
    reply = Reply(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1763700000,
            "model": model,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 1_000, "completion_tokens": 500, "total_tokens": 1_500},
        }
    )
    handler = MlflowCostHandler({"autolog_enabled": False})
    with replay(reply) as url:
        ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="none").invoke("Hello?", {"callbacks": [handler]})
    return handler.summary()


@pytest.mark.parametrize("model", ["gpt-oss-20b", "gemma-3-27b-it", "openai/gpt-oss-120b"])
@pytest.mark.filterwarnings("ignore:no price is known")
def test_open_weights_on_own_machine_are_unpriced(store, model):
    """A model that anybody may host, on one's own machine, has no price: nobody sends a bill for it."""
    summary = _summary(model)

    assert (1, 0.0) == (summary.unpriced_calls, summary.total_cost_usd)


def test_gateway_on_own_machine_is_priced(store):
    """A maker's own model behind a gateway on this machine costs what the maker asks: 0.15 and 0.60 USD a million."""
    summary = _summary("gpt-4o-mini")

    assert pytest.approx(0.00045, rel=1e-9) == summary.total_cost_usd
