"""A FastAPI endpoint that streams a graph's tokens; served by uvicorn, or asked by its own client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

model = ChatOpenAI(model="gpt-4o-mini", stream_usage=True)


async def answer(state: MessagesState) -> Any:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
app = FastAPI()
app.state.config = {}


@app.get("/ask")
async def ask(question: str) -> StreamingResponse:
    async def tokens() -> AsyncIterator[str]:
        asked: Any = {"messages": [("user", question)]}
        async for chunk, _ in graph.astream(asked, app.state.config, stream_mode="messages"):
            yield chunk.text  # type: ignore[union-attr]

    return StreamingResponse(tokens(), media_type="text/plain")


@app.get("/pid")
def pid() -> int:
    return os.getpid()


def main(config: Any) -> None:
    app.state.config = config

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            one = client.get("/ask", params={"question": "I am jane.doe@example.com"})
            two = client.get("/ask", params={"question": "and who am I?"})
            print([answer.text for answer in await asyncio.gather(one, two)])

    asyncio.run(run())


if __name__ == "__main__":
    main({})
