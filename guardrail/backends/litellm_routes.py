"""The routes that LiteLLM can answer: which of its functions, which fields it is given, how it is written.

A field that is not named here is dropped. To LiteLLM, a field of the body is an argument of a function that
takes keys, addresses and headers, a list of other deployments (fallbacks, model_list), a made-up answer
(mock_response), or messages that nobody has judged (extra_body, prompt_id).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from guardrail.backends.litellm_library import litellm
from guardrail.wire import sse
from guardrail.wire.litellm_values import as_json
from guardrail.wire.messages import MessagesDialect
from guardrail.wire.replies import Reply, openai_error

__all__ = ["ROUTES", "LiteLLMRoute", "body_of", "route_of"]

_DONE: Final = b"data: [DONE]\n\n"
_GENERATING: Final = "frequency_penalty logit_bias max_tokens n presence_penalty seed stop stream "
_SAMPLING: Final = "model temperature top_p user "


class _Error(Protocol):
    def __call__(self, status: int, code: str, message: str, param: str | None = None) -> Reply: ...


@dataclass(frozen=True, slots=True)
class LiteLLMRoute:
    """One route. ``stream`` writes what LiteLLM's iterator gives as server-sent events."""

    call: Callable[..., Awaitable[Any]]
    fields: frozenset[str]
    stream: Callable[[Any], AsyncIterator[bytes]]
    required: tuple[str, ...] = ()
    error: _Error = openai_error


def body_of(answer: Any) -> bytes:
    """A whole answer as JSON."""
    return orjson.dumps(_completed(as_json(answer)))


async def chat_events(answer: Any) -> AsyncIterator[bytes]:
    """Chunks of chats and completions, and ``[DONE]``."""
    async for chunk in answer:
        yield sse.encode(orjson.dumps(_completed(as_json(chunk))))
    yield _DONE


async def response_events(answer: Any) -> AsyncIterator[bytes]:
    """Events of the Responses API: named, and numbered, which LiteLLM leaves out where it translates."""
    number = 0
    async for event in answer:
        value = {**as_json(event), "sequence_number": number}
        number += 1
        yield sse.encode(orjson.dumps(value), str(value["type"]))


async def message_events(answer: Any) -> AsyncIterator[bytes]:
    """Events of the Messages API, which LiteLLM gives as bytes, or as the JSON in them."""
    async for event in answer:
        if isinstance(event, bytes):
            yield event
        elif isinstance(event, str):
            yield event.encode()
        else:
            value = as_json(event)
            yield sse.encode(orjson.dumps(value), str(value["type"]))


def _completed(value: dict[str, Any]) -> dict[str, Any]:
    """The text of a completion, which clients index, is there also where it is empty."""
    if value.get("object") == "text_completion":
        for choice in value.get("choices") or ():
            choice.setdefault("text", "")
    return value


def _fields(names: str) -> frozenset[str]:
    return frozenset(names.split())


# The longer endings first: a chat's route ends like a completion's.
ROUTES: Final[Mapping[str, LiteLLMRoute]] = {
    "/chat/completions": LiteLLMRoute(
        litellm.acompletion,
        _fields(
            _GENERATING + _SAMPLING + "audio function_call functions logprobs max_completion_tokens "
            "messages modalities parallel_tool_calls prediction prompt_cache_key reasoning_effort "
            "response_format safety_identifier service_tier stream_options thinking tool_choice tools "
            "top_logprobs verbosity web_search_options"
        ),
        chat_events,
        ("model", "messages"),
    ),
    "/completions": LiteLLMRoute(
        litellm.atext_completion,
        _fields(_GENERATING + _SAMPLING + "best_of echo logprobs prompt stream_options suffix"),
        chat_events,
        ("model", "prompt"),
    ),
    "/embeddings": LiteLLMRoute(
        litellm.aembedding,
        _fields("dimensions encoding_format input model user"),
        chat_events,
        ("model", "input"),
    ),
    "/responses": LiteLLMRoute(
        litellm.aresponses,
        _fields(
            _SAMPLING + "include input instructions max_output_tokens max_tool_calls parallel_tool_calls "
            "previous_response_id prompt prompt_cache_key reasoning safety_identifier service_tier store "
            "stream stream_options text tool_choice tools top_logprobs truncation"
        ),
        response_events,
        ("model", "input"),
    ),
    "/messages": LiteLLMRoute(
        litellm.anthropic.messages.acreate,
        _fields(
            "cache_control container context_management inference_geo max_tokens messages model "
            "output_config service_tier speed stop_sequences stream system temperature thinking "
            "tool_choice tools top_k top_p"
        ),
        message_events,
        ("model", "messages", "max_tokens"),
        error=MessagesDialect().error,
    ),
}
"""By the end of the path, as the middleware knows them."""


def route_of(path: str) -> LiteLLMRoute | None:
    """The route that ends this path, with or without a closing slash; None where LiteLLM has none."""
    path = path.rstrip("/")
    return next((route for ending, route in ROUTES.items() if path.endswith(ending)), None)
