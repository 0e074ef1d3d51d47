"""An old-style WSGI service around a graph, as gunicorn serves it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

model = ChatOpenAI(model="gpt-4o-mini")
builder: Any = StateGraph(MessagesState).add_node("answer", lambda s: {"messages": [model.invoke(s["messages"])]})
graph = builder.add_edge(START, "answer").compile()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/pid":
        return [str(os.getpid()).encode()]
    question = parse_qs(environ["QUERY_STRING"])["question"][0]
    return [graph.invoke({"messages": [("user", question)]})["messages"][-1].text.encode()]
