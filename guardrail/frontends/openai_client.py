"""The guard inside the OpenAI SDK: ``OpenAI(http_client=openai_http_client("guardrail.yaml"))``.

No server and no second hop: the SDK's requests pass the same middleware as the proxy's, so every dialect
that it knows is covered, streams included. What no dialect covers is refused as the proxy refuses it (403
``unguarded_path``), but for the read-only model list and ``paths.allow``, whose paths are written as the
proxy's are: from ``/v1/`` on. The configuration's ``upstream`` plays no part: the SDK's own
``base_url`` does.

An answer of the guard is an HTTP answer like any other to the SDK; a transport error below is the SDK's own
(``httpx.ConnectError`` and so on), so it retries as without a guard. The time a check takes does not count
against the SDK's ``timeout``; it has its own, ``classifier.timeout_s``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import httpx

from guardrail.engine.check import GuardrailEngine
from guardrail.frontends.exchange import Settings
from guardrail.frontends.httpx_bridge import AppTransport, Call, TransportApp
from guardrail.frontends.in_process import InProcess, opened
from guardrail.frontends.loop_thread import LoopThread
from guardrail.frontends.middleware import GuardrailMiddleware
from guardrail.frontends.proxy import ProxyApp

__all__ = ["openai_async_http_client", "openai_http_client"]


def openai_http_client(
    guard: str | Path | GuardrailEngine,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    settings: Settings | None = None,
    allow: Sequence[str] | None = None,
) -> httpx.Client:
    """A client for ``OpenAI(http_client=...)``; ``guard`` is a ``guardrail.yaml`` or an engine.

    Everything runs in an event loop in a thread of the client's own; close the client to end it.
    ``transport`` is what lies below: an asynchronous one here too, by default ``httpx.AsyncHTTPTransport``,
    which reads no proxy from the environment. ``settings`` and ``allow`` stand in the place of the file's.
    A request's body is read into memory whole. Raises ``ConfigError``; ``TypeError`` for a transport that
    is synchronous only.
    """
    from openai import DefaultHttpxClient

    return DefaultHttpxClient(transport=_Threaded(_guarded(opened(guard, settings, allow), transport)))


def openai_async_http_client(
    guard: str | Path | GuardrailEngine,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    settings: Settings | None = None,
    allow: Sequence[str] | None = None,
) -> httpx.AsyncClient:
    """The same for ``AsyncOpenAI(http_client=...)``; runs in the caller's event loop (asyncio)."""
    from openai import DefaultAsyncHttpxClient

    return DefaultAsyncHttpxClient(transport=_guarded(opened(guard, settings, allow), transport))


def _guarded(guard: InProcess, transport: httpx.AsyncBaseTransport | None) -> _Guarded:
    if transport is None:
        from openai import DEFAULT_CONNECTION_LIMITS

        transport = httpx.AsyncHTTPTransport(limits=DEFAULT_CONNECTION_LIMITS)
    if not isinstance(transport, httpx.AsyncBaseTransport):
        raise TypeError("transport must be an httpx.AsyncBaseTransport, such as httpx.AsyncHTTPTransport()")
    return _Guarded(guard, transport)


class _Guarded(AppTransport):
    """The proxy without its server: the same app, over another transport."""

    def __init__(self, guard: InProcess, transport: httpx.AsyncBaseTransport) -> None:
        below = TransportApp(transport)
        guarded = GuardrailMiddleware(below, guard.engine, guard.settings)
        super().__init__(ProxyApp(guarded, below, guards=guarded.guards, allow=guard.allow))
        self._guard = guard
        self._transport = transport

    async def aclose(self) -> None:
        """End every call, and close what was opened for them."""
        try:
            await super().aclose()
        finally:
            try:
                await self._transport.aclose()
            finally:
                await self._guard.aclose()


class _Threaded(httpx.BaseTransport):
    """An asynchronous transport for synchronous callers, any number of threads at once."""

    def __init__(self, transport: AppTransport) -> None:
        self._transport = transport
        self._loop = LoopThread()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        request.read()  # here, for reading a file would hold up the loop
        answer = self._loop.call(partial(self._transport.handle_async_request, request))
        body = _Body(self._loop, cast("Call", answer.stream))
        return httpx.Response(answer.status_code, headers=answer.headers, stream=body)

    def close(self) -> None:
        """End every call and the thread."""
        self._loop.close(self._transport.aclose)


class _Body(httpx.SyncByteStream):
    """The body of an answer that comes from the loop."""

    def __init__(self, loop: LoopThread, call: Call) -> None:
        self._loop = loop
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        """The body, as it comes."""
        while self._loop.running:
            if (chunk := self._loop.resume(self._call.chunk)) is None:
                return
            yield chunk
        raise httpx.ReadError("the answer was closed")

    def close(self) -> None:
        """End the call, whole or not."""
        self._loop.finish(self._call.aclose)
