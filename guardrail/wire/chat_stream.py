"""Chat completions as a stream: chunks read, chunks rewritten, and its ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_chunks import CHANNELS, index_of, parse_chunk, read_chunk
from guardrail.wire.chat_reader import ChatReader
from guardrail.wire.chat_refusals import DONE, halted_choice
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.replies import Refusal, error_body, refusal_error
from guardrail.wire.spelled import IDS, spelled

__all__ = ["ChatStream"]


class ChatStream:
    """One streamed chat completion; ``structured`` as its request was."""

    def __init__(self, *, structured: bool) -> None:
        self._structured = structured
        self._reader = ChatReader()
        self._last: sse.Event | None = None  # of those with a choice that have left
        self._changed: set[int] = set()  # the choices of which a text has left in other words
        self._copied: dict[tuple[int, str], str] = {}  # what has left of those that messages repeat

    def read(self, events: Sequence[sse.Event]) -> Iterator[StreamEvent]:
        """What each chunk adds; runs of plain ones are read as one. Raises ``UnreadableResponse``."""
        return self._reader.read(events)

    def split(self, read: StreamEvent) -> list[tuple[StreamEvent, Delta]]:
        """The chunks of a run, one by one."""
        parts = [read_chunk(event, parse_chunk(event.data)) for event in read.parts]
        return [(part, part.deltas[0]) for part in parts]

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """New texts in place, halted choices taken out, log probabilities of both gone.

        Behind a new text the token ids of its choice go: they may run behind. No text may stand in a choice
        that is taken out. What stands in the event beside its data stays.
        """
        event = read.event
        if read.choices:
            self._last = event
        if not (texts or dropped) and self._changed.isdisjoint(read.choices):
            return event.raw
        if read.parts:
            return b"".join([self._written(part, texts, dropped) for part, _ in self.split(read)])
        return self._written(read, texts, dropped)

    def _written(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        event = read.event
        data = event.data or b"{}"
        body = orjson.loads(data)
        choices = body.get("choices") or []
        gone = [place for place, choice in enumerate(choices) if index_of(choice) in dropped]
        if gone and len(gone) == len(choices):
            return b""
        changes: dict[Address, object] = {("choices", place): json_edit.REMOVE for place in gone}
        changes |= texts
        self._changed.update(index_of(choices[int(address[1])]) for address in texts)
        others = [place for place in range(len(choices)) if place not in gone]
        places = [place for place in others if index_of(choices[place]) in self._changed]
        if places or gone:
            changes |= spelled(body, places, IDS)
            changes |= spelled(body, {int(address[1]) for address in texts})
        own = {delta.address for delta in read.deltas}
        for place in places:
            changes |= self._copies(choices[place], ("choices", place), own, texts)
        return sse.replace(event.raw, json_edit.edit(data, changes)) if changes else event.raw

    def _copies(
        self, choice: dict[str, Any], at: Address, own: Collection[Address], texts: Mapping[Address, str]
    ) -> dict[Address, str]:
        """What repeats the deltas of a choice (its message, its text), as those leave."""
        found: dict[Address, str] = {}
        message, delta = choice.get("message") or {}, choice.get("delta") or {}
        content = texts.get((*at, "delta", "content"))
        if content is not None and choice.get("text") == delta.get("content"):
            found[*at, "text"] = content
        for key in CHANNELS:
            said, added = message.get(key), delta.get(key) or ""
            if not isinstance(said, str) or not said or (*at, "message", key) in own:
                continue
            left, where = texts.get((*at, "delta", key), added), (index_of(choice), key)
            before = self._copied.get(where, said[: len(said) - len(added)])
            self._copied[where] = before + left
            found[*at, "message", key] = left if said == added else before + left
        return found

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
