"""LangChain's requests and responses, read into `CallRequest` and `CallResult`.

LangChain's objects are only looked at (`message`, `usage_metadata`, `response_metadata`), so plain objects with these
attributes do as well. No function here raises: what cannot be read is told in `CallResult.problems`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from langchain_mlflow_cost.messages import blocks_of, said_text
from langchain_mlflow_cost.pricing.bills import bill_of
from langchain_mlflow_cost.pricing.providers import AWS, GOOGLE, PERPLEXITY, host_of, model_id, provider_id
from langchain_mlflow_cost.pricing.rates import SEARCH_REQUESTS
from langchain_mlflow_cost.pricing.reported import Reading, holds_totals, usage_of
from langchain_mlflow_cost.pricing.tokenizer import count_tokens
from langchain_mlflow_cost.pricing.usage import STANDARD_TIER, CallRequest, CallResult, Usage

# --- the request -----------------------------------------------------------------------------------------------------

_TIERS: Final[dict[str, str | None]] = {
    # Names of the standard tier, and of the wish for whichever tier there is, which tells nothing.
    "default": STANDARD_TIER,
    "standard": STANDARD_TIER,
    "standard_only": STANDARD_TIER,
    "on_demand": STANDARD_TIER,
    "auto": None,
    "": None,
}
_MODEL_KEYS: Final = ("model", "model_name", "model_id", "azure_deployment", "deployment_name", "engine")
_CAP_KEYS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")
_URL_KEYS: Final = (
    "openai_api_base",
    "base_url",
    "azure_endpoint",
    "anthropic_api_url",
    "api_base",
    "endpoint_url",
    "endpoint",
)
_NESTED: Final = ("model_kwargs", "extra_body")


def call_request(
    *,
    metadata: Mapping[str, Any] | None = None,
    invocation_params: Mapping[str, Any] | None = None,
    serialized: Mapping[str, Any] | None = None,
    messages: Any = None,
    batch_size: int = 1,
) -> CallRequest:
    """Read a request out of what LangChain hands to a start event.

    Args:
        metadata: The run's metadata, with `ls_provider`, `ls_model_name`, `ls_max_tokens`.
        invocation_params: The event's keyword of this name.
        serialized: The event's first argument: the model's constructor arguments, for the base URL and what
            `invocation_params` leaves out.
        messages: The prompt, looked at only for `cache_control` where a stream will not tell how long was cached.
        batch_size: The event's keyword of this name.
    """
    try:
        return _call_request(metadata or {}, invocation_params or {}, serialized or {}, messages, batch_size)
    except Exception:  # noqa: BLE001 - foreign objects may raise anything; an unknown request is only an unpriced one
        return CallRequest()


def _call_request(
    metadata: Mapping[str, Any],
    params: Mapping[str, Any],
    serialized: Mapping[str, Any],
    messages: Any,
    batch_size: int,
) -> CallRequest:
    constructor = mapping_of(serialized.get("kwargs"))
    sources = _sources(params, _sources(constructor, []))
    provider = provider_id(metadata.get("ls_provider")) or provider_id(params.get("_type"))
    # The deployment of an Azure model says nothing, `ls_model_name` has the model if the user told it.
    model = _text(metadata.get("ls_model_name")) or _first_text(params, _MODEL_KEYS)
    if model is None:
        model = _first_text(constructor, _MODEL_KEYS)
    cap = _positive(metadata.get("ls_max_tokens"))
    if cap is None:
        cap = next((found for key in _CAP_KEYS if (found := _positive(params.get(key))) is not None), None)
    host = _host(constructor)
    is_perplexity = provider == PERPLEXITY or (host is not None and host.endswith("perplexity.ai"))
    return CallRequest(
        provider=provider,
        model=model_id(model) if model else None,
        max_output_tokens=cap,
        n=_positive(params.get("n")) or 1,
        service_tier=_tier(_setting("service_tier", sources) or params.get("serviceTier")),
        cache_ttl=_cache_ttl(params, messages) if provider in _CACHE_CONTROL_PROVIDERS else None,
        host=host,
        speed=_text(_setting("speed", sources)),
        region=_text(_setting("inference_geo", sources) or constructor.get("location")),
        batch_size=batch_size if batch_size > 0 else 1,
        is_search_preview=_has_search_preview(params.get("tools")),
        sends_audio=provider == GOOGLE and _has_audio(messages),
        search_context=_search_context(sources) if is_perplexity else None,
    )


_CACHE_CONTROL_PROVIDERS: Final = frozenset({"anthropic", AWS, "google"})


def _sources(source: Mapping[str, Any], behind: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Where a setting may stand, first where it counts: a mapping, what is nested in it, then those behind."""
    for key in reversed(_NESTED):
        nested = source.get(key)
        if nested and isinstance(nested, Mapping):
            behind = _sources(nested, behind)
    return [source, *behind]


def _setting(name: str, sources: list[Mapping[str, Any]]) -> Any:
    for source in sources:
        if (value := source.get(name)) is not None:
            return value
    return None


def _search_context(sources: list[Mapping[str, Any]]) -> str | None:
    return _text(mapping_of(_setting("web_search_options", sources)).get("search_context_size"))


def _host(constructor: Mapping[str, Any]) -> str | None:
    for key in _URL_KEYS:
        url = constructor.get(key)
        if url and (host := host_of(url)) is not None:
            return host
    return None


def _cache_ttl(params: Mapping[str, Any], messages: Any) -> str | None:
    found: set[str] = set()
    _note_ttl(params.get("cache_control"), found)
    for tool in sequence_of(params.get("tools")):
        if isinstance(tool, Mapping):
            _note_ttl(tool.get("cache_control"), found)
    for block in blocks_of(messages):
        _note_ttl(block.get("cache_control"), found)
        _note_ttl(block.get("cachePoint"), found)
    if len(found) > 1:
        return "mixed"
    return next(iter(found), None)


def _has_search_preview(tools: Any) -> bool:
    return bool(tools) and any(
        isinstance(tool, Mapping) and str(tool.get("type")).startswith("web_search_preview")
        for tool in sequence_of(tools)
    )


def _has_audio(messages: Any) -> bool:
    return any(
        block.get("type") in ("audio", "input_audio") or str(block.get("mime_type", "")).startswith("audio/")
        for block in blocks_of(messages)
    )


def _note_ttl(control: Any, found: set[str]) -> None:
    if isinstance(control, Mapping):
        found.add("1h" if control.get("ttl") == "1h" else "5m")


# --- the response ----------------------------------------------------------------------------------------------------


def call_result(
    request: CallRequest, generations: Sequence[Sequence[Any]], llm_output: Mapping[str, Any] | None
) -> CallResult:
    """Read the usage, the model that answered and the bill, if there is one, out of an end event's response.

    Of several generations of one prompt only the first that reports usage counts: LangChain copies the usage of the
    whole request onto each.
    """
    try:
        return _call_result(request, generations, mapping_of(llm_output))
    except Exception as error:  # noqa: BLE001 - foreign objects may raise anything; the call then counts as unreported
        return CallResult(problems=(f"the response could not be read: {type(error).__name__}",))


def _call_result(
    request: CallRequest, generations: Sequence[Sequence[Any]], llm_output: Mapping[str, Any]
) -> CallResult:
    reported, response, uses = look_through(generations)
    made = [kind for kind in _CONTAINERS if uses.pop(kind, None)] if uses else ()
    response_model = _response_model(response, llm_output)
    problems: list[str] = []
    if reported and reported.get("total_cost") == 0:
        # The one mark of LangChain's LLM cache (langchain-core 1.7, `_convert_cached_generations`).
        usage = usage_of(reported, {}, request, [])[0] if len(reported) > 1 else None
        return CallResult(usage=usage or Usage(), response_model=response_model, cached=True)

    raw = _raw_usage(response, llm_output)
    if not raw and not reported:
        # ChatCohere's stream: `token_count`.
        raw = next((value for value in (*response.values(), *llm_output.values()) if holds_totals(value)), raw)
    side_calls = _side_calls(raw, request, problems) if "iterations" in raw else ()
    usage, partly = None, False
    if reported or raw:
        usage, partly = usage_of(reported or raw, raw, request, problems)
        if usage is not None and partly:
            # No less than its parts that were told.
            counted = count_tokens(said_text(generations), request.model)
            usage = replace(usage, output_tokens=max(usage.output_tokens, counted))
        elif usage is None and side_calls:
            # A turn that did nothing but compact: all of its tokens are in the iterations.
            usage = Usage()
            problems.clear()
    elif request.batch_size > 1 and "token_usage" in llm_output:
        # LLMResult.flatten leaves the usage of a batch with its first prompt; the others get an empty mapping.
        usage = Usage()
    if usage is not None and request.provider == GOOGLE:
        usage = _with_images(usage, response_model or request.model or "", generations)
    if size := SEARCH_REQUESTS.get(_search_size(response, raw, request) or ""):
        uses[size] = 1
    if usage is not None and (uses or "server_tool_use" in raw or "num_search_queries" in raw):
        usage = replace(usage, fees=_fees(raw, uses))
    tier = _tier(response.get("service_tier") or response.get("serviceTier") or llm_output.get("service_tier"))
    return CallResult(
        usage=usage,
        response_model=response_model,
        provider=provider_id(_name(response.get("model_provider"))),
        service_tier=tier or _tier(raw.get("service_tier")) or _tier_in_details(reported),
        speed=_name(raw.get("speed")),
        region=_name(raw.get("inference_geo")),
        billed_usd=bill_of(response, raw, problems),
        estimated=partly,
        side_calls=side_calls,
        problems=tuple(problems),
        notes=_untold(request, usage, raw, made) if made or request.provider in _DROPPING else (),
    )


def look_through(
    generations: Sequence[Sequence[Any]],
) -> tuple[Mapping[str, Any], Mapping[str, Any], dict[str, int]]:
    """Find the first usage that was reported, what the response says of itself, and the tools used in all answers."""
    reported: Mapping[str, Any] = {}
    response: Mapping[str, Any] = {}
    uses: dict[str, int] = {}
    for answers in generations:
        for generation in answers:
            message = getattr(generation, "message", None)
            info = mapping_of(getattr(generation, "generation_info", None))
            if message is None:
                response = response or info
                reported = reported or mapping_of(info.get("usage_metadata"))
                continue
            about = mapping_of(getattr(message, "response_metadata", None))
            response = response or ({**info, **about} if info else about)
            reported = reported or mapping_of(getattr(message, "usage_metadata", None))
            _add_uses(message, about, uses)
    return reported, response, uses


_RAW_KEYS: Final = ("token_usage", "usage", "usage_metadata", "usageMetadata", "amazon-bedrock-invocationMetrics")


def _raw_usage(response: Mapping[str, Any], llm_output: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the provider's own usage object, which knows more than LangChain's: fees, regions, bills."""
    for source in (response, llm_output):
        for key in _RAW_KEYS:
            raw = source.get(key)
            if raw and isinstance(raw, Mapping):
                return raw
    if "prompt_eval_count" in response or "eval_count" in response:  # Ollama puts the counts beside the rest.
        return response
    return {}


def _response_model(response: Mapping[str, Any], llm_output: Mapping[str, Any]) -> str | None:
    for source in (response, llm_output):
        for key in ("model_name", "model", "model_id", "model_version"):
            if (name := _name(source.get(key))) is not None:
                return _model_of(name)
    return None


@lru_cache(maxsize=1024)
def _model_of(name: str) -> str:
    return model_id(_unrepeated(name))


def _unrepeated(text: str) -> str:
    """Undo what merging the chunks of a stream does to a text that came with each of n answers: `flexflex`."""
    half = len(text) // 2
    while half and len(text) % 2 == 0 and text[:half] == text[half:]:
        text, half = text[:half], half // 2
    return text


def _tier_in_details(reported: Mapping[str, Any]) -> str | None:
    """Find the tier that langchain-openai writes into the names of the details: `flex_cache_read`, `priority`."""
    details = reported.get("input_token_details")
    if isinstance(details, Mapping):
        for tier in ("flex", "priority"):
            if tier in details or f"{tier}_cache_read" in details:
                return tier
    return None


def _tier(value: Any) -> str | None:
    if isinstance(value, Mapping):  # Bedrock: {"type": "flex"}
        value = value.get("type")
    if not isinstance(value, str):
        return None
    tier = value.strip().lower()
    if tier in _TIERS:
        return _TIERS[tier]
    whole = _name(_unrepeated(tier))
    return None if whole is None else _TIERS.get(whole, whole)


# --- what integrations drop ------------------------------------------------------------------------------------------

_TOKENS_OF_AN_IMAGE: Final = 1290
"""Of gemini-2.5-flash-image, whatever its size (ai.google.dev, pricing); later models have several sizes."""


def _with_images(usage: Usage, model: str, generations: Sequence[Sequence[Any]]) -> Usage:
    """Count the tokens of the images in Gemini's answer, which langchain-google-genai has among those of its text."""
    if usage.output_image:
        return usage
    images = sum(map(_is_image, blocks_of([getattr(each, "message", None) for each in _flat(generations)])))
    if not images:
        return usage
    room = usage.output_tokens - usage.reasoning - usage.output_audio - usage.citation
    if "2.5-flash-image" in model:
        return replace(usage, output_image=min(room, images * _TOKENS_OF_AN_IMAGE))
    return replace(usage, output_image=max(0, room - count_tokens(said_text(generations), model)))


def _is_image(block: Mapping[str, Any]) -> bool:
    return block.get("type") in ("image_url", "image") or str(block.get("mime_type", "")).startswith("image/")


def _flat(generations: Sequence[Sequence[Any]]) -> list[Any]:
    return [generation for answers in generations for generation in answers]


def _untold(request: CallRequest, usage: Usage | None, raw: Mapping[str, Any], made: Sequence[str]) -> tuple[str, ...]:
    """Say what is billed and did not come through the integration."""
    notes = [_CONTAINERS[kind] for kind in made]
    if usage is None:
        return ()
    if request.provider == "mistral" and not raw and not usage.cache_read:
        notes.append("cached tokens are not told in Mistral's streams: they count as fresh ones")
    elif request.provider == "cohere" and not raw:  # Its stream tells them.
        notes.append("Cohere's billed units are not told: the tokens count, which are some more")
    elif request.provider == GOOGLE and request.sends_audio and not usage.input_audio:
        notes.append("audio in the prompt is not told apart: it counts as text")
    return tuple(notes)


_DROPPING: Final = frozenset({"mistral", "cohere", GOOGLE})
_CONTAINERS: Final = {
    "code_interpreter_call": "the fee for the code interpreter's container is not told: left out",
    "image_generation_call": "the tokens of images that a tool makes are not told: left out",
}


# --- fees, bills, inferences inside a call ---------------------------------------------------------------------------


def _fees(raw: Mapping[str, Any], uses: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """Join the uses that were counted in the answer with the provider's own counts, which are better."""
    tools = raw.get("server_tool_use")
    for source in (raw, tools):
        if isinstance(source, Mapping):
            for key in ("web_search_requests", "num_search_queries"):
                if count := Reading([]).count(source.get(key) or 0, key):
                    uses["web_search"] = count
    return tuple(sorted(uses.items()))


def _add_uses(message: Any, about: Mapping[str, Any], uses: dict[str, int]) -> None:
    """Count the server tools in one answer that are billed per use; failed ones are not billed."""
    content = getattr(message, "content", None)
    outputs = mapping_of(getattr(message, "additional_kwargs", None)).get("tool_outputs")
    if "num_search_queries" in about:  # Perplexity
        uses["web_search"] = Reading([]).count(about["num_search_queries"] or 0, "num_search_queries") or 0
    grounding = about.get("grounding_metadata")
    if isinstance(grounding, Mapping):  # Gemini
        queries = grounding.get("web_search_queries") or grounding.get("webSearchQueries")
        if isinstance(queries, (list, tuple)) and queries:
            # A query that is asked again, or that each chunk of a stream repeats, is billed once.
            uses["grounding_query"] = len({str(query) for query in queries if query})
    if isinstance(content, str) and not outputs:
        return
    blocks = [block for block in (*_list(content), *_list(outputs)) if isinstance(block, Mapping)]
    failed = {identity for block in blocks if (identity := _failed_use(block)) is not None}
    seen: set[Any] = set()
    for block in blocks:
        if (kind := block.get("type")) in _CONTAINERS:
            uses[str(kind)] = 1
        tool = _billed_tool(block)
        identity = block.get("id")
        if tool is not None and (identity is None or (identity not in failed and identity not in seen)):
            uses[tool] = uses.get(tool, 0) + 1
            seen.add(identity)


def _search_size(response: Mapping[str, Any], raw: Mapping[str, Any], request: CallRequest) -> str | None:
    """Find how widely Perplexity searched: only it tells, and of requests only its own count."""
    told = response.get("search_context_size") or raw.get("search_context_size") or request.search_context
    return _text(told)


_SERVER_TOOLS: Final = frozenset({"web_search", "file_search"})


def _billed_tool(block: Mapping[str, Any]) -> str | None:
    kind = block.get("type")
    if kind in ("web_search_call", "file_search_call"):  # OpenAI's Responses API
        name, action = str(kind).removesuffix("_call"), block.get("action")
        if block.get("status") in ("failed", "incomplete"):
            return None
    elif kind in ("server_tool_use", "server_tool_call"):  # Anthropic's, and LangChain's v1 form of both
        name, action = str(block.get("name")), block.get("args")
    else:
        return None
    # Of OpenAI's web searches only the action `search` is billed, not opening a page or looking for a word in it.
    if isinstance(action, Mapping) and action.get("type") not in (None, "search"):
        return None
    return name if name in _SERVER_TOOLS else None


def _failed_use(block: Mapping[str, Any]) -> Any:
    if block.get("type") == "web_search_tool_result":
        inner = block.get("content")
        return block.get("tool_use_id") if isinstance(inner, Mapping) and "error" in str(inner.get("type")) else None
    if block.get("type") == "server_tool_result" and block.get("status") == "error":
        return block.get("tool_call_id")
    return None


def _side_calls(
    raw: Mapping[str, Any], request: CallRequest, problems: list[str]
) -> tuple[tuple[str | None, Usage], ...]:
    """Read Anthropic's iterations that the totals leave out: a compaction, an advisor with a model of its own."""
    found: list[tuple[str | None, Usage]] = []
    for entry in sequence_of(raw.get("iterations")):
        if isinstance(entry, Mapping) and entry.get("type") in ("compaction", "advisor_message"):
            usage, _ = usage_of(entry, entry, request, problems)
            if usage is not None:
                found.append((_name(entry.get("model")), usage))
    return tuple(found)


# --- estimates -------------------------------------------------------------------------------------------------------

_MESSAGE_OVERHEAD: Final = 8


def estimated_result(
    request: CallRequest, prompt_text: str, output_text: str, *, told: CallResult | None = None
) -> CallResult:
    """Count the tokens of a call whose provider reported none, such as an aborted stream.

    Args:
        request: The call.
        prompt_text: All that was sent.
        output_text: All that had come back.
        told: What the response did tell, such as the model that answered; kept.
    """
    usage = Usage(
        input_tokens=count_tokens(prompt_text, request.model) if prompt_text else 0,
        output_tokens=count_tokens(output_text, request.model) if output_text else 0,
    )
    return replace(told or CallResult(), usage=usage, estimated=True)


def estimate_prompt_tokens(request: CallRequest, prompt_text: str) -> int:  # noqa: ARG001 - a model may come to matter
    """Guess a prompt's tokens for a reservation: cheap, and rather too many than too few.

    A token is about four bytes of English, three of code or other languages' letters; three is taken.
    """
    return len(prompt_text.encode("utf-8", "surrogatepass")) // 3 + _MESSAGE_OVERHEAD


def estimate_answer_tokens(text: str) -> int:
    """Guess the tokens of a piece of an answer while it streams: cheap, a quarter of its bytes."""
    return (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) // 4


# --- reading foreign values ------------------------------------------------------------------------------------------


def mapping_of(value: Any) -> Mapping[str, Any]:
    """A mapping itself; an empty one for anything else."""
    if type(value) is dict:  # By far the most: an abstract class' isinstance takes five times as long.
        return value
    return value if isinstance(value, Mapping) else {}


def sequence_of(value: Any) -> Sequence[Any]:
    """A list or tuple itself; an empty one for anything else."""
    return value if isinstance(value, (list, tuple)) else ()


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


_NAME: Final = re.compile(r"[\w.:/@+~=-]{1,200}")


def _name(value: Any) -> str | None:
    """Read what a response calls something. It stands on spans and in warnings: what is no name is ignored."""
    return value if isinstance(value, str) and _is_name(value) else None


@lru_cache(maxsize=1024)
def _is_name(text: str) -> bool:
    # The same few names come with every answer.
    return _NAME.fullmatch(text) is not None


def _first_text(source: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((text for key in keys if (text := _text(source.get(key)))), None)


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
