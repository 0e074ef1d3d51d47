"""Retrieval and an answer as one LCEL chain, run as a batch. It chooses its experiment by itself, late."""

from __future__ import annotations

from typing import Any

import mlflow
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI


def main(config: Any) -> None:
    mlflow.set_experiment("rag")
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_documents([Document("Rome was not built in a day."), Document("Ask jane.doe@example.com.")])
    retriever = store.as_retriever(search_kwargs={"k": 2})
    prompt = ChatPromptTemplate.from_template("Answer from {context}: {question}")
    chain = (
        {"context": retriever, "question": RunnablePassthrough()}
        | prompt
        | ChatOpenAI(model="gpt-4o-mini")
        | StrOutputParser()
    )
    print(chain.batch(["How long?", "Whom, jane.doe@example.com?"], config))


if __name__ == "__main__":
    main({})
