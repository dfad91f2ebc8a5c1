"""Azure's annotations of a chat completion: what was decided about prompt and choices, in the answer.

Shapes: learn.microsoft.com/azure/ai-services/openai/concepts/content-filter-annotations. Keys are the
ids of policies, each with ``filtered`` and ``detected``, as Azure's custom block lists have them; what
could not be checked has no entry, and is named by an ``error`` beside those that were. A body and a first
chunk tell of the prompt in ``prompt_filter_results``; a choice, in a stream with its last chunk, tells of
itself in ``content_filter_results``. What an upstream has put there already stays beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision, Failure
from guardrail.wire import sse
from guardrail.wire.dialect import Delta, Dialect, EventStream, StreamEvent
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply, filter_results

__all__ = ["AnnotatedStream", "annotated_body", "annotated_reply", "annotates"]

_Json = dict[str, Any]
_PROMPT: Final = "prompt_filter_results"
_CHOICE: Final = "content_filter_results"


def annotates(dialect: Dialect) -> bool:
    """Whether answers of this dialect can be annotated."""
    return dialect.name == "chat.completions"


def annotated_body(raw: bytes, before: Decision, answers: Mapping[int, Decision]) -> bytes:
    """The body with what was decided; ``answers`` are about the choices at these positions."""
    body = orjson.loads(raw)
    _tell_prompt(body, before)
    for position, choice in enumerate(body["choices"]):
        _tell_choice(choice, answers.get(position))
    return orjson.dumps(body)


def annotated_reply(reply: Reply, before: Decision, answer: Decision | None = None) -> Reply:
    """The refusal with what was decided; one that is an error says it already."""
    if reply.status != 200:
        return reply
    if EVENT_STREAM not in reply.headers:
        choices = orjson.loads(reply.body)["choices"]
        answers = dict.fromkeys(range(len(choices)), answer) if answer else {}
        return Reply(reply.status, annotated_body(reply.body, before, answers), reply.headers)
    events = sse.SseDecoder().feed(reply.body)
    told = b"".join([_finished(event, lambda _: answer) for event in events])
    return Reply(reply.status, _first(events[0], before) + told, reply.headers)


class AnnotatedStream:
    """A stream of chat completions that tells what was decided.

    ``found`` is asked for the decision about a choice when that has ended.
    """

    def __init__(self, stream: EventStream, before: Decision, found: Callable[[int], Decision]) -> None:
        self._stream = stream
        self._before = before
        self._found = found
        self._begun = False
        self.read: Callable[[Sequence[sse.Event]], Iterator[StreamEvent]] = stream.read
        self.split: Callable[[StreamEvent], Sequence[tuple[StreamEvent, Delta]]] = stream.split
        self.end: Callable[[], bytes] = stream.end
        self.error: Callable[[str, str], bytes] = stream.error

    def write(self, read: StreamEvent, texts: Mapping[Address, str], dropped: Sequence[int]) -> bytes:
        """As the stream does; what was decided is in the first event and in those that end a choice."""
        raw = self._stream.write(read, texts, dropped)
        if read.finished:
            raw = self._ended(raw)
        return self._led(raw)

    def halt(self, choice: int, decision: Decision, refusal: Refusal, *, spoke: bool) -> bytes:
        """As the stream does, with what was decided."""
        return self._led(self._ended(self._stream.halt(choice, decision, refusal, spoke=spoke)))

    def _ended(self, raw: bytes) -> bytes:
        return b"".join([_finished(event, self._found) for event in _events(raw)])

    def _led(self, raw: bytes) -> bytes:
        """The events, behind what is told of the prompt where they are the first."""
        if self._begun:
            return raw
        events = _events(raw)
        first = next((place for place, event in enumerate(events) if _chunk(event) is not None), None)
        if first is None:
            return raw
        self._begun = True
        chunk = _chunk(events[first]) or {}
        if _PROMPT in chunk:  # the upstream is Azure
            _tell_prompt(chunk, self._before)
            told = sse.replace(events[first].raw, orjson.dumps(chunk))
        else:
            told = _first(events[first], self._before) + events[first].raw
        pieces = [event.raw for event in events]
        return b"".join([*pieces[:first], told, *pieces[first + 1 :]])


def _events(raw: bytes) -> list[sse.Event]:
    decoder = sse.SseDecoder()
    events = decoder.feed(raw)
    rest = decoder.flush()
    return events if rest is None else [*events, rest]


def _chunk(event: sse.Event) -> _Json | None:
    """The chunk in an event; None for a comment, ``[DONE]`` and an error."""
    if event.data is None or event.data.strip() == b"[DONE]":
        return None
    chunk: _Json = orjson.loads(event.data)
    return chunk if "choices" in chunk else None


def _finished(event: sse.Event, found: Callable[[int], Decision | None]) -> bytes:
    """The event, in which choices that end tell of themselves."""
    chunk = _chunk(event)
    ending = [c for c in (chunk or {}).get("choices") or () if c.get("finish_reason")]
    for choice in ending:
        _tell_choice(choice, found(choice.get("index", 0)))
    return sse.replace(event.raw, orjson.dumps(chunk)) if ending else event.raw


def _first(event: sse.Event, before: Decision) -> bytes:
    """A chunk about the prompt, in the identity of the chunk in ``event``."""
    chunk = {"id": "", "object": "chat.completion.chunk", "created": int(time.time()), "model": ""}
    known = _chunk(event) or {}
    chunk |= {key: known[key] for key in chunk if key in known}
    told: _Json = {**chunk, "choices": []}
    _tell_prompt(told, before)
    return sse.encode(orjson.dumps(told))


def _tell_prompt(body: _Json, before: Decision) -> None:
    results = body.get(_PROMPT) or [{"prompt_index": 0, _CHOICE: {}}]
    _tell_choice(results[0], before)
    body[_PROMPT] = results


def _tell_choice(choice: _Json, decision: Decision | None) -> None:
    choice[_CHOICE] = (choice.get(_CHOICE) or {}) | (_results(decision) if decision else {})


def _results(decision: Decision) -> _Json:
    failed = [finding for finding in decision.findings if isinstance(finding, Failure)]
    results: _Json = {**filter_results([f for f in decision.findings if not isinstance(f, Failure)])}
    if failed:
        reasons = ", ".join([f"{finding.policy.id}={finding.code.value}" for finding in failed])
        results["error"] = {"code": "content_filter_error", "message": f"not checked: {reasons}"}
    return results
