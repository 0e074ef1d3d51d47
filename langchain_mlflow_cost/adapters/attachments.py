"""Which payloads hold a file that MLflow would take out of them, so that its UI shows it."""

from __future__ import annotations

_MARKS = (
    ";base64,",  # a data URI, whoever's
    '"input_audio"',  # OpenAI
    '"type":"base64"',  # Anthropic's image
    '"b64_json"',  # DALL-E
    '"audio":{',  # OpenAI's answer
    '"source":{"bytes"',  # Bedrock's converse
    '"inline_data"',  # Gemini
    '"image_generation_call"',  # OpenAI's responses
)
"""What stands in the JSON of each form that `LiveSpan` looks for, read in MLflow 3.15 to 3.18: data URIs, and the cases
of `_try_convert_structured_content`. `set_inputs` and `set_outputs` walk a payload of Python objects for them, which
costs more than writing it: only where there is a chance."""


_IN_CHAT = (";base64,", '"content":[')
"""In a chat every other form stands in a message whose content is a list."""


def may_hold_file(written: str, *, is_chat: bool) -> bool:
    """Whether a payload may hold a file in one of the forms that MLflow takes out.

    Args:
        written: JSON without spaces.
        is_chat: It is a model's, in the form that MLflow's UI shows as a chat: far most of what is searched.
    """
    # A generator for each payload would cost more than the looking.
    if is_chat and _IN_CHAT[0] not in written and _IN_CHAT[1] not in written:
        return False
    for mark in _MARKS:  # noqa: SIM110 - as above
        if mark in written:
            return True
    return False
