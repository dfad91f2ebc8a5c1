"""Server-sent events: bytes in, whole events out with their bytes kept.

Lines end in CR, LF or CRLF only, as the standard says (html.spec.whatwg.org, "event stream"); other
Unicode line ends are text. An event keeps its raw bytes, so that one that is passed on unchanged is
passed on byte for byte.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from guardrail.errors import UnreadableResponse

__all__ = ["Event", "SseDecoder", "encode", "replace"]

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024

_LF: Final = 10  # a number is found in bytes sooner than a string of one byte
_CR: Final = 13
_BLANK: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r(?!\n)|\r\n\n|\n\r\n|\n\r(?!\n)|\r\r\n")
_LINE: Final = re.compile(rb"\r\n|\n|\r")
_LINE_AND_END: Final = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")
_DATA: Final = (b"data", b"\xef\xbb\xbfdata")  # clients skip a byte order mark, so text behind it counts


class Event(NamedTuple):
    """One event: its bytes with the closing blank line, and its data (None for a comment)."""

    raw: bytes
    data: bytes | None


class SseDecoder:
    """Cuts a byte stream into events, however it was chunked."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with ``chunk``. Raises ``UnreadableResponse`` for an endless one."""
        buffer = self._buffer + chunk if self._buffer else chunk
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise UnreadableResponse("the upstream sent an event without an end")
        if _CR not in buffer:
            lines = buffer.split(b"\n")  # one byte is found far sooner than two
            if len(lines) % 2 and not any(lines[1::2]):  # each event is one line, as nearly always
                self._buffer = lines.pop()
                return [_event(line, b"\n\n") for line in lines[::2]]
            *blocks, self._buffer = buffer.split(b"\n\n")
            return [_event(block, b"\n\n") for block in blocks]
        events: list[Event] = []
        position = 0
        # A CR at the very end may be half of a CRLF: wait for the next byte before deciding.
        limit = len(buffer) - 1 if buffer.endswith(b"\r") else len(buffer)
        for blank in _BLANK.finditer(buffer, 0, limit):
            block = buffer[position : blank.start()]
            events.append(_event(block, blank[0]))
            position = blank.end()
        self._buffer = buffer[position:]
        return events

    def flush(self) -> Event | None:
        """What is left at the end of the stream, as an event; None when nothing is."""
        rest, self._buffer = self._buffer, b""
        return _event(rest, b"") if rest else None


def _event(block: bytes, end: bytes) -> Event:
    if block.startswith(b"data: ") and _LF not in block and _CR not in block:
        return Event(block + end, block[6:])
    data: list[bytes] = []
    for line in _LINE.split(block):
        name, _, value = line.partition(b":")
        if name in _DATA:
            data.append(value.removeprefix(b" "))
    return Event(block + end, b"\n".join(data) if data else None)


def encode(data: bytes, event: str | None = None) -> bytes:
    """One event as bytes. Each line of ``data`` (they end in LF) becomes a line of the event."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


def replace(raw: bytes, data: bytes) -> bytes:
    """The event ``raw`` with other data; every other byte stays.

    Its lines go into the event's own data lines, one each; those that are left over are taken out. Where it
    has more lines, all of them stand where the first data line stood.
    """
    waiting = data.split(b"\n")[::-1]
    lines = _LINE_AND_END.findall(raw)
    more = len(waiting) > 1 and len(waiting) > sum(line.partition(b":")[0] in _DATA for line, _ in lines)
    out: list[bytes] = []
    for line, end in lines:
        name, _, old = line.partition(b":")
        if name not in _DATA:
            out.append(line + end)
        elif more:
            out += [b"data: " + new + (end or b"\n") for new in reversed(waiting)]
            waiting = []
        elif waiting:
            new = waiting.pop()
            if new != old.removeprefix(b" "):
                lead = b": " if old.startswith(b" ") or new.startswith(b" ") else b":"
                line = name + lead + new
            out.append(line + end)
    return b"".join(out)
