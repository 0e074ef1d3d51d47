"""Microseconds to price one model call that LangChain reports, ours beside what else there is.

    python benchmarks/pricing.py [--calls 2000] [--rounds 15]

The candidates take turns, round by round, so that all see the same machine; each figure is the median of its rounds, in
CPU time of the one thread, and each ratio that of the medians. Everything is warm: prices are resolved once per model,
and this is what a call costs after that. Nothing is fetched: MLflow's catalogue is the one in its package.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

os.environ["MLFLOW_MODEL_CATALOG_URI"] = ""

import genai_prices
import mlflow
from genai_prices import Usage as GenaiUsage
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from mlflow.tracing.utils import calculate_cost_by_model_and_token_usage

from langchain_mlflow_cost.pricing.book import PriceBook, warm_up
from langchain_mlflow_cost.pricing.reading import call_request, call_result

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "gpt-4o-2024-08-06"
METADATA = {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_model_type": "chat"}
PARAMS = {"model": "gpt-4o", "model_name": "gpt-4o", "stream": False, "_type": "openai-chat", "stop": None}
RAW = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 1920},
    "completion_tokens_details": {"audio_tokens": 0, "reasoning_tokens": 64},
}
RESPONSE = LLMResult(
    generations=[
        [
            ChatGeneration(
                message=AIMessage(
                    "Hello.",
                    usage_metadata={
                        "input_tokens": 2006,
                        "output_tokens": 300,
                        "total_tokens": 2306,
                        "input_token_details": {"audio": 0, "cache_read": 1920},
                        "output_token_details": {"audio": 0, "reasoning": 64},
                    },
                    response_metadata={
                        "token_usage": RAW,
                        "model_provider": "openai",
                        "model_name": MODEL,
                        "service_tier": "default",
                        "finish_reason": "stop",
                    },
                ),
                generation_info={"finish_reason": "stop", "logprobs": None},
            )
        ]
    ],
    llm_output={"token_usage": RAW, "model_name": MODEL},
)
OURS = "langchain-mlflow-cost: read the response and price it"


def candidates() -> dict[str, Callable[[], Any]]:
    warm_up()
    book = PriceBook()
    request = call_request(metadata=METADATA, invocation_params=PARAMS)
    result = call_result(request, RESPONSE.generations, RESPONSE.llm_output)
    usage = {"input_tokens": 2006, "output_tokens": 300, "cache_read_input_tokens": 1920}
    handler = UsageMetadataCallbackHandler()

    def ours() -> Any:
        return book.price(request, call_result(request, RESPONSE.generations, RESPONSE.llm_output))

    def theirs() -> Any:
        counts = GenaiUsage(input_tokens=2006, output_tokens=300, cache_read_tokens=1920)
        return genai_prices.calc_price(counts, MODEL, provider_id="openai")

    return {
        OURS: ours,
        "  of this, the price (`PriceBook.price`)": lambda: book.price(request, result),
        "  beside it, the request (`call_request`)": lambda: call_request(metadata=METADATA, invocation_params=PARAMS),
        f"genai-prices {genai_prices.__version__} (`calc_price`)": theirs,
        f"MLflow {mlflow.__version__} built-in": lambda: calculate_cost_by_model_and_token_usage(
            MODEL, usage, "openai"
        ),
        "LangChain UsageMetadataCallbackHandler (tokens only)": lambda: handler.on_llm_end(RESPONSE),
    }


def measure(calls: int, rounds: int) -> dict[str, float]:
    """Give the median microseconds a call of each candidate."""
    todo = candidates()
    for action in todo.values():
        action()
    samples: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(rounds):
        for name, action in todo.items():
            begin = time.thread_time()
            for _ in range(calls):
                action()
            samples[name].append((time.thread_time() - begin) / calls * 1e6)
    return {name: statistics.median(figures) for name, figures in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Price one model call, ours beside what else there is.")
    parser.add_argument("--calls", type=int, default=2000, help="calls a round")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    medians = measure(arguments.calls, arguments.rounds)
    print("| what | us a call | times ours |\n| --- | --- | --- |")
    for name, figure in medians.items():
        print(f"| {name} | {figure:.1f} | {figure / medians[OURS]:.2f} |")


if __name__ == "__main__":
    main()
