"""Chat completions as a stream: which text each chunk adds to which channel, and chunks rewritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address, Kind, json_path
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_messages import (
    CHOICE_SHAPE,
    ITEM_NAMES,
    ITEM_TEXTS,
    read_name,
    read_structured,
    strangers,
)
from guardrail.wire.chat_refusals import DONE, halted_choice
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.replies import Refusal, error_body, refusal_error

__all__ = ["MAX_RUN", "ChatStream"]

MAX_RUN: Final = 16  # more in one would hold text longer than it must

_NO_CHUNK: Final = "the upstream sent an event that is no chunk"
_CHANNELS: Final = {
    "content": Kind.TEXT,
    "reasoning_content": Kind.REASONING,
    "reasoning": Kind.REASONING,
    "refusal": Kind.REFUSAL,
}
_FIRST_CONTENT: Final[Address] = ("choices", 0, "delta", "content")
_SILENT_DELTA: Final = frozenset({"role", "obfuscation"})


class ChatStream:
    """The half of the chat dialect that reads, edits and ends streams."""

    def read_event(self, event: sse.Event) -> StreamEvent:
        """The text that one chunk adds. Raises ``UnreadableResponse``."""
        chunk = _chunk_in(event)
        plain = _plain(chunk)
        return self._read_chunk(event, chunk) if plain is None else _run([event], [plain[1]], plain[0])

    def read_events(self, events: Sequence[sse.Event]) -> Iterator[StreamEvent]:
        """As ``read_event``, with runs of chunks that hold nothing but text of one choice read as one."""
        run: list[sse.Event] = []
        texts: list[str] = []
        choice = 0
        for event in events:
            try:
                chunk = _chunk_in(event)
            except UnreadableResponse:
                if run:
                    yield _run(run, texts, choice)
                raise
            plain = _plain(chunk)
            if run and (plain is None or plain[0] != choice or len(run) == MAX_RUN):
                yield _run(run, texts, choice)
                run, texts = [], []
            if plain is None:
                yield self._read_chunk(event, chunk)
            else:
                choice = plain[0]
                run.append(event)
                texts.append(plain[1])
        if run:
            yield _run(run, texts, choice)

    def _read_chunk(self, event: sse.Event, chunk: Any) -> StreamEvent:
        try:
            choices: Sequence[Any] = chunk.get("choices") or ()
            deltas: list[Delta] = []
            finished: list[int] = []
            unreadable: list[str] = []
            indexes: list[int] = []
            for position, choice in enumerate(choices):
                index = _index(choice)
                indexes.append(index)
                for key in ("delta", "message"):
                    if added := choice.get(key):
                        _read_delta(added, index, ("choices", position, key), deltas, unreadable)
                unreadable += strangers(choice, CHOICE_SHAPE, ("choices", position))
                if choice.get("finish_reason"):
                    finished.append(index)
        except (AttributeError, TypeError, KeyError, UnreadableRequest):
            raise UnreadableResponse(_NO_CHUNK) from None
        return StreamEvent(event, deltas, finished, unreadable, indexes)

    def edit_event(self, event: sse.Event, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """New texts in place, halted choices taken out, log probabilities of both gone.

        No text may stand in a choice that is taken out. What stands in the event beside its data stays.
        """
        data = event.data or b"{}"
        choices = orjson.loads(data).get("choices") or []
        gone = [place for place, choice in enumerate(choices) if _index(choice) in dropped]
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


def _chunk_in(event: sse.Event) -> Any:
    """The chunk in an event; an empty one for a comment and ``[DONE]``. Raises ``UnreadableResponse``."""
    data = event.data
    if data is None:
        return {}
    try:
        chunk = orjson.loads(data)
        if orjson.dumps(chunk) != data:  # as compact as nearly every server writes it, it is sound
            json_edit.check_keys(chunk, data)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, UnreadableRequest):
        if data.strip() == b"[DONE]":
            return {}
        raise UnreadableResponse(_NO_CHUNK) from None
    return chunk


def _plain(chunk: Any) -> tuple[int, str] | None:
    """Choice and text of a chunk that carries nothing else, as nearly every one does."""
    try:
        (choice,) = chunk["choices"]
        delta, index = choice["delta"], choice["index"]
        text = delta["content"]
        if (
            type(text) is str
            and text
            and type(index) is int
            and len(delta) == 1
            and not choice["finish_reason"]
            and len(choice) == 3 + ("logprobs" in choice)
        ):
            return index, text
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # _read_chunk says what it is
    return None


def _run(events: list[sse.Event], texts: list[str], choice: int) -> StreamEvent:
    """Plain chunks of one choice as one event."""
    whole, parts = events[0], events
    if len(events) == 1:
        parts = []
    else:
        whole = sse.Event(b"".join([event.raw for event in events]), events[-1].data)
    delta = Delta(choice, "content", Kind.TEXT, "".join(texts), _FIRST_CONTENT)
    return StreamEvent(whole, (delta,), (), (), (choice,), parts)


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index", 0)
    if type(index) is not int:
        raise TypeError("an index is not a number")
    return index


def _read_delta(
    delta: dict[str, Any], index: int, at: Address, deltas: list[Delta], unreadable: list[str]
) -> None:
    for key, value in delta.items():
        if not value:
            continue
        if key == "content" and isinstance(value, str):  # nearly every chunk ends here
            deltas.append(Delta(index, "content", Kind.TEXT, value, (*at, "content")))
            continue
        kind = _CHANNELS.get(key)
        if kind and isinstance(value, str):
            deltas.append(Delta(index, key, kind, value, (*at, key)))
        elif key == "tool_calls":
            for place, call in enumerate(value):
                channel = f"{key}[{call.get('index', place)}]"
                _read_call(key, call, index, channel, (*at, key, place), deltas, unreadable)
        elif key == "function_call":
            _read_call(key, value, index, key, (*at, key), deltas, unreadable)
        elif key == "reasoning_details":
            parts = read_structured(key, value, (*at, key), unreadable)
            deltas.extend(Delta(index, key, part.kind, part.text, part.address) for part in parts)
        elif key not in _SILENT_DELTA and isinstance(value, str | list | dict):
            unreadable.append(json_path((*at, key)))


def _read_call(
    key: str,
    call: dict[str, Any],
    index: int,
    channel: str,
    at: Address,
    deltas: list[Delta],
    unreadable: list[str],
) -> None:
    """A piece of a call. One without text counts too: a call's head waits for its arguments."""
    for way in ITEM_NAMES[key]:
        for name in read_name(call, way, at, unreadable):
            where = f"{channel}.{way[-1]}"
            deltas.append(Delta(index, where, name.kind, name.text, name.address, whole=True))
    groups = [
        (way, kind, (call.get(way[0]) or {}) if len(way) > 1 else call) for way, kind in ITEM_TEXTS[key]
    ]
    for way, kind, group in [g for g in groups if g[2]] or groups[:1]:
        text = group.get(way[-1]) or ""
        if isinstance(text, str):
            deltas.append(Delta(index, channel, kind, text, (*at, *way), whole=True))
        else:
            unreadable.append(json_path(at))
