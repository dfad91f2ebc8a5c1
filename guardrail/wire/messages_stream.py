"""One streamed message: its events read, written, and its ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.wire import sse
from guardrail.wire.chat_chunks import parse_chunk
from guardrail.wire.chat_messages import get
from guardrail.wire.dialect import Delta, GuardedRequest, StreamEvent
from guardrail.wire.messages_blocks import kind_of
from guardrail.wire.messages_chunks import ChunkReader
from guardrail.wire.messages_edit import EDITED, put
from guardrail.wire.messages_refusals import NO_USAGE, error_body, event, refusal_reply, stop
from guardrail.wire.replies import BAD_UPSTREAM, Refusal

__all__ = ["MessagesStream"]


class MessagesStream:
    """An ``EventStream``. It knows which of the message's parts have left: a halt ends these."""

    def __init__(self, request: GuardedRequest) -> None:
        self._request = request
        self._reader = ChunkReader()
        self._message: dict[str, Any] | None = None  # as its start has left
        self._open: tuple[int, str] | None = None  # number and type of the block that is not closed
        self._next = 0  # the number of the next block
        self._edited = False  # whether the open block's thinking left with another text

    def read(self, events: Sequence[sse.Event]) -> Iterator[StreamEvent]:
        """What each event adds. Raises ``UnreadableResponse``."""
        return map(self._reader.read, events)

    def split(self, read: StreamEvent) -> Sequence[tuple[StreamEvent, Delta]]:
        """Nothing: no events are read as one."""
        return ()

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """The event with new texts in place; thinking that changed loses its signature."""
        if dropped:
            return b""
        raw, data = read.event
        plain = not texts and read.deltas and read.deltas[0].address[0] == "delta"
        if data is None or plain:  # as nearly every event
            return raw
        chunk = parse_chunk(data) or {}
        changed = data
        self._note(chunk)
        if texts:
            changed = put(data, texts)
            self._edited = self._edited or any(address[-1] == "thinking" for address in texts)
        elif self._edited and get(chunk, "delta", "signature"):
            changed = put(data, {("delta", "signature"): EDITED})
        return raw if changed is data else sse.replace(raw, changed)

    def _note(self, chunk: dict[str, Any]) -> None:
        kind = kind_of(chunk)
        if kind == "message_start":
            self._message = chunk["message"]
            self._next = len(chunk["message"].get("content") or ())
        elif kind == "content_block_start":
            self._open = (chunk["index"], kind_of(chunk["content_block"]))
            self._next = chunk["index"] + 1
            self._edited = False
        elif kind == "content_block_stop":
            self._open = None

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """Close what is open and end the message; one that never spoke says the refusal's words first."""
        if refusal.style == "error":
            return sse.encode(refusal_reply(decision, refusal).body, "error")
        out = [] if self._message is not None else [self._begin(decision)]
        structured = self._request.structured
        say = not (spoke or structured)
        if say and (self._open is None or self._open[1] != "text"):
            out += [self._close(), self._start()]
        if say:
            words = {"type": "text_delta", "text": refusal.message}
            out.append(event("content_block_delta", index=self._next - 1, delta=words))
        out.append(self._close())
        usage = {"output_tokens": get(self._message, "usage", "output_tokens") or 0}
        out.append(event("message_delta", delta=stop(refusal, structured=structured), usage=usage))
        return b"".join(out)

    def _begin(self, decision: Decision) -> bytes:
        head = {"id": f"msg_{decision.id}", "type": "message", "role": "assistant", "content": []}
        end = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        message = {**head, "model": self._request.model, **end, "usage": NO_USAGE}
        return event("message_start", message=message)

    def _start(self) -> bytes:
        self._open = (self._next, "text")
        self._next += 1
        block = {"type": "text", "text": ""}
        return event("content_block_start", index=self._open[0], content_block=block)

    def _close(self) -> bytes:
        closing = b"" if self._open is None else event("content_block_stop", index=self._open[0])
        self._open = None
        return closing

    def end(self) -> bytes:
        """``message_stop``."""
        return event("message_stop")

    def error(self, code: str, message: str) -> bytes:
        """An ``error`` event, which SDKs raise."""
        return sse.encode(error_body(BAD_UPSTREAM, code, message), "error")
