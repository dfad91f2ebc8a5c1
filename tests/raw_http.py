"""A raw HTTP server and our own client on it, for what no HTTP library would say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel

from guardrail.backends.outbound import Outbound, origin_of
from guardrail.backends.pool import Asked, Body

BOUND_S = 20.0


class RawServer:
    """Answers each request, once its head and declared body are there, with the next of ``scripts``.

    A script is the parts to send one by one, then what to do: "keep", "close", "hold". ``seen`` holds the
    requests, ``connections`` counts.
    """

    def __init__(self, *scripts: tuple[list[bytes], str]) -> None:
        self.scripts = list(scripts)
        self.seen: list[bytes] = []
        self.connections = 0
        self.ended = 0
        self.until = b"\r\n\r\n"

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        async with stream:
            try:
                while await self._one(stream):
                    pass
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
            self.ended += 1

    async def _one(self, stream: anyio.abc.SocketStream) -> bool:
        got = b""
        while self.until not in got or len(got.partition(b"\r\n\r\n")[2]) < _length(got):
            got += await stream.receive()
        self.seen.append(got)
        parts, then = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        for part in parts:
            await stream.send(part)
            if len(parts) > 1:
                for _ in range(3):  # so that each is read by itself
                    await anyio.lowlevel.checkpoint()
        while then == "hold":  # until the client hangs up
            await stream.receive()
        return then == "keep"


def _length(got: bytes) -> int:
    for line in got.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


class Calls:
    def __init__(self, url: str, server: RawServer, outbound: Outbound) -> None:
        self.origin, _ = origin_of(url, "x")
        self.server = server
        self.outbound = outbound

    def ask(self, method: bytes = b"POST", body: Body = b"{}") -> Asked:
        return self.outbound.ask(self.origin, method, b"/", [], body)

    async def get(self, method: bytes = b"POST", body: Body = b"{}") -> tuple[int, bytes]:
        async with self.ask(method, body) as answer:
            return answer.status, await answer.read_all(1 << 24)


@asynccontextmanager
async def calls(*scripts: tuple[list[bytes], str], **options: Any) -> AsyncIterator[Calls]:
    server = RawServer(*scripts)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
    outbound = Outbound(**options)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.serve)
        with anyio.fail_after(BOUND_S):
            yield Calls(f"http://127.0.0.1:{port}", server, outbound)
        assert outbound.pool().in_use == 0
        await outbound.aclose()
        group.cancel_scope.cancel()


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 5\r\n\r\nhello"
