"""A service with two tenants: a monthly budget for each user, a daily one for each tenant, and a 402 with what is left.

python examples/service.py                                    # sums in this process, no network, no keys
REDIS_URL=redis://localhost:6379/0 python examples/service.py # the same sums in all workers, and after a restart
REDIS_URL=... uvicorn service:app --workers 4                 # in examples/; needs pip install fastapi uvicorn httpx
"""

import os
from pathlib import Path
from typing import Annotated, Any

import yaml
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_mlflow_cost import BudgetExceededError, configure


class Offline(BaseChatModel):
    """Any chat model; this one needs no key. An answer costs 0.00036 USD at the prices of gpt-4o-mini."""

    @property
    def _llm_type(self) -> str:
        return "offline"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        usage = {"input_tokens": 1_200, "output_tokens": 300, "total_tokens": 1_500}
        about = {"model_name": "gpt-4o-mini", "model_provider": "openai"}
        answer = AIMessage(f"You said: {messages[-1].content}", usage_metadata=usage, response_metadata=about)
        return ChatResult(generations=[ChatGeneration(message=answer)])


model = Offline()
graph = StateGraph(MessagesState).add_node("agent", lambda s: {"messages": [model.invoke(s["messages"])]})
agent = graph.add_edge(START, "agent").compile()

settings = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
handler = configure({**settings, "session_store": os.environ.get("REDIS_URL")})
app = FastAPI()


class Question(BaseModel):
    """What a user asks."""

    text: str


@app.post("/ask")
def ask(question: Question, tenant: Annotated[str, Header()], user: Annotated[str, Header()]) -> dict[str, Any]:
    """Answer a question. Take who asks from what you have verified, not from a header as here."""
    # Two tenants may have a user of the same name.
    who = {"user_id": f"{tenant}/{user}", "tenant": tenant}
    state = agent.invoke({"messages": [("user", question.text)]}, config={"callbacks": [handler], "metadata": who})
    return {"answer": state["messages"][-1].content}


@app.exception_handler(BudgetExceededError)
def payment_required(_: Request, refusal: BudgetExceededError) -> JSONResponse:
    """Say which budget is used up and what is left of it. No id is in the error: it can be shown."""
    told: dict[str, Any] = {"error": "budget", "scope": refusal.scope, "per": refusal.per, "reason": refusal.reason}
    if refusal.limit_usd is not None:
        left = max(refusal.limit_usd - refusal.spent_usd - refusal.reserved_usd, 0)
        told |= {"limit_usd": float(refusal.limit_usd), "left_usd": float(left)}
    return JSONResponse(told, status_code=402)


if __name__ == "__main__":
    from fastapi.testclient import TestClient

    client = TestClient(app)
    for tenant, user in [("acme", "ann")] * 4 + [("acme", "bob")] * 4 + [("zeta", "ann")]:
        response = client.post("/ask", json={"text": "hello"}, headers={"tenant": tenant, "user": user})
        print(tenant, user, response.status_code, response.json())
