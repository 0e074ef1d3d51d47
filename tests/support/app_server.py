"""The model server that the example applications ask: it calls a tool if it is offered one, else it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Tokens, ToolCall

if TYPE_CHECKING:
    from langchain_mlflow_cost.demo.provider import Request

CALL_USD = 0.00045
"""1,000 tokens in at 0.15 and 500 out at 0.60 USD per million: openai.com/api/pricing, gpt-4o-mini."""


def reply(request: Request) -> Reply:
    tools: list[Any] = request.body.get("tools") or []
    told = any(message["role"] == "tool" for message in request.body["messages"])
    usage = Tokens(input=1000, output=500)
    if tools and not told:
        function = tools[0]["function"]
        arguments = dict.fromkeys(function["parameters"]["properties"], "Rome")
        return Reply("", usage, tool_calls=[ToolCall(function["name"], arguments)])
    return Reply("Dear jane.doe@example.com, it is so.", usage)


def app_server() -> ProviderServer:
    return ProviderServer(reply)
