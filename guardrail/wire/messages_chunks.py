"""The events of a streamed message: which text each adds to which channel.

Text blocks share the channel ``content``, blocks of thinking ``reasoning``. What a tool is given has a
channel of its own; where the client is to call the tool, it leaves only as a whole. Citations, and the
results of the tools that the server itself calls, are fields: between texts they end the text's channel,
so that neither waits for the end of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from guardrail.core.conversation import Address, Kind, Segment, json_path
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.chat_chunks import parse_chunk
from guardrail.wire.chat_messages import strangers
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.messages_blocks import (
    TOOL_USES,
    Reading,
    input_addresses,
    kind_of,
    read_block,
    read_leaves,
)
from guardrail.wire.messages_edit import written
from guardrail.wire.sse import Event

__all__ = ["MESSAGE", "ChunkReader"]

_Shape = Mapping[str, Any]
MESSAGE: Final[_Shape] = dict.fromkeys(
    [
        "id",
        "type",
        "role",
        "model",
        "content",
        "stop_reason",
        "stop_sequence",
        "stop_details",
        "usage",
        "container",
        "context_management",
        "diagnostics",
    ]
)
"""What a message of an answer holds."""

_STOP: Final[_Shape] = dict.fromkeys(["stop_reason", "stop_sequence", "stop_details", "container"])
_TYPE: Final[_Shape] = {"type": None}
_ERROR: Final[_Shape] = dict.fromkeys(["type", "error", "request_id"])  # the upstream's word on itself
# The key of the text in each type of delta.
_DELTAS: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
    "citations_delta": "citation",
    "compaction_delta": "content",
}
_NO_EVENT: Final = "the upstream sent an event that is none of a message's"


class ChunkReader:
    """Reads the events of one stream: what is in a delta depends on the block that it belongs to."""

    def __init__(self) -> None:
        self._types: dict[int, str] = {}  # of the blocks so far
        self._readers: dict[str, Callable[[dict[str, Any], Event, list[str]], Iterator[Delta]]] = {
            "message_start": self._message,
            "content_block_start": self._start,
            "content_block_delta": self._delta,
            "message_delta": self._end,
        }

    def read(self, event: Event) -> StreamEvent:
        """The text that one event adds. Raises ``UnreadableResponse``."""
        chunk = parse_chunk(event.data)
        if not chunk:
            return StreamEvent(event, ())
        if not isinstance(chunk, dict) or not isinstance(chunk.get("type", ""), str):
            raise UnreadableResponse(_NO_EVENT)
        kind = kind_of(chunk)
        unreadable: list[str] = []
        try:
            deltas = list(self._readers.get(kind, self._other)(chunk, event, unreadable))
        except (AttributeError, TypeError, KeyError, UnreadableRequest):
            raise UnreadableResponse(_NO_EVENT) from None
        ends = kind == "message_stop" or (
            kind == "message_delta" and bool(chunk["delta"].get("stop_reason"))
        )
        return StreamEvent(event, deltas, (0,) if ends else (), unreadable, (0,))

    def _message(self, chunk: dict[str, Any], event: Event, unreadable: list[str]) -> Iterator[Delta]:
        message = chunk["message"]
        at: Address = ("message", "content")
        blocks = message.get("content") or []
        inputs = written(event.data or b"", chunk, input_addresses(blocks, at))
        reading = Reading(unreadable, inputs, answer=True)
        for index, block in enumerate(blocks):
            yield from self._block(index, block, (*at, index), reading)
        details = message.get("stop_details")
        yield from _fields(read_leaves(details, ("message", "stop_details"), reading, Kind.FIELD))
        unreadable.extend(strangers(message, MESSAGE, ("message",)))
        unreadable.extend(strangers(chunk, {"type": None, "message": None}, ()))

    def _start(self, chunk: dict[str, Any], event: Event, unreadable: list[str]) -> Iterator[Delta]:
        block = chunk["content_block"]
        at: Address = ("content_block",)
        addresses = [(*at, "input")] if input_addresses([block], at) else []
        inputs = written(event.data or b"", chunk, addresses)
        reading = Reading(unreadable, inputs, answer=True)
        yield from self._block(_index(chunk), block, at, reading)
        unreadable.extend(strangers(chunk, {"type": None, "index": None, "content_block": None}, ()))

    def _block(self, index: int, block: Any, at: Address, reading: Reading) -> Iterator[Delta]:
        kind = self._types[index] = kind_of(block)
        whole = kind == "tool_use"
        if whole:  # its head has no text, and waits for its input all the same
            yield Delta(0, f"tool_use[{index}]", Kind.TOOL_ARGUMENTS, "", (*at, "input"), whole=True)
        for segment in read_block(block, at, reading):
            if not segment.text:
                continue
            key = segment.address[-1]
            if kind in TOOL_USES:
                channel = f"tool_use[{index}].{key}"
                yield Delta(0, channel, segment.kind, segment.text, segment.address, whole=whole)
            elif kind in ("text", "thinking") and segment.kind is not Kind.FIELD:
                channel = "content" if kind == "text" else "reasoning"
                yield Delta(0, channel, segment.kind, segment.text, segment.address)
            else:
                yield from _fields([segment])

    def _delta(self, chunk: dict[str, Any], event: Event, unreadable: list[str]) -> Iterator[Delta]:
        delta = chunk["delta"]
        index = _index(chunk)
        kind = kind_of(delta)
        key = _DELTAS.get(kind)
        known: dict[str, Any] = {"type": None}
        if key is not None:
            known[key] = None
            at: Address = ("delta", key)
            value = delta.get(key)
            if kind == "citations_delta":
                reading = Reading(unreadable, answer=True)
                yield from _fields(read_leaves(value, at, reading, Kind.FIELD))
            elif isinstance(value, str):
                yield from self._text(kind, index, value, at)
            elif value:
                unreadable.append(json_path(at))
        unreadable.extend(strangers(delta, known, ("delta",)))
        unreadable.extend(strangers(chunk, {"type": None, "index": None, "delta": None}, ()))

    def _text(self, kind: str, index: int, text: str, at: Address) -> Iterator[Delta]:
        if kind == "input_json_delta":
            whole = self._types.get(index, "tool_use") == "tool_use"
            yield Delta(0, f"tool_use[{index}]", Kind.TOOL_ARGUMENTS, text, at, whole=whole)
        elif kind == "compaction_delta":
            yield from _fields([Segment(text, at)])
        elif text and kind != "signature_delta":
            channel = "content" if kind == "text_delta" else "reasoning"
            yield Delta(0, channel, Kind.TEXT if kind == "text_delta" else Kind.REASONING, text, at)

    def _end(self, chunk: dict[str, Any], event: Event, unreadable: list[str]) -> Iterator[Delta]:
        delta = chunk["delta"]
        details = delta.get("stop_details")
        reading = Reading(unreadable, answer=True)
        yield from _fields(read_leaves(details, ("delta", "stop_details"), reading, Kind.FIELD))
        unreadable.extend(strangers(delta, _STOP, ("delta",)))
        known = {"type": None, "delta": None, "usage": None, "context_management": None}
        unreadable.extend(strangers(chunk, known, ()))

    def _other(self, chunk: dict[str, Any], event: Event, unreadable: list[str]) -> Iterator[Delta]:
        """The end of a block or of the message, a ping, an error, or a new type: no text is known in it."""
        unreadable.extend(strangers(chunk, _ERROR if chunk.get("type") == "error" else _TYPE, ()))
        yield from ()


def _fields(segments: Iterable[Segment]) -> Iterator[Delta]:
    for segment in segments:
        if segment.text:
            yield Delta(0, "fields", Kind.FIELD, segment.text, segment.address)


def _index(chunk: dict[str, Any]) -> int:
    index = chunk.get("index")
    if type(index) is not int:
        raise TypeError("an index is not a number")
    return index
