"""LangChain's messages as turns and back: where each text stands, and copies with other texts.

A text's address leads through the message's own fields: ``("tool_calls", 0, "args")``, in a list of
messages with the place of the message before it. Arguments that are objects are read as JSON and written
back as objects.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from guardrail.core.conversation import Address, Conversation, Kind, Segment, Turn, json_path
from guardrail.wire.chat_messages import read_name
from guardrail.wire.json_edit import value_at

__all__ = ["Piece", "edited", "edited_all", "pieces", "read", "read_all"]

M = TypeVar("M", bound=BaseMessage)

_ROLES: Final = (
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (SystemMessage, "system"),
    (ToolMessage, "tool"),
    (FunctionMessage, "function"),
)
# The blocks of a content by their type: which key holds the text, and what it is.
_BLOCKS: Final[Mapping[str, tuple[str, Kind]]] = {
    "text": ("text", Kind.TEXT),
    "text-plain": ("text", Kind.TEXT),
    "input_text": ("text", Kind.TEXT),
    "output_text": ("text", Kind.TEXT),
    "refusal": ("refusal", Kind.REFUSAL),
    "reasoning": ("reasoning", Kind.REASONING),
    "summary_text": ("text", Kind.REASONING),
    "thinking": ("thinking", Kind.REASONING),
    "tool_call": ("args", Kind.TOOL_ARGUMENTS),
    "tool_call_chunk": ("args", Kind.TOOL_ARGUMENTS),
    "invalid_tool_call": ("args", Kind.TOOL_ARGUMENTS),
    "server_tool_call": ("args", Kind.TOOL_ARGUMENTS),
    "server_tool_call_chunk": ("args", Kind.TOOL_ARGUMENTS),
    "tool_use": ("input", Kind.TOOL_ARGUMENTS),
    "server_tool_use": ("input", Kind.TOOL_ARGUMENTS),
    "input_json_delta": ("partial_json", Kind.TOOL_ARGUMENTS),
    "function_call": ("arguments", Kind.TOOL_ARGUMENTS),
    "custom_tool_call": ("input", Kind.TEXT),
}
# Blocks with blocks of their own.
_NESTED: Final[Mapping[str, str]] = {"reasoning": "summary", "tool_result": "content"}
# What a block may hold besides that is no text for the model or the user: in every block, and by type.
_BESIDE: Final = frozenset(["type", "id", "index", "name"])  # the name is read
_BESIDE_OF: Final[Mapping[str, frozenset[str]]] = {
    "thinking": frozenset(["signature"]),
    "reasoning": frozenset(["signature", "encrypted_content", "status", "summary"]),
    "function_call": frozenset(["call_id", "status"]),
    "custom_tool_call": frozenset(["call_id", "status"]),
    "tool_result": frozenset(["tool_use_id", "is_error", "content"]),
}
# Objects that a block may hold, with the keys in them that hold no text either.
_INSIDE: Final[Mapping[str, frozenset[str]]] = {
    "cache_control": frozenset(["type", "ttl"]),
    "extras": frozenset(["signature", "encrypted_content", "call_id", "status", "item_id"]),
}
_KWARGS: Final[Mapping[str, Kind]] = {
    "reasoning_content": Kind.REASONING,
    "reasoning": Kind.REASONING,
    "refusal": Kind.REFUSAL,
}
_SHOWN_AS_ONE: Final = (Kind.TEXT, Kind.REASONING, Kind.REFUSAL)  # block after block
_DERIVED: Final = "parsed"  # in additional_kwargs: the content once more, as an object


class Piece(NamedTuple):
    """The text that one chunk adds to one channel."""

    channel: str
    kind: Kind
    text: str
    address: Address
    whole: bool
    choice: int = 0


def read_all(messages: Sequence[BaseMessage]) -> Conversation:
    """Messages as a conversation."""
    unreadable: list[str] = []
    turns = [Turn(_role(m), tuple(_segments(m, (i,), unreadable))) for i, m in enumerate(messages)]
    return Conversation(tuple(turns), tuple(unreadable))


def read(message: BaseMessage) -> tuple[Turn, tuple[str, ...]]:
    """One message as a turn, and the paths of what could not be read."""
    unreadable: list[str] = []
    turn = Turn(_role(message), tuple(_segments(message, (), unreadable)))
    return turn, tuple(unreadable)


def pieces(chunk: AIMessage) -> tuple[list[Piece], tuple[str, ...]]:
    """What a chunk of a stream adds to its channels, and the paths of what could not be read."""
    turn, unreadable = read(chunk)
    found = [
        Piece(
            _channel(chunk, segment.address, segment.kind),
            segment.kind,
            segment.text,
            segment.address,
            segment.kind in (Kind.TOOL_ARGUMENTS, Kind.FIELD),
        )
        for segment in turn.segments
    ]
    told = {piece.address for piece in found}
    for place in range(len(getattr(chunk, "tool_call_chunks", ()))):  # a head says nothing: held with it
        address = ("tool_call_chunks", place, "args")
        if address not in told:
            found.append(
                Piece(
                    _channel(chunk, address, Kind.TOOL_ARGUMENTS),
                    Kind.TOOL_ARGUMENTS,
                    "",
                    address,
                    whole=True,
                )
            )
    return found, unreadable


def edited_all(messages: Sequence[BaseMessage], texts: Mapping[Address, str]) -> list[BaseMessage]:
    """The messages, with copies in the place of those that change."""
    by_message: dict[Any, dict[Address, str]] = {}
    for (place, *rest), text in texts.items():
        by_message.setdefault(place, {})[tuple(rest)] = text
    return [edited(message, by_message.get(i, {})) for i, message in enumerate(messages)]


def edited(message: M, texts: Mapping[Address, str]) -> M:
    """A copy of the message with new texts; itself where there are none."""
    if not texts:
        return message
    names = {str(address[0]) for address in texts} | {"additional_kwargs", "response_metadata"}
    fields: dict[str, Any] = {name: copy.deepcopy(getattr(message, name)) for name in names}
    for (name, *rest), text in texts.items():
        if rest:
            _put(fields[str(name)], tuple(rest), text)
        else:
            fields[str(name)] = text
    fields["additional_kwargs"].pop(_DERIVED, None)
    fields["response_metadata"].pop("logprobs", None)  # they spell the text out
    if isinstance(message, AIMessageChunk):  # its calls are made of their chunks
        known = {name: getattr(message, name) for name in type(message).model_fields}
        return type(message)(**{**known, "tool_calls": [], "invalid_tool_calls": [], **fields})
    return message.model_copy(update=fields)


def _put(field: Any, way: Address, text: str) -> None:
    place, last = value_at(field, way[:-1]), way[-1]
    place[last] = text if isinstance(place[last], str) else json.loads(text)


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    return next((role for kind, role in _ROLES if isinstance(message, kind)), message.type)


def _channel(chunk: AIMessage, address: Address, kind: Kind) -> str:
    """Pieces of one text have one channel, wherever in their chunks they stand, and in whatever blocks."""
    name, *rest = address
    if name == "content" and kind in _SHOWN_AS_ONE:
        return f"{name}.{kind}"
    place: Any = getattr(chunk, str(name))
    steps = [str(name)]
    for step in rest:
        place = place[step]
        index = place.get("index") if isinstance(place, dict) else None
        steps.append(str(step if index is None else index))
    return ".".join(steps)


def _segments(message: BaseMessage, at: Address, unreadable: list[str]) -> Iterator[Segment]:
    yield from _content(message.content, (*at, "content"), unreadable)
    yield from read_name({"name": message.name}, ("name",), at, unreadable)
    if isinstance(message, AIMessage):
        names = ["tool_calls", "invalid_tool_calls"]
        if isinstance(message, AIMessageChunk):
            names = ["tool_call_chunks"]
        for name in names:
            for place, call in enumerate(getattr(message, name)):
                yield from _arguments(call, "args", (*at, name, place), unreadable)
    yield from _kwargs(message.additional_kwargs, (*at, "additional_kwargs"), unreadable)


def _kwargs(kwargs: Mapping[str, Any], at: Address, unreadable: list[str]) -> Iterator[Segment]:
    for key, value in kwargs.items():
        here = (*at, key)
        if not value or key == _DERIVED or key.startswith("__"):
            continue
        if key in _KWARGS and isinstance(value, str):
            yield Segment(value, here, _KWARGS[key])
        elif key == "reasoning" and isinstance(value, dict) and isinstance(value.get("summary"), list):
            yield from _content(value["summary"], (*here, "summary"), unreadable)
        elif key == "function_call" and isinstance(value, dict):
            yield from _arguments(value, "arguments", here, unreadable)
        elif key == "tool_calls" and isinstance(value, list):
            for place, call in enumerate(value):
                called = call.get("function") if isinstance(call, dict) else None
                if isinstance(called, dict):
                    yield from _arguments(called, "arguments", (*here, place, "function"), unreadable)
                else:
                    unreadable.append(json_path((*here, place)))
        elif isinstance(value, str | list | dict):
            unreadable.append(json_path(here))


def _content(content: Any, at: Address, unreadable: list[str]) -> Iterator[Segment]:
    if isinstance(content, str):
        if content:
            yield Segment(content, at)
        return
    for place, block in enumerate(content):
        here = (*at, place)
        if isinstance(block, str):
            yield Segment(block, here)
        elif isinstance(block, dict):
            yield from _block(block, here, unreadable)
        else:
            unreadable.append(json_path(here))


def _block(block: dict[str, Any], at: Address, unreadable: list[str]) -> Iterator[Segment]:
    kind = str(block.get("type"))
    nested = block.get(_NESTED.get(kind, ""))
    key, what = _BLOCKS.get(kind, ("", Kind.TEXT))
    if nested:
        yield from _content(nested, (*at, _NESTED[kind]), unreadable)
    if key:
        yield from _arguments(block, key, at, unreadable, what)
    elif nested:
        yield from read_name(block, ("name",), at, unreadable)
    else:
        unreadable.append(json_path(at))
        return
    silent = _BESIDE | _BESIDE_OF.get(kind, frozenset())
    for other, value in block.items():
        if other == key or other in silent or not value or not isinstance(value, str | list | dict):
            continue
        if not (isinstance(value, dict) and value.keys() <= _INSIDE.get(other, frozenset())):
            unreadable.append(json_path((*at, other)))


def _arguments(
    call: Mapping[str, Any], key: str, at: Address, unreadable: list[str], kind: Kind = Kind.TOOL_ARGUMENTS
) -> Iterator[Segment]:
    """The text under a key, an object as JSON; and a name beside it that is more than a name."""
    value = call.get(key)
    if isinstance(value, str):
        if value:
            yield Segment(value, (*at, key), kind)
    elif kind is Kind.TOOL_ARGUMENTS and isinstance(value, dict | list):
        if value:
            yield Segment(json.dumps(value, ensure_ascii=False), (*at, key), kind)
    elif value is not None:
        unreadable.append(json_path((*at, key)))
    yield from read_name(call, ("name",), at, unreadable)
