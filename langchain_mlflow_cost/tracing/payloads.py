"""LangChain's objects in the forms that MLflow's UI and judges read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langgraph.types import Command, Send

from langchain_mlflow_cost.adapters.chat_form import chat_message
from langchain_mlflow_cost.redaction.plain import Converted


def without_channels(returned: Any) -> list[Any]:
    """What a node returned without the names of the state's channels and of nodes, which are the graph's own."""
    values: list[Any] = []
    pending = [returned]
    while pending:
        value = pending.pop()
        if isinstance(value, Command):
            pending += [value.update, value.resume]
            if isinstance(value.goto, list | tuple):
                pending += [each for each in value.goto if isinstance(each, Send)]
            elif isinstance(value.goto, Send):
                pending.append(value.goto)
        elif isinstance(value, Send):
            pending.append(value.arg)
        elif type(value) is dict:
            values += value.values()
        elif isinstance(value, list | tuple) and any(isinstance(each, Command | Send | dict) for each in value):
            pending += value
        else:
            values.append(value)
    return values


def output_form(value: Any, audio_format: str | None) -> Any:
    """A model's answer as a chat, anything else as it is.

    Args:
        value: As LangChain hands it on.
        audio_format: What the request asked sound to be in, such as `wav`.
    """
    return chat_outputs(value, audio_format) if isinstance(value, LLMResult) else value


def _chat_form(message: Any) -> Any:
    """A message as MLflow's UI shows it; one that its form has no place for as it is."""
    try:
        return chat_message(message)
    except Exception:  # noqa: BLE001 - whatever MLflow's conversion refuses
        return message


def _in_chat_form(message: Any) -> Any:
    return Converted(message, _chat_form) if isinstance(message, BaseMessage) else message


def chat_inputs(prompt: Any) -> Any:
    """What a chat model was sent; a string model's prompts as they are."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], list):
        return {"messages": [_in_chat_form(message) for message in prompt[0]]}
    return prompt


def _answer_form(message: Any, audio_format: str | None) -> Any:
    spoken = None if message.content else message.additional_kwargs.get("audio")
    if not isinstance(spoken, Mapping):
        return _in_chat_form(message)
    # OpenAI's audio models answer beside the content; as in MLflow's tracer, transcript and file take its place.
    transcript, data, form = spoken.get("transcript"), spoken.get("data"), _chat_form(message)
    if not isinstance(transcript, str) or not isinstance(form, Mapping):
        return form
    if not isinstance(data, str) or audio_format is None:
        return {**form, "content": transcript}
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": audio_format}}
    return {**form, "content": [{"type": "text", "text": transcript}, sound]}


def chat_outputs(response: LLMResult, audio_format: str | None) -> Any:
    """What a model answered, of several prompts as LangChain has it."""
    if len(response.generations) != 1:
        return response
    choices = []
    for generation in response.generations[0]:
        message = getattr(generation, "message", None)
        content = (
            {"role": "assistant", "content": generation.text}
            if message is None
            else _answer_form(message, audio_format)
        )
        choices.append({"message": content, "finish_reason": None})
    return {"choices": choices}


def chat_tool(tool: Any) -> Any:
    """A tool definition in the form that MLflow's UI shows: OpenAI's; others by name and description."""
    if isinstance(tool, Mapping) and "function" not in tool and tool.get("name"):
        return {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool.get("description"),
                "parameters": tool.get("input_schema") or tool.get("parameters"),
            },
        }
    return tool


def schema_of(value: Any) -> Any:
    """A structured-output class as its schema: the class itself says nothing once it is text."""
    schema = getattr(value, "model_json_schema", None)
    return schema() if isinstance(value, type) and callable(schema) else value
