"""The README's example: a graph of one node, its cost live and from the store, its answer redacted."""

from itertools import repeat

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from langchain_mlflow_cost import MlflowCostHandler, configure, cost_summary

reply = AIMessage(
    "Write to ada@example.com.",
    usage_metadata={"input_tokens": 1_200, "output_tokens": 300, "total_tokens": 1_500},
    response_metadata={"model_name": "gpt-4o-mini", "model_provider": "openai"},
)
model = GenericFakeChatModel(messages=repeat(reply))  # any chat model; this one needs no key
graph = StateGraph(MessagesState).add_node("agent", lambda s: {"messages": [model.invoke(s["messages"])]})
app = graph.add_edge(START, "agent").compile()

handler: MlflowCostHandler = configure({"redact_pii": True, "budget": {"max_cost_usd": 0.50}})
app.invoke({"messages": [("user", "Whom do I ask?")]}, config={"callbacks": [handler]})

print(handler.summary().total_cost_usd, "USD, live")
print(cost_summary().node_breakdown, "from the stored trace")
