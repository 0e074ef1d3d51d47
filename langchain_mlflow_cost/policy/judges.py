"""Which finished traces are judged, by what, and for how much at most: the policy's `enable_judges`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator

from langchain_mlflow_cost.budgets.rules import Budget, StoreUrl, check_limits
from langchain_mlflow_cost.notices import nearest, printable
from langchain_mlflow_cost.written import SETTINGS, Fraction, Text, Usd

SCORERS: Final = (
    "Completeness",
    "Fluency",
    "PIIDetection",
    "RelevanceToQuery",
    "RetrievalGroundedness",
    "RetrievalRelevance",
    "Safety",
    "Summarization",
    "ToolCallCorrectness",
    "ToolCallEfficiency",
)
"""MLflow's built-in scorers (3.17) that need one trace and nothing else: no expectations, no session, no arguments."""
DEFAULT_SCORERS: Final = ("RelevanceToQuery", "Safety")
"""Those of `enable_judges: true`."""
JUDGES_SCOPE: Final = "tag:langchain_mlflow_cost.judges"
"""The scope under which the judges' own budget has its sum."""

_OBJECT: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _known_scorer(scorer: Any) -> Any:
    if not isinstance(scorer, str):
        if callable(getattr(scorer, "run", None)) and isinstance(getattr(scorer, "name", None), str):
            return scorer
        raise ValueError(f"expected the name of a scorer, or a scorer of MLflow's, found {type(scorer).__name__}")
    if scorer in SCORERS or _OBJECT.fullmatch(scorer):
        return scorer
    near = nearest(scorer, SCORERS)
    remedy = f'did you mean "{near}"?' if near else f"known are {', '.join(SCORERS)}, and module:name for your own"
    raise ValueError(f"unknown scorer {printable(scorer, most=40)}; {remedy}")


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_named(value: object) -> object:
    """Guidelines by name: a text or a list of them is one judge, called `guidelines`."""
    value = {"guidelines": value} if isinstance(value, str | list | tuple) else value
    if not isinstance(value, Mapping):
        return value
    return {name: (texts,) if isinstance(texts, str) else _as_tuple(texts) for name, texts in value.items()}


Scorer: TypeAlias = Annotated[Any, AfterValidator(_known_scorer)]


class JudgeBudget(BaseModel):
    """What judging may cost; a sum of its own, apart from all budgets of the application."""

    model_config = SETTINGS

    max_cost_usd: Usd | None = None
    """The limit, in USD, of all judges of this process, or of all that share `store`."""

    max_total_tokens: Annotated[int, Field(ge=0, le=10**15)] | None = None
    """The limit, in tokens."""

    per: Literal["hour", "day", "month"] | None = None
    """The sum starts anew with each (UTC). Without it, it lasts as long as the process, or the store."""

    store: StoreUrl = Field(default=None, repr=False)
    """For judges over processes: `redis://host:6379/0`. `${VAR}` is an environment variable."""

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        check_limits(self.max_cost_usd, self.max_total_tokens)
        return self

    def as_budget(self) -> Budget:
        """Return it as the budgets' own kind, for the one owner that all judges are."""
        return Budget(
            max_cost_usd=self.max_cost_usd,
            max_total_tokens=self.max_total_tokens,
            per=self.per,
            store=self.store,
            scope=JUDGES_SCOPE,
        )


class Judges(BaseModel):
    """How finished traces are judged."""

    model_config = {**SETTINGS, "arbitrary_types_allowed": True}

    scorers: Annotated[tuple[Scorer, ...], BeforeValidator(_as_tuple)] = ()
    """MLflow's built-in scorers by name, your own as `module:name`, and in Python also the scorers themselves, as
    `make_judge` gives them. With neither scorers nor guidelines: `RelevanceToQuery` and `Safety`."""

    guidelines: Annotated[dict[Text, tuple[Text, ...]], BeforeValidator(_as_named)] = {}
    """What answers must keep to, in words: a text, a list of them, or a mapping from a name to either. Each name is an
    assessment of that name, yes or no."""

    sample_rate: Fraction = Field(default=1, validate_default=True)
    """Which part of the traces: `0.1` is every tenth. Chosen by the trace's id, so that all processes agree."""

    model: Text | None = None
    """The judges' model as MLflow names it: `openai:/gpt-4o-mini`. Default: MLflow's own
    (`MLFLOW_GENAI_JUDGE_DEFAULT_MODEL`). Scorers that are handed over as objects have theirs."""

    budget: JudgeBudget | None = None
    """What judging may cost: past it traces are left unjudged, with one warning."""

    @field_validator("model")
    @classmethod
    def _is_uri(cls, value: str | None) -> str | None:
        if value is not None and ":/" not in value:
            raise ValueError(f"expected provider:/model, as openai:/gpt-4o-mini, found {printable(value, most=40)}")
        return value

    @property
    def chosen_scorers(self) -> tuple[Any, ...]:
        """The scorers, or the default ones where neither they nor guidelines are named."""
        return self.scorers or (() if self.guidelines else DEFAULT_SCORERS)
