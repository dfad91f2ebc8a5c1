"""One event of a streamed response: which text stands in it, and where that belongs in the output.

Texts come in pieces (``*.delta``) and are repeated as a whole up to four times: ``*.done``, the part, the
item, and the response at the end. The *place* of a text is its way from the output's list, the same in
all of them: ``(0, "content", 0, "text")``.

Events: ``openai.types.responses.ResponseStreamEvent`` of OpenAI's Python SDK (2.54).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from guardrail.core.conversation import Address, Kind
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import json_edit
from guardrail.wire.chat_chunks import index_of
from guardrail.wire.responses_items import Reading, type_of
from guardrail.wire.responses_shapes import ANNOTATION, CALLS, RESPONSE, Mark, Shape

__all__ = [
    "ADDING",
    "ANNOTATED",
    "CLOSING",
    "ENDS",
    "PARTS_OF",
    "WHOLES",
    "Adding",
    "Found",
    "Read",
    "parse",
    "read",
]

_NO_EVENT: Final = "the upstream sent an event that is none of a response"


PARTS_OF: Final = {"content_index": "content", "summary_index": "summary"}
"""By the field that numbers a part: the list of the item's that holds it."""


class Adding(NamedTuple):
    """What an event with pieces of a text adds to: the type of the item, and the text's way in it.

    ``numbered`` is the field that tells which part of a list it is; a text of the item itself has none.
    """

    item: str
    key: str
    kind: Kind
    numbered: str = ""
    part: str = ""

    @property
    def parts(self) -> str:
        """The list of the item's that holds the part."""
        return PARTS_OF[self.numbered]


ADDING: Final[Mapping[str, Adding]] = {
    "output_text": Adding("message", "text", Kind.TEXT, "content_index", "output_text"),
    "refusal": Adding("message", "refusal", Kind.REFUSAL, "content_index", "refusal"),
    "reasoning_text": Adding("reasoning", "text", Kind.REASONING, "content_index", "reasoning_text"),
    "reasoning_summary_text": Adding("reasoning", "text", Kind.REASONING, "summary_index", "summary_text"),
    "function_call_arguments": Adding("function_call", "arguments", Kind.TOOL_ARGUMENTS),
    "mcp_call_arguments": Adding("mcp_call", "arguments", Kind.TOOL_ARGUMENTS),
    "custom_tool_call_input": Adding("custom_tool_call", "input", Kind.TOOL_ARGUMENTS),
    "code_interpreter_call_code": Adding("code_interpreter_call", "code", Kind.FIELD),
}
"""By the middle of the event's type: ``response.<middle>.delta`` and ``response.<middle>.done``."""

CLOSING: Final = {
    "response.content_part": "content_index",
    "response.reasoning_summary_part": "summary_index",
}
"""The beginnings of the types of events that begin and close a part, and its index."""

ENDS: Final = frozenset(["response.completed", "response.incomplete", "response.failed"])
WHOLES: Final = ENDS | {"response.created", "response.queued", "response.in_progress"}
ANNOTATED: Final = "response.output_text.annotation.added"
_COMMON: Final[Mapping[str, Shape]] = dict.fromkeys(
    [
        "type",
        "sequence_number",
        "item_id",
        "output_index",
        "content_index",
        "summary_index",
        "annotation_index",
        "partial_image_index",
        "obfuscation",
        "logprobs",
        "status",
    ]
)
_PIECE: Final = _COMMON.keys() | {"delta"}
_ERROR: Final[Mapping[str, Shape]] = {**_COMMON, **dict.fromkeys(["code", "message", "param", "error"])}


class Found(NamedTuple):
    """One text in an event. ``adds``: it is a piece; otherwise it is all that stands at its place.

    ``whole``: its channel leaves only as a whole.
    """

    place: Address
    address: Address
    text: str
    kind: Kind
    channel: str
    adds: bool = False
    whole: bool = False


class Read(NamedTuple):
    """An event that was read. ``call`` is the place of a call that it begins."""

    kind: str
    found: Sequence[Found] = ()
    unreadable: Sequence[str] = ()
    call: int | None = None


def parse(data: bytes | None) -> dict[str, Any] | None:
    """The object in an event's data; None for a comment and the ``[DONE]`` that some servers add.

    Raises ``UnreadableResponse``, for a repeated key too.
    """
    if data is None:
        return None
    try:
        body = orjson.loads(data)
        if orjson.dumps(body) != data:  # as compact as most servers write it, it is sound
            json_edit.check_keys(body, data)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, UnreadableRequest):
        if data.strip() == b"[DONE]":
            return None
        raise UnreadableResponse(_NO_EVENT) from None
    if not isinstance(body, dict):
        raise UnreadableResponse(_NO_EVENT)
    return body


def read(body: dict[str, Any]) -> Read:
    """All texts of an event. Raises ``UnreadableResponse``."""
    try:
        return _read(body)
    except (AttributeError, TypeError, UnreadableRequest):
        raise UnreadableResponse(_NO_EVENT) from None


def _read(body: dict[str, Any]) -> Read:
    kind = str(body.get("type"))
    at = index_of(body, "output_index")
    middle, _, end = kind.removeprefix("response.").rpartition(".")
    adding = ADDING.get(middle) if end in ("delta", "done") else None
    if adding:
        return _piece(body, kind, adding, adds=end == "delta")
    if kind in WHOLES:
        return _whole(body, kind)
    if kind in ("response.output_item.added", "response.output_item.done"):
        reading = _Reading(body, {"item": None})
        item = reading.item_at(body.get("item"), ("item",), (at,))
        return reading.done(kind, at if item in CALLS and end == "added" else None)
    if end in ("added", "done") and (key := CLOSING.get(f"response.{middle}")):
        reading = _Reading(body, {"part": None})
        place = (at, PARTS_OF[key], index_of(body, key))
        reading.value(body.get("part"), Mark.PART, ("part",), place, _item_of(body.get("part")))
        return reading.done(kind)
    if kind == ANNOTATED:
        reading = _Reading(body, {"annotation": None})
        index = index_of(body, "annotation_index")
        where = (at, "content", index_of(body, "content_index"), "annotations", index)
        reading.value(body.get("annotation"), ANNOTATION, ("annotation",), where, "message")
        return reading.done(kind)
    return _Reading(body, _ERROR if kind == "error" or "error" in body else {}).done(kind)


def _item_of(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else ""
    return "reasoning" if kind in ("summary_text", "reasoning_text") else "message"


def _piece(body: dict[str, Any], kind: str, adding: Adding, *, adds: bool) -> Read:
    key = "delta" if adds else adding.key
    at = index_of(body, "output_index")
    way: Address = (at,)
    if adding.numbered:
        way = (at, adding.parts, index_of(body, adding.numbered))
    text = body.get(key)
    if adds and text and isinstance(text, str) and body.keys() <= _PIECE:  # as nearly all events are
        return Read(kind, (_found((*way, adding.key), (key,), text, adding.kind, adding.item, adds),))
    shape: dict[str, Shape] = {key: None}
    names = not adds and adding.kind is Kind.TOOL_ARGUMENTS
    if names:
        shape["name"] = None
    reading = _Reading(body, shape)
    if names:
        reading.value(body.get("name"), Mark.NAME, ("name",), (at, "name"), adding.item)
    reading.value(text, adding.kind, (key,), (*way, adding.key), adding.item, adds=adds)
    return reading.done(kind)


def _whole(body: dict[str, Any], kind: str) -> Read:
    reading = _Reading(body, {"response": None})
    response = body.get("response")
    if response is not None:
        reading.value(response, RESPONSE, ("response",), (), "")
        output = response.get("output")
        if not isinstance(output, list | None):
            raise TypeError("the output is no list")
        for index, item in enumerate(output or ()):
            reading.item_at(item, ("response", "output", index), (index,))
    return reading.done(kind)


class _Reading:
    """Collects what stands in one event. ``shape``: its fields that are read besides."""

    def __init__(self, body: dict[str, Any], shape: Mapping[str, Shape]) -> None:
        self._found: list[Found] = []
        reading = Reading(answer=True)
        reading.read(body, {**_COMMON, **shape}, ())
        self._unreadable = reading.unreadable

    def item_at(self, item: Any, address: Address, place: Address) -> str:
        reading = Reading(answer=True)
        reading.item(item, address)
        kind = type_of(item)
        self._take(reading, address, place, kind)
        return kind

    def value(
        self, value: Any, shape: Shape, address: Address, place: Address, item: str, *, adds: bool = False
    ) -> None:
        reading = Reading(answer=True)
        reading.read(value, shape, address)
        self._take(reading, address, place, item, adds=adds)

    def _take(
        self, reading: Reading, address: Address, place: Address, item: str, *, adds: bool = False
    ) -> None:
        self._unreadable += reading.unreadable
        for text in reading.segments:
            where = place + text.address[len(address) :]
            self._found.append(_found(where, text.address, text.text, text.kind, item, adds))

    def done(self, kind: str, call: int | None = None) -> Read:
        return Read(kind, self._found, self._unreadable, call)


def _found(place: Address, address: Address, text: str, kind: Kind, item: str, adds: bool) -> Found:
    channel, kind = _channel(item, place, kind)
    return Found(place, address, text, kind, channel, adds, item in CALLS)


def _channel(item: str, place: Address, kind: Kind) -> tuple[str, Kind]:
    """The channel of a text, and its kind there.

    What is neither the message nor the reasoning is ``Kind.FIELD``, so that its channel ends where these
    begin: a short text that waits for more would keep back the answer.
    """
    if kind is Kind.REASONING or kind is Kind.REFUSAL:
        return kind.value, kind
    if item == "message":
        return ("content" if kind is Kind.TEXT else "annotations"), kind
    way = ".".join(str(step) for step in place)
    return way, kind if item in CALLS else Kind.FIELD
