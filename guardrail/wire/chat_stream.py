"""Chat completions as a stream: chunks read, chunks rewritten, and its ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_chunks import index_of, parse_chunk, read_chunk
from guardrail.wire.chat_reader import ChatReader
from guardrail.wire.chat_refusals import DONE, halted_choice
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.replies import Refusal, error_body, refusal_error
from guardrail.wire.spelled import spelled

__all__ = ["ChatStream"]


class ChatStream:
    """One streamed chat completion; ``structured`` as its request was."""

    def __init__(self, *, structured: bool) -> None:
        self._structured = structured
        self._reader = ChatReader()
        self._last: sse.Event | None = None  # of those with a choice that have left

    def read(self, events: Sequence[sse.Event]) -> Iterator[StreamEvent]:
        """What each chunk adds; runs of plain ones are read as one. Raises ``UnreadableResponse``."""
        return self._reader.read(events)

    def split(self, read: StreamEvent) -> list[tuple[StreamEvent, Delta]]:
        """The chunks of a run, one by one."""
        parts = [read_chunk(event, parse_chunk(event.data)) for event in read.parts]
        return [(part, part.deltas[0]) for part in parts]

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """New texts in place, halted choices taken out, log probabilities of both gone.

        No text may stand in a choice that is taken out. What stands in the event beside its data stays.
        """
        event = read.event
        if read.choices:
            self._last = event
        if not (texts or dropped):
            return event.raw
        data = event.data or b"{}"
        body = orjson.loads(data)
        choices = body.get("choices") or []
        gone = [place for place, choice in enumerate(choices) if index_of(choice) in dropped]
        if gone and len(gone) == len(choices):
            return b""
        changes: dict[Address, object] = {("choices", place): json_edit.REMOVE for place in gone}
        if texts:
            changes |= texts
            changes |= spelled(body, {int(address[1]) for address in texts})
        return sse.replace(event.raw, json_edit.edit(data, changes)) if changes else event.raw

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """The last chunks of one choice, or an ``error`` object as an event."""
        if refusal.style == "error":
            return sse.encode(refusal_error(decision, refusal).body)
        return halted_choice(
            self._last, choice, decision, refusal, spoke=spoke, structured=self._structured
        )

    def end(self) -> bytes:
        """``[DONE]``."""
        return DONE

    def error(self, code: str, message: str) -> bytes:
        """An ``error`` object as an event, which SDKs raise; no ``[DONE]`` follows."""
        return sse.encode(error_body(code, message, type_="guardrail_error"))
