"""What a server does around the requests of an app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from guardrail.frontends.asgi import ASGIApp, Message


@asynccontextmanager
async def served(app: ASGIApp, sent: list[Message] | None = None) -> AsyncIterator[None]:
    """Start and end as a server does. ``sent`` collects what the app says; else it must be complete."""
    started, ending = anyio.Event(), anyio.Event()
    incoming = ["lifespan.startup"]

    async def receive() -> Message:
        if not incoming:
            await ending.wait()
            return {"type": "lifespan.shutdown"}
        return {"type": incoming.pop()}

    async def send(message: Message) -> None:
        if sent is None:
            assert message["type"].endswith(".complete")
        else:
            sent.append(message)
        started.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(app, {"type": "lifespan"}, receive, send)
            await started.wait()
            yield
            ending.set()
