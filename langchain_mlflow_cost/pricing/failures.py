"""Calls that end in an error: what the provider bills for all the same, told by what came before it and by the error.

A refused request costs nothing. One that was sent and that nobody refused costs its prompt at least: the provider may
have answered it to the end, and nobody was there to hear. So does a stream that has begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.messages import said_text
from langchain_mlflow_cost.pricing.reading import (
    call_result,
    estimated_result,
    look_through,
    mapping_of,
    sequence_of,
)
from langchain_mlflow_cost.pricing.tokenizer import count_tokens

if TYPE_CHECKING:
    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult


def result_of_failure(
    request: CallRequest,
    error: BaseException,
    response: Any,
    said_so_far: str,
    sent: Callable[[], str],
    told_so_far: Sequence[Any] = (),
    *,
    has_begun: bool = False,
) -> CallResult | None:
    """Read what a call is billed that ended in an error; never raises.

    Args:
        request: The call.
        error: What it ended in.
        response: LangChain's `response` beside the error: an answer that the client could not understand has its whole
            body in it, a broken stream all that had come. None where there is none.
        said_so_far: The text that a stream had brought.
        sent: Gives all that was sent, to count its tokens; asked only where the provider reported none.
        told_so_far: The chunks that said something beside the text. `invoke` on a model that streams by itself brings
            nothing of them in `response` (langchain-core 1.7, `_generate_with_cache`).
        has_begun: Whether a chunk had come, also one without a word: the provider was at work on the answer.

    Returns:
        None where nothing was billed: the request was refused, or never sent. Marked as estimated where a part was
        counted from the text: a stream's last report comes with its end, so that of a broken one is a least.
    """
    generations = sequence_of(getattr(response, "generations", None))
    body = _billed_body(generations)
    if body is not None:
        said = SimpleNamespace(content=_body_content(body), response_metadata=body)
        whole = call_result(request, [[SimpleNamespace(message=said)]], None)
        if whole.usage is not None or whole.billed_usd is not None:
            return whole
    told = call_result(request, generations, None)
    said_text_so_far = said_so_far or said_text(generations)
    if told.usage is None and told_so_far:
        generations = [[_merged(told_so_far)]]
        told = call_result(request, generations, None)
    if told.usage is None:
        if not has_begun and not said_text_so_far and not _was_sent(error):
            return None
        return estimated_result(request, sent(), said_text_so_far, told=told)
    if _has_ended(generations):
        return told
    counted = count_tokens(said_text_so_far, request.model)
    usage = replace(told.usage, output_tokens=max(told.usage.output_tokens, counted))
    return replace(told, usage=usage, estimated=True)


_NOT_SENT: Final = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "PoolTimeout", "WriteError", "WriteTimeout", "ProxyError"),  # httpx
        *("LocalProtocolError", "UnsupportedProtocol", "ConnectionRefusedError", "gaierror"),
        *("ClientConnectorError", "ConnectionTimeoutError"),  # aiohttp
        *("EndpointConnectionError", "ConnectTimeoutError", "NewConnectionError"),  # botocore, urllib3
    }
)
_NOT_HEARD: Final = frozenset(
    {
        *("ReadTimeout", "ReadError", "RemoteProtocolError"),  # httpx, below openai, anthropic, google-genai and others
        *("TimeoutError", "ConnectionResetError", "BrokenResourceError"),  # also langchain-openai's of a slow chunk
        *("ServerDisconnectedError", "ClientPayloadError"),  # aiohttp
        *("ReadTimeoutError", "ConnectionClosedError", "ResponseStreamingError", "ProtocolError"),  # botocore, urllib3
    }
)
_EMPTY_STREAM: Final = "No generation"
"""What LangChain says of a stream that was accepted and ended without a chunk (langchain-core 1.8: `stream`,
`generate_from_stream`). Where a connection is closed in order, the client takes a broken stream for one."""


def _was_sent(error: BaseException) -> bool:
    """Whether a call without any answer was sent all the same, and not refused.

    By the names of errors: the libraries that make them need not be there.
    """
    if isinstance(error, GeneratorExit | BudgetExceededError) or not isinstance(error, Exception):
        return True
    if type(error) is ValueError and str(error).startswith(_EMPTY_STREAM):
        return True
    names = {made.__name__ for each in _causes(error) for made in type(each).__mro__}
    return names.isdisjoint(_NOT_SENT) and not names.isdisjoint(_NOT_HEARD)


_MOST_CAUSES: Final = 10


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from; not what was only being handled, which may be another call's."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__


def _merged(chunks: Sequence[Any]) -> Any:
    """The chunks of a stream as one, as LangChain adds them up; the last one alone where they cannot be."""
    try:
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
    except Exception:  # noqa: BLE001 - chunks of different makes
        return chunks[-1]
    return whole


_FIRST_REFUSAL: Final = 400


def _billed_body(generations: Sequence[Any]) -> Mapping[str, Any] | None:
    """Find the body of an answer that came with success (langchain-core 1.7, `_generate_response_from_error`)."""
    for generation in (each for answers in generations for each in sequence_of(answers)):
        about = mapping_of(getattr(getattr(generation, "message", None), "response_metadata", None))
        body, status = about.get("body"), about.get("status_code")
        if isinstance(body, Mapping) and not (isinstance(status, int) and status >= _FIRST_REFUSAL):
            return body
    return None


def _body_content(body: Mapping[str, Any]) -> Any:
    """Find the answer's blocks, or texts, in the body of OpenAI's two APIs, Anthropic or Cohere."""
    choices = body.get("choices")
    if isinstance(choices, list):
        return [mapping_of(mapping_of(choice).get("message")).get("content") for choice in choices]
    return body.get("output") or body.get("content")


_END_KEYS: Final = ("finish_reason", "stop_reason", "stopReason", "finishReason", "done_reason")


def _has_ended(generations: Sequence[Any]) -> bool:
    _, response, _ = look_through(generations)
    return any(response.get(key) not in (None, "", "FINISH_REASON_UNSPECIFIED") for key in _END_KEYS)
