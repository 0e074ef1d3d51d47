"""Which payloads hold a file that MLflow would take out of them, so that its UI shows it."""

from __future__ import annotations

from langchain_mlflow_cost.redaction.re2_search import byte_pattern, is_in

_DATA_URI = ";base64,"
_FORMS = byte_pattern(
    '"(?:'
    'input_audio"'  # OpenAI
    '|type":"base64"'  # Anthropic's image
    '|b64_json"'  # DALL-E
    r'|audio":\{'  # OpenAI's answer
    r'|source":\{"bytes"'  # Bedrock's converse
    '|inline_data"'  # Gemini
    '|image_generation_call"'  # OpenAI's responses
    ")"
)
"""What stands in the JSON of each form that `LiveSpan` looks for, read in MLflow 3.15 to 3.18: data URIs, and the cases
of `_try_convert_structured_content`. `set_inputs` and `set_outputs` walk a payload of Python objects for them, which
costs more than writing it: only where there is a chance. All begin with a quotation mark, of which RE2 goes from one to
the next."""


_IN_CHAT = '"content":['
"""In a chat every form but a data URI stands in a message whose content is a list."""


def may_hold_file(written: str, *, is_chat: bool) -> bool:
    """Whether a payload may hold a file in one of the forms that MLflow takes out.

    Args:
        written: JSON without spaces.
        is_chat: It is a model's, in the form that MLflow's UI shows as a chat: far most of what is searched.
    """
    # One character is looked for much faster than a word of frequent letters, and most texts have no semicolon.
    if ";" in written and _DATA_URI in written:
        return True
    if is_chat and _IN_CHAT not in written:
        return False
    return is_in(_FORMS, written.encode(errors="replace"))
