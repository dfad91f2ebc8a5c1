"""What the tests of the guardrail in LiteLLM's proxy have in common: a guard, and values of LiteLLM's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from guardrail.core.release import StreamRules
from guardrail.frontends.exchange import Settings
from guardrail.frontends.in_process import InProcess, opened
from tests.frontends.guards import Guards

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import fetches a price list
pytest.importorskip("litellm", reason="the extra guardrail[litellm] is not installed")

SHORT = StreamRules(window=10, overlap=5, first=5)


def guard_of(guards: Guards) -> InProcess:
    return opened(guards.engine, Settings(streaming=SHORT))


def chat(*messages: str, **fields: Any) -> dict[str, Any]:
    """A request as LiteLLM gives it to a guardrail."""
    turns = [{"role": "user", "content": message} for message in messages]
    own = {"litellm_call_id": "c", "metadata": {"user_api_key": "k"}, "litellm_logging_obj": object()}
    return {"model": "m", "messages": turns, **own, **fields}


def answer(*texts: str) -> Any:
    """A whole chat completion as LiteLLM's own model."""
    from litellm.types.utils import Choices, Message, ModelResponse

    choices = [Choices(index=i, message=Message(content=text)) for i, text in enumerate(texts)]
    return ModelResponse(choices=choices)


def piece(text: str | None, index: int = 0, finish_reason: str | None = None) -> Any:
    """A chunk of a streamed one."""
    from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

    choice = StreamingChoices(index=index, delta=Delta(content=text), finish_reason=finish_reason)
    return ModelResponseStream(choices=[choice])


async def chunks(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


def told(items: list[Any]) -> str:
    """The text of chunks that left."""
    return "".join(choice.delta.content or "" for item in items for choice in item.choices)
