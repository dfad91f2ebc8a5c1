"""Requests, answers and chunks of the completions dialect for its tests, plain and drawn at random."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import strategies as st
from openai.types import Completion

from guardrail.wire.completions import CompletionsDialect
from guardrail.wire.completions_stream import CompletionsStream
from guardrail.wire.dialect import GuardedRequest, StreamEvent
from guardrail.wire.sse import Event
from tests.wire.chats import checked, event, mostly, numbers, shaped, strings, values

COMPLETIONS = CompletionsDialect()


def body(prompt: Any = "Once upon", **fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "prompt": prompt, **fields})


def asked(prompt: Any = "Once upon", **fields: Any) -> GuardedRequest:
    return COMPLETIONS.read_request(body(prompt, **fields))


def choice(text: Any, index: int = 0, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason, **fields}


def answer(*choices: Any, **fields: Any) -> bytes:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_001, "model": "theirs"}
    return orjson.dumps({**head, "choices": list(choices), **fields})


def chunk(*choices: Any, **fields: Any) -> Event:
    return event(answer(*choices, **fields))


def opened(**fields: Any) -> CompletionsStream:
    return CompletionsStream(asked(stream=True, **fields))


def read_one(one: Event) -> StreamEvent:
    [found] = opened().read([one])
    return found


def completions(stream: bytes) -> list[Completion]:
    """The chunks of a stream of our own in the SDK's type, checked strictly."""
    return checked(stream, Completion)


drawn_choices = shaped(
    index=st.integers(0, 3),
    text=strings,
    reasoning=strings,
    reasoning_content=strings,
    delta=shaped(role=strings, content=strings, token_id=numbers, tool_calls=values),
    logprobs=values,
    token_ids=st.lists(st.integers(0, 9), max_size=2),
    finish_reason=strings,
    x=values,
)

drawn_answers = mostly(
    st.builds(
        lambda fields, own: fields | {"choices": own},
        shaped(id=strings, model=strings, token=values, usage=values, x=values),
        mostly(st.lists(mostly(drawn_choices), min_size=1, max_size=3)),
    )
)
