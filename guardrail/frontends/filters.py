"""PromptFilter and CompletionFilter: the guard as plain callables, before and after a model.

Both take text or a list of chat messages and return the same kind, redacted where that was decided;
a block raises ``PolicyViolation``. What the prompt's redaction replaced by placeholders the completion's
filter turns back, given the vault of that prompt. The synchronous calls run on an event loop in a thread
of the filter's own, so they work with and without a running loop.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from guardrail.core.conversation import Address, Conversation, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Stage
from guardrail.core.vault import Vault
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import UnreadableRequest
from guardrail.frontends.in_process import opened
from guardrail.frontends.loop_thread import Close, Closing
from guardrail.wire.chat_messages import read_messages
from guardrail.wire.json_edit import value_at

__all__ = ["CompletionFilter", "PromptFilter"]

Content = TypeVar("Content", str, Sequence[Mapping[str, Any]])


class _Filter(Closing, ABC):
    """What both filters share. ``on_close`` is awaited by ``close``."""

    stage: ClassVar[Stage]

    def __init__(self, engine: GuardrailEngine, on_close: Close | None = None) -> None:
        super().__init__(on_close)
        self._engine = engine

    @classmethod
    def from_config(cls, path: str | Path) -> Self:
        """Build the engine from a ``guardrail.yaml``. Raises ``ConfigError``."""
        guard = opened(path)
        return cls(guard.engine, guard.aclose)

    def __call__(self, content: Content) -> Content:
        """The same as ``invoke``."""
        return self.invoke(content)

    def invoke(self, content: Content) -> Content:
        """``content``, redacted where decided. Raises ``PolicyViolation`` on a block.

        Raises ``UnreadableRequest`` for anything but text or a list of chat messages.
        """
        return self._loop.call(partial(self.ainvoke, content))

    @abstractmethod
    async def ainvoke(self, content: Content) -> Content:
        """``invoke`` for asynchronous code."""

    def check(self, content: Content) -> Decision:
        """What is decided about ``content``; a block is returned, not raised."""
        return self._loop.call(partial(self.acheck, content))

    async def acheck(self, content: Content) -> Decision:
        """``check`` for asynchronous code."""
        return await self._decide(_read(content, self.stage))

    @abstractmethod
    async def _decide(self, conversation: Conversation) -> Decision: ...


class PromptFilter(_Filter):
    """Judges what is sent to a model, under the input policies."""

    stage = Stage.INPUT

    async def ainvoke(self, content: Content) -> Content:
        """``invoke`` for asynchronous code."""
        return (await self.aprotect(content))[0]

    def protect(self, content: Content) -> tuple[Content, Vault]:
        """``invoke``, and with it the vault that turns this prompt's placeholders back."""
        return self._loop.call(partial(self.aprotect, content))

    async def aprotect(self, content: Content) -> tuple[Content, Vault]:
        """``protect`` for asynchronous code."""
        conversation = _read(content, self.stage)
        chat = self._engine.chat(conversation)
        decision = await self._decide(conversation)
        decision.raise_for_block()
        return _with_texts(content, chat.redacted(decision.redactions)), chat.vault

    async def _decide(self, conversation: Conversation) -> Decision:
        return await self._engine.check_input(conversation, dialect="filter")


class CompletionFilter(_Filter):
    """Judges what a model answered, under the output policies.

    Of a list of messages the last one is the answer; those before it are context. ``vault``, of
    ``PromptFilter.protect``, turns the prompt's placeholders in it back.
    """

    stage = Stage.OUTPUT

    def __call__(self, content: Content, vault: Vault | None = None) -> Content:
        """The same as ``invoke``."""
        return self.invoke(content, vault)

    def invoke(self, content: Content, vault: Vault | None = None) -> Content:
        """``content``, redacted where decided. Raises ``PolicyViolation`` on a block.

        Raises ``UnreadableRequest`` for anything but text or a list of chat messages.
        """
        return self._loop.call(partial(self.ainvoke, content, vault))

    async def ainvoke(self, content: Content, vault: Vault | None = None) -> Content:
        """``invoke`` for asynchronous code."""
        conversation = _read(content, self.stage)
        decision = await self._decide(conversation)
        decision.raise_for_block()
        chat = self._engine.chat(conversation, vault)
        return _with_texts(content, chat.delivered(conversation.turns[-1], decision.redactions))

    async def _decide(self, conversation: Conversation) -> Decision:
        earlier = Conversation(conversation.turns[:-1])
        return await self._engine.check_output(
            earlier, conversation.turns[-1], unjudged=conversation.unreadable, dialect="filter"
        )


def _read(content: Any, stage: Stage) -> Conversation:
    if isinstance(content, str):
        role = "user" if stage is Stage.INPUT else "assistant"
        return Conversation((Turn(role, (Segment(content, ()),)),))
    if not isinstance(content, Sequence) or not content:
        raise UnreadableRequest("a filter takes text or a list of at least one chat message")
    return read_messages(content, ())


def _with_texts(content: Content, texts: Mapping[Address, str]) -> Content:
    """A copy of the content with new texts; itself where there are none."""
    if not texts:
        return content
    changed: Any = copy.deepcopy(content)
    for address, text in texts.items():
        if not address:
            return text  # type: ignore[return-value]  # a text is changed as a whole
        value_at(changed, address[:-1])[address[-1]] = text
    return changed  # type: ignore[no-any-return]
