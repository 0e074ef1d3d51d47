"""A streaming service: each tenant has a policy of its own, each user a sum for the month; 402 when it is used up.

python examples/streaming_service.py              # asks itself, no network, no keys
uvicorn streaming_service:app                     # in examples/; needs pip install fastapi uvicorn httpx
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from langgraph.graph import START, MessagesState, StateGraph
from offline import model
from pydantic import BaseModel

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, Policy, configure

settings = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
configure(settings["defaults"])
policies = {name: Policy.load({**settings["defaults"], **each}) for name, each in settings["tenants"].items()}
chat = model("Ask jane.doe@example.com, she knows.")


async def answer(state: MessagesState) -> dict[str, Any]:
    """Ask the model."""
    return {"messages": [await chat.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
app = FastAPI()


class Question(BaseModel):
    """What a user asks."""

    text: str


@app.post("/ask")
async def ask(question: Question, tenant: Annotated[str, Header()], user: Annotated[str, Header()]) -> Any:
    """Stream the answer. Take who asks from what you have verified, not from a header as here."""
    # A handler for each request: sums of users and tenants belong to the process, or to a Redis (session_store).
    handler = MlflowCostHandler(policies[tenant])
    config: Any = {"callbacks": [handler], "metadata": {"user_id": user, "tenant": tenant}}
    tokens = graph.astream({"messages": [("user", question.text)]}, config, stream_mode="messages")

    async def texts() -> AsyncIterator[str]:
        async for chunk, _ in tokens:
            yield str(chunk.content)

    stream = texts()
    first = await anext(stream)  # a budget refuses before anything is sent

    async def body() -> AsyncIterator[str]:
        yield first
        async for text in stream:
            yield text

    return StreamingResponse(body(), media_type="text/plain")


@app.exception_handler(BudgetExceededError)
def refused(_: Request, error: BudgetExceededError) -> JSONResponse:
    """Say what is used up; no id is in it."""
    told = {"error": "budget", "of": error.scope, "per": error.per, "spent_usd": float(error.spent_usd or 0)}
    return JSONResponse(told, status_code=402)


if __name__ == "__main__":
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        answers = [
            client.post("/ask", json={"text": "Who knows?"}, headers={"tenant": tenant, "user": user})
            for tenant, user in (("clinic", "ada"), ("shop", "bob"), ("clinic", "ada"), ("clinic", "eve"))
        ]
    for each in answers:
        print(each.status_code, each.text)
