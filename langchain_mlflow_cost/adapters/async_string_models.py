"""String models in async code, whose starts LangChain tells to inline handlers alone."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks.manager import AsyncCallbackManager

from langchain_mlflow_cost.adapters.autolog import any_standing_in

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.callbacks.manager import AsyncCallbackManagerForLLMRun


def tell_all_handlers() -> None:
    """Let handlers that are not inline hear of string models beside ours, which is.

    `AsyncCallbackManager.on_llm_start` has an `else` where both kinds are due (langchain-core 1.0 to 1.8): with one
    inline handler there, LangSmith, Langfuse, `astream_events` and others never hear of `ainvoke` of a string model.
    Each kind is told in a call of its own, so that nobody is told twice once LangChain tells both.
    """
    original = AsyncCallbackManager.on_llm_start
    if getattr(original, "lmc_tells_all", False):
        return

    @functools.wraps(original)
    async def on_llm_start(
        self: AsyncCallbackManager,
        serialized: dict[str, Any],
        prompts: list[str],
        run_id: UUID | None = None,
        **kwargs: Any,
    ) -> list[AsyncCallbackManagerForLLMRun]:
        handlers = self.handlers
        inline = [handler for handler in handlers if handler.run_inline]
        others = [handler for handler in handlers if not handler.run_inline]
        if not (inline and others and any_standing_in(inline)):
            return await original(self, serialized, prompts, run_id, **kwargs)
        told, unheard = self.copy(), self.copy()
        told.handlers, unheard.handlers = inline, others
        managers: list[AsyncCallbackManagerForLLMRun] = []
        for prompt in prompts:
            (run_manager,) = await original(told, serialized, [prompt], run_id, **kwargs)
            await original(unheard, serialized, [prompt], run_manager.run_id, **kwargs)
            run_manager.handlers = handlers
            managers.append(run_manager)
            run_id = None
        return managers

    on_llm_start.lmc_tells_all = True  # type: ignore[attr-defined]
    AsyncCallbackManager.on_llm_start = on_llm_start  # type: ignore[method-assign]
