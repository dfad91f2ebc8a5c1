"""The turns of a request of messages: who said what, and how turns are taken out again.

The ``system`` field is the first turn. A message is one turn, but for a user's message with the results of
tools: these are a turn of role ``tool``, as in other dialects, before what the user says beside them. So a
judge is not told that a user wrote what a tool found, and a call that is dropped goes with its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import orjson

from guardrail.core.conversation import Address, Conversation, Segment, Turn
from guardrail.errors import UnreadableRequest
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import param_of, read_name, strangers
from guardrail.wire.messages_blocks import Reading, input_addresses, kind_of, read_content
from guardrail.wire.messages_edit import written

__all__ = ["read_turns", "without"]

_MESSAGE: Final = dict.fromkeys(["role", "content"])


class _Part(NamedTuple):
    """What one turn is in the body: all of ``content``, or the blocks at ``places`` of it."""

    role: str
    at: Address
    content: Any
    places: Sequence[int] | None = None


def read_turns(raw: bytes, body: dict[str, Any]) -> Conversation:
    """The conversation of ``body``, as which ``raw`` was read. Raises ``UnreadableRequest``."""
    unreadable: list[str] = []
    named: dict[Address, tuple[Segment, ...]] = {}
    addresses: list[Address] = []
    for index, message in enumerate(body["messages"]):
        at: Address = ("messages", index)
        if not isinstance(message, dict):
            raise UnreadableRequest("a message is not an object", param=param_of(at))
        if not isinstance(message.get("role"), str):
            raise UnreadableRequest("a message has no role", param=param_of(at))
        addresses += input_addresses(message.get("content"), (*at, "content"))
        named[*at, "content"] = tuple(read_name(message, ("role",), at, unreadable))
        unreadable.extend(strangers(message, _MESSAGE, at))
    reading = Reading(unreadable, written(raw, body, addresses))
    turns = []
    for part in _parts(body):
        texts = read_content(part.content, part.at, reading, part.places)
        turns.append(Turn(part.role, (*texts, *named.get(part.at, ()))))
    return Conversation(tuple(turns), tuple(unreadable))


def without(raw: bytes, turns: Sequence[int]) -> bytes:
    """The body without these turns; a message goes with the last turn in it."""
    dropped = set(turns)
    whole: dict[Address, set[int]] = {}
    gone: dict[Address, list[Address]] = {}
    for index, part in enumerate(_parts(orjson.loads(raw))):
        whole.setdefault(part.at, set()).add(index)
        if index in dropped:
            gone.setdefault(part.at, []).extend((*part.at, place) for place in part.places or ())
    addresses: list[Address] = []
    for at, blocks in gone.items():
        addresses += [_owner(at)] if whole[at] <= dropped else blocks
    return json_edit.edit(raw, dict.fromkeys(addresses, json_edit.REMOVE))


def _owner(content: Address) -> Address:
    return content[:-1] or content  # a message of its content; ``system`` is its own


def _parts(body: dict[str, Any]) -> Iterator[_Part]:
    if body.get("system") is not None:
        yield _Part("system", ("system",), body["system"])
    for index, message in enumerate(body["messages"]):
        role, content = message["role"], message.get("content")
        at: Address = ("messages", index, "content")
        blocks = enumerate(content) if role == "user" and isinstance(content, list) else ()
        results = {place: None for place, block in blocks if kind_of(block) == "tool_result"}
        if not results:
            yield _Part(role, at, content)
            continue
        yield _Part("tool", at, content, list(results))
        others = [place for place in range(len(content)) if place not in results]
        if others:
            yield _Part("user", at, content, others)
