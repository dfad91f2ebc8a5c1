"""JSON bodies read strictly and edited in place.

An edit replaces the bytes of single values; everything else, spacing, number formats, unknown fields
and their order, stays as it was, so that caches further on which look at bytes still hit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address
from guardrail.errors import UnreadableRequest

__all__ = ["REMOVE", "check_keys", "edit", "loads_strict", "value_at"]

REMOVE: Final = object()
"""Instead of a new value in ``edit``: take the value out, in an object with its key."""

_KEY_END: Final = re.compile(rb'"\s*:')
_WHITE: Final = b" \t\n\r"
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()
_Tree = dict[str | int, Any]


class _RepeatedKey(ValueError):
    pass


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _RepeatedKey
    return value


def loads_strict(raw: bytes) -> Any:
    """Parse JSON whose objects repeat no key. Raises ``UnreadableRequest``."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UnreadableRequest(f"the body is not valid JSON: {error.msg}") from None
    check_keys(value, raw)
    return value


def check_keys(value: Any, raw: bytes) -> None:
    """Refuse ``raw``, read as ``value``, if an object in it repeats a key: two parsers could differ.

    orjson keeps the last of two equal keys without a word. So unless the parsed value written out again
    is the body itself but for spacing, the number of key ends in both is compared. They can only agree by
    chance where escapes hide a quote, a colon or a space; then the slow parser decides. Raises
    ``UnreadableRequest``.
    """
    try:
        again = orjson.dumps(value)  # first of all: its limit of depth holds for every body
        if again == raw:  # compact JSON, as most clients write it
            return
        # Both lose the spaces in their strings too: their keys stay as many as they were.
        if b"\\u" not in raw and again.translate(None, _WHITE) == raw.translate(None, _WHITE):
            return
        if b"\\u00" in raw or len(_KEY_END.findall(raw)) != len(_KEY_END.findall(again)):
            json.loads(raw, object_pairs_hook=_no_repeated_key)
    except _RepeatedKey:
        raise UnreadableRequest("the body repeats a key inside one JSON object") from None
    except (ValueError, RecursionError, orjson.JSONEncodeError):
        raise UnreadableRequest("the body is nested too deeply to be read") from None


def value_at(value: Any, address: Address) -> Any:
    """What stands at an address of a parsed body, which must exist."""
    for step in address:
        value = value[step]
    return value


def edit(raw: bytes, changes: Mapping[Address, object]) -> bytes:
    """``raw`` with the value at each address replaced (written by orjson) or taken out (``REMOVE``).

    ``raw`` must be valid JSON, every address must exist and none may lie inside another. Raises
    ``KeyError`` for an address that does not exist.
    """
    tree: _Tree = {}
    for address, value in changes.items():
        node = tree
        for step in address[:-1]:
            node = node.setdefault(step, {})
        node[address[-1]] = _Change(value)
    text = raw.decode()
    cuts: list[tuple[int, int, str]] = []
    _walk(text, _skip(text, 0), tree, cuts)
    if len(cuts) != len(changes):
        raise KeyError("an address to edit does not exist in the body")
    out: list[str] = []
    position = 0
    for start, end, new in cuts:
        out.append(text[position:start])
        out.append(new)
        position = end
    out.append(text[position:])
    return "".join(out).encode()


class _Change:
    __slots__ = ("new",)

    def __init__(self, new: object) -> None:
        self.new = new


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _walk(text: str, at: int, tree: _Tree, cuts: list[tuple[int, int, str]]) -> int:
    """Walk the value at ``at`` along ``tree``, note the cuts, return the value's end."""
    opening = text[at]
    if opening not in "{[":
        return _DECODER.raw_decode(text, at)[1]
    closing = "}" if opening == "{" else "]"
    index = 0
    kept = False
    start = at
    at = _skip(text, at + 1)
    while text[at] != closing:
        step: str | int = index
        item = at
        if opening == "{":
            step, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        value_at = at
        node = tree.get(step)
        if isinstance(node, dict):
            at = _walk(text, value_at, node, cuts)
        else:
            at = _DECODER.raw_decode(text, value_at)[1]
        after = _skip(text, at)
        if isinstance(node, _Change):
            cuts.append(_cut(text, node, (start, item, value_at, at, after)))
        index += 1
        kept = kept or not (isinstance(node, _Change) and node.new is REMOVE)
        if text[after] == ",":
            start = after if kept else start
            at = _skip(text, after + 1)
        else:
            at = after
    return at + 1


def _cut(text: str, change: _Change, places: tuple[int, int, int, int, int]) -> tuple[int, int, str]:
    start, item, value_at, end, after = places
    if change.new is not REMOVE:
        return value_at, end, orjson.dumps(change.new).decode()
    if text[start] == ",":  # something before it stays: take the comma between them along
        return start, end, ""
    return item, (_skip(text, after + 1) if text[after] == "," else end), ""
