"""A stream of LiteLLM's, held until judged: models of its own, or bytes of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import orjson

from guardrail.core.decision import Decision
from guardrail.core.history import Delivered
from guardrail.core.release import StreamRules
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.history import Chat, failed
from guardrail.engine.outbox import Ready
from guardrail.frontends.held_stream import HeldStream
from guardrail.wire import sse
from guardrail.wire.dialect import Delta, EventStream, StreamEvent
from guardrail.wire.litellm_values import as_json, put

__all__ = ["Held", "HeldAnswer", "held_chunks"]


class Held(NamedTuple):
    """One event, and the chunk that it was; None where the chunk was bytes."""

    read: StreamEvent
    chunk: Any


class HeldAnswer(HeldStream[Held, Delta]):
    """A stream with any number of choices; the first that is blocked ends it.

    What comes before the first text waits for it, so that a block before it is an answer of its own.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        chat: Chat,
        rules: StreamRules,
        stream: EventStream,
        *,
        structured: bool,
        decision_id: str,
        dialect: str,
    ) -> None:
        super().__init__(
            engine,
            chat.forwarded,
            rules,
            chat.vault,
            decision_id=decision_id,
            dialect=dialect,
            structured=structured,
        )
        self._chat = chat
        self._stream = stream
        self._decoder = sse.SseDecoder()
        self._delivered = Delivered()
        self._choices: set[int] = set()
        self._waiting: list[Any] = []
        self._spoke = False

    async def take(self, chunk: Any) -> list[Any]:
        """Take one chunk, and give what may leave by now. Raises ``UnreadableResponse``."""
        out: list[Any] = []
        for held in self._events(chunk):
            out += self._left(await self._take_in(held))
            if self.blocked():
                break
        return out

    async def end(self) -> list[Any]:
        """The rest, once all of it was judged. Raises ``UnreadableResponse``."""
        out: list[Any] = []
        if rest := self._decoder.flush():
            for read in self._stream.read([rest]):
                out += self._left(await self._take_in(Held(read, None)))
        out += self._left(await self.finish())
        if self.blocked():
            return out
        if self._chat.remembers and not failed(self.decision.findings):
            for choice in sorted(self._choices):
                await self._chat.answered(self._delivered.turn(choice))
        return out + self._waiting

    def blocked(self) -> Decision | None:
        """What stopped it; None if nothing did."""
        halted = [*self._answer.halted.values()] if self._answer is not None else []
        return next((d for d in halted if d.unavailable), next(iter(halted), None))

    def _take_in(self, held: Held) -> Awaitable[list[Ready[Held, Delta]]]:
        read = held.read
        self._choices.update(read.choices)
        return self.push(
            held, read.deltas, choices=read.choices, finished=read.finished, unreadable=read.unreadable
        )

    def _events(self, chunk: Any) -> Iterator[Held]:
        """The events in one chunk, each read alone."""
        if isinstance(chunk, bytes | str):
            for event in self._decoder.feed(chunk.encode() if isinstance(chunk, str) else chunk):
                for read in self._stream.read([event]):
                    yield Held(read, None)
            return
        data = orjson.dumps(as_json(chunk))
        for read in self._stream.read([sse.Event(sse.encode(data), data)]):
            yield Held(read, chunk)

    def _left(self, ready: list[Ready[Held, Delta]]) -> list[Any]:
        for one in ready:
            if one.event is not None:
                self._leave(one, one.event)
        if not self._spoke:
            return []
        out, self._waiting = self._waiting, []
        return out

    def _leave(self, ready: Ready[Held, Delta], held: Held) -> None:
        texts = {delta.address: text for delta, text in ready.texts}
        for delta in held.read.deltas:
            text = texts.get(delta.address, delta.text)
            self._spoke = self._spoke or bool(delta.text)
            self._delivered.add(delta.choice, delta.channel, delta.kind, text, whole=delta.whole)
        raw = self._stream.write(held.read, texts, ready.dropped)
        if not raw:
            return
        if held.chunk is None:
            self._waiting.append(raw)
            return
        event = held.read.event
        if raw != event.raw:
            [new] = sse.SseDecoder().feed(raw)
            put(held.chunk, orjson.loads(event.data or b"{}"), orjson.loads(new.data or b"{}"))
        self._waiting.append(held.chunk)


async def held_chunks(
    held: HeldAnswer, chunks: AsyncIterator[Any], stop: Callable[[Decision], None]
) -> AsyncGenerator[Any, None]:
    """The chunks as they may leave; ``stop`` raises for a decision that blocks."""
    try:
        async for chunk in chunks:
            for leaving in await held.take(chunk):
                yield leaving
            if decision := held.blocked():
                stop(decision)
        for leaving in await held.end():
            yield leaving
        if decision := held.blocked():
            stop(decision)
    finally:
        await held.aclose()
