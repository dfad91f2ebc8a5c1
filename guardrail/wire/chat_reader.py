"""The chunks of one stream: read in full, or where they are the same but for their text, by that alone.

Nearly every chunk of a stream is, byte for byte, the one before it with another text. So a reader learns
from one chunk what stands around its text. A chunk that begins and ends with the same bytes and has a JSON
string between them needs no parsing; any other is read in full.

Why both ways of reading find the same: in valid JSON a quote behind the letters ``content`` can only end a
string, so ``"content":"`` ends a key and begins its value. What stands there is one whole string, and with
any other string in its place the rest of the chunk keeps its meaning. That this string is the text, and not
one of another key that ends so, is tried out with one letter more before a shape is used.

OpenAI's streams have a second string that changes, the ``obfuscation`` at the end: random letters and
digits against those who guess a text from its length (platform.openai.com/docs/api-reference, "streaming").
It is found in the same way; wherever such a key may stand in a plain chunk, its value is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import orjson

from guardrail.core.conversation import Address, Kind
from guardrail.errors import UnreadableResponse
from guardrail.wire.chat_chunks import Heard, parse_chunk, plain_text, read_chunk
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.sse import Event

__all__ = ["MAX_RUN", "ChatReader"]

MAX_RUN: Final = 16  # more in one would hold text longer than it must

_FIRST_CONTENT: Final[Address] = ("choices", 0, "delta", "content")
_CONTENT: Final = re.compile(rb'"content"\s*+:\s*+("(?:[^"\\]++|\\.)*+")')
_OBFUSCATION: Final = re.compile(rb'"obfuscation"\s*+:\s*+"([0-9A-Za-z]++)"')
_LESSON: Final = 16  # what a lesson costs, in chunks that needed no parsing
_CREDIT: Final = 2 * _LESSON  # where hardly two chunks are alike, learning is soon given up


class _Shape(NamedTuple):
    """What stands around the text in the chunks of a choice.

    ``head`` ends with the quote before the text, ``tail`` begins with the quote behind the last string that
    changes. If that is not the text, ``between`` is all from behind the text to the quote before it.
    """

    choice: int
    head: bytes
    between: bytes
    tail: bytes


class ChatReader:
    """Reads the events of one stream, in their order."""

    __slots__ = ("_credit", "_heard", "_shape")

    def __init__(self) -> None:
        self._shape: _Shape | None = None
        self._heard = Heard()
        self._credit = _CREDIT

    def read(self, events: Sequence[Event]) -> Iterator[StreamEvent]:
        """What each event adds; runs of chunks that hold nothing but text of one choice are read as one.

        Raises ``UnreadableResponse`` where an event is no chunk, after the events before.
        """
        run: list[Event] = []
        texts: list[str] = []
        choice = 0
        for event in events:
            plain = self._known(event.data)
            if plain is None:
                try:
                    chunk = parse_chunk(event.data)
                except UnreadableResponse:
                    if run:
                        yield _run(run, texts, choice)
                    raise
                plain = plain_text(chunk)
                if plain and event.data:
                    self._heard.plain = True
                    if not chunk["choices"][0].get("logprobs"):  # they change with the text
                        self._learn(event.data, *plain)
            if run and (plain is None or plain[0] != choice or len(run) == MAX_RUN):
                yield _run(run, texts, choice)
                run, texts = [], []
            if plain is None:
                yield read_chunk(event, chunk, self._heard)
            else:
                choice = plain[0]
                run.append(event)
                texts.append(plain[1])
        if run:
            yield _run(run, texts, choice)

    def _known(self, data: bytes | None) -> tuple[int, str] | None:
        """Choice and text of a chunk of the known shape."""
        if self._shape is None or data is None:
            return None
        choice, head, between, tail = self._shape
        if not (data.startswith(head) and data.endswith(tail)):
            return None
        literal = data[len(head) - 1 : 1 - len(tail)]
        if between:
            literal, _, other = literal[:-1].partition(between)
            if not other.isalnum():
                return None
        try:
            text = orjson.loads(literal)  # begins with a quote: a string or an error
        except orjson.JSONDecodeError:
            return None
        self._credit += 1
        return (choice, text) if text else None

    def _learn(self, data: bytes, choice: int, text: str) -> None:
        """Keep the shape of a plain chunk, as long as lessons pay."""
        self._credit -= _LESSON
        self._shape = _shape(data, choice, text) if self._credit >= 0 else None


def _shape(data: bytes, choice: int, text: str) -> _Shape | None:
    """The shape of a plain chunk; None where what seems to be its text is another field."""
    content = _CONTENT.search(data)
    if content is None:
        return None
    start, end = content.start(1) + 1, content.end(1) - 1
    if plain_text(parse_chunk(data[:end] + b"x" + data[end:])) != (choice, text + "x"):
        return None
    other = _OBFUSCATION.search(data, end)
    if other is None:
        return _Shape(choice, data[:start], b"", data[end:])
    return _Shape(choice, data[:start], data[end + 1 : other.start(1)], data[other.end(1) :])


def _run(events: list[Event], texts: list[str], choice: int) -> StreamEvent:
    """Plain chunks of one choice as one event."""
    whole, parts = events[0], events
    if len(events) == 1:
        parts = []
    else:
        whole = Event(b"".join([event.raw for event in events]), events[-1].data)
    delta = Delta(choice, "content", Kind.TEXT, "".join(texts), _FIRST_CONTENT)
    return StreamEvent(whole, (delta,), (), (), (choice,), parts)
