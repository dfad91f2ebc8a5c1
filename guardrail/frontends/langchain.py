"""The guard as LangChain Runnables: ``guarded(model)``, or ``PromptFilter | model | CompletionFilter``.

``guarded`` is the one to take: it knows the prompt when it judges the answer, and turns the prompt's
placeholders in it back. Two filters in a chain do not know of each other, so a placeholder that
``PromptFilter`` made stays in the answer there. A stream is held until it was judged, as the proxy does it.
A block raises ``PolicyViolation``.

Needs the extra ``guardrail[langchain]``. ``GuardrailAgentMiddleware`` is for the agents of the package
``langchain`` and imported when it is asked for.
"""
# ruff: noqa: A002 - ``input`` is LangChain's name for it

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from guardrail.core.conversation import Conversation
from guardrail.core.release import StreamRules
from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.frontends.in_process import opened
from guardrail.frontends.loop_thread import Close, Closing

try:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig
except ImportError:
    raise ImportError("LangChain is missing: install it with pip install 'guardrail[langchain]'") from None

from guardrail.frontends.langchain_messages import edited, edited_all, read, read_all
from guardrail.frontends.langchain_round import DIALECT, NOSTREAM, HeldChunks, Round, aheld, held
from guardrail.frontends.langchain_values import answer_of, answered, beside, bound, like, messages_of

if TYPE_CHECKING:
    from guardrail.frontends.langchain_agent import GuardrailAgentMiddleware

__all__ = ["CompletionFilter", "GuardrailAgentMiddleware", "PromptFilter", "guarded"]


def __getattr__(name: str) -> Any:
    if name != "GuardrailAgentMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from guardrail.frontends.langchain_agent import GuardrailAgentMiddleware

    return GuardrailAgentMiddleware


class _Guard(Closing, Runnable[Any, Any]):
    """What all of them share. ``on_close`` is awaited by ``close``."""

    def __init__(
        self,
        engine: GuardrailEngine,
        on_close: Close | None = None,
        streaming: StreamRules | None = None,
    ) -> None:
        super().__init__(on_close)
        self._engine = engine
        self._rules = streaming or StreamRules()

    @classmethod
    def from_config(cls, path: str | Path) -> Self:
        """Build the engine from a ``guardrail.yaml``. Raises ``ConfigError``."""
        guard = opened(path)
        return cls(guard.engine, guard.aclose, guard.settings.streaming)


class _Filter(_Guard):
    """What both filters share."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """``input``, redacted where decided. Raises ``PolicyViolation``.

        Raises ``UnreadableRequest``, of an answer ``UnreadableResponse``.
        """
        return self._call_with_config(
            lambda one: self._loop.call(partial(self._filter, one)), input, config
        )

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """``invoke`` for asynchronous code."""
        return await self._acall_with_config(self._filter, input, config)

    @abstractmethod
    async def _filter(self, content: Any) -> Any: ...


class PromptFilter(_Filter):
    """Judges what is sent to a model: text, messages or a prompt value in, the same kind out."""

    async def _filter(self, prompt: Any) -> Any:
        messages = messages_of(prompt)
        conversation = read_all(messages)
        decision = await self._engine.check_input(conversation, dialect=DIALECT)
        decision.raise_for_block()
        texts = self._engine.chat(conversation).redacted(decision.redactions)
        return like(prompt, edited_all(messages, texts)) if texts else prompt


class CompletionFilter(_Filter):
    """Judges what a model answered: text or a message in, the same kind out; of a list the last one.

    ``streaming`` says how a stream is held.
    """

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """A whole answer, in one piece."""
        yield self.invoke(input, config)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """``stream`` for asynchronous code."""
        yield await self.ainvoke(input, config)

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """The chunks of an answer, each as soon as its text was judged."""
        yield from self._transform_stream_with_config(
            input, lambda chunks: held(self._loop, self._stream(), chunks), config
        )

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """``transform`` for asynchronous code."""
        judged: Any = self._atransform_stream_with_config(
            input, lambda chunks: aheld(self._stream(), chunks), config
        )
        async with aclosing(judged):
            async for chunk in judged:
                yield chunk

    def _stream(self) -> HeldChunks:
        engine = self._engine
        nothing = Conversation(())
        vault = engine.vault(nothing)
        return HeldChunks(
            engine, nothing, self._rules, vault, decision_id=new_decision_id(), dialect=DIALECT
        )

    async def _filter(self, answer: Any) -> Any:
        if isinstance(answer, list):
            *earlier, last = answered(answer)
            new = await self._judged(last, read_all(earlier))
            return answer if new is last else [*answer[:-1], new]
        message = answer_of(answer)
        new = await self._judged(message, Conversation(()))
        if new is message:
            return answer
        return new.content if isinstance(answer, str) else new

    async def _judged(self, message: BaseMessage, earlier: Conversation) -> BaseMessage:
        turn, unreadable = read(message)
        decision = await self._engine.check_output(earlier, turn, unjudged=unreadable, dialect=DIALECT)
        decision.raise_for_block()
        return edited(message, self._engine.chat(earlier).delivered(turn, decision.redactions))


class _GuardedModel(_Guard):
    """A model with a guard around it."""

    def __init__(
        self, model: Runnable[Any, Any], engine: GuardrailEngine, on_close: Close, streaming: StreamRules
    ) -> None:
        super().__init__(engine, on_close, streaming)
        self._model = model

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The model's answer, judged. Raises ``PolicyViolation``, ``UnreadableRequest``."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """``invoke`` for asynchronous code."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The model's chunks, each as soon as its text was judged."""
        yield from self._transform_stream_with_config(iter([input]), self._stream, config, **kwargs)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """``stream`` for asynchronous code."""
        judged: Any = self._atransform_stream_with_config(_one(input), self._astream, config, **kwargs)
        async with aclosing(judged):
            async for chunk in judged:
                yield chunk

    def _round(self, prompt: Any, settings: dict[str, Any]) -> Round:
        unread = beside({**bound(self._model), **settings})
        return Round(self._engine, messages_of(prompt), unread=unread)

    def _invoke(self, prompt: Any, run_manager: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        call = self._round(prompt, kwargs)
        said = self._model.invoke(self._loop.call(call.before), _unseen(config), **kwargs)
        new = self._loop.call(partial(call.after, answer_of(said)))
        return new.content if isinstance(said, str) else new

    async def _ainvoke(self, prompt: Any, run_manager: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        call = self._round(prompt, kwargs)
        said = await self._model.ainvoke(await call.before(), _unseen(config), **kwargs)
        new = await call.after(answer_of(said))
        return new.content if isinstance(said, str) else new

    def _stream(
        self, prompts: Iterator[Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[Any]:
        for prompt in prompts:
            call = self._round(prompt, kwargs)
            said = self._model.stream(self._loop.call(call.before), _unseen(config), **kwargs)
            yield from held(self._loop, call.stream(self._rules), said, call)

    async def _astream(
        self, prompts: AsyncIterator[Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        async for prompt in prompts:
            call = self._round(prompt, kwargs)
            said = self._model.astream(await call.before(), _unseen(config), **kwargs)
            async with aclosing(aheld(call.stream(self._rules), said, call)) as chunks:
                async for chunk in chunks:
                    yield chunk


def guarded(
    model: Runnable[Any, Any],
    guard: str | Path | GuardrailEngine,
    *,
    streaming: StreamRules | None = None,
) -> _GuardedModel:
    """``model`` (with its tools bound to it) between both filters, as one Runnable; to be closed.

    ``guard`` is a ``guardrail.yaml`` or an engine, ``streaming`` how a stream is held, in the place of the
    file's. The prompt's placeholders are turned back in the answer, tool calls included. What was judged in
    a chat is not judged again. The tag ``nostream`` keeps LangGraph from showing the model's own tokens.
    Raises ``ConfigError``.
    """
    built = opened(guard)
    return _GuardedModel(model, built.engine, built.aclose, streaming or built.settings.streaming)


def _unseen(config: RunnableConfig) -> RunnableConfig:
    return {**config, "tags": [*config.get("tags", []), NOSTREAM]}


async def _one(prompt: Any) -> AsyncIterator[Any]:
    yield prompt
