"""The content blocks of messages as segments: what is text, what cannot be read, what only names something.

Shapes: the types of Anthropic's SDK (``anthropic/types``, ``anthropic/types/beta``). The results of tools
are read leaf by leaf, so that a result of a new shape is judged too; a block of a new type is named.

What is sealed, only its server can read. In a request the model does, so it is named; in an answer nobody
does, so nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from guardrail.core.conversation import Address, Kind, Segment, json_path
from guardrail.errors import UnreadableRequest
from guardrail.wire.chat_messages import PLAIN_NAME, get, param_of, read_name, strangers

__all__ = [
    "TOOL_USES",
    "Reading",
    "input_addresses",
    "kind_of",
    "read_block",
    "read_content",
    "read_leaves",
]

TOOL_USES: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_RESULTS: Final = frozenset(
    [
        "tool_result",
        "mcp_tool_result",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "advisor_tool_result",
        "search_result",
        "tool_reference",
        "browser_state",
        "compaction",
        "fallback",
    ]
)
_BLOCKS: Final = (
    TOOL_USES
    | _RESULTS
    | {"text", "thinking", "redacted_thinking", "document", "image", "container_upload"}
)

_Shape = Mapping[str, Any]
_TEXT: Final[_Shape] = dict.fromkeys(["type", "text", "citations", "cache_control"])
_THINKING: Final[_Shape] = dict.fromkeys(["type", "thinking", "signature", "cache_control"])
_REDACTED_THINKING: Final[_Shape] = dict.fromkeys(["type", "data"])
_TOOL_NAMES: Final = ("name", "id", "server_name", "toolset_name")
_TOOL_USE: Final[_Shape] = {
    **dict.fromkeys(["type", *_TOOL_NAMES, "input", "cache_control"]),
    "caller": dict.fromkeys(["type", "tool_id"]),
}
_DOCUMENT: Final[_Shape] = dict.fromkeys(
    ["type", "source", "title", "context", "citations", "cache_control"]
)
_SOURCES: Final[Mapping[str, _Shape]] = {
    "text": dict.fromkeys(["type", "media_type", "data"]),
    "content": dict.fromkeys(["type", "content"]),
}
# Strings that name something: plain ones say nothing, any other is judged.
_NAMES: Final = frozenset(
    [
        "type",
        "id",
        "tool_use_id",
        "tool_id",
        "tool_name",
        "toolset_name",
        "name",
        "server_name",
        "model",
        "file_id",
        "file_type",
        "media_type",
        "error_code",
        "stop_reason",
        "url",
        "source",
        "page_age",
        "retrieved_at",
        "ttl",
    ]
)
_SEALED: Final = frozenset({"encrypted_content", "encrypted_stdout"})
# What counts in the results of Anthropic's tools; any other number is read.
_COUNTS: Final = frozenset(
    [
        "return_code",
        "num_lines",
        "start_line",
        "total_lines",
        "old_start",
        "old_lines",
        "new_start",
        "new_lines",
        "size_bytes",
    ]
)
_INDEX: Final = "encrypted_index"  # where a citation comes from; in one alone it is silent


class Reading(NamedTuple):
    """What is known while a body is read.

    ``unreadable`` collects the paths of what cannot be read. ``inputs``: tool inputs as they are written.
    """

    unreadable: list[str]
    inputs: Mapping[Address, str] = {}
    answer: bool = False


def kind_of(block: Any) -> str:
    """The type of a block; "" where it has none."""
    kind = get(block, "type")
    return kind if isinstance(kind, str) else ""


def input_addresses(content: Any, at: Address) -> list[Address]:
    """Where tool inputs stand that are no strings, in the blocks of a content."""
    return [
        (*at, index, "input")
        for index, block in enumerate(content if isinstance(content, list) else ())
        if kind_of(block) in TOOL_USES and block.get("input") and not isinstance(block["input"], str)
    ]


def read_content(
    content: Any, at: Address, reading: Reading, places: Sequence[int] | None = None
) -> Iterator[Segment]:
    """The texts of a content, a string or a list of blocks, of which ``places`` are read (None: all).

    Raises ``UnreadableRequest``.
    """
    if content is None:
        return
    if isinstance(content, str):
        yield Segment(content, at)
        return
    if not isinstance(content, list):
        raise UnreadableRequest("content is neither a string nor a list", param=param_of(at))
    for index in range(len(content)) if places is None else places:
        if isinstance(content[index], str):
            yield Segment(content[index], (*at, index))
        else:
            yield from read_block(content[index], (*at, index), reading)


def read_block(block: Any, at: Address, reading: Reading) -> Iterator[Segment]:
    """The texts of one block. Raises ``UnreadableRequest``."""
    if not isinstance(block, dict):
        raise UnreadableRequest("a content block is not an object", param=param_of(at))
    kind = kind_of(block)
    if kind == "text" and isinstance(block.get("text"), str):
        yield Segment(block["text"], (*at, "text"))
        yield from read_leaves(block.get("citations"), (*at, "citations"), reading, Kind.FIELD)
        reading.unreadable.extend(strangers(block, _TEXT, at))
    elif kind == "thinking" and isinstance(block.get("thinking"), str):
        yield Segment(block["thinking"], (*at, "thinking"), Kind.REASONING)
        reading.unreadable.extend(strangers(block, _THINKING, at))
    elif kind == "document":
        yield from _document(block, at, reading)
    elif kind in TOOL_USES:
        yield from _tool_use(block, at, reading)
    elif kind in _RESULTS:
        _name_keys(block, at, reading)
        for key, inner in block.items():
            if key != "cache_control" and not (key == "signature" and kind == "compaction"):
                yield from read_leaves(inner, (*at, key), reading, Kind.TEXT)
    elif kind == "redacted_thinking" and reading.answer:
        reading.unreadable.extend(strangers(block, _REDACTED_THINKING, at))
    else:
        reading.unreadable.append(json_path(at))


def _tool_use(block: dict[str, Any], at: Address, reading: Reading) -> Iterator[Segment]:
    for key in _TOOL_NAMES:
        yield from read_name(block, (key,), at, reading.unreadable)
    here = (*at, "input")
    given = block.get("input")
    text = given if isinstance(given, str) else reading.inputs.get(here)
    if text:
        yield Segment(text, here, Kind.TOOL_ARGUMENTS)
    elif given:  # one that stands inside another block
        reading.unreadable.append(json_path(here))
    reading.unreadable.extend(strangers(block, _TOOL_USE, at))


def _document(block: dict[str, Any], at: Address, reading: Reading) -> Iterator[Segment]:
    for key in ("title", "context"):
        yield from read_leaves(block.get(key), (*at, key), reading, Kind.FIELD)
    here = (*at, "source")
    source: Any = block.get("source")
    kind = kind_of(source)
    if kind == "text" and isinstance(source.get("data"), str):
        yield Segment(source["data"], (*here, "data"))
        reading.unreadable.extend(strangers(source, _SOURCES[kind], here))
    elif kind == "content":
        yield from read_content(source.get("content"), (*here, "content"), reading)
        reading.unreadable.extend(strangers(source, _SOURCES[kind], here))
    else:
        reading.unreadable.append(json_path(here))
    reading.unreadable.extend(strangers(block, _DOCUMENT, at))


def read_leaves(value: Any, at: Address, reading: Reading, kind: Kind) -> Iterator[Segment]:
    """Every string in a value, and the blocks in it as such; what is sealed, and odd keys, are named.

    Numbers too in the results of a request, for a card number without quotes is one; an edit puts a string
    in its place.
    """
    if isinstance(value, dict):
        if kind_of(value) in _BLOCKS:
            yield from read_block(value, at, Reading(reading.unreadable, {}, reading.answer))
            return
        _name_keys(value, at, reading)
        for key, inner in value.items():
            yield from read_leaves(inner, (*at, key), reading, kind)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from read_leaves(inner, (*at, index), reading, kind)
    elif isinstance(value, str) and value:
        key = at[-1]
        if key == "data" or (key in _SEALED and not reading.answer):
            reading.unreadable.append(json_path(at))
        elif key in _NAMES:
            yield from read_name({key: value}, (str(key),), at[:-1], reading.unreadable)
        elif key not in _SEALED and not (key == _INDEX and kind is Kind.FIELD):
            yield Segment(value, at, kind)
    elif type(value) in (int, float) and kind is Kind.TEXT and not (reading.answer or at[-1] in _COUNTS):
        yield Segment(orjson.dumps(value).decode(), at, kind)


def _name_keys(value: dict[str, Any], at: Address, reading: Reading) -> None:
    """Name an object with a key that is more than a name: it may be text, and no edit reaches it."""
    if not all(map(PLAIN_NAME.fullmatch, value)):
        reading.unreadable.append(json_path(at))
