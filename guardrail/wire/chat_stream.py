"""Chat completions as a stream: chunks read, chunks rewritten, and its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_chunks import index_of, parse_chunk, read_chunk
from guardrail.wire.chat_reader import ChatReader
from guardrail.wire.chat_refusals import DONE, halted_choice
from guardrail.wire.dialect import EventReader, StreamEvent
from guardrail.wire.replies import Refusal, error_body, refusal_error

__all__ = ["ChatStream"]


class ChatStream:
    """The half of the chat dialect that reads, edits and ends streams."""

    def read_event(self, event: sse.Event) -> StreamEvent:
        """The text that one chunk adds. Raises ``UnreadableResponse``."""
        return read_chunk(event, parse_chunk(event.data))

    def reader(self) -> EventReader:
        """A reader that learns how the chunks of its stream are written."""
        return ChatReader()

    def edit_event(self, event: sse.Event, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """New texts in place, halted choices taken out, log probabilities of both gone.

        No text may stand in a choice that is taken out. What stands in the event beside its data stays.
        """
        data = event.data or b"{}"
        choices = orjson.loads(data).get("choices") or []
        gone = [place for place, choice in enumerate(choices) if index_of(choice) in dropped]
        if gone and len(gone) == len(choices):
            return b""
        changes: dict[Address, object] = {("choices", place): json_edit.REMOVE for place in gone}
        for address, text in texts.items():
            changes[address] = text
            place = int(address[1])
            if choices[place].get("logprobs"):
                changes["choices", place, "logprobs"] = None
        return sse.replace(event.raw, json_edit.edit(data, changes)) if changes else event.raw

    def halt(
        self,
        last: sse.Event | None,
        choice: int,
        decision: Decision,
        refusal: Refusal,
        *,
        spoke: bool,
        structured: bool = False,
    ) -> bytes:
        """The last chunks of one choice, or an ``error`` object as an event."""
        if refusal.style == "error":
            return sse.encode(refusal_error(decision, refusal).body)
        return halted_choice(last, choice, decision, refusal, spoke=spoke, structured=structured)

    def end(self) -> bytes:
        """``[DONE]``."""
        return DONE

    def error_event(self, code: str, message: str) -> bytes:
        """An ``error`` object as an event, which SDKs raise; no ``[DONE]`` follows."""
        return sse.encode(error_body(code, message, type_="guardrail_error"))
