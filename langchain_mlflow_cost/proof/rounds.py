"""The user's graph, run again and again with new planted texts, until every node has run."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from langchain_mlflow_cost.graphs import nodes_of
from langchain_mlflow_cost.nodes import path_text
from langchain_mlflow_cost.proof.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from langchain_mlflow_cost.proof.planting import Planter
    from langchain_mlflow_cost.proof.script import ScriptedModel

MOST_STEPS: Final = 100
"""Of one round: LangGraph's own limit is 25 or 10,000, by its version."""
_MOST_RESUMES: Final = 10
_MOST_WORDS: Final = 40
_MOST_WORD: Final = 40
_WAYS: Final = ("invoke", "ainvoke", "stream")


@dataclass
class Round:
    """One time that the graph ran."""

    way: str
    interrupts: int = 0
    failure: str | None = None
    """The exception's type: its message may be a payload."""
    cannot_go_on: bool = False
    """It was interrupted, and the graph has nowhere to keep what it was at."""


@dataclass
class Rounds:
    """All of them."""

    done: list[Round] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """The nodes that can be seen without running the graph."""
    open_nodes: tuple[str, ...] = ()
    """Nodes in which graphs may run that cannot be seen."""


def run_rounds(
    graph: Any,
    planter: Planter,
    script: ScriptedModel,
    callbacks: Sequence[Any],
    *,
    most: int,
    inputs: Sequence[Any],
    reached: Callable[[str], bool],
    stored: Callable[[], None],
) -> Rounds:
    """Run a graph in each way that programs use, and on until all of its nodes were reached.

    Args:
        graph: Compiled, or to be compiled.
        planter: Makes the texts of inputs.
        script: Answers for the models.
        callbacks: The handler, and who observes.
        most: Rounds at most.
        inputs: What to begin with, in turn, `{plant}` in texts filled in; none: made from the graph's own schema.
        reached: Whether a node has run.
        stored: Called where a trace has ended and the thread goes on in another one.
    """
    graph = _on_its_own(graph)
    found = nodes_of(graph)
    rounds = Rounds(
        expected=tuple(dict.fromkeys(map(path_text, found.paths))),
        open_nodes=tuple(dict.fromkeys(map(path_text, found.open))),
    )
    shapes = Shapes(lambda size: planter.text("input", size))
    answers = Answers(planter, words_of(graph))
    for number in range(most):
        if number >= max(len(_WAYS), len(inputs)) and all(map(reached, rounds.expected)):
            break
        script.begin_round()
        script.say_words = answers.say_words = number >= len(_WAYS)
        given = _filled(inputs[number % len(inputs)], planter) if inputs else _input_of(graph, shapes)
        this = _run(graph, _WAYS[number % len(_WAYS)], given, shapes, answers, callbacks, stored)
        rounds.done.append(this)
        if this.cannot_go_on:
            # Where it is served it is given one.
            graph = graph.copy(update={"checkpointer": InMemorySaver()})
    return rounds


class Answers:
    """What a person says to an interrupt: another thing each time.

    Args:
        planter: Makes the texts.
        words: What the graph's code may look for in an answer.
    """

    def __init__(self, planter: Planter, words: Sequence[str]) -> None:
        self._planter = planter
        # One word is more often what is looked for than a sentence is.
        self._words = sorted(words, key=lambda word: " " in word)
        self._turns: Counter[int] = Counter()
        self.say_words = False

    def to(self, asked: Any, number: int) -> Any:
        """A decision for each action; else a text, a plain yes, and in later rounds what the code may look for.

        Args:
            asked: What the interrupt says.
            number: Of the interrupt in its round: each takes turns of its own.
        """
        turn = self._turns[number]
        if isinstance(asked, dict) and isinstance(asked.get("action_requests"), list):
            self._turns[number] += 1
            decision = "reject" if self.say_words and turn % 2 else "approve"
            return {"decisions": [{"type": decision} for _ in asked["action_requests"]]}
        if not self.say_words:
            return self._planter.text("answer to an interrupt") if number % 2 else True
        self._turns[number] += 1
        said = [*self._words, dict.fromkeys(self._words, True), dict.fromkeys(self._words, False), False]
        return said[turn % len(said)]


def _on_its_own(graph: Any) -> Any:
    """The graph with what it keeps in memory: the user's own threads and stores are not written to."""
    if callable(getattr(graph, "compile", None)) and not hasattr(graph, "stream"):
        graph = graph.compile()
    changes: dict[str, Any] = {}
    if getattr(graph, "checkpointer", None):
        changes["checkpointer"] = InMemorySaver()
    if getattr(graph, "store", None) is not None:
        changes["store"] = InMemoryStore()
    if getattr(graph, "cache", None) is not None:
        changes["cache"] = None
    return graph.copy(update=changes) if changes else graph


def _input_of(graph: Any, shapes: Shapes) -> Any:
    names = graph.input_channels
    if isinstance(names, str) and names == "__start__" and hasattr(graph, "builder"):
        fields = graph.builder.schemas.get(getattr(graph.builder, "input_schema", None)) or {}
        made = {
            name: shapes.of_type(getattr(channel, "UpdateType", Any), f"input.{name}")
            for name, channel in fields.items()
            if name != "__root__" and hasattr(channel, "UpdateType")
        }
        if made or "__root__" not in fields:
            return made
        return shapes.of_type(fields["__root__"].UpdateType, "input")
    if isinstance(names, str):
        return shapes.of_type(graph.channels[names].UpdateType, "input")
    return {name: shapes.of_type(graph.channels[name].UpdateType, f"input.{name}") for name in names}


def _filled(value: Any, planter: Planter) -> Any:
    """A given input, with a planted text at each `{plant}`."""
    if isinstance(value, str):
        parts = value.split("{plant}")
        return parts[0] + "".join(planter.text("input") + part for part in parts[1:])
    if isinstance(value, dict):
        return {key: _filled(each, planter) for key, each in value.items()}
    return [_filled(each, planter) for each in value] if isinstance(value, list) else value


def _run(
    graph: Any,
    way: str,
    given: Any,
    shapes: Shapes,
    answers: Answers,
    callbacks: Sequence[Any],
    stored: Callable[[], None],
) -> Round:
    this = Round(way)
    config = {
        "callbacks": list(callbacks),
        "configurable": {"thread_id": f"proof-{uuid.uuid4()}"},
        "recursion_limit": MOST_STEPS,
    }
    context_schema = getattr(graph, "context_schema", None)
    options = {} if context_schema is None else {"context": shapes.of_type(context_schema, "context")}
    try:
        result = _called(graph, way, given, config, options)
        while this.interrupts < _MOST_RESUMES and (asked := _interrupts(result)):
            stored()
            this.interrupts += 1
            if not getattr(graph, "checkpointer", None):
                this.cannot_go_on = True
                break
            said = {each.id: answers.to(each.value, this.interrupts) for each in asked}
            result = _called(graph, way, Command(resume=said), config, options)
    except Exception as error:  # noqa: BLE001 - the user's graph may fail in any way, and the proof goes on
        this.failure = type(error).__name__
    return this


def _called(graph: Any, way: str, given: Any, config: Any, options: Mapping[str, Any]) -> Any:
    if way == "invoke":
        return graph.invoke(given, config, **options)
    if way == "ainvoke":
        return asyncio.run(graph.ainvoke(given, config, **options))
    last = None
    for mode, chunk in graph.stream(given, config, stream_mode=["values", "messages", "updates"], **options):
        if mode == "values" or (mode == "updates" and isinstance(chunk, dict) and "__interrupt__" in chunk):
            last = chunk
    return last


def _interrupts(result: Any) -> Sequence[Any]:
    return result.get("__interrupt__") or () if isinstance(result, dict) else ()


def words_of(graph: Any) -> list[str]:
    """What a router of a graph may look for in a model's answer: names of branches, nodes, short texts in its code."""
    found: dict[str, None] = {}
    for each in _graphs_in(graph):
        for branches in getattr(getattr(each, "builder", None), "branches", {}).values():
            for branch in branches.values():
                found.update(dict.fromkeys(str(name) for name in (getattr(branch, "ends", None) or {})))
                found.update(dict.fromkeys(_constants(getattr(branch.path, "func", None))))
        for name, node in each.nodes.items():
            if not str(name).startswith("__"):
                found[str(name)] = None
                for part in ("func", "afunc"):
                    found.update(dict.fromkeys(_constants(getattr(getattr(node, "bound", None), part, None))))
    return [word for word in found if 0 < len(word) <= _MOST_WORD and not word.startswith("__")][:_MOST_WORDS]


def _graphs_in(graph: Any) -> Iterator[Any]:
    yield graph
    for _, inner in graph.get_subgraphs(recurse=True):
        yield inner


def _constants(function: Any) -> Iterator[str]:
    function = inspect.unwrap(function) if callable(function) else function
    code = getattr(function, "__code__", None)
    if code is None or (getattr(function, "__module__", None) or "").partition(".")[0] in {"langgraph", "langchain"}:
        return
    todo = [code]
    while todo:
        for constant in todo.pop().co_consts:
            if isinstance(constant, str) and "\n" not in constant:
                yield constant
            elif isinstance(constant, tuple | frozenset):
                yield from (each for each in constant if isinstance(each, str))
            elif inspect.iscode(constant):
                todo.append(constant)
