"""Retrieval, then an answer: documents are stored redacted, embeddings and answers are counted.

python examples/rag.py
"""

from pathlib import Path

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.graph import START, MessagesState, StateGraph
from offline import model, told

from langchain_mlflow_cost import configure

handler = configure(Path(__file__).with_suffix(".yaml"))
store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
store.add_texts(["Refunds take five days. Ask refunds@example.com.", "The shop opens at nine."])
retriever = store.as_retriever(search_kwargs={"k": 1})
chat = model("A refund takes five days.")


def answer(state: MessagesState) -> MessagesState:
    """Answer from what is found."""
    question = told(state["messages"])
    found = "\n".join(document.page_content for document in retriever.invoke(question))
    return {"messages": [chat.invoke([("system", f"Answer from this alone:\n{found}"), ("user", question)])]}


app = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
result = app.invoke({"messages": [("user", "How long does a refund take?")]}, config={"callbacks": [handler]})

summary = handler.summary()
print(told(result["messages"]))
print(summary)
