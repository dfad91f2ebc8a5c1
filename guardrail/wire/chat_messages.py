"""Chat messages as turns: what is text for the model, what cannot be read, what only names something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from guardrail.core.conversation import Address, Conversation, Kind, Segment, Turn, json_path
from guardrail.errors import UnreadableRequest

__all__ = [
    "ANSWER_SHAPE",
    "CHOICE_SHAPE",
    "ITEM_NAMES",
    "ITEM_SHAPES",
    "ITEM_TEXTS",
    "PLAIN_NAME",
    "as_list",
    "beside",
    "get",
    "param_of",
    "read_content",
    "read_message",
    "read_messages",
    "read_name",
    "read_structured",
    "strangers",
]

_TEXT_PARTS: Final = {"text": "text", "refusal": "refusal", "input_text": "text"}
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
_MESSAGE_TEXTS: Final = (
    ("reasoning", Kind.REASONING),
    ("reasoning_content", Kind.REASONING),
    ("refusal", Kind.REFUSAL),
    ("name", Kind.FIELD),
)
_Shape = Mapping[str, Any]
_MESSAGE_SHAPE: Final[_Shape] = dict.fromkeys(
    [
        "role",
        "content",
        "name",
        "refusal",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "tool_calls",
        "function_call",
        "tool_call_id",
    ]
)
_PART_SHAPE: Final[_Shape] = dict.fromkeys(["type", "cache_control", "prompt_cache_breakpoint"])
# What servers put beside the message of a choice that is no text of the answer's.
CHOICE_SHAPE: Final[_Shape] = dict.fromkeys(
    [
        "index",
        "message",
        "delta",
        "finish_reason",
        "native_finish_reason",
        "stop_reason",
        "matched_stop",
        "logprobs",
        "content_filter_results",
        "content_filter_result",
        "content_filter_offsets",
        "token_ids",
        "seed",
        "error",
    ]
)
ANSWER_SHAPE: Final[_Shape] = dict.fromkeys(
    [
        "id",
        "object",
        "created",
        "model",
        "choices",
        "usage",
        "usage_breakdown",
        "system_fingerprint",
        "service_tier",
        "metadata",
        "provider",
        "sglext",
        "stats",
        "model_info",
        "runtime",
        "timings",
        "time_info",
        "x_groq",
        "seed",
        "finish_reason",
        "token",
        "obfuscation",
        "kv_transfer_params",
        "prompt_filter_results",
        "prompt_logprobs",
        "prompt_token_ids",
        "moderation",
        "error",
    ]
)
"""What servers put beside the choices that is no text of the answer's."""

PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{0,64}")
"""A name that says nothing. Chat templates write names out for the model: any other one is judged."""

_Way = tuple[str, ...]
ITEM_TEXTS: Final[Mapping[str, Sequence[tuple[_Way, Kind]]]] = {
    "reasoning_details": ((("text",), Kind.REASONING), (("summary",), Kind.REASONING)),
    "tool_calls": (
        (("function", "arguments"), Kind.TOOL_ARGUMENTS),
        (("custom", "input"), Kind.TEXT),
    ),
    "function_call": ((("arguments",), Kind.TOOL_ARGUMENTS),),
}
ITEM_NAMES: Final[Mapping[str, Sequence[_Way]]] = {
    "reasoning_details": (("id",), ("type",), ("format",)),
    "tool_calls": (("id",), ("type",), ("function", "name"), ("custom", "name")),
    "function_call": (("name",),),
}
ITEM_SHAPES: Final[Mapping[str, _Shape]] = {
    "reasoning_details": dict.fromkeys(["id", "type", "format", "signature", "text", "summary"]),
    "tool_calls": {
        **dict.fromkeys(["id", "type"]),
        "function": dict.fromkeys(["name", "arguments"]),
        "custom": dict.fromkeys(["name", "input"]),
    },
    "function_call": dict.fromkeys(["name", "arguments"]),
}


def read_messages(messages: Sequence[Any], at: Address = ("messages",)) -> Conversation:
    """A list of chat messages as a conversation. Raises ``UnreadableRequest``."""
    unreadable: list[str] = []
    turns = []
    for index, message in enumerate(messages):
        address = (*at, index)
        if not isinstance(message, dict):
            raise UnreadableRequest("a message is not an object", param=param_of(address))
        role = message.get("role")
        if not isinstance(role, str):
            raise UnreadableRequest("a message has no role", param=param_of(address))
        turns.append(Turn(role, read_message(message, address, unreadable)))
    return Conversation(tuple(turns), tuple(unreadable))


def param_of(address: Address) -> str:
    """How an error names the field at an address: ``messages[0].content``."""
    return json_path(address).removeprefix("$").removeprefix(".")


def read_message(message: dict[str, Any], at: Address, unreadable: list[str]) -> tuple[Segment, ...]:
    """The segments of a message; nearly every one holds a known role, a text and nothing else."""
    content = message.get("content")
    if isinstance(content, str) and message.get("role") in _ROLES:
        others = sum(1 for value in message.values() if value)
        if others <= 1 + (content != ""):
            return (Segment(content, (*at, "content")),)
    return tuple(_segments(message, at, unreadable))


def _segments(message: dict[str, Any], at: Address, unreadable: list[str]) -> Iterator[Segment]:
    yield from read_content(message.get("content"), (*at, "content"), unreadable)
    for key, kind in _MESSAGE_TEXTS:
        value = message.get(key)
        if isinstance(value, str) and value:
            yield Segment(value, (*at, key), kind)
        elif value:
            unreadable.append(json_path((*at, key)))
    for key in ("role", "tool_call_id"):
        yield from read_name(message, (key,), at, unreadable)
    for key in ITEM_TEXTS:
        if value := message.get(key):
            yield from read_structured(key, value, (*at, key), unreadable)
    unreadable.extend(strangers(message, _MESSAGE_SHAPE, at))


def read_content(content: Any, at: Address, unreadable: list[str]) -> Iterator[Segment]:
    """The texts of a content, a string or a list of parts. Raises ``UnreadableRequest``."""
    if content is None:
        return
    if isinstance(content, str):
        yield Segment(content, at)
        return
    if not isinstance(content, list):
        raise UnreadableRequest("content is neither a string nor a list", param=param_of(at))
    for index, part in enumerate(content):
        here = (*at, index)
        if isinstance(part, str):
            yield Segment(part, here)
            continue
        if not isinstance(part, dict):
            raise UnreadableRequest("a content part is not an object", param=param_of(here))
        key = _TEXT_PARTS.get(str(part.get("type")))
        text = part.get(key) if key else None
        if key and isinstance(text, str):
            yield Segment(text, (*here, key))
            unreadable.extend(strangers(part, {**_PART_SHAPE, key: None}, here))
        else:
            unreadable.append(json_path(here))


def read_structured(key: str, value: Any, at: Address, unreadable: list[str]) -> Iterator[Segment]:
    """Reasoning details, tool calls and the old function call."""
    items = value if isinstance(value, list) else [value]
    for index, item in enumerate(items):
        here = (*at, index) if isinstance(value, list) else at
        texts = [(way, kind, get(item, *way)) for way, kind in ITEM_TEXTS[key]]
        for way, kind, text in texts:
            if isinstance(text, str):
                yield Segment(text, (*here, *way), kind)
        found = [text for _, _, text in texts if text is not None]
        if not found or not all(isinstance(text, str) for text in found):
            unreadable.append(json_path(here))
        else:
            unreadable.extend(strangers(item, ITEM_SHAPES[key], here))
        for way in ITEM_NAMES[key]:
            yield from read_name(item, way, here, unreadable)


def read_name(value: Any, way: _Way, at: Address, unreadable: list[str]) -> Iterator[Segment]:
    """A name, where it is more than a name."""
    name = get(value, *way)
    if isinstance(name, str):
        if not PLAIN_NAME.fullmatch(name):
            yield Segment(name, (*at, *way), Kind.FIELD)
    elif isinstance(name, list | dict) and name:
        unreadable.append(json_path((*at, *way)))


def strangers(value: dict[str, Any], shape: _Shape, at: Address) -> Iterator[str]:
    """The paths of fields that are not known and may hold text.

    Raises ``UnreadableRequest`` for a known key in other letters: Go servers (Ollama) take it for the key.
    """
    for key, inner in value.items():
        inside = shape.get(key)
        if key not in shape and key.casefold() in shape:
            raise UnreadableRequest("a key differs from a known one only in case", param=param_of(at))
        if inside and isinstance(inner, dict):
            yield from strangers(inner, inside, (*at, key))
        elif (inside or key not in shape) and inner and isinstance(inner, str | list | dict):
            yield json_path((*at, key))


def beside(body: dict[str, Any]) -> list[str]:
    """The paths of what may be text outside the choices. Raises ``UnreadableRequest`` as ``strangers``."""
    return list(strangers(body, ANSWER_SHAPE, ()))


def as_list(value: Any) -> list[Any]:
    """The value. Raises ``TypeError`` where it is no list."""
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def get(value: Any, *way: str) -> Any:
    """What stands at the end of the way, through objects alone; None where it leads nowhere."""
    for key in way:
        value = value.get(key) if isinstance(value, dict) else None
    return value
