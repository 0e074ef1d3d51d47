"""Which prompts of MLflow's registry a node used: those that it loaded, and those whose text its models were sent."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.prompt_registry import link_prompt, watch_prompts
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.messages import sent_text
from langchain_mlflow_cost.tracing.active_run import active_now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_mlflow_cost.tracing.runs import Run

_HOLES: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
"""Variables of MLflow's templates, and what Jinja writes."""
_LEAST_CHARS: Final = 12
"""A template with less text of its own is not recognised by it: `Answer {{question}}` may be anybody's."""


class _Known:
    """A prompt in a version, and the text by which it is recognised."""

    __slots__ = ("chars", "label", "longest", "name", "pieces", "prompt", "version")

    def __init__(self, prompt: Any) -> None:
        self.prompt = prompt
        self.name, self.version = str(prompt.name), int(prompt.version)
        self.label = f"{self.name}@{self.version}"
        template = prompt.template
        texts = [template] if isinstance(template, str) else [str(each.get("content") or "") for each in template]
        pieces = [piece.strip() for text in texts for piece in _HOLES.split(text)]
        self.pieces = tuple(piece for piece in pieces if piece)
        self.chars = sum(map(len, self.pieces))
        self.longest = max(self.pieces, key=len, default="")

    def is_in(self, text: str) -> bool:
        """Whether all its own text is in a text, in its order."""
        if self.chars < _LEAST_CHARS or self.longest not in text:
            return False
        at = 0
        for piece in self.pieces:
            found = text.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return True


class Prompts:
    """The prompts that this process has loaded, the last ones first forgotten last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def watch(self) -> None:
        """Hear of all prompts from now on."""
        watch_prompts(self.note)

    def note(self, prompt: Any, is_used: bool) -> None:
        """Remember a prompt that is known now, and if it is used that it is by the node that runs."""
        label = f"{prompt.name}@{prompt.version}"
        with self._lock:
            known = self._known.pop(label, None)
            if known is None or known.prompt is not prompt:
                known = _Known(prompt)
            self._known[label] = known
            while len(self._known) > limits().known_prompts:
                del self._known[next(iter(self._known))]
        state = getattr(active_now(), "lmc_state", None) if is_used else None
        owner = None if state is None else state.owner
        if owner is not None and owner.is_open and _is_asked_for(owner):
            _mark(owner, (known,))

    def note_call(self, run: Run, prompt: Any) -> None:
        """Write into a model's span which prompts it was sent, else which its node has loaded so far."""
        state = run.state
        if state is None or not _is_asked_for(run):
            return
        sent = self._recognised(sent_text(prompt))
        if sent:
            _mark(run, sent)
            for known in sent:
                link_prompt(run.trace.trace_id, known.prompt)
            labels: Iterable[str] = (known.label for known in sent)
        else:
            labels = next((above.state.prompts for above in run.lineage() if above.state and above.state.prompts), ())
        state.pending[keys.PROMPTS] = json.dumps(state.name(", ".join(sorted(labels))))

    def _recognised(self, text: str) -> list[_Known]:
        with self._lock:
            candidates = list(self._known.values())
        best: dict[str, _Known] = {}
        for known in candidates:
            # A later version often has all the text of an earlier one, and more.
            rival = best.get(known.name)
            if (rival is None or (known.chars, known.version) > (rival.chars, rival.version)) and known.is_in(text):
                best[known.name] = known
        return list(best.values())


def _is_asked_for(run: Run) -> bool:
    return any(state.policy.enable_prompt_registry for state in run.handlers)


def _mark(run: Run, used: Iterable[_Known]) -> None:
    """Note in the node's span what it uses; outside any node, in the root's."""
    lineage = list(run.lineage())
    node = next((above for above in lineage if above.is_node), lineage[-1])
    if node.state is not None:
        node.state.prompts = node.state.prompts.union(known.label for known in used)
        node.state.pending[keys.PROMPTS] = json.dumps(node.state.name(", ".join(sorted(node.state.prompts))))


PROMPTS: Final = Prompts()
