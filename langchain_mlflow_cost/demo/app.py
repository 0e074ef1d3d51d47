"""The demo's agent: a support desk that plans, researches, checks a risk, reviews and writes.

    plan -+-> research (subgraph: agent <-> tools) -+-> review (subgraph: critic -> editor) -> writer (streams)
          +-> risk_check (private) -----------------+

It is an ordinary LangGraph application on the real OpenAI and Anthropic clients; nothing in it knows of this library.
Only the addresses of the providers and the script of their answers are the demo's.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import SecretStr
from typing_extensions import TypedDict

from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Request, Tokens, ToolCall

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langgraph.graph.state import CompiledStateGraph


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a customer wrote, and what of it must never be stored."""

    text: str
    planted: dict[str, str]
    """What it is, in a word, to the text itself."""


PRIVATE_NOTE = "chargeback dispute opened by issuer in March, reviewer Okafor advises leniency"
PRIVATE_VERDICT = "goodwill credit approved without escalation, file stays with Okafor"
"""What the private node's model is told, and what it answers: the later nodes get the answer in their prompts."""

ORDER = "A-1042"
"""Not personal: it is stored, which shows that the search for the planted values would find them."""


def new_ticket() -> Ticket:
    """A complaint that holds an e-mail address, a card number and an API key that was never anyone's."""
    email = "ada.lovelace@example.com"
    card = "4111 1111 1111 1111"
    key = "sk-" + "proj-" + secrets.token_hex(24)
    text = (
        f"Hello, I was charged twice for order {ORDER}. My account is {email}, the card is {card}. "
        f"Our integration calls your API with {key}; maybe it sent the order again? Please refund one of the two."
    )
    return Ticket(text, {"e-mail address": email, "card number": card, "API key": key})


class State(TypedDict, total=False):
    """The state of the whole graph."""

    ticket: str
    plan: str
    findings: str
    risk: str
    critique: str
    outline: str
    answer: str


class ResearchState(TypedDict, total=False):
    """The state of the research loop; what it shares with `State` goes in and out."""

    ticket: str
    plan: str
    messages: Annotated[list[AnyMessage], add_messages]
    findings: str


@tool
def find_orders(email: str) -> str:
    """List the recent orders of a customer."""
    return f"{email}: order {ORDER} of 3 November, two payments of 49.00 EUR, four seconds apart."


@tool
def read_api_log(key: str) -> str:
    """Show the last requests made with an API key."""
    return f"Key {key}: POST /orders answered 201 after a timeout at the client, then POST /orders again, 201."


TOOLS = [find_orders, read_api_log]


def build_graph(server: ProviderServer) -> CompiledStateGraph[State, None, State, State]:
    """The agent, with its models at the given server."""
    gpt_mini = _openai(server, "gpt-5-mini")
    gpt = _openai(server, "gpt-5")
    haiku = _anthropic(server, "claude-haiku-4-5")
    sonnet = _anthropic(server, "claude-sonnet-5")

    def plan(state: State) -> State:
        return {"plan": _ask(gpt_mini, "plan", state["ticket"])}

    def risk_check(state: State) -> State:  # noqa: ARG001 - LangGraph's signature
        return {"risk": _ask(haiku, "risk_check", PRIVATE_NOTE)}

    def critic(state: State) -> State:
        return {"critique": _ask(sonnet, "critic", state["findings"], state["risk"])}

    def editor(state: State) -> State:
        return {"outline": _ask(gpt, "editor", state["findings"], state["critique"])}

    def writer(state: State) -> State:
        prompt = _prompt("writer", state["ticket"], state["risk"], state["outline"])
        return {"answer": "".join(chunk.text for chunk in sonnet.stream(prompt))}

    review = StateGraph(State)
    review.add_node("critic", critic)
    review.add_node("editor", editor)
    review.add_edge(START, "critic")
    review.add_edge("critic", "editor")
    review.add_edge("editor", END)

    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("research", _research(gpt_mini))
    graph.add_node("risk_check", risk_check)
    graph.add_node("review", review.compile())
    graph.add_node("writer", writer)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "research")
    graph.add_edge("plan", "risk_check")
    graph.add_edge(["research", "risk_check"], "review")
    graph.add_edge("review", "writer")
    graph.add_edge("writer", END)
    return graph.compile(name="support-desk")


def script(request: Request, pause_s: float = 0.0) -> Reply:
    """What the providers answer: the node is known by its instruction, the turn in a tool loop by what is in it.

    The counts are made up, but of the size that such prompts have with their context in production.
    """
    node = next(node for node, text in INSTRUCTIONS.items() if request.prompt.startswith(text))
    if node == "research":
        results = [message for message in request.body["messages"] if message["role"] == "tool"]
        reply = RESEARCH_REPLIES[len(results)](request)
    else:
        reply = REPLIES[node]
    return Reply(reply.text, reply.usage, reply.tool_calls, pause_s=pause_s)


INSTRUCTIONS = {
    "plan": "Say in two steps how to settle this ticket.",
    "research": "Find out what happened. Use the tools.",
    "risk_check": "Judge the risk of this customer in one sentence.",
    "critic": "Say what is missing in these findings.",
    "editor": "Make an outline of the answer.",
    "writer": "Write the answer to the customer.",
}

REPLIES = {
    "plan": Reply(
        f"1. Look for two payments of order {ORDER}. 2. Look in the API log for a repeated request.",
        Tokens(input=1_840, output=512, cache_read=1_280, reasoning=384),
    ),
    "risk_check": Reply(PRIVATE_VERDICT, Tokens(input=2_310, output=64)),
    "critic": Reply(
        "Say which payment is refunded, and how the customer can avoid it: an idempotency key.",
        Tokens(input=6_150, output=420, cache_read=2_048, cache_write=3_200),
    ),
    "editor": Reply(
        "Apology; cause; refund of the second payment; the Idempotency-Key header.",
        Tokens(input=3_420, output=930, cache_read=1_024, reasoning=640),
    ),
    "writer": Reply(
        f"Thank you for writing. You paid twice for order {ORDER}: your program sent the order again after a timeout. "
        "We refund the second payment of 49.00 EUR today; it arrives within five days. "
        "To be safe in future, send an Idempotency-Key header with each order.",
        Tokens(input=7_900, output=340, cache_read=5_248),
    ),
}


def _call_find_orders(request: Request) -> Reply:
    email = _word_with("@", request.prompt)
    usage = Tokens(input=2_260, output=180, cache_read=1_280, reasoning=128)
    return Reply("", usage, [ToolCall("find_orders", {"email": email})])


def _call_read_api_log(request: Request) -> Reply:
    key = _word_with("sk-", request.prompt)
    usage = Tokens(input=2_480, output=150, cache_read=2_176, reasoning=64)
    return Reply("", usage, [ToolCall("read_api_log", {"key": key})])


def _tell_findings(_: Request) -> Reply:
    usage = Tokens(input=2_690, output=240, cache_read=2_432, reasoning=128)
    return Reply(f"Order {ORDER} was sent twice by the customer's program, after a timeout; both were paid.", usage)


RESEARCH_REPLIES = [_call_find_orders, _call_read_api_log, _tell_findings]
"""By the number of tool results that the model has already seen."""


def _research(model: BaseChatModel) -> CompiledStateGraph[ResearchState, None, ResearchState, ResearchState]:
    with_tools = model.bind_tools(TOOLS)

    def agent(state: ResearchState) -> ResearchState:
        prompt = _prompt("research", state["ticket"], state["plan"])
        answer = with_tools.invoke([*prompt, *state.get("messages", [])])
        return {"messages": [answer], "findings": answer.text}

    graph = StateGraph(ResearchState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode(TOOLS))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    return graph.compile()


MAX_TOKENS = 2_048
"""Cap on an answer. Budgets reserve so much for a call in flight; Anthropic's client has 64,000 if nothing is said."""


def _openai(server: ProviderServer, model: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=model,
        base_url=server.openai_base_url,
        api_key=SecretStr("none"),
        max_completion_tokens=MAX_TOKENS,
        # Else the client asks for no usage in streams where the base URL is not OpenAI's.
        stream_usage=True,
    )


def _anthropic(server: ProviderServer, model: str) -> ChatAnthropic:
    return ChatAnthropic(
        model_name=model,
        base_url=server.anthropic_base_url,
        api_key=SecretStr("none"),
        max_tokens_to_sample=MAX_TOKENS,
        timeout=None,
        stop=None,
    )


def _prompt(node: str, *texts: str) -> list[AnyMessage]:
    return [SystemMessage(INSTRUCTIONS[node]), HumanMessage("\n\n".join(texts))]


def _ask(model: BaseChatModel, node: str, *texts: str) -> str:
    return model.invoke(_prompt(node, *texts)).text


def _word_with(part: str, text: str) -> Any:
    """The first word that holds `part`, without what surrounds it: what a model would copy into a tool's argument."""
    return next(word.strip(".,;:?!") for word in text.split() if part in word)
