"""Names of providers, models and hosts."""

from __future__ import annotations

import pytest
from genai_prices import data_snapshot

from langchain_mlflow_cost.pricing.providers import PROVIDER_IDS, host_of, is_private_host, model_id, provider_id


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("amazon_bedrock", "aws"),
        ("anthropic-bedrock", "aws"),
        ("bedrock_converse", "aws"),
        ("google_genai", "google"),
        ("google_vertexai", "google"),
        ("xai", "x-ai"),
        ("mistralai", "mistral"),
        ("azure-openai-chat", "azure"),
        ("OpenAI", "openai"),
        ("Brand-New", "brand-new"),
        ("", None),
        (None, None),
        (3, None),
    ],
)
def test_provider_id(name: object, expected: str | None) -> None:
    """A provider's name becomes the list's, an unknown one stays."""
    assert expected == provider_id(name)


def test_every_id_is_listed() -> None:
    """Each id in the table is one that genai-prices has."""
    listed = {provider.id for provider in data_snapshot.get_snapshot().providers}

    assert set(PROVIDER_IDS.values()) <= listed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o", "gpt-4o"),
        ("ft:gpt-4o-2024-08-06:acme::Ab1", "ft:gpt-4o-2024-08-06:acme::Ab1"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5@20250929"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.anthropic.claude-haiku-4-5-20251001-v1:0", "eu.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:application-inference-profile/a1b2c3", "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:application-inference-profile/a1b2c3"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("projects/p/locations/us-central1/publishers/anthropic/models/claude-sonnet-4-5@20250929", "claude-sonnet-4-5@20250929"),
        ("accounts/fireworks/models/gpt-oss-20b", "accounts/fireworks/models/gpt-oss-20b"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ],
)  # fmt: skip
def test_model_id(name: str, expected: str) -> None:
    """What a cloud puts around a name goes, what has a price of its own stays."""
    assert expected == model_id(name)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:secret@API.example.com:8443/v1", "api.example.com"),
        ("api.example.com/v1", "api.example.com"),
        ("http://[::1]:8000/v1", "::1"),
        ("http://[", None),
        ("", None),
        (None, None),
        ({"lc": 1}, None),
    ],
)
def test_host_of(url: object, expected: str | None) -> None:
    """Of a base URL only the host is kept, never user or password."""
    assert expected == host_of(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("127.0.0.1", True), ("::1", True), ("10.1.2.3", True), ("vllm", True), ("gpu.internal", True),
        ("api.openai.com", False), ("8.8.8.8", False),
    ],
)  # fmt: skip
def test_is_private_host(host: str, expected: bool) -> None:
    """Machines of the user's own are told from those of a provider."""
    assert expected is is_private_host(host)
