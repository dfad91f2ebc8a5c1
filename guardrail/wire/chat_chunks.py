"""One chunk of a streamed chat completion: which text it adds to which channel.

Some servers (Perplexity) put the ``message`` as far as it has come beside each ``delta``. What repeats the
deltas is no text of its own: it leaves as they do. A message that says something else has its own channels;
one that grows from chunk to chunk without being what the deltas said is taken out, since its beginnings,
put together, are no text that anybody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address, Kind, json_path
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit, sse
from guardrail.wire.chat_messages import (
    ANSWER_SHAPE,
    CHOICE_SHAPE,
    ITEM_NAMES,
    ITEM_SHAPES,
    ITEM_TEXTS,
    PLAIN_NAME,
    beside,
    get,
    read_name,
    read_structured,
    strangers,
)
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.spelled import said_by, unlike
from guardrail.wire.sse import Event

__all__ = ["CHANNELS", "Heard", "index_of", "parse_chunk", "plain_text", "read_chunk"]

_NO_CHUNK: Final = "the upstream sent an event that is no chunk"
CHANNELS: Final = {
    "content": Kind.TEXT,
    "reasoning_content": Kind.REASONING,
    "reasoning": Kind.REASONING,
    "refusal": Kind.REFUSAL,
}
_SILENT_DELTA: Final = frozenset({"obfuscation"})
_PLAIN_DELTA: Final = _SILENT_DELTA | {"content", "role"}
_PLAIN_CHUNK: Final = frozenset(ANSWER_SHAPE)
_TEXT_TWICE: Final = {**CHOICE_SHAPE, "text": None}  # Together's: what the delta says once more
_PLAIN_CHOICE: Final = frozenset(CHOICE_SHAPE) - {"message"}


@dataclass(slots=True)
class Heard:
    """What the chunks of one stream said that later ones build on.

    ``deltas``: there was text in a delta; ``plain``: in a chunk that held nothing else. By choice and
    channel, ``copied`` is what the deltas said, all of them beside a message that repeats it (None: not
    all), ``messages`` what the latest message said, ``names`` the name of a call as far as it has come.
    """

    deltas: bool = False
    plain: bool = False
    copied: dict[tuple[int, str], str | None] = field(default_factory=dict)
    messages: dict[tuple[int, str], str] = field(default_factory=dict)
    names: dict[tuple[int, str], str] = field(default_factory=dict)


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
            and (not (role := delta.get("role")) or PLAIN_NAME.fullmatch(role))
            and (not (spelled := choice.get("logprobs")) or said_by(spelled) in ([], [text]))
            and not chunk.get("token")
        ):
            return index, text
    except (KeyError, TypeError, ValueError, UnreadableRequest):
        pass  # read_chunk says what it is
    return None


def read_chunk(event: Event, chunk: Any, heard: Heard | None = None) -> StreamEvent:
    """The text that ``chunk``, which is in ``event``, adds to what was ``heard`` of its stream.

    The event comes back without what spells other text. Raises ``UnreadableResponse``.
    """
    heard = heard or Heard()
    changes: dict[Address, object] = {}
    try:
        choices: Sequence[Any] = chunk.get("choices") or ()
        deltas: list[Delta] = []
        finished: list[int] = []
        unreadable = beside(chunk)
        indexes: list[int] = []
        for position, choice in enumerate(choices):
            index = index_of(choice)
            indexes.append(index)
            at = ("choices", position)
            if added := choice.get("delta"):
                heard.deltas = True
                _read_delta(added, index, (*at, "delta"), deltas, unreadable, heard)
            message = choice.get("message")
            if isinstance(choice.get("delta"), dict) and isinstance(message or {}, dict):
                message = _own(choice, message or {}, index, at, heard, changes)
            if message:
                _read_delta(message, index, (*at, "message"), deltas, unreadable, heard)
            twice = bool(choice.get("text")) and choice["text"] == get(choice, "delta", "content")
            unreadable += strangers(choice, _TEXT_TWICE if twice else CHOICE_SHAPE, at)
            if choice.get("finish_reason"):
                finished.append(index)
        texts: list[set[str]] = [set() for _ in choices]
        for delta in deltas:
            texts[int(delta.address[1])].add(delta.text)
        changes |= unlike(chunk, texts)
        if changes and event.data is not None:
            data = json_edit.edit(event.data, changes)
            event = Event(sse.replace(event.raw, data), data)
    except (AttributeError, TypeError, KeyError, UnreadableRequest):
        raise UnreadableResponse(_NO_CHUNK) from None
    return StreamEvent(event, deltas, finished, unreadable, indexes)


def index_of(value: dict[str, Any], key: str = "index") -> int:
    """Which of several it is, such as choices; 0 where nothing is said. Raises ``TypeError``."""
    index = value.get(key, 0)
    if type(index) is not int:
        raise TypeError("an index is not a number")
    return index


def _own(
    choice: dict[str, Any],
    message: dict[str, Any],
    index: int,
    at: Address,
    heard: Heard,
    changes: dict[Address, object],
) -> dict[str, Any]:
    """What a message says itself, beside a delta; ``changes`` gets what is taken out of it."""
    own = dict(message)
    for key in CHANNELS:
        added, said, where = choice["delta"].get(key) or "", message.get(key), (index, key)
        before = None if heard.plain else heard.copied.get(where, "")
        whole = before + added if before is not None and isinstance(added, str) else None
        if added or said:
            heard.copied[where] = whole if said == whole else None
        if not isinstance(said, str) or not said:
            continue
        latest = heard.messages.get(where)
        heard.messages[where] = said
        if said in (whole, added):
            del own[key]
        elif latest and said.startswith(latest):
            del own[key]
            changes[*at, "message", key] = json_edit.REMOVE
    return own


def _read_delta(
    delta: dict[str, Any],
    index: int,
    at: Address,
    deltas: list[Delta],
    unreadable: list[str],
    heard: Heard,
) -> None:
    own = "message." if at[-1] == "message" and (heard.deltas or heard.plain) else ""
    for key, value in delta.items():
        if not value:
            continue
        if key == "content" and isinstance(value, str):  # nearly every chunk ends here
            deltas.append(Delta(index, f"{own}content", Kind.TEXT, value, (*at, "content")))
            continue
        kind = CHANNELS.get(key)
        if kind and isinstance(value, str):
            deltas.append(Delta(index, f"{own}{key}", kind, value, (*at, key)))
        elif key == "tool_calls":
            for place, call in enumerate(value):
                channel = f"{own}{key}[{call.get('index', place)}]"
                _read_call(key, call, index, channel, (*at, key, place), deltas, unreadable, heard)
        elif key == "function_call":
            _read_call(key, value, index, f"{own}{key}", (*at, key), deltas, unreadable, heard)
        elif key == "reasoning_details":
            parts = read_structured(key, value, (*at, key), unreadable)
            deltas.extend(Delta(index, f"{own}{key}", part.kind, part.text, part.address) for part in parts)
        elif key == "role":
            names = read_name(delta, (key,), at, unreadable)
            deltas.extend(Delta(index, f"{own}{key}", name.kind, name.text, name.address) for name in names)
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
    heard: Heard,
) -> None:
    """A piece of a call. One without text counts too: a call's head waits for its arguments."""
    for way in ITEM_NAMES[key]:
        for name in read_name(call, way, at, unreadable):
            where = f"{channel}.{way[-1]}"
            deltas.append(Delta(index, where, name.kind, name.text, name.address, whole=True))
        if way[-1] == "name" and _joined_oddly(get(call, *way), (index, f"{channel}.{way}"), heard):
            unreadable += [json_path((*at, *way))]
    unreadable += strangers(call, ITEM_SHAPES[key], at)
    groups = [
        (way, kind, (call.get(way[0]) or {}) if len(way) > 1 else call) for way, kind in ITEM_TEXTS[key]
    ]
    for way, kind, group in [g for g in groups if g[2]] or groups[:1]:
        text = group.get(way[-1]) or ""
        if isinstance(text, str):
            deltas.append(Delta(index, channel, kind, text, (*at, *way), whole=True))
        else:
            unreadable.append(json_path(at))


def _joined_oddly(piece: Any, where: tuple[int, str], heard: Heard) -> bool:
    """Whether a piece of a name makes it more than a name, and those before it may not have been judged."""
    if not isinstance(piece, str) or not piece:
        return False
    before = heard.names.get(where, "")
    joined = piece if piece == before else before + piece  # some servers repeat it whole
    heard.names[where] = joined[:65]
    return joined != piece and not PLAIN_NAME.fullmatch(joined)
