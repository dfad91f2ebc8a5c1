"""What the requests of OpenAI's routes have in common: what shapes an answer, and text that nobody knows.

Shapes: platform.openai.com/docs/api-reference, and what vLLM adds to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from guardrail.core.addition import Addition
from guardrail.core.conversation import json_path
from guardrail.errors import UnreadableRequest
from guardrail.wire import json_edit
from guardrail.wire.chat_messages import get
from guardrail.wire.controls import read_guardrails

__all__ = [
    "GENERATING_FIELDS",
    "STRUCTURED",
    "is_structured",
    "read_flag",
    "read_model",
    "read_n",
    "read_object",
    "read_stream",
    "read_usage",
    "take_policies",
    "unknown_texts",
]

MAX_N: Final = 128
STRUCTURED: Final = ("json_schema", "json_object")
"""The types of an answer's format that make its text JSON."""

GENERATING_FIELDS: Final = frozenset(
    [
        "cache_salt",
        "frequency_penalty",
        "guardrails",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "metadata",
        "model",
        "n",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "stop_token_ids",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "user",
    ]
)
"""Fields of every request for text that hold no text for the model."""


def read_object(raw: bytes) -> dict[str, Any]:
    """The body. Raises ``UnreadableRequest``."""
    body = json_edit.loads_strict(raw)
    if not isinstance(body, dict):
        raise UnreadableRequest("the body is not a JSON object")
    return body


def take_policies(raw: bytes, body: dict[str, Any]) -> tuple[bytes, tuple[str | Addition, ...]]:
    """The body without ``guardrails``, which no upstream knows, and the policies that it adds.

    Raises ``UnreadableRequest``.
    """
    if "guardrails" not in body:
        return raw, ()
    added = read_guardrails(body["guardrails"])
    return json_edit.edit(raw, {("guardrails",): json_edit.REMOVE}), added


def read_model(body: dict[str, Any]) -> str:
    """The model's name; empty where there is none."""
    model = body.get("model")
    return model if isinstance(model, str) else ""


def read_flag(body: dict[str, Any], key: str) -> bool:
    """A field that is true or false; false where there is none. Raises ``UnreadableRequest``."""
    flag = body.get(key) or False
    if not isinstance(flag, bool):
        raise UnreadableRequest(f"{key} is not true or false", param=key)
    return flag


def read_stream(body: dict[str, Any]) -> bool:
    """Whether the answer is to be streamed. Raises ``UnreadableRequest``."""
    return read_flag(body, "stream")


def read_usage(body: dict[str, Any]) -> bool:
    """Whether a stream is to tell its usage at the end."""
    return get(body.get("stream_options"), "include_usage") is True


def read_n(body: dict[str, Any]) -> int:
    """How many answers are asked for. Raises ``UnreadableRequest``."""
    n = body.get("n") or 1
    if type(n) is not int or not 1 <= n <= MAX_N:
        raise UnreadableRequest(f"n is not a number from 1 to {MAX_N}", param="n")
    return n


def is_structured(body: dict[str, Any]) -> bool:
    """Whether the answer's text is to be JSON."""
    return get(body.get("response_format"), "type") in STRUCTURED


def unknown_texts(
    body: dict[str, Any], known: Collection[str], bare: tuple[str, str] = ("response_format", "type")
) -> Iterator[str]:
    """The JSON paths of fields that are not ``known`` and may hold text for the model.

    ``bare``: a field, and the key in it that holds no text; with that one alone it is silent.
    Raises ``UnreadableRequest`` for a known key in other letters: Go servers (Ollama) take it for the key.
    """
    for key, value in body.items():
        if key in known:
            continue
        if key.casefold() in known:
            raise UnreadableRequest("a key of the body differs from a known one only in case")
        if value and isinstance(value, str | list | dict):
            if key == bare[0] and isinstance(value, dict) and value.keys() <= {bare[1]}:
                continue  # such as {"type": "json_object"}
            yield json_path((key,))
