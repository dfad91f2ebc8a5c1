"""A route of an app's own: which path, and where in its bodies and messages the texts stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import orjson

from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.errors import ConfigError
from guardrail.wire.replies import fault
from guardrail.wire.shapes import TEXT, Found, JsonShape, PlainText, Shape, shape_of

__all__ = ["WEBSOCKET", "Paths", "Route", "RouteText", "StreamForm", "placed", "segments_of"]

StreamForm = Literal["sse", "ndjson", "text"]
Paths = str | Sequence[str]

WEBSOCKET: Final = "websocket"
"""Stands in the place of a method, which are written in capitals."""
_FORMS: Final = get_args(StreamForm)
# What frameworks write variable parts with, and what never stands in the path that a server is asked for:
# it has neither a query nor a fragment, and its escapes are decoded.
_NO_PATH: Final = re.compile(r"[{}<>\[\]*?#%]|/:")


@dataclass(frozen=True, slots=True)
class Route:
    """One route of an app's own. Raises ``ConfigError`` for what cannot be guarded.

    ``path`` is matched exactly, but for a slash at its end. ``input`` and ``output`` are JSONPaths (RFC
    9535), or ``"text"``: the whole body is one text. Without ``output`` answers are not judged.
    ``context``: what is read with the prompt and not judged itself. ``stream``: the form in which answers
    are streamed, all of them or those to requests in which ``stream_if`` matches. ``delta``: where the text
    of an event stands, if not at ``output``. ``end``: where an event or a message says that the answer ends
    with it. ``websocket``: the route takes messages of a WebSocket instead of requests. ``refusal``: other
    fields of a body of ours.
    """

    path: str
    input: Paths
    output: Paths | None = None
    stream: StreamForm | None = None
    stream_if: Paths = ()
    delta: Paths | None = None
    context: Paths = ()
    end: Paths = ()
    method: str = "POST"
    websocket: bool = False
    refusal: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for broken, message in _laws(self):
            if broken:
                raise ConfigError(message)
        RouteText(self)  # which compiles the paths


class RouteText:
    """How the bodies and messages of one route are read, and what ours look like."""

    def __init__(self, route: Route) -> None:
        self.input = shape_of(route.input, "input")
        self.context = JsonShape(_listed(route.context), "context") if route.context else None
        self.output = None if route.output is None else shape_of(route.output, "output")
        self.event = self.output if route.delta is None else shape_of(route.delta, "delta")
        self.stream_if = JsonShape(_listed(route.stream_if), "stream_if") if route.stream_if else None
        self.end = JsonShape(_listed(route.end), "end") if route.end else None
        self.prompt_paths = " or ".join(_listed(route.input))
        self._more = dict(route.refusal)
        for key, shape in (("output", self.output), ("delta", self.event)):
            try:
                self.say("", shape)
            except ConfigError as error:
                raise ConfigError(f"{key}: a refusal is written there, and {error}") from None

    def read_prompt(self, value: Any) -> Conversation:
        """The prompt in a parsed body as one turn of a user's, behind its context.

        Raises ``UnreadableRequest``.
        """
        found = self.input.find(value)
        prompt = Turn("user", segments_of(found))
        if self.context is not None:
            prompted = {leaf.address for leaf in found.leaves}
            before = segments_of(self.context.find(value))
            before = tuple(segment for segment in before if segment.address not in prompted)
            if before:
                return Conversation((Turn("system", before), prompt), tuple(found.unreadable))
        return Conversation((prompt,), tuple(found.unreadable))

    def wants_stream(self, value: Any) -> bool:
        """Whether a parsed request asks for a stream, where the route has any."""
        return self.stream_if is None or self.stream_if.matches(value)

    def say(self, message: str, shape: Shape | None) -> bytes:
        """A body of this shape, which is ``output`` or ``event``, that says this."""
        return (shape or PlainText()).fill(message, self._more)

    def fail(self, code: str, message: str, **more: str) -> bytes:
        """A message that says so, with an ``error`` object beside it where there can be one."""
        said = self.say(message, self.output)
        body: Any = {}
        if self.output is not None:
            body = orjson.loads(said) if isinstance(self.output, JsonShape) else None
        if not isinstance(body, dict):
            return said
        error = {**fault(code, message, type_="guardrail_error"), **more}
        return orjson.dumps({**body, "error": error})


def placed(routes: Iterable[Route]) -> dict[tuple[str, str], Route]:
    """By method (or ``WEBSOCKET``) and path. Raises ``ConfigError`` where two have the same."""
    own: dict[tuple[str, str], Route] = {}
    for route in routes:
        key = (WEBSOCKET if route.websocket else route.method, route.path.rstrip("/"))
        if key in own:
            raise ConfigError(f"route {route.path} stands there twice; give one route both inputs")
        own[key] = route
    return own


def segments_of(found: Found) -> tuple[Segment, ...]:
    """The texts that were found."""
    return tuple(Segment(leaf.text, leaf.address) for leaf in found.leaves)


def _laws(route: Route) -> Iterator[tuple[bool, str]]:
    """What makes a route unsound, and what to do about it."""
    answers = route.stream or route.delta or route.end or route.refusal
    event = route.output if route.delta is None else route.delta
    yield not route.path.startswith("/"), f"path: {route.path!r} does not begin with /"
    odd = _NO_PATH.search(route.path)
    yield (
        odd is not None,
        f"path: {route.path!r} holds {odd[0] if odd else ''!r}; it is compared as it is, with no variable "
        "parts, query, fragment or escapes",
    )
    yield (
        not (route.method.isalpha() and route.method.isupper()),
        "method: write it in capitals, such as POST",
    )
    yield route.stream not in (None, *_FORMS), f"stream: is none of {', '.join(_FORMS)}"
    yield (
        bool(route.context or route.stream_if) and route.input == TEXT,
        "context and stream_if: a plain text has no other places; write input as JSONPaths",
    )
    yield (
        route.output is None and bool(answers),
        "output: is missing, and stream, delta, end and refusal say something about answers",
    )
    yield (
        (event == TEXT and bool(route.end)) or (event == route.output == TEXT and bool(route.refusal)),
        "output: a plain text has no fields for end and refusal; write it as JSONPaths",
    )
    yield (
        route.stream == "text" and event != TEXT,
        "output: a stream of plain text has no JSONPaths; write output: text, or delta: text",
    )
    yield (
        route.stream == "ndjson" and event == TEXT,
        "output: a stream of JSON lines needs JSONPaths; for lines of text write stream: text",
    )
    yield (
        route.websocket and (route.stream is not None or route.method != "POST"),
        "websocket: its messages have no method and are no stream; remove these",
    )
    yield (
        (route.delta is not None or bool(route.stream_if)) and route.stream is None,
        "delta and stream_if: are for streams; write stream too, or remove them",
    )
    yield (
        bool(route.end) and not (route.stream or route.websocket),
        "end: tells where a stream ends; write stream or websocket too, or remove it",
    )


def _listed(paths: Paths) -> Sequence[str]:
    return [paths] if isinstance(paths, str) else paths
