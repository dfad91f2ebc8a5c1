"""Refusals in the shape of a chat completion: as choices of a body and as chunks of a stream.

Where the request asked for structured output the words stand in ``refusal`` and the content is null, as
in the refusals of OpenAI's own models (platform.openai.com/docs/guides/structured-outputs, "Refusals"):
clients parse the content of such an answer. Everywhere else they are the content, which all clients show.

OpenAI's Python SDK gives such a refusal out of ``parse`` and ``stream`` where the choice ends in ``stop``;
for ``content_filter`` they raise ``ContentFilterFinishReasonError`` instead (openai/lib/_parsing and
openai/lib/streaming/chat), and only ``create`` shows the words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.wire import json_edit, sse
from guardrail.wire.dialect import GuardedRequest
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply

__all__ = [
    "DONE",
    "NO_USAGE",
    "halted_choice",
    "identified",
    "refused_choice",
    "refused_choices",
    "refused_request",
]

DONE: Final = b"data: [DONE]\n\n"

NO_USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def refused_choice(index: int, refusal: Refusal, *, structured: bool) -> dict[str, Any]:
    """A choice of a body that refuses."""
    said, unsaid = ("refusal", "content") if structured else ("content", "refusal")
    return {
        "index": index,
        "message": {"role": "assistant", said: refusal.message, unsaid: None},
        "logprobs": None,
        "finish_reason": refusal.finish_reason,
    }


def refused_choices(
    raw: bytes, refused: Mapping[int, Refusal], choice: Callable[[int, Refusal], dict[str, Any]]
) -> bytes:
    """The body with a refused ``choice`` in place of the one at each position; it keeps its index."""
    choices = orjson.loads(raw)["choices"]
    changes: dict[Address, object] = {}
    for position, refusal in refused.items():
        index = choices[position].get("index", position)
        changes["choices", position] = choice(index, refusal)
    return json_edit.edit(raw, changes)


def refused_request(request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
    """A whole answer with as many refused choices as were asked for, as a body or as a stream."""
    head = _head(decision) | {"model": request.model}
    structured = request.structured
    if not request.stream:
        choices = [refused_choice(i, refusal, structured=structured) for i in range(request.choices)]
        body = head | {"object": "chat.completion", "choices": choices, "usage": NO_USAGE}
        return Reply(200, orjson.dumps(body))
    said = "refusal" if structured else "content"
    chunks = []
    for index in range(request.choices):
        chunks.append(_chunk(head, index, {"role": "assistant", "content": None if structured else ""}))
        chunks.append(_chunk(head, index, {said: refusal.message}))
        chunks.append(_chunk(head, index, {}, refusal.finish_reason))
    if request.include_usage:
        chunks.append(sse.encode(orjson.dumps(head | {"choices": [], "usage": NO_USAGE})))
    return Reply(200, b"".join(chunks) + DONE, (EVENT_STREAM,))


def halted_choice(
    last: sse.Event | None,
    choice: int,
    decision: Decision,
    refusal: Refusal,
    *,
    spoke: bool,
    structured: bool,
) -> bytes:
    """The end of one choice in mid-stream, in the identity (id, model) of the stream's own chunks.

    A choice that never ``spoke`` gets the refusal's words first. A structured one gets them always: its
    content broke off, and where there is a refusal clients do not parse it.
    """
    head = identified(_head(decision), last)
    end = _chunk(head, choice, {}, refusal.finish_reason)
    if spoke and not structured:
        return end
    delta = {} if spoke else {"role": "assistant"}  # clients add up what is said twice
    delta["refusal" if structured else "content"] = refusal.message
    return _chunk(head, choice, delta) + end


def identified(head: dict[str, Any], chunk: sse.Event | None) -> dict[str, Any]:
    """The head of a chunk of ours, with the id and model of the stream's own ones where there is one."""
    if chunk is None or not chunk.data:
        return head
    body = orjson.loads(chunk.data)
    return head | {key: body[key] for key in head if key in body}


def _head(decision: Decision) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{decision.id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": "",
    }


def _chunk(
    head: dict[str, Any], index: int, delta: dict[str, Any], finish_reason: str | None = None
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return sse.encode(orjson.dumps(head | {"choices": [choice]}))
