"""One model call from reservation to settlement, whoever made it. Nobody else prices, adds up or writes cost."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from langgraph.errors import GraphInterrupt

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.interrupts import GraphBubbleUp, ask, can_ask
from langchain_mlflow_cost.adapters.tool_arguments import were_refused
from langchain_mlflow_cost.budgets.answers import ANSWERS, FIRST_ANSWER_TOKENS
from langchain_mlflow_cost.budgets.local import Question
from langchain_mlflow_cost.budgets.rules import Estimate, added_by
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.messages import begins_call, is_text_alone, said_text, sent_text
from langchain_mlflow_cost.pricing.failures import result_of_failure
from langchain_mlflow_cost.pricing.ledger import Call, Totals
from langchain_mlflow_cost.pricing.reading import (
    call_request,
    estimate_answer_tokens,
    estimate_prompt_tokens,
    estimated_result,
)
from langchain_mlflow_cost.pricing.reported import StreamedUsage
from langchain_mlflow_cost.pricing.tokenizer import most_prompt_tokens
from langchain_mlflow_cost.pricing.usage import CallResult, Usage
from langchain_mlflow_cost.pricing.usage_json import usage_json
from langchain_mlflow_cost.tracing.call_metrics import ANSWERED, REFUSED, note_call, note_fee, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from langchain_mlflow_cost.budgets.local import Budgets
    from langchain_mlflow_cost.budgets.sums import Reservation
    from langchain_mlflow_cost.pricing.book import Cost, PricedCall
    from langchain_mlflow_cost.pricing.usage import CallRequest
    from langchain_mlflow_cost.tracing.handler_state import HandlerState
    from langchain_mlflow_cost.tracing.runs import Run

ASSUMED_PROMPT_TOKENS: Final = 1_000
"""Reserved for a prompt whose text cannot be counted."""
STREAM_CHECK_CHUNKS: Final = 16
"""A stream's running cost is checked against budgets, and told, once in so many chunks,"""
STREAM_CHECK_CHARS: Final = 256
"""or once in so many characters: some clients send thousands in one chunk."""
LONG_STREAM_CHUNKS: Final = 64
"""Where no budget is to be asked, a stream that is longer is told a quarter as often: nobody reads sums faster."""
_ALMOST_NOTHING: Final = Decimal("1e-9")
_NOTHING: Final = Decimal(0)


class Settled(NamedTuple):
    """A call as its first handler counts it: what its span says."""

    result: CallResult
    priced: PricedCall
    call: Call
    at: datetime
    """When it was priced."""


class ModelCall:
    """One model call. The thread that it runs in calls these methods in this order; none but a refusal is raised.

    Args:
        run: Its own run, or the one that another library made it in.
        request: What was asked for.
        key: Tells it from all other calls, the same for all handlers.
        prompt: What was sent, in LangChain's objects.
        params: LangChain's `invocation_params`, with the definitions of tools sent with it.
    """

    __slots__ = (
        "_key",
        "_prompt",
        "_prompt_tokens",
        "_reservations",
        "_run",
        "_streamed_tokens",
        "_told",
        "_told_chunks",
        "_tools",
        "_untold_chars",
        "_usage",
        "audio_format",
        "chunks",
        "first_chunk_ns",
        "heard",
        "request",
        "start_ns",
    )

    def __init__(
        self,
        run: Run,
        request: CallRequest,
        *,
        key: Hashable,
        prompt: Any = None,
        params: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.request = request
        self.start_ns = time.time_ns()
        audio = params.get("audio")
        self.audio_format: str | None = audio.get("format") if isinstance(audio, dict) else None
        """What the request asked sound to be in."""
        self.chunks: list[str] = []
        """What a stream has said so far."""
        self.heard: list[Any] = []
        """The chunks themselves, where what they say is private."""
        self.first_chunk_ns: int | None = None
        self._run = run
        self._key = key
        self._prompt = prompt
        self._tools = params.get("tools")
        self._prompt_tokens: int | None = None
        self._streamed_tokens = 0
        self._told: list[Any] = []
        """The chunks of a stream that say something beside their text."""
        self._usage = StreamedUsage()
        """What chunks have reported so far."""
        self._told_chunks = 0
        self._untold_chars = 0
        self._reservations: dict[Budgets, Reservation] = {}
        for state in run.handlers:
            run.trace.ledger_of(state).enter(key, run.node)

    # --- before -----------------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Ask every budget that governs the run and was not asked yet; all or none is reserved.

        Raises:
            BudgetExceededError: The call must not be made.
        """
        for state in self._run.handlers:
            budgets = state.budgets
            if not budgets or budgets in self._reservations:
                continue
            estimate = self._estimate(state)
            while True:
                try:
                    self._hold(budgets, estimate)
                    break
                except Question as question:
                    self._ask(budgets, question)
                except BudgetExceededError as refusal:
                    self._run.trace.note_refusal(refusal)
                    note_call(self._run, self.request, REFUSED)
                    raise

    def _ask(self, budgets: Budgets, question: Question) -> None:
        """Interrupt the graph for somebody to add to a limit; return where somebody has.

        Raises:
            GraphBubbleUp: LangGraph's interrupt.
            BudgetExceededError: Nobody can be asked, or the answer adds nothing.
        """
        usd, tokens = _NOTHING, 0
        if can_ask():
            try:
                usd, tokens = added_by(ask(question.asked()))
            except GraphBubbleUp:
                budgets.wait_for_answer(question, self._run.session_id, self._run.outermost_task())
                self._run.trace.note_refusal(question.refusal)
                raise
        if not usd and not tokens:
            self._run.trace.note_refusal(question.refusal)
            raise budgets.refuse_answer(question)
        budgets.add_to_limit(question, usd, tokens)

    def _hold(self, budgets: Budgets, estimate: Estimate, *, is_made: bool = False) -> None:
        run = self._run
        self._reservations[budgets] = budgets.reserve(
            **_place(run, budgets),
            estimate=estimate,
            call=self._key,
            is_made=is_made,
            is_over=run.place.is_over,
            resumed_by=run.resumed_by,
            task=run.outermost_task,
        )

    def _estimate(self, state: HandlerState) -> Estimate:
        """What the call may use and cost; a crude figure where a good one fails, for a budget is asked anyway."""
        try:
            return self._expected(state)
        except Exception:  # noqa: BLE001 - whatever is wrong with a price: the call is paid, but by how much?
            return Estimate(_ALMOST_NOTHING, _ALMOST_NOTHING, ASSUMED_PROMPT_TOKENS, ASSUMED_PROMPT_TOKENS)

    def _expected(self, state: HandlerState) -> Estimate:
        request, prompt = self.request, self.prompt_tokens
        known = ANSWERS.expected(self._run.node, request.model or "")
        one = FIRST_ANSWER_TOKENS if known is None else math.ceil(known.tokens)
        if request.max_output_tokens is not None:
            one = min(one, request.max_output_tokens)
        answer = one * max(request.n, 1)
        if request.model is None:
            # The response may name the model that the request does not.
            seen = _ALMOST_NOTHING if known is None or known.usd is None else known.usd
            estimate = Estimate(max(seen, _ALMOST_NOTHING), _ALMOST_NOTHING, prompt + answer, prompt)
        else:
            usd, prompt_usd = (state.prices.estimate_usd(request, prompt, tokens) for tokens in (answer, 0))
            estimate = Estimate(usd, prompt_usd, prompt + answer, prompt)
        return estimate._replace(**self._most(state)) if state.budgets.needs_worst else estimate

    def _most(self, state: HandlerState) -> dict[str, Any]:
        """What the call can use and cost at most; nothing where nothing bounds it."""
        request = self.request
        most = request.max_output_tokens
        if most is None and request.model is not None:
            most = state.most_answer_tokens(request.provider, request.model)
        if most is None or not is_text_alone(self._prompt):
            return {}
        prompt, answer = most_prompt_tokens(self._sent()), most * max(request.n, 1)
        usd = None if request.model is None else state.prices.most_usd(request, prompt, answer, self.audio_format)
        return {"most_usd": usd, "most_tokens": prompt + answer}

    @property
    def prompt_tokens(self) -> int:
        """An estimate of the tokens sent; a crude one where the prompt cannot be read, for a budget is asked anyway."""
        if self._prompt_tokens is None:
            try:
                self._prompt_tokens = estimate_prompt_tokens(self.request, self._sent())
            except Exception:  # noqa: BLE001 - it holds objects of the user's, which may raise anything
                self._prompt_tokens = ASSUMED_PROMPT_TOKENS
        return self._prompt_tokens

    def _sent(self) -> str:
        return sent_text(self._prompt, self._tools)

    # --- while it streams -------------------------------------------------------------------------------------------

    def stream(self, text: str, chunk: Any = None) -> None:
        """Count a chunk.

        Args:
            text: What it says.
            chunk: LangChain's, which may tell usage.

        Raises:
            BudgetExceededError: The stream has passed a limit; it ends here, and is still to be settled.
        """
        if not self.chunks:
            self.first_chunk_ns = time.time_ns()
        message = getattr(chunk, "message", None)
        if message is not None:
            # A tool's name begins a line: an account number that the chunks before end with would be one word with it.
            if self.chunks and begins_call(message):
                text = f"\n{text}"
            if message.usage_metadata or message.response_metadata:
                self._told.append(chunk)
                self._hear_usage(message.usage_metadata)
        self.chunks.append(text)
        self._untold_chars += len(text)
        each = 1 if self._reservations or self._told_chunks < LONG_STREAM_CHUNKS else 4
        if (
            len(self.chunks) - self._told_chunks >= STREAM_CHECK_CHUNKS * each
            or self._untold_chars >= STREAM_CHECK_CHARS * each
        ):
            try:
                self._tell_running()
            except BudgetExceededError as refusal:
                self._run.trace.note_refusal(refusal)
                raise

    def _hear_usage(self, told: Any) -> None:
        if told:
            try:
                self._usage.add(told)
            except Exception:  # noqa: BLE001 - whatever a client reports, the stream goes on, and is counted
                self._usage = StreamedUsage()

    def _tell_running(self) -> None:
        latest = self.chunks[self._told_chunks :]
        self._told_chunks, self._untold_chars = len(self.chunks), 0
        # A chunk is a token at least, most often; some clients send hundreds in one.
        self._streamed_tokens += max(estimate_answer_tokens("".join(latest)), sum(map(bool, latest)))
        result = self._usage.running(self.request, self._streamed_tokens)
        if result is None:
            result = CallResult(Usage(self.prompt_tokens, self._streamed_tokens), estimated=True)
        input_tokens, output_tokens = result.input_tokens, result.output_tokens
        for state in self._run.handlers:
            cost = state.prices.price(self.request, result).cost
            usd = None if cost is None else cost.total_usd
            running = Call(
                node=self._run.node,
                model=self.request.model or "",
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                input_usd=usd,
                output_usd=None if usd is None else _NOTHING,
                estimated=True,
            )
            self._run.trace.ledger_of(state).run(self._key, running)
            reservation = self._reservations.get(state.budgets)
            if reservation is not None:
                state.budgets.grow(reservation, usd, input_tokens + output_tokens)

    # --- after ------------------------------------------------------------------------------------------------------

    def settle_answer(self, result: CallResult, generations: Sequence[Sequence[Any]]) -> Settled:
        """Count an answer; one without usage by its text."""
        if result.usage is None and result.billed_usd is None and not result.cached:
            said = said_text(generations) or "".join(self.chunks)
            result = estimated_result(self.request, self._sent(), said, told=result)
        if self._usage.is_repeated:
            result = self._usage.once(self.request, result, 0)
        settled = self.settle(result)
        if not result.cached:
            cost = settled.priced.cost
            ANSWERS.add(
                self._run.node,
                self.request.model or "",
                tokens=result.output_tokens // max(self.request.n, 1),
                usd=None if cost is None else cost.total_usd,
            )
        self._warn_if_estimated(settled)
        return settled

    def _warn_if_estimated(self, settled: Settled) -> None:
        """Say that a whole answer came without its usage. One that was broken off has none, and is marked alone."""
        if settled.result.estimated:
            for state in self._run.handlers:
                state.warn_estimated(settled.priced.model, is_stream=bool(self.chunks))

    def settle(
        self,
        result: CallResult,
        *,
        around: Sequence[Totals] = (),
        is_made: bool = False,
        outcome: str = ANSWERED,
        operation: str | None = None,
    ) -> Settled:
        """Price the call for each handler, add it up, and replace what was reserved by what it cost.

        Args:
            result: What was used.
            around: Sums that it is part of, beside those of the runs above.
            is_made: Another library made it, and no budget was asked: it counts, and can only refuse the calls to come.
            outcome: How it ended, for metrics.
            operation: What it is by OpenTelemetry's conventions, where LangChain does not say it.
        """
        run, settled, told = self._run, None, []
        at = datetime.now(UTC)
        tokens = 0 if result.cached else result.input_tokens + result.output_tokens
        prices = [(state, state.prices.price(self.request, result, at=at)) for state in run.handlers]
        for state, priced in prices:
            if is_made and state.budgets:
                usd = None if priced.cost is None else priced.cost.total_usd
                self._hold(state.budgets, Estimate(usd, None, tokens, 0), is_made=True)
        for state, priced in prices:
            cost = priced.cost
            call = Call(
                node=run.node,
                model=priced.model,
                input_tokens=result.input_tokens,
                output_tokens=result.output_tokens,
                input_usd=None if cost is None else cost.input_usd,
                output_usd=None if cost is None else cost.output_usd,
                cached=result.cached,
                estimated=result.estimated,
            )
            spans = [*_totals_around(run), *around] if settled is None else ()
            run.trace.ledger_of(state).add(call, spans, key=self._key)
            reservation = self._reservations.get(state.budgets)
            if reservation is not None:
                state.budgets.settle(reservation, None if cost is None else cost.total_usd, tokens)
            if cost is None:
                state.warn_unpriced(priced.model)
            settled = settled or Settled(result, priced, call, at)
            told.append((state, call))
        self._reservations.clear()
        for state, call in told:
            state.tell(call)
        assert settled is not None
        note_call(run, self.request, outcome, result, settled.priced, operation)
        return settled

    def settle_made(self, result: CallResult, around: Sequence[Totals] = (), *, operation: str = "chat") -> Settled:
        """Count a call of another library, which is made already; `around` are the sums of the spans around it."""
        settled = self.settle(result, around=around, is_made=True, operation=operation)
        self._warn_if_estimated(settled)
        return settled

    def break_off(self, error: BaseException, response: Any = None) -> Settled | None:
        """Count a call that ended without an answer: what was billed, estimated where the provider did not tell it.

        Args:
            error: What it ended in.
            response: What LangChain hands over with the error.
        """
        said = "".join(self.chunks)
        result = result_of_failure(
            self.request, error, response, said, self._sent, self._told, has_begun=bool(self.chunks)
        )
        if result is not None:
            if self._usage.is_repeated:
                result = self._usage.once(self.request, result, estimate_answer_tokens(said))
            return self.settle(result, outcome=outcome_of(error))
        self.give_back()
        note_call(self._run, self.request, outcome_of(error))
        return None

    def give_back(self) -> None:
        """Count nothing: the call was not made, or failed."""
        for budgets, reservation in self._reservations.items():
            budgets.settle(reservation, _NOTHING)
        self._reservations.clear()
        for state in self._run.handlers:
            self._run.trace.ledger_of(state).drop(self._key)


def settle_tool(run: Run, error: BaseException | None) -> None:
    """Count what a tool's call costs, if the policy has a fee for it. It was called, also where it failed.

    Args:
        run: The tool's run, which ends.
        error: What it ended in. An interrupt is no end of the call, which is made again; and a tool whose arguments do
            not fit was not called.
    """
    tool, run.tool = run.tool, None
    if tool is None or isinstance(error, GraphInterrupt) or were_refused(error):
        return
    around = _totals_around(run)
    run.trace.ledger_of(run.handlers[0]).add_tool(tool, around[1:])
    run.tool_usd = add_fee(run, tool, around, key=run.run_id)


def settle_made_tool(run: Run, tool: str, around: Sequence[Totals], *, key: Hashable) -> Decimal | None:
    """Count a tool's call of another library, and return its fee by the first handler's policy.

    Args:
        run: What it was made in.
        tool: Its name.
        around: The sums of the tool's own span, and of those above it up to the run's.
        key: Tells the call from all others.
    """
    totals = [*around, *_totals_around(run)]
    run.trace.ledger_of(run.handlers[0]).add_tool(tool, totals[1:])
    return add_fee(run, tool, totals, key=key)


def add_fee(run: Run, tool: str, spans: Sequence[Totals], *, key: Hashable) -> Decimal | None:
    """Add the fee of a tool's call, by each handler's policy, to what it is part of; return the first handler's."""
    first = None
    for number, state in enumerate(run.handlers):
        usd = state.policy.prices.tools.get(tool)
        if usd is None:
            state.warn_no_fee(tool)
            continue
        if number == 0:
            first = usd
            note_fee(run, tool, usd)
        run.trace.ledger_of(state).add_fee(run.node, usd, () if number else spans)
        if state.budgets:
            # It is spent: it can only refuse the calls to come.
            made = state.budgets.reserve(**_place(run, state.budgets), estimate=Estimate(usd), call=key, is_made=True)
            state.budgets.settle(made, usd)
    return first


def _place(run: Run, budgets: Budgets) -> dict[str, Any]:
    """Where a call is made: what tells its sums."""
    owners = {}
    for scope in budgets.owner_scopes:
        owner = _owner(run, scope)
        if owner is not None:
            owners[scope] = owner
    return {
        "trace": run.trace.spends_in or run.trace,
        "node": run.node,
        "path": run.path,
        "session": run.session_id,
        "owners": owners,
    }


def ask_for_unrecorded(
    state: HandlerState,
    parent: Run | None,
    run_id: Hashable,
    metadata: Mapping[str, Any] | None,
    serialized: Mapping[str, Any] | None,
) -> None:
    """Ask the budgets for a call of which no run could be made; it counts at once, as it is guessed.

    Args:
        state: Of the handler that was told of it.
        parent: The run above; without one, the call is a trace by itself.
        run_id: LangChain's.
        metadata: As it was told.
        serialized: As it was told.

    Raises:
        BudgetExceededError: The call must not be made.
    """
    budgets, request = state.budgets, call_request(metadata=metadata, serialized=serialized)
    if not budgets:
        return
    tokens = ASSUMED_PROMPT_TOKENS + FIRST_ANSWER_TOKENS
    usd = state.prices.estimate_usd(request, ASSUMED_PROMPT_TOKENS, FIRST_ANSWER_TOKENS) or _ALMOST_NOTHING
    where = {"trace": run_id, "node": ""} if parent is None else _place(parent, budgets)
    try:
        reservation = budgets.reserve(**where, estimate=Estimate(usd, usd, tokens, tokens), call=run_id)
    except Question as question:
        raise budgets.refuse_answer(question) from None
    budgets.settle(reservation, usd, tokens)


def _owner(run: Run, scope: str) -> str | None:
    """The id of the session, user or tag that a call counts under."""
    try:
        owner = run.owner(scope)
        if owner is None and scope == "user" and run.trace.trace_id:
            from langchain_mlflow_cost.adapters.trace_info import user_of  # noqa: PLC0415 - MLflow may be missing

            owner = user_of(run.trace.trace_id)
    except Exception:  # noqa: BLE001 - metadata may hold objects that raise anything: the trace alone is limited
        return None
    return owner


def _totals_around(run: Run) -> list[Totals]:
    """The sums that a call in a run is part of: the run's, those above it, and those of the user's own spans around."""
    lineage = list(run.lineage())
    state = lineage[-1].state
    return [above.totals for above in lineage] + ([] if state is None else list(state.around))


# --- what a span says of it -----------------------------------------------------------------------------------------


def written_json(value: Any) -> str:
    """A plain value as the JSON text of an attribute."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value)  # an integer beyond 64 bits, from a provider that counts wildly


@lru_cache(maxsize=1024)
def _quoted(name: str) -> str:
    # The same few come with every call.
    return written_json(name)


def cost_attributes(
    settled: Settled, request: CallRequest, clean: Callable[[str], str] = lambda name: name
) -> dict[str, str]:
    """A model span's own attributes, as the JSON text that MLflow's registry reads.

    Args:
        settled: The call. One without a price has no usage where the store would look for it: the store would take any
            provider's price for a model of that name, and of a newer list than ours.
        request: What was asked for.
        clean: Redacts a name.
    """
    result, priced = settled.result, settled.priced
    written = {keys.MODEL: _quoted(clean(priced.model))}
    provider = result.provider or request.provider
    if provider:
        written[keys.MODEL_PROVIDER] = _quoted(clean(provider))
    usage = result.usage
    if usage is not None and not result.cached and priced.cost is not None:
        counts = {
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "total_tokens": result.input_tokens + result.output_tokens,
        }
        if usage.cache_read:
            counts["cache_read_input_tokens"] = usage.cache_read
        if usage.cache_write or usage.cache_write_1h:
            counts["cache_creation_input_tokens"] = usage.cache_write + usage.cache_write_1h
        written[keys.CHAT_USAGE] = written_json(counts)
    if priced.cost is not None:
        written[keys.LLM_COST] = cost_json(priced.cost)
    if priced.source:
        written[keys.PRICE_SOURCE] = _quoted(priced.source)
    if result.estimated:
        written[keys.ESTIMATED] = "true"
    if priced.notes:
        written[keys.NOTES] = written_json([clean(note) for note in priced.notes])
    written[keys.USAGE] = usage_json(request, result, priced, at=settled.at, clean=clean)
    return written


def cost_json(cost: Cost | Totals) -> str:
    """USD in MLflow's own form, for a call or for a trace."""
    return written_json(
        {
            "input_cost": float(cost.input_usd),
            "output_cost": float(cost.output_usd),
            "total_cost": float(cost.total_usd),
        }
    )
