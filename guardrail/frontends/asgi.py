"""ASGI's types, and the one way in which we send an answer of our own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final

from guardrail.wire.controls import OURS
from guardrail.wire.replies import Header, Reply

__all__ = [
    "ASGIApp",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "compressed",
    "full_path",
    "header",
    "kept_headers",
    "other_charset",
    "send_reply",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_UTF8: Final = re.compile(rb'charset\s*=\s*"?(?:utf-?8|(?:us-)?ascii)"?\s*(?=;|$)')


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
        if not (lower := key.lower()).startswith(OURS) and (same_length or lower != b"content-length")
    ]


def compressed(headers: Iterable[Header]) -> bool:
    """Whether any ``content-encoding`` names a coding; there may be several such headers."""
    return any(
        key.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity")
        for key, value in headers
    )


def other_charset(headers: Iterable[Header]) -> bool:
    """Whether a ``content-type`` names a charset in which the same bytes are another text than in UTF-8."""
    kinds = [value.lower() for key, value in headers if key.lower() == b"content-type"]
    return any(b"charset" in _UTF8.sub(b"", kind) for kind in kinds)


def full_path(scope: Scope) -> str:
    """The path with its mount point: a route may be cut in two anywhere, ``/v1/chat`` + ``/completions``.

    ``path`` holds the mount point; servers from before that was written down leave it out.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path if path == root or path.startswith(root + "/") else root + path


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
