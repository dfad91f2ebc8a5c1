"""Where the text of a body stands that is no dialect's: at JSONPaths (RFC 9535), or all of it is text.

A path may match strings, numbers, or objects and lists with strings and numbers anywhere inside: all of
them are read. Numbers too, for a card number without quotes is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple, Protocol

import jsonpath_rfc9535 as jsonpath
import orjson
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

from guardrail.core.conversation import Address, json_path
from guardrail.errors import ConfigError, UnreadableRequest
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import PLAIN_NAME
from guardrail.wire.replies import JSON, PLAIN_TEXT, Header

__all__ = ["TEXT", "WHOLE", "Found", "JsonShape", "Leaf", "PlainText", "Shape", "edit", "shape_of"]

TEXT: Final = "text"
"""Instead of JSONPaths: the body is no JSON, all of it is one text."""

WHOLE: Final[Address] = (-1,)
"""The address of a text that is the whole body. No JSON has it; ``()`` is the top of a JSON body."""


class Leaf(NamedTuple):
    """One text: which of the paths found it, and where."""

    path: int
    text: str
    address: Address


class Found(NamedTuple):
    """The texts of one body, and the JSON paths of what may hold text and cannot be read."""

    leaves: Sequence[Leaf]
    unreadable: Sequence[str] = ()


class Shape(Protocol):
    """A kind of body: reads its texts and writes one that holds a text of ours."""

    media_type: Header

    def parse(self, raw: bytes) -> Any:
        """Raises ``UnreadableRequest``."""
        ...

    def find(self, value: Any) -> Found:
        """The texts of a parsed body. Raises ``UnreadableRequest``."""
        ...

    def fill(self, text: str, more: Mapping[str, Any]) -> bytes:
        """A body that says ``text`` where texts stand; ``more`` are other fields of it."""
        ...


class JsonShape:
    """JSON with texts at some paths. Raises ``ConfigError`` for a path that is none; ``key`` names them."""

    media_type = JSON

    def __init__(self, paths: Sequence[str], key: str) -> None:
        if not paths:
            raise ConfigError(f"{key}: names no path; write at least one JSONPath, such as $.message")
        self._queries = [_compiled(path, key) for path in paths]

    @property
    def way(self) -> Address | None:
        """The first path, if it names one place whatever the body: there a text can be put."""
        steps: list[str | int] = []
        query = self._queries[0]
        if not query.singular_query():
            return None
        for segment in query.segments:
            selector = segment.selectors[0]
            if isinstance(selector, NameSelector):
                steps.append(selector.name)
            elif isinstance(selector, IndexSelector) and selector.index in (0, -1):
                steps.append(0)
            else:
                return None
        return tuple(steps)

    def parse(self, raw: bytes) -> Any:
        """Strictly: no key twice. Raises ``UnreadableRequest``."""
        return json_edit.loads_strict(raw)

    def find(self, value: Any) -> Found:
        """The texts in document order, path by path; what two paths match belongs to the first."""
        leaves: dict[Address, Leaf] = {}
        unreadable: list[str] = []
        for index, query in enumerate(self._queries):
            try:
                for node in query.finditer(value):
                    for address, text in _leaves(node.value, node.location, unreadable):
                        leaves.setdefault(address, Leaf(index, text, address))
            except jsonpath.JSONPathError:
                raise UnreadableRequest("the body is nested too deeply to be read") from None
        return Found([*leaves.values()], list(dict.fromkeys(unreadable)))

    def matches(self, value: Any) -> bool:
        """Whether a path matches anything but ``false`` and ``null``."""
        try:
            return any(
                node.value is not False and node.value is not None
                for query in self._queries
                for node in query.finditer(value)
            )
        except jsonpath.JSONPathError:
            return False

    def fill(self, text: str, more: Mapping[str, Any]) -> bytes:
        """The smallest body with ``text`` at the first path, and ``more`` beside it.

        Raises ``ConfigError`` where that path is not one place, or something of ``more`` stands in its way.
        """
        way = self.way
        if way is None:
            raise ConfigError("its first path must name one place, by names and [0] alone, such as $.reply")
        holder: list[Any] = [deepcopy(dict(more))] if more else [None]
        place: Any = holder
        last: str | int = 0
        for step in way:
            inner = place[last]
            if inner is None:
                inner = place[last] = {} if isinstance(step, str) else [None]
            if not isinstance(inner, dict if isinstance(step, str) else list):
                raise ConfigError("a field stands where a text has to be put")
            if isinstance(inner, dict):
                inner.setdefault(step, None)
            elif not inner:
                inner.append(None)
            place, last = inner, step
        if place[last] is not None:
            raise ConfigError("a field stands where a text has to be put")
        place[last] = text
        return orjson.dumps(holder[0])


class PlainText:
    """Text and nothing else, in UTF-8."""

    media_type = PLAIN_TEXT

    def parse(self, raw: bytes) -> str:
        """Raises ``UnreadableRequest`` for what is no UTF-8."""
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise UnreadableRequest("the body is no text in UTF-8") from None

    def find(self, value: str) -> Found:
        """The whole."""
        return Found([Leaf(0, value, WHOLE)])

    def fill(self, text: str, more: Mapping[str, Any]) -> bytes:
        """The text itself; no text has fields."""
        return text.encode()


def shape_of(paths: str | Sequence[str], key: str) -> Shape:
    """The shape that a route's ``input`` or ``output`` names. Raises ``ConfigError``."""
    if paths == TEXT:
        return PlainText()
    return JsonShape([paths] if isinstance(paths, str) else paths, key)


def edit(raw: bytes, texts: Mapping[Address, str]) -> bytes:
    """``raw`` with other texts at these addresses, every other byte as it was."""
    if WHOLE in texts:
        return texts[WHOLE].encode()
    if () in texts:  # a body that is one JSON string: its only address, and white space around it
        start = len(raw) - len(raw.lstrip())
        return raw[:start] + orjson.dumps(texts[()]) + raw[len(raw.rstrip()) :]
    return json_edit.edit(raw, texts)


def _compiled(path: str, key: str) -> jsonpath.JSONPathQuery:
    try:
        return jsonpath.compile(path)
    except jsonpath.JSONPathError as error:
        raise ConfigError(
            f"{key}: {path!r} is no JSONPath (RFC 9535): {str(error).split(',')[0]}"
        ) from None


def _leaves(value: Any, at: Address, unreadable: list[str]) -> Iterator[tuple[Address, str]]:
    """Every text in a value that a path matched; keys that may be text are named."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield at, orjson.dumps(value).decode()
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, (*at, place), unreadable)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not PLAIN_NAME.fullmatch(key):  # it may be text, and no edit reaches it
                unreadable.append(json_path((*at, key)))
            yield from _leaves(inner, (*at, key), unreadable)
