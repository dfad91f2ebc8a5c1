"""Items of the Responses API as turns: what is text for the model, and what of it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from guardrail.core.conversation import Address, Kind, Segment, Turn, json_path
from guardrail.errors import UnreadableRequest
from guardrail.wire.chat_messages import PLAIN_NAME, param_of
from guardrail.wire.responses_shapes import ITEMS, PARTS, ROLES, Each, Mark, Shape

__all__ = ["Reading", "Said", "as_one", "read_items", "type_of"]

_ORDER: Final = {Kind.TEXT: 0, Kind.REASONING: 1, Kind.REFUSAL: 2}
_BEHIND: Final = 3  # calls and what tools said


class Said(NamedTuple):
    """One turn of a list of items, and where its items stand in the list."""

    turn: Turn
    items: Sequence[int]


class Reading:
    """Collects the segments of values, and the paths of what in them is unreadable.

    ``answer``: the values are an upstream's answer, not a request. Raises ``UnreadableRequest`` for a shape
    that no server takes.
    """

    def __init__(self, *, answer: bool = False) -> None:
        self._answer = answer
        self.segments: list[Segment] = []
        self.unreadable: list[str] = []

    def item(self, item: Any, at: Address) -> None:
        """An item of an input or an output."""
        if not isinstance(item, dict):
            raise UnreadableRequest("an item is not an object", param=param_of(at))
        shape = ITEMS.get(type_of(item))
        if shape is None:
            self.unreadable.append(json_path(at))
        else:
            self.read(item, shape, at)

    def items(self, value: Any, at: Address) -> None:
        """All items of an output."""
        if not isinstance(value, list):
            raise UnreadableRequest("the items are no list", param=param_of(at))
        for index, item in enumerate(value):
            self.item(item, (*at, index))

    def read(self, value: Any, shape: Shape, at: Address) -> None:
        """A value of this shape."""
        if shape is None or not value:
            return
        if isinstance(shape, Kind):
            if isinstance(value, str):
                self.segments.append(Segment(value, at, shape))
            else:
                self.unreadable.append(json_path(at))
        elif isinstance(shape, Mark):
            self._marked(value, shape, at)
        elif isinstance(shape, Each):
            if isinstance(value, list):
                for index, inner in enumerate(value):
                    self.read(inner, shape.of, (*at, index))
            else:
                self.unreadable.append(json_path(at))
        elif isinstance(value, dict):
            self._object(value, shape, at)
        else:
            self.unreadable.append(json_path(at))

    def _object(self, value: dict[str, Any], shape: Mapping[str, Shape], at: Address) -> None:
        """The known fields in the order of the shape, so that equal items read equal; then the others.

        Raises ``UnreadableRequest`` for a known key in other letters: Go servers (Ollama) take it for the
        key.
        """
        for key, inner in shape.items():
            if key in value:
                self.read(value[key], inner, (*at, key))
        for key in value:
            if key in shape:
                continue
            if key.casefold() in shape:
                raise UnreadableRequest(
                    "a key differs from a known one only in case", param=param_of(at) or None
                )
            if value[key] and isinstance(value[key], str | list | dict):
                self.unreadable.append(json_path((*at, key)))

    def _marked(self, value: Any, mark: Mark, at: Address) -> None:
        if mark is Mark.CONTENT:
            self._content(value, at)
        elif mark is Mark.PART:
            self._part(value, at)
        elif mark is Mark.LEAVES or mark is Mark.DEFINITIONS:
            self._leaves(value, at, names=mark is Mark.LEAVES)
        elif mark is Mark.NAME or (mark is Mark.ID and not self._answer):
            self._name(value, at)
        elif mark is Mark.OPAQUE or (mark is Mark.SEALED and not self._answer):
            self.unreadable.append(json_path(at))

    def _content(self, value: Any, at: Address) -> None:
        if isinstance(value, str):
            self.segments.append(Segment(value, at))
        elif isinstance(value, list):
            for index, part in enumerate(value):
                self._part(part, (*at, index))
        else:
            raise UnreadableRequest("content is neither a string nor a list", param=param_of(at))

    def _part(self, value: Any, at: Address) -> None:
        if isinstance(value, str):
            self.segments.append(Segment(value, at))
            return
        if not isinstance(value, dict):
            raise UnreadableRequest("a content part is not an object", param=param_of(at))
        shape = PARTS.get(str(value.get("type")))
        if shape is None:
            self.unreadable.append(json_path(at))
        else:
            self.read(value, shape, at)

    def _name(self, value: Any, at: Address) -> None:
        if not isinstance(value, str):
            self.unreadable.append(json_path(at))
        elif not PLAIN_NAME.fullmatch(value):
            self.segments.append(Segment(value, at, Kind.FIELD))

    def _leaves(self, value: Any, at: Address, *, names: bool) -> None:
        """Every string in any JSON; ``names``: those too that are no more than names, and numbers."""
        if isinstance(value, str):
            if names:
                self.segments.append(Segment(value, at, Kind.FIELD))
            else:
                self._name(value, at)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if names:  # an edit puts a string in its place
                self.segments.append(Segment(orjson.dumps(value).decode(), at, Kind.FIELD))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self._leaves(inner, (*at, index), names=names)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if not PLAIN_NAME.fullmatch(key):  # and a key cannot be edited
                    self.unreadable.append(json_path(at))
                self._leaves(inner, (*at, key), names=names)


def read_items(items: Sequence[Any], at: Address, unreadable: list[str]) -> list[Said]:
    """The items of an input as turns. Raises ``UnreadableRequest``.

    Items of the assistant that follow each other are one turn, as they were one answer: so it is known
    again when it comes back, and goes as one when it is dropped.
    """
    said: list[tuple[str, list[Segment], list[int]]] = []
    for index, item in enumerate(items):
        reading = Reading()
        reading.item(item, (*at, index))
        unreadable += reading.unreadable
        role = _role(item, (*at, index))
        if said and role == said[-1][0] == "assistant":
            said[-1][1].extend(reading.segments)
            said[-1][2].append(index)
        else:
            said.append((role, reading.segments, [index]))
    return [
        Said(Turn(role, as_one(segments) if role == "assistant" else tuple(segments)), places)
        for role, segments, places in said
    ]


def as_one(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments of one answer in the order in which a streamed one is remembered: texts first."""
    return tuple(sorted(segments, key=lambda segment: _ORDER.get(segment.kind, _BEHIND)))


def type_of(item: Mapping[str, Any]) -> str:
    """An item's type. Messages and references need not name it."""
    kind = item.get("type")
    if kind is None:
        return "message" if "role" in item else "item_reference"
    return str(kind)


def _role(item: Mapping[str, Any], at: Address) -> str:
    kind = type_of(item)
    if kind == "message" or kind == "additional_tools":
        role = item.get("role")
        if not isinstance(role, str):
            raise UnreadableRequest("a message has no role", param=param_of(at))
        return role
    return ROLES.get(kind, "assistant")
