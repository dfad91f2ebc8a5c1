"""GuardrailAgentMiddleware: the guard around every model call of a LangChain agent.

It stands around the call itself, not before and behind it in the graph, so nothing of an answer reaches the
agent's state, its tools or its streams before it was judged. The state keeps what users and tools said; the
model gets it redacted, and placeholders come back as the texts in its answers and tool calls. With a
history (``history`` in the configuration, on by default) each call judges only the messages that are new,
and a blocked message does not block the chat for good: later calls leave it out.

An answer is shown once it is whole: all that runs inside the call carries the tag ``nostream``, which keeps
its tokens out of ``stream_mode="messages"``, however the model is wrapped. To stream a judged answer by
tokens, guard the model's HTTP client instead; see ``guardrail.frontends.openai_client``. ``astream_events``
is LangChain's tracer and sees everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self

from guardrail.core.policy import Strategy
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import PolicyViolation
from guardrail.frontends.exchange import Settings
from guardrail.frontends.in_process import opened
from guardrail.frontends.loop_thread import Close, Closing

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
    from langchain_core.callbacks import BaseCallbackManager
    from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
    from langchain_core.runnables.config import var_child_runnable_config
except ImportError:
    raise ImportError(
        "agents need the package langchain: install it with pip install 'guardrail[langchain]'"
    ) from None

from pydantic import TypeAdapter, ValidationError

from guardrail.frontends.langchain_round import NOSTREAM, Part, Round
from guardrail.frontends.langchain_values import beside, bound

__all__ = ["GuardrailAgentMiddleware"]

_STRATEGIES: Final = {
    "redact": Strategy.REPLACE,
    "mask": Strategy.MASK,
    "hash": Strategy.HASH,
    "placeholder": Strategy.PLACEHOLDER,
}


class GuardrailAgentMiddleware(Closing, AgentMiddleware[Any, Any, Any]):
    """For ``create_agent(..., middleware=[GuardrailAgentMiddleware.from_config("guardrail.yaml")])``.

    ``strategy``: what is put in the place of a redacted text, for all policies; None: as each says.
    ``exit_behavior``: what a block does. ``end``: the answer is ``violation_message`` and the run ends.
    ``error``: ``PolicyViolation``. ``replace``: a blocked message goes to the model as
    ``violation_message`` and the run goes on; of a blocked answer that is left, without its tool calls. A
    check that could not be made (fail mode closed) always raises. ``violation_message`` by default is the
    refusal of ``settings``; in it ``{policies}`` names those that blocked. ``on_close`` is awaited by
    ``close``. Raises ``ValueError`` for other words.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        on_close: Close | None = None,
        *,
        apply_to_input: bool = True,
        apply_to_output: bool = True,
        apply_to_tool_results: bool = True,
        strategy: Literal["redact", "mask", "hash", "placeholder"] | None = None,
        exit_behavior: Literal["end", "error", "replace"] = "end",
        violation_message: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(on_close)
        if strategy is not None and strategy not in _STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(_STRATEGIES)}")
        if exit_behavior not in ("end", "error", "replace"):
            raise ValueError("exit_behavior must be end, error or replace")
        parts: dict[Part, bool] = {
            "input": apply_to_input,
            "output": apply_to_output,
            "tool_results": apply_to_tool_results,
        }
        self._parts = frozenset(part for part, applies in parts.items() if applies)
        self._engine = engine
        self._strategy = _STRATEGIES[strategy] if strategy is not None else None
        self._exit_behavior = exit_behavior
        self._message = violation_message
        self._refusing = (settings or Settings()).refusals.for_request("", ())

    @classmethod
    def from_config(cls, path: str | Path, **options: Any) -> Self:
        """Build the engine from a ``guardrail.yaml``; ``options`` as above. Raises ``ConfigError``."""
        guard = opened(path)
        return cls(guard.engine, guard.aclose, settings=guard.settings, **options)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | AIMessage:
        """Judge what goes to the model, let it answer, judge that."""
        before = self._loop.call(partial(self._before, request))
        if isinstance(before, AIMessage):
            return before
        call, asked = before
        with self._unseen():
            response = handler(asked)
        return self._loop.call(partial(self._after, call, response))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any] | AIMessage:
        """``wrap_model_call`` for asynchronous agents."""
        before = await self._before(request)
        if isinstance(before, AIMessage):
            return before
        call, asked = before
        with self._unseen():
            response = await handler(asked)
        return await self._after(call, response)

    async def _before(self, request: ModelRequest[Any]) -> AIMessage | tuple[Round, ModelRequest[Any]]:
        """The call with what the model gets, or the refusal."""
        lead: list[BaseMessage] = [] if request.system_message is None else [request.system_message]
        unread = _beside(request)
        call, messages = self._round([*lead, *request.messages], unread), None
        try:
            messages = await call.before()
        except PolicyViolation as stop:
            if self._exit_behavior != "replace" or stop.decision.unavailable:
                return await self._refuse(call, stop)
            call = self._round([*lead, *_replaced(request.messages, self._said(stop))], unread)
        if messages is None:
            try:
                messages = await call.before()
            except PolicyViolation as stop:  # what blocks is older than the last answer
                return await self._refuse(call, stop)
        asked: list[Any] = messages[len(lead) :]
        return call, request.override(messages=asked)

    async def _after(self, call: Round, response: ModelResponse[Any]) -> ModelResponse[Any] | AIMessage:
        """The answer as it was judged."""
        result: list[BaseMessage] = []
        try:
            for message in response.result:
                if isinstance(message, AIMessage):  # more than one, where another middleware asks again
                    structured = response.structured_response is not None
                    message = await call.after(message, structured=structured)
                result.append(message)
        except PolicyViolation as stop:
            return await self._refuse(call, stop)
        if all(new is old for new, old in zip(result, response.result, strict=True)):
            return response
        if response.structured_response is None:
            return replace(response, result=result)
        return _reread(response, result)

    def _round(self, messages: list[BaseMessage], unread: tuple[str, ...]) -> Round:
        return Round(self._engine, messages, parts=self._parts, strategy=self._strategy, unread=unread)

    def _unseen(self) -> AbstractContextManager[None]:
        return _untold() if "output" in self._parts else nullcontext()

    async def _refuse(self, call: Round, stop: PolicyViolation) -> AIMessage:
        if self._exit_behavior == "error" or stop.decision.unavailable:
            raise stop
        text = self._said(stop)
        await call.refused(text)
        about = {"finish_reason": "content_filter", "guardrail_id": stop.decision.id}
        return AIMessage(text, response_metadata=about)

    def _said(self, stop: PolicyViolation) -> str:
        text = self._message or self._refusing.of(stop.decision).message
        return text.replace("{policies}", ", ".join(stop.decision.blocking))


def _beside(request: ModelRequest[Any]) -> tuple[str, ...]:
    """What the model gets besides the messages, where that may be text."""
    formed = [] if request.response_format is None else [request.response_format]
    return beside(
        {
            **bound(request.model),
            **request.model_settings,
            **({"tools": request.tools} if request.tools else {}),
            **({"response_format": formed} if formed else {}),
        }
    )


@contextmanager
def _untold() -> Iterator[None]:
    """Whatever runs in here has the tag ``nostream``.

    By its callbacks: a tag in the configuration, or on the model, is lost where a wrapper brings its own,
    or gives way to the model inside it when tools are bound.
    """
    config = var_child_runnable_config.get()
    callbacks = config.get("callbacks") if config else None
    if config is None or not isinstance(callbacks, BaseCallbackManager):  # nobody listens
        yield
        return
    callbacks = callbacks.copy()
    callbacks.add_tags([NOSTREAM])
    token = var_child_runnable_config.set({**config, "callbacks": callbacks})
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def _replaced(messages: list[Any], text: str) -> list[BaseMessage]:
    """The messages, with this text in the place of those that came after the last answer."""
    start = max((i + 1 for i, message in enumerate(messages) if isinstance(message, AIMessage)), default=0)
    new = [message.model_copy(update={"content": text}) for message in messages[start:]]
    return [*messages[:start], *new]


def _reread(response: ModelResponse[Any], result: list[BaseMessage]) -> ModelResponse[Any]:
    """The structured response once more, from the answers as they are now.

    Raises ``ValueError`` where that does not fit its schema.
    """
    old = response.structured_response
    told = next((m for m in result if isinstance(m, ToolMessage)), None)
    answers = [m for m in result if isinstance(m, AIMessage)]
    calls = [call for answer in answers for call in answer.tool_calls]
    called = next((c["args"] for c in calls if told and c["id"] == told.tool_call_id), None)
    text = answers[-1].text
    try:
        if isinstance(old, dict):
            new: Any = called if called is not None else TypeAdapter(dict[str, Any]).validate_json(text)
        else:
            kind: TypeAdapter[Any] = TypeAdapter(type(old))
            new = kind.validate_python(called) if called is not None else kind.validate_json(text)
    except ValidationError:
        raise ValueError("the structured response does not fit its schema once it is redacted") from None
    if told is not None:  # LangChain writes the response out in it
        content = str(told.content).replace(str(old), str(new))
        result = [m.model_copy(update={"content": content}) if m is told else m for m in result]
    return replace(response, result=result, structured_response=new)
