"""The proxy: the guarded chat routes, what is passed, what is refused, health, lifespan."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from guardrail.engine.check import new_decision_id
from guardrail.errors import UpstreamLost
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send, kept_headers, send_reply
from guardrail.frontends.client import Client
from guardrail.wire.controls import OURS
from guardrail.wire.replies import (
    BAD_UPSTREAM,
    NOT_READY,
    UNGUARDED,
    UNREADABLE,
    WRONG_METHOD,
    Header,
    openai_error,
    refused_headers,
)

__all__ = ["ProxyApp"]

Probe = Callable[[], Awaitable[bool]]
Warm = Callable[[], Awaitable[None]]
Metrics = Callable[[], tuple[bytes, str]]
"""The body of ``GET /metrics`` and its content type."""

_log = logging.getLogger("guardrail.proxy")
_READ_ONLY: Final = re.compile(r"/v1/models(?:/[^/]+)*/?")
# Two servers could read these two ways, so that a path is judged as one thing and served as another.
_AMBIGUOUS: Final = re.compile(
    rb"//|\\|%2f|%5c|/(?:\.|%2e){1,2}(?:/|;|%3b|$)",  # some drop ";…" from a segment, then resolve it
    re.IGNORECASE,
)


class ProxyApp:
    """What ``guardrail serve`` runs.

    A path is one of four: guarded (a dialect knows it), our own (health, metrics and ``routes``), passed
    (the read-only model list and what ``allow`` names), or refused with 403. A new route of the upstream's
    is never open by accident. One of ``routes`` that ``allow`` names as it is goes to the upstream. What is
    passed is not judged and says so by having none of our headers, neither there nor in its answer.

    ``guards`` tells which requests are guarded. ``warm`` is begun when the server starts; ``/readyz`` is
    503 until it is over, however it ends. ``probe`` tells ``/readyz`` whether checks can be made;
    ``metrics`` is what ``/metrics`` shows, a path like any other without it; ``closers`` are awaited at the
    end.
    """

    def __init__(
        self,
        guarded: ASGIApp,
        upstream: ASGIApp,
        *,
        guards: Callable[[Scope], bool],
        allow: Sequence[str] = (),
        probe: Probe | None = None,
        warm: Warm | None = None,
        metrics: Metrics | None = None,
        routes: Sequence[Route] = (),
        closers: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._guarded = guarded
        self._upstream = upstream
        self._guards = guards
        self._exact = frozenset(path for path in allow if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in allow if path.endswith("*"))
        self._probe = probe
        self._warm = warm
        self._closers = closers
        self._warmed = anyio.Event()
        if warm is None:
            self._warmed.set()
        own = [Route("/healthz", _health), Route("/readyz", self._ready)]
        if metrics is not None:
            own.append(Route("/metrics", partial(_show_metrics, metrics)))
        own += [route for route in routes if route.path not in self._exact]
        self._own = Starlette(routes=own, lifespan=self._lifespan)
        self._own_methods: dict[str, Collection[str]] = {route.path: route.methods or () for route in own}

    async def warmed(self) -> None:
        """Return when the warm-up that the lifespan began is over."""
        await self._warmed.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        path: str = scope["path"]
        if self._guards(scope) and not _ambiguous(scope):
            await self._guarded(scope, receive, send)
        elif (own := path if path in self._exact else path.removesuffix("/")) in self._own_methods:
            await self._answer({**scope, "path": own}, receive, send)
        elif _ambiguous(scope):
            message = "the path has empty or dot segments or an encoded slash; write it plainly"
            await _refuse(send, UNREADABLE, "invalid_request_error", message)
        elif self._passed(scope["method"], path):
            await self._pass(scope, receive, send)
        else:
            message = (
                "no guard covers this path (docs/coverage.md lists those it does); add it to paths.allow "
                "to forward it unguarded"
            )
            await _refuse(send, UNGUARDED, "unguarded_path", message)

    def _passed(self, method: str, path: str) -> bool:
        if method in ("GET", "HEAD") and _READ_ONLY.fullmatch(path):
            return True
        return path in self._exact or path.startswith(self._prefixes)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One of our own paths; without ``methods`` its route takes any."""
        methods = self._own_methods[scope["path"]]
        if not methods or scope["method"] in methods:
            await self._own(scope, receive, send)
            return
        allowed = ", ".join(sorted(methods))
        message = f"this path is there for {allowed} alone"
        allow = (b"allow", allowed.encode())
        await _refuse(send, WRONG_METHOD, "method_not_allowed", message, allow)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward unguarded, but for our headers; a client that hangs up cancels the upstream here too."""
        headers = [header for header in scope["headers"] if not header[0].lower().startswith(OURS)]
        client = Client(scope, receive, send)
        await client.wait_for(self._forward({**scope, "headers": headers}, client))

    async def _forward(self, scope: Scope, client: Client) -> None:
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            if "headers" in message:
                message = {**message, "headers": kept_headers(message["headers"], same_length=True)}
            await client.send(message)

        try:
            await self._upstream(scope, client.receive, noting_send)
        except UpstreamLost as error:
            if not started:  # else the server ends the connection without a proper end
                reply = openai_error(BAD_UPSTREAM, "upstream_unavailable", str(error))
                await send_reply(client.send, reply)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._own(scope, receive, send)
        else:  # a WebSocket: no dialect covers one
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "unguarded_path"})

    async def _ready(self, request: Request) -> Response:
        if not self._warmed.is_set():
            return PlainTextResponse("warming up", status_code=NOT_READY)
        if self._probe is None or await self._probe():
            return PlainTextResponse("ok")
        return PlainTextResponse("the judge cannot be reached", status_code=NOT_READY)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._warm_up)
                yield
                group.cancel_scope.cancel()
        finally:
            for close in self._closers:
                await close()

    async def _warm_up(self) -> None:
        try:
            if self._warm is not None:
                await self._warm()
        except Exception as error:  # then the probe says whether checks can be made
            _log.error("warm-up failed: %s", type(error).__name__)
        finally:
            self._warmed.set()


async def _refuse(send: Send, status: int, code: str, message: str, *headers: Header) -> None:
    refused = refused_headers(new_decision_id())
    await send_reply(send, openai_error(status, code, message), [*refused, *headers])


def _ambiguous(scope: Scope) -> bool:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return _AMBIGUOUS.search(raw.partition(b"?")[0]) is not None


async def _health(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _show_metrics(metrics: Metrics, request: Request) -> Response:
    body, content_type = metrics()
    return Response(body, headers={"content-type": content_type})
