"""The guard as guardrails of the OpenAI Agents SDK.

    guard = AgentGuardrails.from_config("guardrail.yaml")
    Agent(..., input_guardrails=[guard.input_guardrail], output_guardrails=[guard.output_guardrail])
    @function_tool(tool_input_guardrails=[guard.tool_input_guardrail], tool_output_guardrails=[...])

The SDK's guardrails can stop a run, not rewrite it: a block raises the SDK's own tripwire exceptions, and
so does a redaction, unless ``on_redact`` lets it pass. Only a tool's result can be replaced by redacted
text. Output guardrails run on the final answer only; streamed text is on the screen by then. To have
everything redacted, restored and streamed, guard the SDK's HTTP client as well or instead:
``set_default_openai_client(AsyncOpenAI(http_client=openai_async_http_client("guardrail.yaml")))``.

Needs the extra ``guardrail[agents]``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, Self

import pydantic

from guardrail.core.conversation import Conversation, Kind, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action
from guardrail.engine.check import GuardrailEngine
from guardrail.frontends.exchange import Settings
from guardrail.frontends.in_process import opened
from guardrail.frontends.loop_thread import LoopThread
from guardrail.wire.responses_items import read_items

try:
    from agents import (
        GuardrailFunctionOutput,
        InputGuardrail,
        OutputGuardrail,
        ToolGuardrailFunctionOutput,
        ToolInputGuardrail,
        ToolInputGuardrailData,
        ToolOutputGuardrail,
        ToolOutputGuardrailData,
    )
except ImportError:
    raise ImportError(
        "the OpenAI Agents SDK is missing: install it with pip install 'guardrail[agents]'"
    ) from None

__all__ = ["AgentGuardrails"]

_DIALECT: Final = "agents"
_NAME: Final = "guardrail"
_SEEN: Final = ("image", "file", "input_image", "input_file")  # what a tool may give that is no text


class AgentGuardrails:
    """Four guardrails around one engine; ``output_info`` of each tells id, action and policies, no text.

    ``on_redact``: what a redaction does where nothing can be rewritten. ``on_tool_block``: a blocked call
    or result is answered to the model with the refusal, or raises. ``in_parallel``: the agent begins while
    its input is being judged, and may call tools. ``settings`` holds the refusal; ``on_close`` is awaited
    by ``close``.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        on_close: Callable[[], Awaitable[None]] | None = None,
        *,
        settings: Settings | None = None,
        on_redact: Literal["stop", "pass"] = "stop",
        on_tool_block: Literal["reject", "raise"] = "reject",
        in_parallel: bool = False,
    ) -> None:
        self._engine = engine
        self._on_close = on_close
        self._refusing = (settings or Settings()).refusals.for_request("", ())
        self._stops = Action.REDACT if on_redact == "stop" else Action.BLOCK
        self._raises = on_tool_block == "raise"
        self.input_guardrail: InputGuardrail[Any] = InputGuardrail(
            self._input, name=_NAME, run_in_parallel=in_parallel
        )
        self.output_guardrail: OutputGuardrail[Any] = OutputGuardrail(self._output, name=_NAME)
        self.tool_input_guardrail: ToolInputGuardrail[Any] = ToolInputGuardrail(self._call, name=_NAME)
        self.tool_output_guardrail: ToolOutputGuardrail[Any] = ToolOutputGuardrail(self._told, name=_NAME)

    @classmethod
    def from_config(cls, path: str | Path, **options: Any) -> Self:
        """Build the engine from a ``guardrail.yaml``; ``options`` as above. Raises ``ConfigError``."""
        guard = opened(path)
        return cls(guard.engine, guard.aclose, settings=guard.settings, **options)

    async def aclose(self) -> None:
        """Close files, and the connections of the running loop."""
        if self._on_close is not None:
            await self._on_close()

    def close(self) -> None:
        """``aclose`` for synchronous code."""
        LoopThread().close(self._on_close)

    async def _input(self, context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        decision = await self._engine.check_input(_conversation(given), dialect=_DIALECT)
        return GuardrailFunctionOutput(_told_of(decision), self._trips(decision))

    async def _output(self, context: Any, agent: Any, answer: Any) -> GuardrailFunctionOutput:
        turn = Turn("assistant", (Segment(_text(answer), ()),))
        decision = await self._engine.check_output(
            _conversation(context.turn_input), turn, dialect=_DIALECT
        )
        return GuardrailFunctionOutput(_told_of(decision), self._trips(decision))

    async def _call(self, call: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        segment = Segment(call.context.tool_arguments, (), Kind.TOOL_ARGUMENTS)
        decision = await self._engine.check_output(
            _conversation(call.context.turn_input), Turn("assistant", (segment,)), dialect=_DIALECT
        )
        if self._trips(decision):
            return self._rejected(decision)
        return ToolGuardrailFunctionOutput.allow(_told_of(decision))

    async def _told(self, result: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
        text = _text(result.output)
        turn = Turn("tool", (Segment(text, ()),))
        conversation = Conversation((turn,), ("$",) if _unreadable(result.output) else ())
        decision = await self._engine.check_input(conversation, dialect=_DIALECT)
        if decision.action is Action.BLOCK:
            return self._rejected(decision)
        texts = self._engine.chat(Conversation(())).delivered(turn, decision.redactions)
        if texts:
            return ToolGuardrailFunctionOutput.reject_content(texts[()], _told_of(decision))
        return ToolGuardrailFunctionOutput.allow(_told_of(decision))

    def _trips(self, decision: Decision) -> bool:
        return decision.action >= self._stops

    def _rejected(self, decision: Decision) -> ToolGuardrailFunctionOutput:
        if self._raises or decision.unavailable:
            return ToolGuardrailFunctionOutput.raise_exception(_told_of(decision))
        text = self._refusing.of(decision).message
        return ToolGuardrailFunctionOutput.reject_content(text, _told_of(decision))


def _told_of(decision: Decision) -> dict[str, object]:
    return {
        "id": decision.id,
        "action": decision.action.word,
        "policies": list(decision.blocking),
        "degraded": list(decision.degraded),
        "unjudged": list(decision.unjudged),
    }


def _conversation(given: Any) -> Conversation:
    """Text, or the items of an input."""
    if isinstance(given, str):
        return Conversation((Turn("user", (Segment(given, ()),)),))
    unreadable: list[str] = []
    items = [item if isinstance(item, dict) else dict(item) for item in given]
    return Conversation(tuple(said.turn for said in read_items(items, (), unreadable)), tuple(unreadable))


def _text(value: Any) -> str:
    """What the model or the user reads of an output."""
    if isinstance(value, str):
        return value
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump_json()
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def _unreadable(output: Any) -> bool:
    parts = output if isinstance(output, list) else [output]
    kinds = (part.get("type") if isinstance(part, dict) else getattr(part, "type", None) for part in parts)
    return any(kind in _SEEN for kind in kinds)
