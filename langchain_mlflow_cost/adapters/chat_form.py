"""LangChain's messages in the form that MLflow's UI shows as a chat."""

from __future__ import annotations

import functools
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from mlflow.langchain.utils.chat import convert_lc_message_to_chat_message


@functools.cache
def _chat_form(role: str) -> dict[str, Any]:
    """The fields that MLflow writes for a message with nothing but a role and a text."""
    plain = {"user": HumanMessage("x"), "system": SystemMessage("x"), "assistant": AIMessage("x")}
    message = plain.get(role) or ToolMessage("x", tool_call_id="x")
    form: dict[str, Any] = convert_lc_message_to_chat_message(message).model_dump()
    return form


_ROLES: dict[type, str] = {HumanMessage: "user", SystemMessage: "system", AIMessage: "assistant", ToolMessage: "tool"}


def chat_message(message: Any) -> dict[str, Any]:
    """A LangChain message in the form that MLflow's UI shows as a chat."""
    role = _ROLES.get(type(message))
    if role is not None and type(message.content) is str and not _calls_tools(message, role):
        # MLflow's own conversion validates each message again, in each prompt that it is part of.
        form = {**_chat_form(role), "content": message.content}
        if role == "tool":
            form["tool_call_id"] = message.tool_call_id
        return form
    converted: dict[str, Any] = convert_lc_message_to_chat_message(message).model_dump()
    return converted


def _calls_tools(message: Any, role: str) -> bool:
    return role == "assistant" and bool(
        message.tool_calls or message.invalid_tool_calls or message.additional_kwargs.get("tool_calls")
    )
