"""One chunk of a streamed chat completion: which text it adds to which channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address, Kind, json_path
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import (
    ANSWER_SHAPE,
    CHOICE_SHAPE,
    ITEM_NAMES,
    ITEM_TEXTS,
    beside,
    read_name,
    read_structured,
    strangers,
)
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.sse import Event

__all__ = ["index_of", "parse_chunk", "plain_text", "read_chunk"]

_NO_CHUNK: Final = "the upstream sent an event that is no chunk"
_CHANNELS: Final = {
    "content": Kind.TEXT,
    "reasoning_content": Kind.REASONING,
    "reasoning": Kind.REASONING,
    "refusal": Kind.REFUSAL,
}
_SILENT_DELTA: Final = frozenset({"role", "obfuscation"})
_PLAIN_DELTA: Final = _SILENT_DELTA | {"content"}
_PLAIN_CHUNK: Final = frozenset(ANSWER_SHAPE)
_PLAIN_CHOICE: Final = frozenset(CHOICE_SHAPE) - {"message"}


def parse_chunk(data: bytes | None) -> Any:
    """The chunk in an event's data; an empty one for a comment and ``[DONE]``.

    Raises ``UnreadableResponse``, for a repeated key too.
    """
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


def plain_text(chunk: Any) -> tuple[int, str] | None:
    """Choice and text of a chunk in which ``read_chunk`` finds these and nothing else, as nearly always."""
    try:
        (choice,) = chunk["choices"]
        delta, index = choice["delta"], choice["index"]
        text = delta["content"]
        if (
            type(text) is str
            and text
            and type(index) is int
            and not choice.get("finish_reason")
            and choice.keys() <= _PLAIN_CHOICE
            and (chunk.keys() <= _PLAIN_CHUNK or not beside(chunk))
            and (len(delta) == 1 or not any(delta[key] for key in delta.keys() - _PLAIN_DELTA))
        ):
            return index, text
    except (KeyError, TypeError, ValueError, UnreadableRequest):
        pass  # read_chunk says what it is
    return None


def read_chunk(event: Event, chunk: Any) -> StreamEvent:
    """The text that ``chunk``, which is in ``event``, adds. Raises ``UnreadableResponse``."""
    try:
        choices: Sequence[Any] = chunk.get("choices") or ()
        deltas: list[Delta] = []
        finished: list[int] = []
        unreadable = beside(chunk)
        indexes: list[int] = []
        for position, choice in enumerate(choices):
            index = index_of(choice)
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


def index_of(value: dict[str, Any], key: str = "index") -> int:
    """Which of several it is, such as choices; 0 where nothing is said. Raises ``TypeError``."""
    index = value.get(key, 0)
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
