"""What answers that tell what was decided have in common, in whichever form they tell it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.wire import sse
from guardrail.wire.dialect import DecisionOf, Delta, EventStream, StreamEvent
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply

__all__ = ["AnnotatedStream", "AnswerAnnotation", "chunk_in", "chunk_like", "events_in", "is_done"]

_Json = dict[str, Any]


class AnswerAnnotation(ABC):
    """A form of ``guardrail.wire.dialect.Annotation`` whose refusals are told of like answers."""

    @abstractmethod
    def body(self, raw: bytes, before: Decision, found: DecisionOf) -> bytes:
        """The body, annotated; ``found`` is asked about the choice at a position."""

    @abstractmethod
    def events(self, events: Sequence[sse.Event], before: Decision, answer: Decision | None) -> bytes:
        """The events of a stream that does nothing but refuse, annotated."""

    def reply(self, reply: Reply, before: Decision, answer: Decision | None = None) -> Reply:
        """The refusal with what was decided; one that is an error says it already."""
        if reply.status != 200:
            return reply
        if EVENT_STREAM in reply.headers:
            told = self.events(events_in(reply.body), before, answer)
        else:
            told = self.body(reply.body, before, lambda _: answer)
        return Reply(reply.status, told, reply.headers)


class AnnotatedStream(ABC):
    """A stream that tells what was decided; ``found`` is asked about a choice when that has ended."""

    def __init__(self, stream: EventStream, before: Decision, found: DecisionOf, choices: int) -> None:
        self._stream = stream
        self._before = before
        self._found = found
        self._choices = choices
        self.read: Callable[[Sequence[sse.Event]], Iterator[StreamEvent]] = stream.read
        self.split: Callable[[StreamEvent], Sequence[tuple[StreamEvent, Delta]]] = stream.split
        self.error: Callable[[str, str], bytes] = stream.error

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """As the stream does, with what was decided."""
        return self._tell(self._stream.write(read, texts, dropped), read.finished)

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """As the stream does, with what was decided."""
        return self._tell(self._stream.halt(choice, decision, refusal, spoke=spoke), (choice,))

    def end(self) -> bytes:
        """As the stream does, with what was decided."""
        return self._tell(self._stream.end(), ())

    @abstractmethod
    def _tell(self, raw: bytes, finished: Sequence[int]) -> bytes:
        """The events that leave, annotated; ``finished``: the choices that end in them."""


def events_in(raw: bytes) -> list[sse.Event]:
    """The events in whole bytes of a stream."""
    decoder = sse.SseDecoder()
    events = decoder.feed(raw)
    rest = decoder.flush()
    return events if rest is None else [*events, rest]


def is_done(event: sse.Event) -> bool:
    """Whether it is the ``[DONE]`` behind the last chunk."""
    return event.data is not None and event.data.strip() == b"[DONE]"


def chunk_in(event: sse.Event) -> _Json | None:
    """The chunk of a chat in an event; None for a comment, ``[DONE]`` and an error."""
    if event.data is None or is_done(event):
        return None
    chunk: _Json = orjson.loads(event.data)
    return chunk if "choices" in chunk else None


def chunk_like(known: _Json, told: _Json) -> bytes:
    """A chunk of its own, without choices, in the identity of a known one."""
    head = {"id": "", "object": "chat.completion.chunk", "created": int(time.time()), "model": ""}
    head |= {key: known[key] for key in head if key in known}
    return sse.encode(orjson.dumps({**head, "choices": [], **told}))
