"""LiteLLM in the place of an upstream: an ASGI app that answers what LiteLLM has a function for."""

from __future__ import annotations

from typing import Any, Final

import orjson

from guardrail.backends.litellm_library import litellm
from guardrail.backends.litellm_routes import LiteLLMRoute, body_of, route_of
from guardrail.errors import UpstreamLost
from guardrail.wire.replies import EVENT_STREAM, JSON, UNREADABLE, Reply, openai_error

__all__ = ["LiteLLMUpstream"]

_NOT_FOUND: Final = 404
_NO_ROUTE: Final = (
    "through LiteLLM there are chat/completions, completions, embeddings, responses and messages only"
)


class LiteLLMUpstream:
    """An ASGI app that answers chats, completions, embeddings, responses and messages through LiteLLM.

    ``arguments`` go into every call. Fields of the body that the route's API does not know are dropped.
    """

    def __init__(self, api_key: str, base_url: str, arguments: dict[str, Any]) -> None:
        self._arguments: dict[str, Any] = {"drop_params": True, "num_retries": 0} | arguments
        if api_key:
            self._arguments["api_key"] = api_key
        if base_url:
            self._arguments["api_base"] = base_url

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry. Any other route is 404; raises ``UpstreamLost`` where the provider is."""
        route = route_of(scope["path"]) if scope["method"] == "POST" else None
        if route is None:
            await _reply(send, openai_error(_NOT_FOUND, "not_found", _NO_ROUTE))
            return
        body = await _json_body(receive)
        own = {name: value for name, value in body.items() if name in route.fields}
        call = {**own, **self._arguments}
        if (wrong := self._wrong(route, call)) is not None:
            await _reply(send, wrong)
            return
        try:
            answer = await route.call(**call)
        except Exception as error:
            await _reply(send, _failed(route, error))
            return
        if not call.get("stream"):
            await _respond(send, 200, (JSON,), body_of(answer))
            return
        await send({"type": "http.response.start", "status": 200, "headers": [EVENT_STREAM]})
        try:
            async for events in route.stream(answer):
                await send({"type": "http.response.body", "body": events, "more_body": True})
        except Exception as error:
            raise UpstreamLost(f"LiteLLM's stream broke off ({type(error).__name__})") from None
        await send({"type": "http.response.body", "body": b""})

    def _wrong(self, route: LiteLLMRoute, call: dict[str, Any]) -> Reply | None:
        """The answer to a call that LiteLLM must not or cannot be given."""
        missing = next((name for name in route.required if name not in call), None)
        if missing is not None:
            message = f"{missing} is missing"
            return route.error(UNREADABLE, "invalid_request_error", message, missing)
        if "model" not in self._arguments and "://" in str(call["model"]):
            # Some providers of LiteLLM take their address from the model's name (oobabooga, huggingface).
            return route.error(UNREADABLE, "invalid_request_error", "model holds an address", "model")
        return None


def _failed(route: LiteLLMRoute, error: Exception) -> Reply:
    """A provider's error with its status. Raises ``UpstreamLost`` where there was no answer at all."""
    status = getattr(error, "status_code", 502)
    kind = type(error).__name__
    if not isinstance(error, litellm.exceptions.OpenAIError) and status == 502:
        raise UpstreamLost(f"LiteLLM failed ({kind})") from None
    return route.error(int(status), "upstream_error", f"the provider answered {kind}")


async def _json_body(receive: Any) -> dict[str, Any]:
    message = await receive()
    body: dict[str, Any] = orjson.loads(message["body"])
    return body


async def _reply(send: Any, reply: Reply) -> None:
    await _respond(send, reply.status, reply.headers, reply.body)


async def _respond(send: Any, status: int, headers: Any, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
