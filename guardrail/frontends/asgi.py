"""ASGI's types, and the one way in which we send an answer of our own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final

from guardrail.wire.replies import Header, Reply

__all__ = [
    "ASGIApp",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "header",
    "kept_headers",
    "route_path",
    "send_reply",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_OURS: Final = b"x-guardrail-"


def header(headers: Iterable[Header], name: bytes) -> bytes:
    """The first value of a header (lower-case name), or nothing."""
    for key, value in headers:
        if key.lower() == name:
            return value
    return b""


def kept_headers(headers: Iterable[Header], *, same_length: bool) -> list[Header]:
    """The inner app's headers without those that only we may set, and without a stale length."""
    return [
        (key, value)
        for key, value in headers
        if not (lower := key.lower()).startswith(_OURS) and (same_length or lower != b"content-length")
    ]


def route_path(scope: Scope) -> str:
    """The path below the mount point."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


async def send_reply(send: Send, reply: Reply, headers: Sequence[Header] = ()) -> None:
    """Send a whole answer of our own."""
    length = (b"content-length", str(len(reply.body)).encode())
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [*reply.headers, length, *headers],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})
