"""A streamed text completion: chunks read, chunks rewritten, and its ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_chunks import index_of, parse_chunk
from guardrail.wire.chat_messages import beside
from guardrail.wire.chat_refusals import DONE
from guardrail.wire.completions_choices import read_choice
from guardrail.wire.completions_refusals import halted_choice
from guardrail.wire.dialect import Delta, GuardedRequest, StreamEvent
from guardrail.wire.replies import Refusal, error_body, refusal_error
from guardrail.wire.spelled import IDS, spelled, unlike

__all__ = ["CompletionsStream"]

_NO_CHUNK: Final = "the upstream sent an event that is no chunk of a completion"


class CompletionsStream:
    """One streamed answer to ``request``."""

    __slots__ = ("_changed", "_latest", "_model")

    def __init__(self, request: GuardedRequest) -> None:
        self._model = request.model
        self._latest: sse.Event | None = None  # with a choice, and so with the stream's identity
        self._changed: set[int] = set()  # the choices of which a text has left in other words

    def read(self, events: Sequence[sse.Event]) -> Iterator[StreamEvent]:
        """The text that each chunk adds. Raises ``UnreadableResponse``, after the events before."""
        for event in events:
            read = _read_chunk(event, parse_chunk(event.data))
            if read.choices:
                self._latest = event
            yield read

    def split(self, read: StreamEvent) -> Sequence[tuple[StreamEvent, Delta]]:
        """Nothing: every chunk is read alone."""
        return ()

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """The chunk with new texts, without the choices that were halted; what spells either goes too.

        So do the token ids of a choice behind a new text: they may run behind.

        What stands in the event beside its data stays; nothing at all is left where no choice is.
        """
        event = read.event
        gone = [place for place, index in enumerate(read.choices) if index in dropped]
        self._changed.update(read.choices[int(address[1])] for address in texts)
        places = [place for place, index in enumerate(read.choices) if index in self._changed]
        if not (places or gone) or event.data is None:
            return event.raw
        if len(gone) == len(read.choices):
            return b""
        body = orjson.loads(event.data)
        changes = spelled(body, set(places).difference(gone), IDS)
        changes.update(spelled(body, {int(address[1]) for address in texts}))
        changes.update(texts)
        changes.update({("choices", place): json_edit.REMOVE for place in gone})
        return sse.replace(event.raw, json_edit.edit(event.data, changes)) if changes else event.raw

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """The last chunk of one choice, or an ``error`` object as an event."""
        if refusal.style == "error":
            return sse.encode(refusal_error(decision, refusal).body)
        return halted_choice(self._latest, self._model, choice, decision, refusal, spoke=spoke)

    def end(self) -> bytes:
        """``[DONE]``."""
        return DONE

    def error(self, code: str, message: str) -> bytes:
        """An ``error`` object as an event, which SDKs raise; no ``[DONE]`` follows."""
        return sse.encode(error_body(code, message, type_="guardrail_error"))


def _read_chunk(event: sse.Event, chunk: Any) -> StreamEvent:
    """What ``chunk``, which is in ``event``, adds. Raises ``UnreadableResponse``."""
    deltas: list[Delta] = []
    finished: list[int] = []
    indexes: list[int] = []
    try:
        unreadable = beside(chunk)
        for position, choice in enumerate(chunk.get("choices") or ()):
            index = index_of(choice)
            indexes.append(index)
            for channel, kind, text, address in read_choice(choice, ("choices", position), unreadable):
                deltas.append(Delta(index, channel, kind, text, address))
            if choice.get("finish_reason"):
                finished.append(index)
        texts: list[set[str]] = [set() for _ in indexes]
        for delta in deltas:
            texts[int(delta.address[1])].add(delta.text)
        changes = unlike(chunk, texts)
        if changes and event.data is not None:
            data = json_edit.edit(event.data, changes)
            event = sse.Event(sse.replace(event.raw, data), data)
    except (AttributeError, TypeError, UnreadableRequest):
        raise UnreadableResponse(_NO_CHUNK) from None
    if unreadable and not indexes:  # text of another protocol, which would belong to no choice
        raise UnreadableResponse(_NO_CHUNK)
    return StreamEvent(event, deltas, finished, unreadable, indexes)
