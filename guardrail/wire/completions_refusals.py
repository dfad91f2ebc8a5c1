"""Refusals in the shape of a text completion: as choices of a body and as chunks of a stream.

A completion has no field for a refusal: its words are the text, whatever form the text was to have.
"""

from __future__ import annotations

import time
from typing import Any

import orjson

from guardrail.core.decision import Decision
from guardrail.wire import sse
from guardrail.wire.chat_refusals import DONE, NO_USAGE, identified
from guardrail.wire.dialect import GuardedRequest
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply

__all__ = ["halted_choice", "refused_choice", "refused_request"]


def refused_choice(index: int, refusal: Refusal, *, spoke: bool = False) -> dict[str, Any]:
    """A choice that refuses; of one that ``spoke`` already only the end."""
    return {
        "index": index,
        "text": "" if spoke else refusal.message,
        "logprobs": None,
        "finish_reason": refusal.finish_reason,
    }


def refused_request(request: GuardedRequest, decision: Decision, refusal: Refusal) -> Reply:
    """A whole answer with as many refused choices as were asked for, as a body or as a stream."""
    head = _head(decision, request.model)
    choices = [refused_choice(index, refusal) for index in range(request.choices)]
    if not request.stream:
        return Reply(200, orjson.dumps(head | {"choices": choices, "usage": NO_USAGE}))
    chunks = [head | {"choices": [choice]} for choice in choices]
    if request.include_usage:
        chunks.append(head | {"choices": [], "usage": NO_USAGE})
    stream = b"".join([sse.encode(orjson.dumps(chunk)) for chunk in chunks])
    return Reply(200, stream + DONE, (EVENT_STREAM,))


def halted_choice(
    like: sse.Event | None,
    model: str,
    choice: int,
    decision: Decision,
    refusal: Refusal,
    *,
    spoke: bool,
) -> bytes:
    """The last chunk of one choice in mid-stream, in the identity (id, model) of the stream's own chunks.

    ``like`` is one of these; where there is none, ``model`` is what was asked for.
    """
    head = identified(_head(decision, model), like)
    chunk = head | {"choices": [refused_choice(choice, refusal, spoke=spoke)]}
    return sse.encode(orjson.dumps(chunk))


def _head(decision: Decision, model: str) -> dict[str, Any]:
    return {
        "id": f"cmpl-{decision.id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }
