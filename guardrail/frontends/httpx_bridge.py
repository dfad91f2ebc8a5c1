"""Between httpx and ASGI, both ways: a transport that asks an ASGI app, an app that asks a transport.

    httpx client ──▶ AppTransport ──▶ ASGI app (guards) ──▶ TransportApp ──▶ the transport below

Who wins a race:

======================================================  ==============================================
the caller closes the answer before its end             the app's client is gone: it cancels what it does
the caller closes the answer behind its ``[DONE]``      the app may end in order, for ``GRACE_S`` seconds
the transport below fails before anything was said      its own exception is raised, as if we were not there
it fails, and what came before is not to be shown       the app's answer to that, and no exception
it fails in mid-answer                                  whatever the app makes of that
======================================================  ==============================================
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import anyio
import httpx

from guardrail.errors import UpstreamLost
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send
from guardrail.wire.replies import BAD_UPSTREAM

__all__ = ["AppTransport", "Call", "TransportApp"]

GRACE_S: Final = 1.0
_BUFFERED: Final = 16  # body messages that may wait for the caller; more hold the app up
_CALL: Final = "guardrail.call"
_DONE: Final = b"data: [DONE]"
_PREFIX: Final = "/v1/"


class Call(httpx.AsyncByteStream):
    """One request to the app, and the body of its answer."""

    def __init__(self, request: httpx.Request) -> None:
        self.request = request
        self.lost: httpx.TransportError | None = None
        """What the transport below failed with."""
        self.start: Message | None = None
        self._body = aiter(request.stream)  # type: ignore[arg-type]
        self._heard = False
        self._begun = anyio.Event()
        self._gone = anyio.Event()
        self._chunks, self._received = anyio.create_memory_object_stream[bytes](_BUFFERED)
        self._complete = False
        self._failure: Exception | None = None
        self._last = b""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def begin(self, app: ASGIApp) -> asyncio.Task[None]:
        """Let the app answer, in a task of its own."""
        # A bare task: the request begins in one call of httpx's and ends in another.
        self._task = asyncio.create_task(self._run(app))  # noqa: TID251
        return self._task

    async def begun(self) -> Message:
        """The head of the answer. Raises what stands in its place."""
        await self._begun.wait()
        if self.start is None:
            raise self.lost or self._failure or httpx.RemoteProtocolError("the app gave no answer")
        return self.start

    async def chunk(self) -> bytes | None:
        """All of the body that is there, at least something; None at its end. Raises where it broke off."""
        try:
            chunks = [await self._received.receive()]
        except anyio.EndOfStream:
            if self._complete:
                return None
            broke_off = httpx.RemoteProtocolError("the answer broke off")
            raise self.lost or self._failure or broke_off from None
        except anyio.ClosedResourceError:
            raise httpx.ReadError("the answer was closed") from None
        while self._received.statistics().current_buffer_used:
            chunks.append(self._received.receive_nowait())
        chunk = b"".join(chunks)
        self._last = chunk[-64:]
        return chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body."""
        while (chunk := await self.chunk()) is not None:
            yield chunk

    async def aclose(self) -> None:
        """End the call, whole or not."""
        self._received.close()
        task = self._task
        if task is None or self._loop is not asyncio.get_running_loop():
            return
        with anyio.CancelScope(shield=True):
            if self._last.rstrip().endswith(_DONE):
                await asyncio.wait([task], timeout=GRACE_S)
            self._gone.set()
            await asyncio.wait([task])

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope(), self._receive, self._send)
        except Exception as error:  # it goes to whoever waits for the answer
            self._failure = error
        finally:
            self._chunks.close()
            self._begun.set()

    def _scope(self) -> Scope:
        url = self.request.url
        raw_path, _, query = url.raw_path.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.request.method,
            "scheme": url.scheme,
            # As a proxy would see it: what stands before is the base_url's own.
            "path": _from_prefix(url.path),
            "raw_path": _from_prefix(raw_path.decode("ascii")).encode("ascii"),
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self.request.headers.raw],
            "server": (url.host, url.port),
            "client": None,
            _CALL: self,
        }

    async def _receive(self) -> Message:
        if not self._heard:
            part = await anext(self._body, None)
            self._heard = part is None
            return {"type": "http.request", "body": part or b"", "more_body": not self._heard}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.lost is None or message["status"] != BAD_UPSTREAM:
                self.start = message
                self._begun.set()
        elif message["type"] == "http.response.body":
            self._complete = not message.get("more_body", False)
            if (body := message.get("body", b"")) and self.start is not None:
                with suppress(anyio.BrokenResourceError):  # the caller is gone, as the app is told
                    await self._chunks.send(body)


class AppTransport(httpx.AsyncBaseTransport):
    """Asks an ASGI app instead of a server. The app sees the path from its ``/v1/`` on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._calls: set[Call] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request. Raises what ``TransportApp`` could not reach the upstream for."""
        call = Call(request)
        self._calls.add(call)
        call.begin(self._app).add_done_callback(lambda _: self._calls.discard(call))
        try:
            start = await call.begun()
        except BaseException:
            await call.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=call)

    async def aclose(self) -> None:
        """End every call that is open."""
        for call in list(self._calls):
            await call.aclose()


class TransportApp:
    """The ASGI app at the other end: passes a request of ``AppTransport`` to the transport below.

    Raises ``UpstreamLost`` where that fails, and tells the call with what.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry; ``http`` scopes only."""
        call: Call = scope[_CALL]
        request = httpx.Request(
            scope["method"],
            call.request.url,
            headers=scope["headers"],
            content=await _content(receive),
            extensions=call.request.extensions,
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                await _pipe(response, send)
            finally:
                with anyio.CancelScope(shield=True):  # else its connection would never be given back
                    await response.aclose()
        except httpx.TransportError as error:
            call.lost = error
            raise UpstreamLost(
                f"the upstream cannot be reached or broke off ({type(error).__name__})"
            ) from None


async def _pipe(response: httpx.Response, send: Send) -> None:
    headers = [
        (name.lower(), value)
        for name, value in response.headers.raw
        if name.lower() != b"transfer-encoding"  # of a connection that ends here
    ]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    stream: Any = response.stream
    async for chunk in stream:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _content(receive: Receive) -> bytes | AsyncIterator[bytes]:
    """The request's body: at once if it came at once, else as a stream."""
    message = await receive()
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return first
    return _rest(first, receive)


async def _rest(first: bytes, receive: Receive) -> AsyncIterator[bytes]:
    yield first
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.WriteError("the caller is gone")
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _from_prefix(path: str) -> str:
    return path[max(path.find(_PREFIX), 0) :]
