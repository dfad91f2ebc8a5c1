"""A stream of a route's own: which text each event adds, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from guardrail.core.conversation import Address, Kind
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import shapes
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.frames import Frames
from guardrail.wire.replies import Refusal, error_body, refusal_error
from guardrail.wire.route import RouteText
from guardrail.wire.shapes import JsonShape
from guardrail.wire.sse import Event

__all__ = ["RouteStream", "deltas_of"]

_DONE: Final = b"[DONE]"
_NAME: Final = b"event:"


class RouteStream:
    """One stream. Its text is one channel for each path of an event's."""

    def __init__(self, text: RouteText, frames: Frames) -> None:
        self._text = text
        self._frames = frames
        self._name: str | None = None  # of the latest event with text: clients listen to events by name

    def read(self, events: Sequence[Event]) -> Iterator[StreamEvent]:
        """What each event adds. Raises ``UnreadableResponse``, after the events before."""
        return map(self._read, events)

    def split(self, read: StreamEvent) -> Sequence[tuple[StreamEvent, Delta]]:
        """Nothing: no events are read as one."""
        return ()

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """The event with new texts; nothing of one with text in it whose choice was halted."""
        event = read.event
        if dropped and read.deltas:
            return b""
        if read.deltas and self._frames.names:
            self._name = _name(event.raw)
        if not texts:
            return event.raw
        return self._frames.replace(event, shapes.edit(event.data or b"", texts))

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """The refusal's words as one more event, or the error form where it can be told from text."""
        if refusal.style == "error" and isinstance(self._text.event, JsonShape):
            return self._frames.encode(refusal_error(decision, refusal).body, self._name)
        words = "\n\n" + refusal.message if spoke else refusal.message  # clients add it to what they have
        return self._frames.encode(self._text.say(words, self._text.event), self._name)

    def end(self) -> bytes:
        """Nothing: what else ends an answer of this app is not known."""
        return b""

    def error(self, code: str, message: str) -> bytes:
        """An ``error`` object as an event; nothing where an event could not be told from text."""
        body = error_body(code, message, type_="guardrail_error")
        if isinstance(self._text.event, JsonShape):
            return self._frames.encode(body, self._name)
        return self._frames.encode(body, "error") if self._frames.names else b""

    def _read(self, event: Event) -> StreamEvent:
        if event.data is None:
            return StreamEvent(event, ())
        if isinstance(self._text.event, JsonShape) and event.data.strip() == _DONE:
            return StreamEvent(event, ())
        try:
            return deltas_of(self._text, event)
        except UnreadableRequest:
            raise UnreadableResponse("the upstream sent an event that is not what its route says") from None


def deltas_of(text: RouteText, event: Event) -> StreamEvent:
    """What one event or message adds. Raises ``UnreadableRequest``."""
    shape = text.event
    if shape is None:
        return StreamEvent(event, ())
    value = shape.parse(event.data or b"")
    found = shape.find(value)
    deltas = [
        Delta(0, f"output[{leaf.path}]", Kind.TEXT, leaf.text, leaf.address)
        for leaf in found.leaves
        if leaf.text
    ]
    finished = (0,) if text.end is not None and text.end.matches(value) else ()
    return StreamEvent(event, deltas, finished, found.unreadable, (0,))


def _name(raw: bytes) -> str | None:
    """What a server-sent event is called; None for one without a name."""
    names = [line[len(_NAME) :] for line in raw.splitlines() if line.startswith(_NAME)]
    return names[-1].strip().decode(errors="replace") or None if names else None
