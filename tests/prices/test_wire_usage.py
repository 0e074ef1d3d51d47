"""How clients and gateways report usage and bills: what each call really cost, through the handler.

Where no client here speaks a provider's language its message is given as its integration makes it; the real ones are in
tests/clients.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import mlflow
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from wire import Reply, Till, chat, chunks, replay, say, tokens

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/Ab1Cd2Ef3"


class Answering(BaseChatModel):
    """A client of this provider with this answer."""

    answer: AIMessage
    provider: str
    model: str

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.answer)])

    def _get_ls_params(self, *args: Any, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.model, "ls_model_type": "chat"}

    @property
    def _llm_type(self) -> str:
        return "answering"


def answering(
    provider: str,
    model: str,
    usage: Any,
    prompt: Any = "Hi",
    content: Any = "Hello.",
    *,
    prices: Any = None,
    **about: Any,
) -> Till:
    message = AIMessage(content, usage_metadata=usage, response_metadata=about)
    return say(Answering(answer=message, provider=provider, model=model), prompt, **(prices or {}))


def used(given: int, said: int, total: int | None = None, **details: Any) -> dict[str, Any]:
    parts = {"output_token_details": {"reasoning": details.pop("reasoning")}} if "reasoning" in details else {}
    return {
        "input_tokens": given,
        "output_tokens": said,
        "total_tokens": given + said if total is None else total,
        "input_token_details": details,
        **parts,
    }


SONNET_EU = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
TOTALS = [
    # 3.30 in, 0.33 cached, 16.50 out. Beside: 5000 * 3.3e-6 + 3000 * 0.33e-6 + 100 * 16.5e-6
    pytest.param(used(5000, 100, 8100, cache_read=3000), "0.01914", 8000, id="beside"),
    # In it: 2000 * 3.3e-6 + 3000 * 0.33e-6 + 100 * 16.5e-6
    pytest.param(used(5000, 100, 5100, cache_read=3000), "0.00924", 5000, id="in-it"),
    # Twice in it: 500 * 3.3e-6 + 10000 * 0.33e-6 + 100 * 16.5e-6
    pytest.param(used(20_500, 100, 10_600, cache_read=10_000), "0.0066", 10_500, id="twice"),
    # Writes beside it, 4.125 each: 5000 * 3.3e-6 + 1000 * 4.125e-6 + 100 * 16.5e-6
    pytest.param(used(5000, 100, 6100, cache_creation=1000), "0.022275", 6000, id="writes-beside"),
    # A total that fits nothing is none: as they are reported.
    pytest.param(used(5000, 100, 9999, cache_read=3000), "0.00924", 5000, id="fits-nothing"),
]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("usage", "usd", "given"), TOTALS)
def test_total_decides(usage: dict[str, Any], usd: str, given: int) -> None:
    """Of the ways to read cached tokens that one is right whose sum is the total that was told."""
    till = answering("amazon_bedrock", SONNET_EU, usage)

    assert Decimal(usd) == till.total()
    assert given == till.calls[0].input_tokens


GATEWAYS = [
    # deepseek-chat, at the prices below, for its own go by the hour: 1000 * 1e-6 + 9000 * 0.1e-6 + 100 * 2e-6
    pytest.param(
        "deepseek-chat",
        {"prompt_tokens": 10_000, "completion_tokens": 100, "total_tokens": 10_100, "prompt_cache_hit_tokens": 9000, "prompt_cache_miss_tokens": 1000},
        "0.0021",
        id="deepseek",
    ),
    # claude-sonnet-4-5 behind LiteLLM's proxy: 3 in, 0.30 read, 3.75 written, 15 out. 2000 * 3 + 5000 * 0.3 + 3000 * 3.75 + 100 * 15
    pytest.param(
        "claude-sonnet-4-5",
        {
            "cache_creation_input_tokens": 3000, "cache_read_input_tokens": 5000,
            "prompt_tokens": 10_000, "completion_tokens": 100, "total_tokens": 10_100,
            "prompt_tokens_details": {"cached_tokens": 5000, "cache_creation_tokens": 3000},
        },
        "0.02025",
        id="litellm-proxy",
    ),
    # The same from a proxy that has them beside its prompt: 10000 * 3 + 5000 * 0.3 + 3000 * 3.75 + 100 * 15
    pytest.param(
        "claude-sonnet-4-5",
        {
            "prompt_tokens": 10_000, "completion_tokens": 100, "total_tokens": 18_100,
            "cache_creation_input_tokens": 3000, "cache_read_input_tokens": 5000,
        },
        "0.04425",
        id="beside-the-prompt",
    ),
]  # fmt: skip


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("model", "usage", "usd"), GATEWAYS)
def test_usage_of_another_behind_openai_client(model: str, usage: dict[str, Any], usd: str) -> None:
    """ChatOpenAI takes the totals alone out of another's usage; its cached tokens are read from the raw one."""
    with replay(chat(model, usage, tier=None)) as url:
        client = ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="x")
        till = say(client, "Hi", overrides={"deepseek-chat": {"input": 1, "cache_read": 0.1, "output": 2}})

    assert Decimal(usd) == till.total()


@pytest.mark.usefixtures("untraced")
def test_cached_tokens_of_moonshot() -> None:
    """Moonshot tells its cached tokens beside the totals."""
    usage = {"prompt_tokens": 10_000, "completion_tokens": 100, "total_tokens": 10_100, "cached_tokens": 9000}
    with replay(chat("kimi-k2-0905-preview", usage, tier=None)) as url:
        client = ChatOpenAI(model="kimi-k2-0905-preview", base_url=f"{url}/v1", api_key="x")
        till = say(client, "Hi", aliases={"kimi-k2-0905-preview": "moonshotai/kimi-k2-0905-preview"})

    # 0.60 in, 0.15 cached, 2.50 out: 1000 * 0.6e-6 + 9000 * 0.15e-6 + 100 * 2.5e-6
    assert Decimal("0.0022") == till.total()


BILLS = [
    pytest.param(0, 0.0360795, "0.0360795", id="free-of-fee"),
    pytest.param(0.0018, 0.036, "0.0378", id="with-fee"),
    pytest.param(0.000075, 0.00007745, "0.000075", id="one-bill"),
    pytest.param(0.0042, 0.0042, "0.0042", id="the-same"),
    pytest.param(0.0042, None, "0.0042", id="no-upstream"),
]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("cost", "upstream", "usd"), BILLS)
def test_openrouter_with_a_makers_key(cost: float, upstream: float | None, usd: str) -> None:
    """ChatOpenRouter hands on the cost and the maker's bill, and not whose key it was: the amounts tell."""
    about = {"cost": cost, "cost_details": {"upstream_inference_cost": upstream}, "model_provider": "openrouter"}
    till = answering("openrouter", "anthropic/claude-sonnet-4.5", used(1000, 200), **about)

    assert Decimal(usd) == till.total()


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("key", ["token_count", "meta"])
def test_any_mapping_with_both_totals_is_usage(key: str) -> None:
    """ChatCohere's stream puts its usage into a key of its own."""
    till = answering(
        "cohere", "command-r-plus-08-2024", None, **{key: {"input_tokens": 1000.0, "output_tokens": 200.0}}
    )

    # 2.50 in, 10 out
    assert Decimal("0.0045") == till.total()
    assert not till.calls[0].estimated


# --- names at Bedrock


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("written", [ARN, ARN.upper(), "Ab1Cd2Ef3", f"bedrock/{ARN}"])
@pytest.mark.filterwarnings("ignore:policy. prices.discounts")
def test_arn_in_the_policy(written: str) -> None:
    """An application inference profile may be written as its ARN, or its end, in aliases, overrides and discounts."""
    usage = used(1000, 500)
    by_alias = answering(
        "amazon_bedrock", ARN, usage, prices={"aliases": {written: "anthropic.claude-sonnet-4-5-20250929-v1:0"}}
    )
    by_override = answering("amazon_bedrock", ARN, usage, prices={"overrides": {written: {"input": 1, "output": 2}}})
    discounted = {"overrides": {ARN: {"input": 1, "output": 2}}, "discounts": {written: "0.5"}}
    by_discount = answering("amazon_bedrock", ARN, usage, prices=discounted)

    # 3.30 in and 16.50 out without a region of the profile's; 1 and 2; half of that
    assert by_alias.total() in (Decimal("0.0105"), Decimal("0.01155"))
    assert Decimal("0.002") == by_override.total()
    assert Decimal("0.001") == by_discount.total()


@pytest.mark.usefixtures("untraced")
@pytest.mark.filterwarnings("ignore:no price is known")
def test_unpriced_model_is_named_as_the_policy_may_write_it() -> None:
    """What the summary names can be copied into an alias or an override."""
    unpriced = answering("amazon_bedrock", ARN, used(1000, 500)).handler.summary().unpriced_models
    priced = answering(
        "amazon_bedrock", ARN, used(1000, 500), prices={"overrides": {unpriced[0]: {"input": 1, "output": 2}}}
    )

    assert (ARN,) == unpriced
    assert Decimal("0.002") == priced.total()


# --- Gemini


PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("model", "usage", "content", "usd"),
    [
        # 30 an image token, 2.50 a text token, 0.30 in: 1290 * 30e-6
        pytest.param("gemini-2.5-flash-image", used(0, 1290), [PNG], "0.0387", id="image"),
        # and 10 tokens of text and 100 of the prompt: 10 * 2.5e-6 + 100 * 0.3e-6
        pytest.param("gemini-2.5-flash-image", used(100, 1300), ["Here it is:", PNG], "0.038755", id="image-and-text"),
        pytest.param("gemini-2.5-flash-image", used(0, 2580), [PNG, PNG], "0.0774", id="two"),
        # 120 an image token: 1120 * 120e-6
        pytest.param("gemini-3-pro-image-preview", used(0, 1120), [PNG], "0.1344", id="pro"),
        # 0.30 in, 2.50 out: a model without such a rate
        pytest.param("gemini-2.5-flash", used(0, 1290), "text", "0.003225", id="no-image"),
    ],
)
def test_images_of_gemini_are_billed_as_images(model: str, usage: Any, content: Any, usd: str) -> None:
    """langchain-google-genai counts an image that was made among the answer's text."""
    assert Decimal(usd) == answering("google_genai", model, usage, content=content).total()


@pytest.mark.usefixtures("untraced")
def test_grounding_bills_each_query_once() -> None:
    """A query that is asked again, or that the chunks of a stream repeat, is one."""
    queries = ["weather bern", "weather basel", "weather bern", ""]
    till = answering(
        "google_genai",
        "gemini-3-pro-preview",
        used(0, 0, reasoning=0) | {"input_tokens": 1000, "total_tokens": 1000},
        grounding_metadata={"web_search_queries": queries},
    )

    # 2 in: 1000 * 2e-6, and two queries of 0.014
    assert Decimal("0.03") == till.total()


# --- OpenAI's searches


def searched(model: str) -> Reply:
    message = {
        "type": "message",
        "id": "m",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
    }
    call = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}
    return Reply(
        {
            "id": "resp_1", "object": "response", "created_at": 1763700000, "model": model, "status": "completed",
            "output": [call, message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1, "top_p": 1,
            "usage": {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200},
        }
    )  # fmt: skip


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("model", "tool", "usd"),
    [
        # gpt-4o: 2.50 in, 10 out: 0.0045, and 0.025 or 0.010
        pytest.param("gpt-4o", "web_search_preview", "0.0295", id="preview"),
        pytest.param("gpt-4o", "web_search_preview_2025_03_11", "0.0295", id="preview-dated"),
        pytest.param("gpt-4o", "web_search", "0.0145", id="search"),
        # gpt-5: 1.25 in, 10 out: 0.00325, and 0.010: it reasons
        pytest.param("gpt-5", "web_search_preview", "0.01325", id="preview-with-reasoning"),
    ],
)
def test_search_preview_has_a_price_of_its_own(model: str, tool: str, usd: str) -> None:
    """The older tool costs more on models that do not reason; which tool it was only the request says."""
    with replay(searched(model)) as url:
        client = ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="x", use_responses_api=True)
        till = say(client.bind_tools([{"type": tool}]), "Hi")

    assert Decimal(usd) == till.total()


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("model", "usd"),
    [
        # 2.50 in, 10 out: 0.0045, and 0.025
        pytest.param("gpt-4o-search-preview-2025-03-11", "0.0295", id="4o"),
        # 0.15 in, 0.60 out: 0.00027, and 0.025; the list has the same model without a search
        pytest.param("gpt-4o-mini-search-preview-2025-03-11", "0.02527", id="4o-mini"),
        # 1.25 in, 10 out: 0.00325, and 0.010
        pytest.param("gpt-5-search-api", "0.01325", id="5"),
    ],
)
def test_search_models_search_on_every_call(model: str, usd: str) -> None:
    """OpenAI's chat models that search bill a search with each call."""
    with replay(chat(model, tokens(1000, 200))) as url:
        till = say(ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="x"), "Hi")

    assert Decimal(usd) == till.total()


# --- Anthropic


@pytest.mark.usefixtures("untraced")
def test_a_turn_that_only_compacts_costs_its_iterations() -> None:
    """Its own usage is 0 and 0, which is no lack of usage: nothing is estimated beside the compaction."""
    body = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-6", "stop_reason": "compaction",
        "content": [{"type": "text", "text": "A summary."}],
        "usage": {
            "input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
            "iterations": [{"type": "compaction", "input_tokens": 80_000, "output_tokens": 850}],
        },
    }  # fmt: skip
    with replay(Reply(body)) as url:
        till = say(ChatAnthropic(model="claude-opus-4-6", base_url=url, api_key="x"), "Hi")

    # 5 in, 25 out: 80000 * 5e-6 + 850 * 25e-6
    assert Decimal("0.42125") == till.total()
    assert not till.calls[0].estimated


# --- what integrations drop


SOUND = [HumanMessage([{"type": "media", "mime_type": "audio/mp3", "data": "SUQz"}])]
DROPPED = [
    pytest.param("mistralai", "mistral-large-latest", "Hi", "Hello.", "cached tokens are not told", id="mistral"),
    pytest.param("cohere", "command-r-plus-08-2024", "Hi", "Hello.", "billed units are not told", id="cohere"),
    pytest.param(
        "google_genai", "gemini-2.5-flash", SOUND, "Hello.", "audio in the prompt is not told apart", id="gemini"
    ),
    pytest.param(
        "openai",
        "gpt-5",
        "Hi",
        [{"type": "code_interpreter_call", "id": "ci_1"}],
        "container is not told",
        id="container",
    ),
]


@pytest.mark.parametrize(("provider", "model", "prompt", "content", "said"), DROPPED)
def test_what_is_dropped_is_said_on_the_span(
    store: str, provider: str, model: str, prompt: Any, content: Any, said: str
) -> None:
    """A cost that is known to leave something out says so."""
    till = answering(provider, model, used(1000, 200), prompt, content)
    (span,) = mlflow.get_trace(till.handler.summary().trace_id).data.spans

    assert said in " ".join(span.get_attribute("cost.notes"))


def test_nothing_is_said_where_nothing_was_dropped(store: str) -> None:
    """A plain call has no notes."""
    with replay(chunks("gpt-4o", tokens(1000, 200))) as url:
        till = say(ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", stream_usage=True), "Hi", stream=True)
    (span,) = mlflow.get_trace(till.handler.summary().trace_id).data.spans

    assert span.get_attribute("cost.notes") is None
