"""Refusals in the shape of a response: as a body and as the events of a stream.

The words stand in a part of type ``refusal``, as in the refusals of OpenAI's own models, and the response
is ``incomplete`` for the reason ``content_filter``; with ``finish_reason: stop`` it is ``completed``. The
message that holds the words is complete either way. SDKs never parse a refusal as structured output, so it
is the same where that was asked for. ``output_text`` of OpenAI's SDK does not hold the words.

OpenAI's Python SDK gives a final response out of ``responses.stream`` only where the stream ends in
``response.completed``; for ``response.incomplete``, as for one of OpenAI's own, it raises ``RuntimeError``
(openai/lib/streaming/responses), and only the events show the words.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from guardrail.core.decision import Decision
from guardrail.wire import sse
from guardrail.wire.dialect import GuardedRequest
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply
from guardrail.wire.responses_shapes import RESPONSE

__all__ = [
    "begun",
    "ended",
    "error_event",
    "final_event",
    "refusal_events",
    "refusal_item",
    "refused_body",
    "refused_request",
    "written",
]

_NO_USAGE: Final = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}
_Event = dict[str, Any]


def begun(model: str, decision: Decision) -> dict[str, Any]:
    """A response of our own that holds nothing yet; with all fields that OpenAI's own must have."""
    return {
        "id": f"resp_{decision.id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def ended(response: Mapping[str, Any], output: Sequence[Any], refusal: Refusal) -> dict[str, Any]:
    """The response at its end, with this output and nothing else that may hold text of it."""
    whole = refusal.finish_reason == "stop"
    return {
        **{key: value for key, value in response.items() if key in RESPONSE and RESPONSE[key] is None},
        "status": "completed" if whole else "incomplete",
        "incomplete_details": None if whole else {"reason": "content_filter"},
        "output": output,
    }


def refusal_item(response: Mapping[str, Any], refusal: Refusal) -> dict[str, Any]:
    """The message that refuses, in a response of this identity."""
    name = str(response.get("id") or "").removeprefix("resp_")
    return {
        "id": f"msg_{name}_refusal",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "refusal", "refusal": refusal.message}],
    }


def refused_body(body: Mapping[str, Any], refusal: Refusal) -> bytes:
    """A response with the refusal in place of all its output."""
    return orjson.dumps(ended(body, [refusal_item(body, refusal)], refusal))


def refused_request(request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
    """A whole answer that refuses, as a body or as a stream."""
    head = begun(request.model, decision)
    item = refusal_item(head, refusal)
    final = {**ended(head, [item], refusal), "usage": _NO_USAGE}
    if not request.stream:
        return Reply(200, orjson.dumps(final))
    events = [
        {"type": "response.created", "response": head},
        {"type": "response.in_progress", "response": head},
        *refusal_events(item, 0),
        final_event(final),
    ]
    return Reply(200, written(events), (EVENT_STREAM,))


def refusal_events(item: Mapping[str, Any], at: int) -> Iterator[_Event]:
    """The events of a message that refuses, which is at this place in the output."""
    where = {"output_index": at, "item_id": item["id"], "content_index": 0}
    [part] = item["content"]
    words = part["refusal"]
    empty = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": at, "item": empty}
    yield {"type": "response.content_part.added", **where, "part": {**part, "refusal": ""}}
    yield {"type": "response.refusal.delta", **where, "delta": words}
    yield {"type": "response.refusal.done", **where, "refusal": words}
    yield {"type": "response.content_part.done", **where, "part": part}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def final_event(response: Mapping[str, Any]) -> _Event:
    """The last event of a stream."""
    return {"type": f"response.{response['status']}", "response": response}


def error_event(error: Mapping[str, Any]) -> _Event:
    """An error in mid-stream.

    As documented its words stand in the event itself; the object ``error``, which OpenAI's and other
    servers send, is what makes SDKs raise.
    """
    return {
        "type": "error",
        **{key: error.get(key) for key in ("code", "message", "param")},
        "error": error,
    }


def written(events: Iterable[_Event], start: int = 0) -> bytes:
    """Events as bytes, numbered from ``start`` on."""
    return b"".join(
        sse.encode(orjson.dumps({**event, "sequence_number": number}), event["type"])
        for number, event in enumerate(events, start)
    )
