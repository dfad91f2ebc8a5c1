"""PromptFilter and CompletionFilter: the guard as plain callables, before and after a model.

Both take text or a list of chat messages and return the same kind, redacted where that was decided;
a block raises ``PolicyViolation``. The synchronous calls run on an event loop in a thread of the
filter's own, so they work with and without a running loop.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import UnreadableRequest
from guardrail.wire.chat_messages import read_messages

__all__ = ["CompletionFilter", "PromptFilter"]

Content = TypeVar("Content", str, Sequence[Mapping[str, Any]])
R = TypeVar("R")


class _Filter:
    """What both filters share. ``on_close`` is awaited by ``close``."""

    stage: ClassVar[Stage]

    def __init__(
        self, engine: GuardrailEngine, on_close: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._engine = engine
        self._on_close = on_close
        self._portal: BlockingPortal | None = None
        self._thread = ExitStack()
        self._starting = threading.Lock()

    @classmethod
    def from_config(cls, path: str | Path) -> Self:
        """Build the engine from a ``guardrail.yaml``. Raises ``ConfigError``."""
        from guardrail.build import load_guard

        guard = load_guard(path)
        return cls(guard.engine, guard.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __call__(self, content: Content) -> Content:
        """The same as ``invoke``."""
        return self.invoke(content)

    def invoke(self, content: Content) -> Content:
        """``content``, redacted where decided. Raises ``PolicyViolation`` on a block.

        Raises ``UnreadableRequest`` for anything but text or a list of chat messages.
        """
        return self._run(partial(self.ainvoke, content))

    async def ainvoke(self, content: Content) -> Content:
        """``invoke`` for asynchronous code."""
        decision = await self.acheck(content)
        decision.raise_for_block()
        if decision.action is not Action.REDACT:
            return content
        redacted: Content = _redacted(content, decision)
        return redacted

    def check(self, content: Content) -> Decision:
        """What is decided about ``content``; a block is returned, not raised."""
        return self._run(partial(self.acheck, content))

    async def acheck(self, content: Content) -> Decision:
        """``check`` for asynchronous code."""
        conversation = _read(content, self.stage)
        if self.stage is Stage.INPUT:
            return await self._engine.check_input(conversation, dialect="filter")
        earlier = Conversation(conversation.turns[:-1])
        return await self._engine.check_output(
            earlier, conversation.turns[-1], unjudged=conversation.unreadable, dialect="filter"
        )

    def close(self) -> None:
        """Close connections, files and the filter's thread."""
        try:
            if self._on_close is not None:
                self._run(self._on_close)
        finally:
            self._thread.close()
            self._portal = None

    async def aclose(self) -> None:
        """``close``, and the connections that asynchronous calls have opened in the running loop."""
        try:
            if self._on_close is not None:
                await self._on_close()
        finally:
            if self._portal is not None:
                self.close()

    def _run(self, call: Callable[[], Awaitable[R]]) -> R:
        with self._starting:
            if self._portal is None:
                self._portal = self._thread.enter_context(start_blocking_portal())
        return self._portal.call(call)


class PromptFilter(_Filter):
    """Judges what is sent to a model, under the input policies."""

    stage = Stage.INPUT


class CompletionFilter(_Filter):
    """Judges what a model answered, under the output policies.

    Of a list of messages the last one is the answer; those before it are context.
    """

    stage = Stage.OUTPUT


def _read(content: Any, stage: Stage) -> Conversation:
    if isinstance(content, str):
        role = "user" if stage is Stage.INPUT else "assistant"
        return Conversation((Turn(role, (Segment(content, ()),)),))
    if not isinstance(content, Sequence) or not content:
        raise UnreadableRequest("a filter takes text or a list of at least one chat message")
    return read_messages(content, ())


def _redacted(content: Any, decision: Decision) -> Any:
    result = copy.deepcopy(content)
    for redaction in decision.redactions:
        if not redaction.address:
            return redaction.text
        *way, last = redaction.address
        place = result
        for step in way:
            place = place[step]
        place[last] = redaction.text
    return result
