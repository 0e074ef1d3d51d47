"""A second process: an agent behind HTTP that goes on with the trace whose headers come with a request.

`python remote_agent.py STORE POLICY_JSON` serves on a free port of 127.0.0.1, which it prints, until its standard input
is closed; then it stores what there is and ends. STORE is a tracking URI, POLICY_JSON a policy, or `autolog` for none.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mlflow
from fake_models import SONNET, FakeChat
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langchain_mlflow_cost import MlflowCostHandler

ANSWER = "the remote agent's answer"


def main(store: str, policy: str) -> None:
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("tests")
    mlflow.langchain.autolog()
    config: Any = {"callbacks": []} if policy == "autolog" else {"callbacks": [MlflowCostHandler(json.loads(policy))]}
    model = FakeChat(model=SONNET, answers=[ANSWER])

    def remote(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("remote", remote).add_edge(START, "remote").compile()

    class Agent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = self.rfile.read(int(self.headers["Content-Length"])).decode()
            with mlflow.tracing.set_tracing_context_from_http_request_headers(dict(self.headers)):
                answer = graph.invoke(MessagesState(messages=[HumanMessage(question)]), config)
            body = str(answer["messages"][-1].content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()
    mlflow.flush_trace_async_logging()


if __name__ == "__main__":
    main(*sys.argv[1:])
