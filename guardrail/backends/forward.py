"""HttpForwarder: an ASGI app that pipes a request to the upstream and its answer back, bytes unchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from yarl import URL

from guardrail.backends.outbound import NETWORK_ERRORS, Outbound
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


class HttpForwarder:
    """Forwards ``/v1/<path>`` to ``<base_url>/<path>``.

    With an ``api_key`` the caller's ``Authorization`` is replaced, without one it is passed on.
    Raises ``UpstreamLost`` when there is no answer, or when it breaks off.
    """

    def __init__(self, base_url: str, api_key: str = "", outbound: Outbound | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._authorization = f"Bearer {api_key}" if api_key else ""
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
                await _pipe(response, send)
        except NETWORK_ERRORS as error:
            raise UpstreamLost(
                f"the upstream cannot be reached or broke off ({type(error).__name__})"
            ) from None

    def _url(self, scope: Any) -> URL:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw.partition(b"?")[0].decode("ascii")
        root: str = scope.get("root_path", "")
        path = path.removeprefix(root) if root else path
        if path == _PREFIX or path.startswith(_PREFIX + "/"):
            path = path[len(_PREFIX) :]
        query: bytes = scope.get("query_string", b"")
        return URL(self._base + path + ("?" + query.decode("ascii") if query else ""), encoded=True)

    def _headers(self, headers: list[Header]) -> list[tuple[str, str]]:
        dropped = _NOT_SENT | _named_by_connection(headers)
        if self._authorization:
            dropped |= {b"authorization"}
        out = [
            (key.decode("latin-1"), value.decode("latin-1"))
            for key, value in headers
            if key.lower() not in dropped
        ]
        if self._authorization:
            out.append(("Authorization", self._authorization))
        return out


def _named_by_connection(headers: list[Header]) -> frozenset[bytes]:
    return frozenset(
        name.strip().lower()
        for key, value in headers
        if key.lower() == b"connection"
        for name in value.split(b",")
    )


async def _body(scope: Any, receive: Any) -> bytes | AsyncIterator[bytes] | None:
    """The request's body: at once if it came at once, else as a stream."""
    message = await receive()
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return first or None
    return _rest(first, receive)


async def _rest(first: bytes, receive: Any) -> AsyncIterator[bytes]:
    yield first
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise UpstreamLost("the client hung up while sending its body")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _pipe(response: aiohttp.ClientResponse, send: Any) -> None:
    headers = [(key.lower(), value) for key, value in response.raw_headers]
    dropped = _HOP_BY_HOP | _named_by_connection(headers)
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [(key, value) for key, value in headers if key not in dropped],
        }
    )
    async for chunk in response.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
