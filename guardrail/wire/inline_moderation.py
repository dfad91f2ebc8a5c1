"""OpenAI's inline moderation: asked for in ``moderation``, it tells in the answer what was decided.

Shapes: ``openai/types/chat`` and ``openai/types/responses`` (openai-python 2.54). The field is read here
and not forwarded: else two moderators would write one answer's ``moderation``. Our policies always decide:
``mode: block`` is what is done anyway, and ``mode: score`` does not switch blocking off: a caller may
tighten, never weaken. What nobody judged is an ``error``, never ``flagged: false``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from guardrail.core.decision import Decision
from guardrail.core.verdict import Verdict
from guardrail.errors import UnreadableRequest
from guardrail.wire import json_edit, moderations, sse
from guardrail.wire.annotated import (
    AnnotatedStream,
    AnswerAnnotation,
    chunk_in,
    chunk_like,
    events_in,
    is_done,
)
from guardrail.wire.dialect import Annotation, DecisionOf, EventStream

__all__ = ["ChatModeration", "ResponsesModeration", "take_moderation"]

_Json = dict[str, Any]
_FIELD: Final = "moderation"
_MODES: Final = ("score", "block")
_ENDS: Final = ("response.completed", "response.incomplete")


def take_moderation(raw: bytes, body: _Json, form: Annotation) -> tuple[bytes, tuple[Annotation, ...]]:
    """The body without ``moderation``, and ``form`` where it is asked for. Raises ``UnreadableRequest``."""
    asked = body.get(_FIELD)
    if asked is None:
        return raw, ()
    _object(asked, _FIELD, ("model", "policy"))
    if not isinstance(asked.get("model"), str):
        raise UnreadableRequest("moderation.model is missing or no text", param="moderation.model")
    policy = asked.get("policy")
    if policy is not None:
        _object(policy, "moderation.policy", ("input", "output"))
        for side in ("input", "output"):
            at = f"moderation.policy.{side}"
            if policy.get(side) is not None:
                _object(policy[side], at, ("mode",))
                if policy[side].get("mode") not in _MODES:
                    raise UnreadableRequest(f"{at}.mode is neither score nor block", param=f"{at}.mode")
    return json_edit.edit(raw, {(_FIELD,): json_edit.REMOVE}), (form,)


def _object(value: Any, at: str, keys: Sequence[str]) -> None:
    if not isinstance(value, dict):
        raise UnreadableRequest(f"{at} is no object", param=at)
    if not value.keys() <= set(keys):  # the key is the caller's own
        raise UnreadableRequest(f"{at} has a key that is none of {', '.join(keys)}", param=at)


class ChatModeration(AnswerAnnotation):
    """For chat completions: lists of results, one for each choice, and one chunk of a stream."""

    def body(self, raw: bytes, before: Decision, found: DecisionOf) -> bytes:
        """The body with what was decided about prompt and choices."""
        body = orjson.loads(raw)
        body[_FIELD] = _told(before, [found(position) for position in range(len(body["choices"]))])
        return orjson.dumps(body)

    def events(self, events: Sequence[sse.Event], before: Decision, answer: Decision | None) -> bytes:
        """The events, and behind their last chunk one that tells of them."""
        chunks = [chunk for event in events if (chunk := chunk_in(event)) is not None]
        ends = [choice for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
        told = chunk_like(chunks[-1], {_FIELD: _told(before, [answer] * len(ends))})
        *pieces, done = [event.raw for event in events]
        return b"".join([*pieces, told, done])

    def stream(self, stream: EventStream, before: Decision, found: DecisionOf, choices: int) -> EventStream:
        """The stream, with a chunk of its own behind the end of the last choice."""
        return _ChatStream(stream, before, found, choices)


class ResponsesModeration(AnswerAnnotation):
    """For responses: one result for the prompt and one for the answer; in a stream, in its last event."""

    def body(self, raw: bytes, before: Decision, found: DecisionOf) -> bytes:
        """The body with what was decided about prompt and answer."""
        body = orjson.loads(raw)
        body[_FIELD] = _told_once(before, found(0))
        return orjson.dumps(body)

    def events(self, events: Sequence[sse.Event], before: Decision, answer: Decision | None) -> bytes:
        """The events, of which the last tells of them."""
        return _ended(events, before, lambda _: answer)

    def stream(self, stream: EventStream, before: Decision, found: DecisionOf, choices: int) -> EventStream:
        """The stream, whose last event tells of it."""
        return _ResponsesStream(stream, before, found, choices)


class _ChatStream(AnnotatedStream):
    """Tells behind the end of the last choice; in front of ``[DONE]`` where not all of them ended."""

    def __init__(self, stream: EventStream, before: Decision, found: DecisionOf, choices: int) -> None:
        super().__init__(stream, before, found, choices)
        self._over: set[int] = set()
        self._known: _Json = {}
        self._told = False

    def _tell(self, raw: bytes, finished: Sequence[int]) -> bytes:
        self._over.update(finished)
        if self._told or not (finished or b"[DONE]" in raw):
            return raw
        events = events_in(raw)
        chunks = [chunk for event in events if (chunk := chunk_in(event)) is not None]
        self._known = chunks[-1] if chunks else self._known
        if chunks and len(self._over) >= self._choices:
            return raw + self._chunk()
        return self._chunk() + raw if any(is_done(event) for event in events) else raw

    def _chunk(self) -> bytes:
        self._told = True
        missing = [None] * (self._choices - len(self._over))
        answers = [self._found(choice) for choice in sorted(self._over)]
        return chunk_like(self._known, {_FIELD: _told(self._before, [*answers, *missing])})


class _ResponsesStream(AnnotatedStream):
    def _tell(self, raw: bytes, finished: Sequence[int]) -> bytes:
        return _ended(events_in(raw), self._before, self._found) if finished else raw


def _ended(events: Sequence[sse.Event], before: Decision, found: DecisionOf) -> bytes:
    """The events; the response in the last one tells what was decided."""
    out = []
    for event in events:
        body = orjson.loads(event.data) if event.data else {}
        if body.get("type") in _ENDS:
            body["response"][_FIELD] = _told_once(before, found(0))
            out.append(sse.replace(event.raw, orjson.dumps(body)))
        else:
            out.append(event.raw)
    return b"".join(out)


def _told(before: Decision, answers: Sequence[Decision | None]) -> _Json:
    return {"input": _listed([before]), "output": _listed(answers)}


def _told_once(before: Decision, answer: Decision | None) -> _Json:
    return {"input": _one(before), "output": _one(answer)}


def _listed(decisions: Sequence[Decision | None]) -> _Json:
    results = [_one(decision) for decision in decisions]
    failed = next((result for result in results if result["type"] == "error"), None)
    return failed or {"type": "moderation_results", "model": moderations.MODEL, "results": results}


def _one(decision: Decision | None) -> _Json:
    if decision is not None and decision.unchecked:
        return _error("guardrail_unavailable", "a check could not be made")
    judged = [f for f in decision.findings if isinstance(f, Verdict) and f.acts] if decision else []
    if decision is None or not (judged or decision.floor):
        return _error("guardrail_not_judged", "no policy judged this")
    result = moderations.result(decision, [f.policy for f in judged], ["text"])
    return {"type": "moderation_result", "model": moderations.MODEL, **result}


def _error(code: str, message: str) -> _Json:
    return {"type": "error", "code": code, "message": message}
