"""HttpForwarder: an ASGI app that pipes a request to the upstream and its answer back, bytes unchanged."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import anyio
from yarl import URL

from guardrail.backends.outbound import NETWORK_ERRORS, Outbound, bearer, upload
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

    With an ``api_key`` the caller's ``Authorization`` is replaced, without one it is passed on.
    Raises ``UpstreamLost`` when there is no answer, or when it breaks off; ``ConfigError`` for an
    ``api_key`` that no header can carry.
    """

    def __init__(self, base_url: str, api_key: str = "", outbound: Outbound | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._authorization = bearer(api_key, "upstream.api_key")
        self._outbound = outbound or Outbound()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._outbound.aclose()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry; ``http`` scopes only."""
        body = await _body(scope, receive)
        try:
            async with self._outbound.session().request(
                scope["method"],
                self._url(scope),
                headers=self._headers(scope["headers"]),
                data=body,
                skip_auto_headers=("User-Agent", "Accept", "Content-Type", "Accept-Encoding"),
                allow_redirects=False,
            ) as response:
                await _pipe(response, send, self._outbound.read_timeout_s)
        except NETWORK_ERRORS as error:
            raise UpstreamLost(
                f"the upstream cannot be reached or broke off ({type(error).__name__})"
            ) from None

    def _url(self, scope: Any) -> URL:
        raw: bytes = scope.get("raw_path") or quote(scope["path"], errors="replace").encode()
        path = _escaped(_NOT_IN_PATH, raw.partition(b"?")[0])
        for above in (quote(scope.get("root_path", "")), _PREFIX):
            if path == above or path.startswith(above + "/"):
                path = path[len(above) :]
        if path and not path.startswith("/"):  # else "@host" would turn our host into a user name
            path = "/" + path
        query = _escaped(_NOT_IN_QUERY, scope.get("query_string", b""))
        return URL(self._base + path + ("?" + query if query else ""), encoded=True)

    def _headers(self, headers: list[Header]) -> list[tuple[str, str]]:
        dropped = _NOT_SENT | _named_by_connection(headers)
        if self._authorization:
            dropped |= {b"authorization"}
        out = [
            (key.decode("latin-1"), _text(value)) for key, value in headers if key.lower() not in dropped
        ]
        if self._authorization:
            out.append(("Authorization", self._authorization))
        return out


def _escaped(unsafe: re.Pattern[bytes], raw: bytes) -> str:
    return unsafe.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")


def _text(value: bytes) -> str:
    """A header's value such that aiohttp, which writes UTF-8, sends the same bytes where it can."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _named_by_connection(headers: list[Header]) -> frozenset[bytes]:
    return frozenset(
        name.strip().lower()
        for key, value in headers
        if key.lower() == b"connection"
        for name in value.split(b",")
    )


async def _body(scope: Any, receive: Any) -> bytes | io.BytesIO | AsyncIterator[bytes] | None:
    """The request's body: at once if it came at once, else as a stream."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise UpstreamLost(_HUNG_UP)
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return upload(first) if first else None
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


async def _pipe(response: aiohttp.ClientResponse, send: Any, silence_s: float) -> None:
    headers = [(key.lower(), value) for key, value in response.raw_headers]
    dropped = _HOP_BY_HOP | _named_by_connection(headers)
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [(key, value) for key, value in headers if key not in dropped],
        }
    )
    more = True
    while more:
        # aiohttp's own timer stops when the parser fails in mid-body, and its reader then waits for ever.
        with anyio.fail_after(silence_s):
            chunk = await response.content.readany()
        more = bool(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": more})
