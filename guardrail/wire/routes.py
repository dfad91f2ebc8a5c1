"""Routes of an app's own as dialects, for apps that are not OpenAI-shaped.

The prompt is what stands at the route's ``input`` paths, the answer what stands at its ``output`` paths. A
refusal is the smallest body that has its words at the first ``output`` path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from guardrail.core.conversation import Address, Turn
from guardrail.core.decision import Decision
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire import shapes
from guardrail.wire.dialect import AnswerForm, Choice, GuardedRequest
from guardrail.wire.frames import Frames, LineFrames, SseFrames, TextFrames
from guardrail.wire.openai_body import take_policies
from guardrail.wire.replies import Refusal, Reply, openai_error, refusal_error
from guardrail.wire.route import Route, RouteText, StreamForm, segments_of
from guardrail.wire.route_stream import RouteStream
from guardrail.wire.shapes import JsonShape

__all__ = ["RouteDialect"]

_FRAMES: Final[Mapping[StreamForm, type[SseFrames] | type[LineFrames] | type[TextFrames]]] = {
    "sse": SseFrames,
    "ndjson": LineFrames,
    "text": TextFrames,
}
_EVENTS: Final = b"text/event-stream"


class RouteDialect:
    """One route."""

    def __init__(self, route: Route) -> None:
        self.name = f"route {route.path}"
        self._text = RouteText(route)
        self._form = route.stream

    def read_request(self, raw: bytes) -> GuardedRequest:
        """Raises ``UnreadableRequest``, also where no path finds a prompt."""
        body: Any = self._text.input.parse(raw)
        conversation = self._text.read_prompt(body)
        if not conversation.turns[-1].segments:
            raise UnreadableRequest("the body holds no prompt", param=self._text.prompt_paths)
        raw, added = take_policies(raw, body) if isinstance(body, dict) else (raw, ())
        return GuardedRequest(
            raw=raw,
            conversation=conversation,
            model="",
            stream=self._form is not None and self._text.wants_stream(body),
            files=True,
            reads=self._reads,
            frames=self._frames,
            choices=1,
            include_usage=False,
            added_policies=added,
        )

    def edit(self, raw: bytes, texts: Mapping[Address, str]) -> bytes:
        """New texts in place, every other byte as it was."""
        return shapes.edit(raw, texts)

    def drop(self, raw: bytes, turns: Sequence[int]) -> bytes:
        """All of it stays: the prompt of a route is one turn, and without it there is none."""
        return raw

    def read_response(self, raw: bytes) -> list[Choice]:
        """The answer as one choice. Raises ``UnreadableResponse``."""
        output = self._text.output
        if output is None:
            return []
        try:
            found = output.find(output.parse(raw))
        except UnreadableRequest:
            raise UnreadableResponse("the upstream's answer is not what its route says") from None
        unreadable = tuple(found.unreadable) if found.leaves else ("$",)
        return [Choice(0, Turn("assistant", segments_of(found)), unreadable)]

    def refuse_choices(self, raw: bytes, refused: Mapping[int, Refusal], *, structured: bool) -> bytes:
        """A body of ours: whatever else stands in the app's may tell of what was refused."""
        return self._text.say(refused[0].message, self._text.output)

    def refuse(self, request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
        """The refusal as an answer, or in the error form; always so where answers have no shape."""
        output = self._text.output
        if refusal.style == "error" or output is None:
            return refusal_error(decision, refusal)
        if not request.stream:
            return Reply(200, self._text.say(refusal.message, output), (output.media_type,))
        frames = self._frames()
        event = self._text.say(refusal.message, self._text.event)
        return Reply(200, frames.encode(event), (frames.media_type,))

    def error(self, status: int, code: str, message: str, param: str | None = None) -> Reply:
        """OpenAI's error envelope."""
        return openai_error(status, code, message, param)

    def stream(self, request: GuardedRequest) -> RouteStream:
        """A new one for each stream."""
        return RouteStream(self._text, self._frames())

    def _reads(self, content_type: bytes) -> AnswerForm:
        """How an answer of this type is read.

        Events are told by their type. Lines and text come under many names: all but JSON is taken for them.
        """
        if self._text.output is None:
            return "nothing"
        kind = content_type.partition(b";")[0].strip().lower()
        if self._form in ("ndjson", "text"):
            json = kind == b"application/json" and isinstance(self._text.output, JsonShape)
            return "body" if json else "stream"
        return "stream" if kind == _EVENTS else "body"

    def _frames(self) -> Frames:
        return _FRAMES[self._form or "sse"]()
