"""Tokens of a text, counted without a network: by tiktoken where its tables are on this machine, else by length."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any, Final

_TABLES: Final[dict[str, tuple[str, str]]] = {
    # Where tiktoken fetches its tables from, and their SHA-256. The name of its cache file is the SHA-1 of the address,
    # and a file with another content is fetched again (tiktoken 0.12, `load.read_file_cached`): so both are checked.
    "o200k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
_OLD_MODELS: Final = ("gpt-4-", "gpt-3.5", "text-embedding")
_BYTES_PER_TOKEN: Final = 4
# tiktoken's time grows with the square of a run without spaces, and a length is as good an estimate there.
_MAX_EXACT_CHARS: Final = 200_000

_lock: Final = threading.Lock()


def count_tokens(text: str, model: str | None = None) -> int:
    """Count a text's tokens as OpenAI's tokenizers do, or guess: a quarter of its UTF-8 bytes, rounded up."""
    if not text:
        return 0
    if len(text) <= _MAX_EXACT_CHARS:
        encoding = _encoding(encoding_name(model))
        if encoding is not None:
            return len(encoding.encode(text, disallowed_special=()))
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)


def encoding_name(model: str | None) -> str:
    """Which of tiktoken's tables a model of OpenAI counts by."""
    return "cl100k_base" if model == "gpt-4" or (model or "").startswith(_OLD_MODELS) else "o200k_base"


def most_prompt_tokens(prompt_text: str) -> int:
    """Bound a prompt's tokens: each has a byte at least, and a request's frame (roles, tools) has a few hundred."""
    return len(prompt_text.encode("utf-8", "surrogatepass")) + _MOST_FRAME


_MOST_FRAME: Final = 1_000
"""Anthropic's prompt for the use of tools is the largest that is documented: up to 530 tokens (Claude 3 to 4.5)."""


def _encoding(name: str) -> Any:
    with _lock:
        return _load(name)


@cache
def _load(name: str) -> Any:
    try:
        import tiktoken  # noqa: PLC0415 - comes with langchain-openai, not with us
        from tiktoken import registry  # noqa: PLC0415
    except ImportError:
        return None
    if name not in registry.ENCODINGS and not _table_is_here(name):
        return None
    try:
        return tiktoken.get_encoding(name)
    except Exception:  # noqa: BLE001 - a broken table of another library; the guess by length takes over
        return None


def _table_is_here(name: str) -> bool:
    folder = os.environ.get("TIKTOKEN_CACHE_DIR")
    if folder is None:
        folder = os.environ.get("DATA_GYM_CACHE_DIR", str(Path(tempfile.gettempdir()) / "data-gym-cache"))
    if not folder:  # tiktoken: an empty setting switches the cache off
        return False
    url, digest = _TABLES[name]
    file = Path(folder) / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == digest
    except OSError:
        return False
