"""What LangChain's integrations, gateways and clouds call a provider or model, and what a price list calls it.

Provider ids are those of genai-prices (`openai`, `aws`, `x-ai`, ...). A name that no table knows is kept as it is:
the price list may know it, and if not the model is unpriced.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

OPENAI: Final = "openai"
AZURE: Final = "azure"
ANTHROPIC: Final = "anthropic"
AWS: Final = "aws"
GOOGLE: Final = "google"
OPENROUTER: Final = "openrouter"
PERPLEXITY: Final = "perplexity"

PROVIDER_IDS: Final[dict[str, str]] = {
    # ls_provider, `_type` and response_metadata["model_provider"] of the integrations that were read:
    # langchain-openai 1.7, -anthropic 1.7, -aws 1.9, -google-genai 4.4, -google-vertexai 3.2, -mistralai 1.1, -xai 1.3.
    "azure_openai": AZURE,
    "azure-openai": AZURE,
    "azure-openai-chat": AZURE,
    "azure_ai": AZURE,
    "openai-chat": OPENAI,
    "openai_chat": OPENAI,
    "anthropic-chat": ANTHROPIC,
    "amazon_bedrock": AWS,
    "amazon_bedrock_converse": AWS,
    "amazon_bedrock_chat": AWS,
    "anthropic-bedrock": AWS,
    "anthropic-mantle": AWS,
    "openai-mantle": AWS,
    "anthropic_bedrock": AWS,
    "bedrock": AWS,
    "bedrock_converse": AWS,
    "bedrock-converse": AWS,
    "amazon_nova": AWS,
    "google_genai": GOOGLE,
    "google-genai": GOOGLE,
    "google_vertexai": GOOGLE,
    "google_anthropic_vertex": GOOGLE,
    "anthropic-chat-vertexai": GOOGLE,
    "vertexai": GOOGLE,
    "vertex_ai": GOOGLE,
    "gemini": GOOGLE,
    "xai": "x-ai",
    "xai-chat": "x-ai",
    "mistralai": "mistral",
    "mistralai-chat": "mistral",
    "mistral-chat": "mistral",
    "chat-deepseek": "deepseek",
    "groq-chat": "groq",
    "fireworks-chat": "fireworks",
    "fireworks_ai": "fireworks",
    "togetherai": "together",
    "together_ai": "together",
    "together-chat": "together",
    "cohere-chat": "cohere",
    "cohere_chat": "cohere",
    "moonshot": "moonshotai",
    "perplexity-chat": PERPLEXITY,
    "perplexitychat": PERPLEXITY,
    "openrouter-chat": OPENROUTER,
}

LOCAL_PROVIDERS: Final = frozenset(
    {
        "ollama", "ollama_chat", "chat-ollama", "ollama-llm", "llamacpp", "llama_cpp", "llama-cpp", "llamafile",
        "gpt4all", "vllm", "hosted_vllm", "vllm-openai", "lmstudio", "lm_studio", "mlx", "mlxpipeline",
        "huggingface_pipeline", "ctransformers", "exllamav2", "local",
    }
)  # fmt: skip
"""Providers that run on the user's own machines: nobody sends a bill, only the policy can say what they cost."""

_ROUTES: Final = LOCAL_PROVIDERS | {
    "aiml", "azure", "azure_ai", "bedrock", "cerebras", "cloudflare", "dashscope", "databricks", "deepinfra",
    "featherless_ai", "fireworks_ai", "friendliai", "gemini", "groq", "heroku", "hyperbolic", "lambda_ai", "moonshot",
    "nebius", "novita", "nscale", "ovhcloud", "replicate", "sagemaker", "sambanova", "snowflake", "together_ai",
    "vertex_ai", "volcengine", "wandb", "watsonx", "xai", "zai",
}  # fmt: skip
"""What stands before a model in LiteLLM's names (docs.litellm.ai, providers) and is nobody's at OpenRouter."""

_HOSTS: Final[dict[str, str]] = {
    # Those that no list of prices with hosts knows, and MLflow's catalogue has prices of: the ends of their hosts.
    "sambanova.ai": "sambanova",
    "nebius.com": "nebius",
    "nebius.ai": "nebius",
    "novita.ai": "novita",
    "deepinfra.com": "deepinfra",
    "hyperbolic.xyz": "hyperbolic",
    "aliyuncs.com": "alibaba",
    "minimax.io": "minimax",
    "minimaxi.com": "minimax",
    "volces.com": "volcengine",
    "featherless.ai": "featherless_ai",
    "friendli.ai": "friendliai",
    "nscale.com": "nscale",
    "lambda.ai": "lambda_ai",
    "publicai.co": "publicai",
    "inference.wandb.ai": "wandb",
    "ai.cloud.ovh.net": "ovhcloud",
    "ai-gateway.vercel.sh": "vercel_ai_gateway",
}


def provider_of_host(host: str) -> str | None:
    """Give the provider that answers at a host, as MLflow's catalogue calls it; None for one that is not known."""
    return next((owner for end, owner in _HOSTS.items() if host == end or host.endswith(f".{end}")), None)


OWN_MODELS: Final = frozenset({OPENAI, ANTHROPIC, GOOGLE, "mistral", "cohere", "deepseek", "x-ai"})
"""Makers whose models' names say who made them, also behind a gateway that names itself as the provider."""

_OPEN_WEIGHTS: Final = re.compile(r"(?:gpt-oss|gemma|open-mi|mixtral|ministral|deepseek-r1-distill)", re.IGNORECASE)
_WEIGHTS: Final = re.compile(r"(?:^|[-_.:])[0-9]+(?:x[0-9]+|\.[0-9]+)?b\b|^deepseek-(?:r1|v[0-9]|coder)", re.IGNORECASE)
"""Weights are named by their number of parameters (`Mistral-7B`, `8x7b`); what only an API serves is not."""
_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:(?:bedrock|sagemaker)[a-z-]*:[^:]*:[^:]*:(?:[a-z-]+/)?(?P<id>.+)", re.IGNORECASE
)
_OPAQUE_ARN: Final = re.compile(
    r"arn:[^/]*:(?:application-inference-profile|provisioned-model|custom-model|custom-model-deployment|imported-model"
    r"|prompt-router|default-prompt-router|endpoint)/(?P<id>.+)",
    re.IGNORECASE,
)
"""Names of the user's own at AWS: their end says nothing by itself."""
_PATH: Final = re.compile(r"(?:.*/)?publishers/[^/]+/models/(?P<id>[^/]+)|models/(?P<bare>[^/]+)", re.IGNORECASE)


def provider_id(name: object) -> str | None:
    """Give genai-prices' id of a provider; an unknown name comes back in lower case, nothing as None."""
    if not isinstance(name, str) or not name:
        return None
    known = PROVIDER_IDS.get(name)
    if known is not None:
        return known
    lowered = name.strip().lower()
    return PROVIDER_IDS.get(lowered, lowered) or None


def routed(provider: str | None, name: str) -> tuple[str, str] | None:
    """Read LiteLLM's way to name who answers, `fireworks_ai/accounts/...`: give the provider's id and its model's name.

    Args:
        provider: Who is said to answer: LiteLLM, or OpenAI where it may be a proxy that speaks its language.
        name: The model's. Of a proxy's, only prefixes are taken that cannot be a vendor at OpenRouter.
    """
    prefix, slash, rest = name.partition("/")
    if not slash or not rest or (prefix.lower() not in _ROUTES and not is_litellm(provider)):
        return None
    owner = provider_id(prefix)
    return (owner, rest) if owner is not None else None


def is_litellm(provider: str | None) -> bool:
    """Say whether LiteLLM's own client answers, by any of its names (`litellm`, `litellm-chat`, `litellmrouter`)."""
    return provider is not None and provider.startswith("litellm")


@lru_cache(maxsize=2048)
def model_id(name: str) -> str:
    """Take off what a cloud puts around a model's name: an ARN, `models/`, `publishers/.../models/`.

    An ARN of the user's own (an application inference profile, a model that was bought or trained) stays whole.
    Fine-tunes (`ft:`), versions (`@`, dates) and region prefixes (`us.`, `global.`) stay: they have their own prices.
    """
    name = name.strip()
    if _OPAQUE_ARN.fullmatch(name):
        return name
    for pattern in (_ARN, _PATH):
        match = pattern.fullmatch(name)
        if match is not None:
            return next(part for part in match.groups() if part)
    return name


def arn_tail(name: str) -> str | None:
    """Give the last part of an ARN of the user's own, by which a policy may mean it too; None for other names."""
    match = _OPAQUE_ARN.fullmatch(name)
    return None if match is None else match["id"]


def is_open_weights(model: str) -> bool:
    """Say whether a name of a maker's series is one that anybody may host (`gpt-oss`, `gemma`), at any price."""
    return _OPEN_WEIGHTS.match(model) is not None


def may_be_own_weights(model: str) -> bool:
    """Say whether a model that answers from a private machine may be weights that run there, without a bill."""
    return is_open_weights(model) or _WEIGHTS.search(model) is not None


def host_of(url: object) -> str | None:
    """Give the host of a base URL in lower case, without user, password, port and path."""
    return _host_of(url) if isinstance(url, str) and url else None


@lru_cache(maxsize=256)
def _host_of(url: str) -> str | None:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname
    except ValueError:
        return None
    return host.lower() if host else None


@lru_cache(maxsize=256)
def is_private_host(host: str) -> bool:
    """Say whether a host is this machine or one in a private network, where no provider sends bills from."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan", ".home", ".test"))
