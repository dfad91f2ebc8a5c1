"""How a stream of events is cut into events, and written: server-sent events, JSON lines, plain text.

Each keeps the raw bytes of an event, so that one that is passed on unchanged is passed on byte for byte.

| form | an event is | while text is held |
| --- | --- | --- |
| ``sse`` | a block of lines up to a blank one | a comment, which clients skip |
| ``ndjson`` | a line | a space: white space in front of the next line's JSON |
| ``text`` | what one read brings, up to the last whole character | nothing: whatever is sent is text |
"""

from __future__ import annotations

import codecs
import re
from typing import Final, Protocol

from guardrail.errors import UnreadableResponse
from guardrail.wire import sse
from guardrail.wire.replies import EVENT_STREAM, PLAIN_TEXT, Header
from guardrail.wire.sse import MAX_EVENT_BYTES, Event

__all__ = ["Frames", "LineFrames", "SseFrames", "TextFrames"]

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_NDJSON: Final[Header] = (b"content-type", b"application/x-ndjson")


class Frames(Protocol):
    """One form of stream. Stateful: one object per stream."""

    media_type: Header
    keep_alive: bytes
    names: bool
    """Whether events can have names."""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with ``chunk``. Raises ``UnreadableResponse``."""
        ...

    def flush(self) -> Event | None:
        """What is left at the end of the stream. Raises ``UnreadableResponse``."""
        ...

    def encode(self, data: bytes, name: str | None = None) -> bytes:
        """One event as bytes. ``name``: what it is called, in the form that has names."""
        ...

    def replace(self, event: Event, data: bytes) -> bytes:
        """The event with other data; every other byte stays."""
        ...


class SseFrames:
    """Server-sent events; see ``guardrail.wire.sse``."""

    media_type = EVENT_STREAM
    keep_alive = b": held\n\n"
    names = True

    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises ``UnreadableResponse`` for an event without an end."""
        return self._decoder.feed(chunk)

    def flush(self) -> Event | None:
        """An event whose blank line never came."""
        return self._decoder.flush()

    def encode(self, data: bytes, name: str | None = None) -> bytes:
        """A line of the event for each line of the data."""
        return sse.encode(_LINE_END.sub(b"\n", data), name)

    def replace(self, event: Event, data: bytes) -> bytes:
        """The data stands in as many lines as it has."""
        return sse.replace(event.raw, _LINE_END.sub(b"\n", data))


class LineFrames:
    """One JSON text a line. It ends in LF: JSON has none inside, and a CR is white space."""

    media_type = _NDJSON
    keep_alive = b" "
    names = False

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises ``UnreadableResponse`` for a line without an end."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise UnreadableResponse("the upstream sent a line without an end")
        return [_line(line + b"\n") for line in lines]

    def flush(self) -> Event | None:
        """A last line needs no end."""
        rest, self._rest = self._rest, b""
        return _line(rest) if rest else None

    def encode(self, data: bytes, name: str | None = None) -> bytes:
        """A line; lines have no names."""
        return data + b"\n"

    def replace(self, event: Event, data: bytes) -> bytes:
        """What ends the line is part of the data here: white space around JSON."""
        return data


class TextFrames:
    """Text in UTF-8 as it comes; a character whose bytes come apart waits for its end."""

    media_type = PLAIN_TEXT
    keep_alive = b""
    names = False

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises ``UnreadableResponse`` for what is no UTF-8."""
        return self._read(chunk, final=False)

    def flush(self) -> Event | None:
        """Raises ``UnreadableResponse`` for half a character."""
        self._read(b"", final=True)
        return None

    def _read(self, chunk: bytes, *, final: bool) -> list[Event]:
        try:
            raw = self._decoder.decode(chunk, final).encode()
        except UnicodeDecodeError:
            raise UnreadableResponse("the upstream's answer is no text in UTF-8") from None
        return [Event(raw, raw)] if raw else []

    def encode(self, data: bytes, name: str | None = None) -> bytes:
        """The text itself."""
        return data

    def replace(self, event: Event, data: bytes) -> bytes:
        """The text itself."""
        return data


def _line(raw: bytes) -> Event:
    return Event(raw, raw if raw.strip() else None)
