"""One streamed response: its events read, rewritten, and its ends.

A text comes in pieces and is then repeated up to four times. What a repetition says that the pieces did not
is judged like a piece; where a text was changed on its way, its repetitions say what has left. A
repetition that is another text altogether is judged in a channel of its own and replaces what was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from guardrail.core.conversation import Address, Kind
from guardrail.core.decision import Decision
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_chunks import index_of
from guardrail.wire.dialect import Delta, GuardedRequest, StreamEvent
from guardrail.wire.replies import Refusal, fault, refusal_fault
from guardrail.wire.responses_edits import misplaced, respelled, without_removed
from guardrail.wire.responses_events import ANNOTATED, ENDS, Found, Read, parse, read
from guardrail.wire.responses_refusals import (
    begun,
    ended,
    error_event,
    final_event,
    refusal_events,
    refusal_item,
    written,
)
from guardrail.wire.responses_sent import Sent, Text

__all__ = ["ResponsesStream"]


class _Event(StreamEvent):
    """An event that was read, with what stands in it."""

    body: dict[str, Any]
    read: Read


class ResponsesStream:
    """One stream of events: reads them in order, writes what leaves, and ends it."""

    def __init__(self, request: GuardedRequest) -> None:
        self._request = request
        self._arrived: dict[Address, list[str]] = {}
        self._sent = Sent()
        self._next = 0  # the number of the next event that leaves
        self._gone = 0  # how many events did not leave

    def read(self, events: Sequence[sse.Event]) -> Iterator[StreamEvent]:
        """What each event adds. Raises ``UnreadableResponse``."""
        for event in events:
            body = parse(event.data)
            if body is None:
                yield StreamEvent(event, ())
                continue
            own = read(body)
            deltas = [delta for found in own.found if (delta := self._added(found)) is not None]
            if own.call is not None and not deltas:  # a call's head waits for its arguments
                deltas.append(Delta(0, str(own.call), Kind.TOOL_ARGUMENTS, "", ("item",), whole=True))
            finished = (0,) if own.kind in ENDS else ()
            made = _Event(event, deltas, finished, own.unreadable, (0,))
            made.body, made.read = body, own
            yield made

    def split(self, read: StreamEvent) -> Sequence[tuple[StreamEvent, Delta]]:
        """Every event is read alone."""
        return ()

    def _added(self, found: Found) -> Delta | None:
        """What a text says that did not come before."""
        before = self._arrived.setdefault(found.place, [])
        text, channel = found.text, found.channel
        if found.adds:
            before.append(text)
        else:
            came = "".join(before)
            if text == came:
                return None
            before[:] = [text]
            if text.startswith(came):
                text = text[len(came) :]
            else:
                channel += "*"
        return Delta(0, channel, found.kind, text, found.address, found.whole)

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """The event as it leaves, its repetitions and its number right; nothing behind a halt."""
        if not isinstance(read, _Event):
            return read.event.raw
        if dropped:
            return b""
        changes = self._changes(read, texts)
        if self._points_astray(read):
            self._gone += 1
            return b""
        number = read.body.get("sequence_number")
        if type(number) is int:
            if self._gone:
                changes["sequence_number",] = number - self._gone
            self._next = number - self._gone
        self._next += 1
        raw, body = read.event.raw, read.body
        if changes:
            data = json_edit.edit(read.event.data or b"", without_removed(changes))
            raw, body = sse.replace(raw, data), orjson.loads(data)
        self._sent.note(read.read.kind, body)
        return raw

    def _points_astray(self, read: _Event) -> bool:
        """Whether it is an annotation whose place is wrong, as its text is no longer what came."""
        if read.read.kind != ANNOTATED:
            return False
        place = (
            index_of(read.body, "output_index"),
            "content",
            index_of(read.body, "content_index"),
            "text",
        )
        text = self._sent.texts.get(place)
        return (
            text is not None and text.same is not None and misplaced(read.body.get("annotation"), text.same)
        )

    def _changes(self, read: _Event, texts: Mapping[Address, str]) -> dict[Address, object]:
        added = {delta.address: delta.text for delta in read.deltas}
        changes: dict[Address, object] = {}
        for found in read.read.found:
            text = self._sent.texts.setdefault(found.place, Text())
            piece = added.get(found.address)
            new = ""
            if piece is not None:
                new = texts.get(found.address, piece)
                if piece == found.text and not found.adds:
                    text.restart()
                text.add(piece, new)
            if text.same is None:
                continue
            leaves = new if found.adds else text.text
            if leaves == found.text:
                continue
            changes[found.address] = leaves
            if found.place[-1] == "text":
                at = found.address[:-1]
                changes |= respelled(json_edit.value_at(read.body, at), at, text.same)
        return changes

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """Close what is open and end the response, or an ``error`` event.

        A response that never ``spoke`` gets the refusal's words first. A structured one gets them always:
        its text broke off, so it stands in no message of the end, where clients would parse it.
        """
        if refusal.style == "error":
            return self._write([error_event(refusal_fault(decision, refusal))])
        sent = self._sent
        events: list[dict[str, Any]] = []
        response = sent.response
        if response is None:
            response = begun(self._request.model, decision)
            events.append({"type": "response.created", "response": response})
        status = "completed" if refusal.finish_reason == "stop" else "incomplete"
        events += sent.close(status, parsed=self._request.structured)
        output = sent.output
        if self._request.structured or not spoke:
            item = refusal_item(response, refusal)
            events += refusal_events(item, sent.next_index)
            output.append(item)
        events.append(final_event(ended(response, output, refusal)))
        return self._write(events)

    def end(self) -> bytes:
        """Nothing: a response ends with its last event."""
        return b""

    def error(self, code: str, message: str) -> bytes:
        """An ``error`` event, which SDKs raise; nothing follows."""
        return self._write([error_event(fault(code, message, type_="guardrail_error"))])

    def _write(self, events: list[dict[str, Any]]) -> bytes:
        start = self._next
        self._next += len(events)
        return written(events, start)
