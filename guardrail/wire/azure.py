"""Azure's annotations of a chat completion: what was decided about prompt and choices, in the answer.

Shapes: learn.microsoft.com/azure/ai-services/openai/concepts/content-filter-annotations. Keys are the
ids of policies, each with ``filtered`` and ``detected``, as Azure's custom block lists have them; what
could not be checked has no entry, and is named by an ``error`` beside those that were. A body and a first
chunk tell of the prompt in ``prompt_filter_results``; a choice, in a stream with its last chunk, tells of
itself in ``content_filter_results``. What an upstream has put there already stays beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from guardrail.core.decision import Decision, Failure
from guardrail.wire import sse
from guardrail.wire.annotated import AnnotatedStream, AnswerAnnotation, chunk_in, chunk_like, events_in
from guardrail.wire.dialect import DecisionOf, Dialect, EventStream
from guardrail.wire.replies import filter_results

__all__ = ["Annotations", "annotates"]

_Json = dict[str, Any]
_PROMPT: Final = "prompt_filter_results"
_CHOICE: Final = "content_filter_results"


def annotates(dialect: Dialect) -> bool:
    """Whether answers of this dialect can be annotated."""
    return dialect.name == "chat.completions"


class Annotations(AnswerAnnotation):
    """Azure's form."""

    def body(self, raw: bytes, before: Decision, found: DecisionOf) -> bytes:
        """The body with what was decided about the prompt and the choice at each position."""
        body = orjson.loads(raw)
        _tell_prompt(body, before)
        for position, choice in enumerate(body["choices"]):
            _tell_choice(choice, found(position))
        return orjson.dumps(body)

    def events(self, events: Sequence[sse.Event], before: Decision, answer: Decision | None) -> bytes:
        """The events, behind a chunk that tells of the prompt."""
        told = [_finished(event, lambda _: answer) for event in events]
        return b"".join([_first(chunk_in(events[0]) or {}, before), *told])

    def stream(self, stream: EventStream, before: Decision, found: DecisionOf, choices: int) -> EventStream:
        """The stream; its first event tells of the prompt, and those that end a choice of that."""
        return _Stream(stream, before, found, choices)


class _Stream(AnnotatedStream):
    _begun = False

    def _tell(self, raw: bytes, finished: Sequence[int]) -> bytes:
        if finished:
            raw = b"".join([_finished(event, self._found) for event in events_in(raw)])
        return raw if self._begun else self._led(raw)

    def _led(self, raw: bytes) -> bytes:
        """The events, behind what is told of the prompt where a chunk is among them."""
        events = events_in(raw)
        for place, event in enumerate(events):
            chunk = chunk_in(event)
            if chunk is None:
                continue
            self._begun = True
            if _PROMPT in chunk:  # the upstream is Azure
                _tell_prompt(chunk, self._before)
                led = sse.replace(event.raw, orjson.dumps(chunk))
            else:
                led = _first(chunk, self._before) + event.raw
            pieces = [event.raw for event in events]
            return b"".join([*pieces[:place], led, *pieces[place + 1 :]])
        return raw


def _finished(event: sse.Event, found: DecisionOf) -> bytes:
    """The event, in which choices that end tell of themselves."""
    chunk = chunk_in(event)
    ending = [c for c in (chunk or {}).get("choices") or () if c.get("finish_reason")]
    for choice in ending:
        _tell_choice(choice, found(choice.get("index", 0)))
    return sse.replace(event.raw, orjson.dumps(chunk)) if ending else event.raw


def _first(known: _Json, before: Decision) -> bytes:
    """A chunk about the prompt, in the identity of a known one."""
    told: _Json = {}
    _tell_prompt(told, before)
    return chunk_like(known, told)


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
