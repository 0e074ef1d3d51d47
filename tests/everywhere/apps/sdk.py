"""OpenAI's own SDK under MLflow's autolog, without LangChain: roots of its own, below a decorated function, in a thread."""

from __future__ import annotations

import threading
from typing import Any

import mlflow
from openai import OpenAI

mlflow.openai.autolog()


def ask(question: str, **options: Any) -> str:
    with OpenAI() as client:
        messages: Any = [{"role": "user", "content": question}]
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, **options)
        if options:
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        return str(answer.choices[0].message.content)


@mlflow.trace
def converse(name: str) -> str:
    with mlflow.start_span("prepare") as span:
        span.set_inputs({"name": name})
    mlflow.update_current_trace(tags={"who": name}, metadata={"mlflow.trace.session": "one"})
    return ask(f"I am {name}") + ask("and who am I?", stream=True, stream_options={"include_usage": True})


def main(config: Any) -> None:
    print(ask("I am jane.doe@example.com"))
    print(converse("jane.doe@example.com"))
    thread = threading.Thread(target=ask, args=("I am jane.doe@example.com",))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main({})
