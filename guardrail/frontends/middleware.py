"""GuardrailMiddleware: the ASGI middleware that guards the routes of the app it wraps that a dialect knows.

The middleware is an immutable factory: each request gets its own ``Exchange``, which reads the body,
judges it, calls the app, and hands the answer to the unary or the streaming responder.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from guardrail.engine.check import GuardrailEngine
from guardrail.frontends.asgi import ASGIApp, Message, Receive, Scope, Send, full_path
from guardrail.frontends.exchange import Exchange, Settings
from guardrail.frontends.slots import Slots
from guardrail.frontends.websocket import WebSocketChat, turn_away
from guardrail.wire.chat import ChatDialect
from guardrail.wire.completions import CompletionsDialect
from guardrail.wire.dialect import Dialect
from guardrail.wire.embeddings import EmbeddingsDialect
from guardrail.wire.messages import CountTokensDialect, MessagesDialect
from guardrail.wire.responses import ResponsesDialect
from guardrail.wire.route import WEBSOCKET, Route, placed
from guardrail.wire.routes import RouteDialect

__all__ = ["GuardrailMiddleware", "Route", "Settings", "dialect_of"]

_END: Final = "/ \t\r\n\v\f\0"  # behind a path: Starlette's routes end before a line break, too
_SLASHES: Final = re.compile("/{2,}")
DIALECTS: Final[Mapping[str, Dialect]] = {
    "/chat/completions": ChatDialect(),
    "/completions": CompletionsDialect(),
    "/embeddings": EmbeddingsDialect(),
    "/messages": MessagesDialect(),
    "/messages/count_tokens": CountTokensDialect(),
    "/responses": ResponsesDialect(),
}


@lru_cache(maxsize=1024)
def dialect_of(path: str) -> Dialect | None:
    """The dialect whose route ends this path, with or without a closing slash.

    The longest ending counts, also where it differs in case: what a server may take for a chat is no
    completion.
    """
    path = path.rstrip("/")
    alike = [ending for ending in DIALECTS if path.casefold().endswith(ending)]
    ending = max(alike, key=len, default="")
    return DIALECTS[ending] if ending and path.endswith(ending) else None


class GuardrailMiddleware:
    """Wraps an ASGI app; guards the routes that a dialect knows, leaves everything else alone.

    ``on_shutdown`` is awaited when the server stops; ``from_config`` sets it to close what it built.
    """

    def __init__(
        self,
        app: ASGIApp,
        engine: GuardrailEngine,
        settings: Settings | None = None,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.app = app
        self.engine = engine
        self.settings = settings or Settings()
        self._routes = _routes(self.settings.routes)
        self._exempt = _any_of(self.settings.exempt)
        self._on_shutdown = on_shutdown
        self.slots = Slots(self.settings.max_concurrent_requests)

    @classmethod
    def from_config(cls, app: ASGIApp, path: str | Path, routes: Iterable[Route] = ()) -> Self:
        """Build engine and settings from a ``guardrail.yaml``. Raises ``ConfigError``.

        ``routes`` are added to those of the file.
        """
        from guardrail.build import load_guard

        guard = load_guard(path)
        settings = replace(guard.settings, routes=(*guard.settings.routes, *routes))
        return cls(app, guard.engine, settings, guard.aclose)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] in ("http", "websocket"):
            guarded = self._guarding(scope)
            if isinstance(guarded, Route):
                await self._chat(guarded, scope, receive, send)
                return
            if guarded is not None:
                await self._guard(guarded, scope, receive, send)
                return
        if scope["type"] == "lifespan" and self._on_shutdown is not None:
            await self._lifespan(self._on_shutdown, scope, receive, send)
            return
        await self.app(scope, receive, send)

    def guards(self, scope: Scope) -> bool:
        """Whether a request or WebSocket is guarded."""
        return self._guarding(scope) is not None

    def _guarding(self, scope: Scope) -> Dialect | Route | None:
        """A route of the app's own (for a WebSocket the route itself), else a dialect, else nothing."""
        path = full_path(scope).rstrip(_END)
        kind: str = scope["method"].upper() if scope["type"] == "http" else WEBSOCKET
        own = self._own(kind, path) if self._routes else None
        if own is None and kind == "POST" and not self._exempt.fullmatch(path):
            return dialect_of(path)
        return own

    def _own(self, kind: str, path: str) -> Dialect | Route | None:
        """The route at this path, in each way in which an app may take it for that."""
        path = _SLASHES.sub("/", path)
        within: str = getattr(self.app, "root_path", "").rstrip(
            "/"
        )  # FastAPI's own: it serves with and without
        for one in (path, path.removeprefix(within), within + path):
            if route := self._routes.get((kind, one)):
                return route
        return None

    async def _chat(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.slots.take():
            await turn_away(scope, receive, send)
            return
        try:
            await WebSocketChat(self.app, self.engine, self.settings, route, scope, receive, send).run()
        finally:
            self.slots.give_back()

    async def _guard(self, dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self.app, self.engine, self.settings, dialect, scope, receive, send)
        request = await exchange.read()
        if request is None:
            return
        if not self.slots.take():  # only now: a client that never ends its body takes no one's place
            await exchange.turn_away()
            return
        try:
            await exchange.run(request)
        finally:
            self.slots.give_back()

    async def _lifespan(
        self, close: Callable[[], Awaitable[None]], scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def closing_send(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await close()
            await send(message)

        await self.app(scope, receive, closing_send)


def _any_of(paths: Iterable[str]) -> re.Pattern[str]:
    """What matches any of these paths, in which ``*`` is one segment."""
    segments = [[re.escape(one) if one != "*" else "[^/]+" for one in path.split("/")] for path in paths]
    return re.compile("|".join(["/".join(path) for path in segments]) or "(?!)")


def _routes(routes: Iterable[Route]) -> dict[tuple[str, str], RouteDialect | Route]:
    """By method and path. Raises ``ConfigError`` where two have the same."""
    return {
        place: route if route.websocket else RouteDialect(route) for place, route in placed(routes).items()
    }
