"""HttpForwarder: an ASGI app that pipes a request to the upstream and its answer back, bytes unchanged."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

from guardrail.backends.http1 import Connection
from guardrail.backends.network_errors import NetworkError
from guardrail.backends.outbound import Outbound, bearer, origin_of
from guardrail.errors import UpstreamLost
from guardrail.wire.replies import Header

__all__ = ["HttpForwarder"]

# RFC 9110 section 7.6.1, and what is set anew for the next hop.
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
# Expect: the body is here already, and a server that never says 100 would stall the request.
_NOT_SENT: Final = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_PREFIX: Final = "/v1"
# What cannot stand in a path or a query as it is: "#" would cut the URL, a space or line break the
# request line. Everything else keeps its bytes.
_NOT_IN_PATH: Final = re.compile(rb"[^!\"$->@-~]")
_NOT_IN_QUERY: Final = re.compile(rb"[^!\"$-~]")
_HUNG_UP: Final = "the client hung up while sending its body"


class HttpForwarder:
    """Forwards ``/v1/<path>`` to ``<base_url>/<path>``.

    With an ``api_key`` the caller's ``Authorization`` and ``x-api-key`` are replaced, without one they are
    passed on. The key goes where the caller's stood: clients of Anthropic's API use the one or the other.
    Raises ``UpstreamLost`` when there is no answer, or when it breaks off; ``ConfigError`` for a
    ``base_url`` that is none, or an ``api_key`` that no header can carry.
    """

    def __init__(self, base_url: str, api_key: str = "", outbound: Outbound | None = None) -> None:
        self._origin, self._path = origin_of(base_url, "upstream.base_url")
        self._dropped = _NOT_SENT
        self._bearer: list[Header] = []
        self._bare: list[Header] = []
        if authorization := bearer(api_key, "upstream.api_key"):
            self._dropped |= {b"authorization", b"x-api-key"}
            self._bearer.append((b"Authorization", authorization.encode()))
            self._bare.append((b"x-api-key", api_key.encode()))
        self._outbound = outbound or Outbound()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._outbound.aclose()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry; ``http`` scopes only."""
        body = await _body(scope, receive)
        try:
            async with self._outbound.ask(
                self._origin,
                scope["method"].encode("ascii"),
                self._target(scope),
                _passed(scope["headers"], self._dropped) + self._key(scope["headers"]),
                body,
            ) as answer:
                await _pipe(answer, send)
        except NetworkError as error:
            raise UpstreamLost(
                f"the upstream cannot be reached or broke off ({type(error).__name__})"
            ) from None

    def _key(self, headers: list[Header]) -> list[Header]:
        names = [name.lower() for name, _ in headers] if self._bare else []
        return self._bare if b"x-api-key" in names and b"authorization" not in names else self._bearer

    def _target(self, scope: Any) -> bytes:
        raw: bytes = scope.get("raw_path") or quote(scope["path"], errors="replace").encode()
        path = _escaped(_NOT_IN_PATH, raw.partition(b"?")[0])
        for above in (quote(scope.get("root_path", "")), _PREFIX):
            if path == above or path.startswith(above + "/"):
                path = path[len(above) :]
        if path and not path.startswith("/"):  # else "@host" would turn our host into a user name
            path = "/" + path
        query = _escaped(_NOT_IN_QUERY, scope.get("query_string", b""))
        return (self._path + path + ("?" + query if query else "") or "/").encode("ascii")


def _escaped(unsafe: re.Pattern[bytes], raw: bytes) -> str:
    return unsafe.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")


def _passed(headers: list[Header], dropped: frozenset[bytes]) -> list[Header]:
    """The headers without those of this hop: ``dropped`` and what ``Connection`` names."""
    named: set[bytes] = set()
    out = []
    for header in headers:
        name = header[0].lower()
        if name not in dropped:
            out.append(header)
        elif name == b"connection":
            named.update(part.strip().lower() for part in header[1].split(b","))
    if named <= dropped:
        return out
    return [header for header in out if header[0].lower() not in named]


async def _body(scope: Any, receive: Any) -> bytes | AsyncIterator[bytes]:
    """The request's body: at once if it came at once, else as a stream."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise UpstreamLost(_HUNG_UP)
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return first
    return _rest(first, receive)


async def _rest(first: bytes, receive: Any) -> AsyncIterator[bytes]:
    yield first
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise UpstreamLost(_HUNG_UP)
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _pipe(answer: Connection, send: Any) -> None:
    headers = [(name.lower(), value) for name, value in _passed(answer.headers, _HOP_BY_HOP)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    more = True
    while more:
        chunk = await answer.read()
        more = not answer.ended
        await send({"type": "http.response.body", "body": chunk, "more_body": more})
