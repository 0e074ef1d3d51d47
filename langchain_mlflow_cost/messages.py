"""Temporary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def chunk_text(token: Any, chunk: Any) -> str:
    if token and isinstance(token, str):
        return token
    message = getattr(chunk, "message", None)
    pieces = getattr(message, "tool_call_chunks", None) or ()
    return "".join(f"{piece.get('name') or ''}{piece.get('args') or ''}" for piece in pieces) or str(
        getattr(chunk, "text", "") or ""
    )


def _prompt_text(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list | tuple):
        return "\n".join(_prompt_text(member) for member in prompt)
    if isinstance(prompt, Mapping):
        return orjson.dumps(prompt, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    content = getattr(prompt, "content", None)
    if isinstance(content, list):
        content = "\n".join(
            block if isinstance(block, str) else str(block.get("text") or block.get("content") or "")
            for block in content
        )
    if not isinstance(content, str):
        return "" if prompt is None else str(prompt)
    calls = getattr(prompt, "tool_calls", None) or ()
    return "\n".join([content, *(f"{call.get('name', '')}{call.get('args', '')}" for call in calls)])


def sent_text(prompt: Any, tools: Any) -> str:
    return "\n".join((_prompt_text(prompt), _prompt_text(tools)))


def said_text(generations: Any) -> str:
    from langchain_mlflow_cost.pricing.reading import output_text

    return output_text(generations)
