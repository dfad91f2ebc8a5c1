"""Real HTTP servers on loopback that play the judge and the upstream by a script.

Each runs in a thread with its own event loop, so that it serves synchronous and asynchronous clients
and other processes alike.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass
class Seen:
    """One request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    cancelled: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Say:
    """What the server answers. ``chunks`` are sent one by one with ``pause_s`` before each.

    ``delay_s`` is waited before the head. ``drop``: the connection is cut after the last chunk (or
    before the head, when there are no chunks) instead of ended properly.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    delay_s: float = 0.0
    chunks: list[bytes] | None = None
    pause_s: float = 0.0
    drop: bool = False


class FakeServer:
    """Answers from ``script`` (first in, first out), then with ``default`` (a Say, or made per request)."""

    def __init__(self, default: Say | Callable[[Seen], Say]) -> None:
        self.default = default
        self.script: deque[Say] = deque()
        self.seen: list[Seen] = []
        self.open_now = 0
        self.open_most = 0
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())  # whatever is still open is closed before the loop is

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # handler_cancellation: a client that hangs up cancels its handler, which `cancelled` shows.
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        for _ in range(5):  # who has connected by now is taken first: asyncio leaks him otherwise
            await asyncio.sleep(0)
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.path_qs, dict(request.headers), await request.read())
        self.seen.append(seen)
        if self.script:
            say = self.script.popleft()
        else:
            say = self.default(seen) if callable(self.default) else self.default
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            return await self._answer(request, say)
        except (asyncio.CancelledError, ConnectionResetError):
            seen.cancelled = True
            raise
        finally:
            self.open_now -= 1

    async def _answer(self, request: web.Request, say: Say) -> web.StreamResponse:
        await asyncio.sleep(say.delay_s)
        if say.chunks is None and not say.drop:
            return web.Response(body=say.body, status=say.status, headers=say.headers)
        response = web.StreamResponse(status=say.status, headers=say.headers)
        if say.chunks:
            await response.prepare(request)
            async for chunk in _paced(say.chunks, say.pause_s):
                await response.write(chunk)
        if say.drop:
            assert request.transport is not None
            request.transport.abort()
        return response


async def _paced(chunks: list[bytes], pause_s: float) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(pause_s)
        yield chunk


def completion(content: str | None, *, finish_reason: str = "stop", **extra: Any) -> bytes:
    """A chat completion body with one choice; ``extra`` goes into the message."""
    message = {"role": "assistant", "content": content, **extra}
    return json.dumps(
        {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": 1760000000,
            "model": "fake-model",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 700, "completion_tokens": 9, "total_tokens": 709},
        }
    ).encode()


def chunk(
    delta: dict[str, Any], *, index: int = 0, finish_reason: str | None = None, **extra: Any
) -> bytes:
    """One streamed chunk as a server-sent event."""
    body = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "fake-model",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}],
        **extra,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def stream(words: list[str], **say: Any) -> Say:
    """A whole streamed answer, one chunk a word."""
    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": w}) for w in words)]
    chunks += [chunk({}, finish_reason="stop"), DONE]
    return Say(headers={"content-type": "text/event-stream"}, chunks=chunks, **say)


def verdict(violation: int, label: str | None, **extra: Any) -> bytes:
    """A judge's answer in JSON form, as a completion body."""
    return completion(json.dumps({"violation": violation, "label": label, "rationale": "r.", **extra}))


class FakeJudge(FakeServer):
    """Judges by substring of the judged message: ``rules`` maps a substring to a completion body.

    Without a match it answers with violation 0. ``delay_s`` applies to every call.
    """

    def __init__(self, rules: dict[str, bytes] | None = None, delay_s: float = 0.0) -> None:
        self.rules = rules or {}
        self.delay_s = delay_s
        super().__init__(self._judge)

    def _judge(self, seen: Seen) -> Say:
        if seen.method == "GET":
            return Say(b'{"object": "list", "data": []}')
        text = seen.json["messages"][-1]["content"]
        body = next((body for part, body in self.rules.items() if part in text), verdict(0, None))
        return Say(body, delay_s=self.delay_s)


class FakeUpstream(FakeServer):
    """A chat model that says ``text``, streamed by words when asked to; GET answers a model list.

    ``pause_s`` is waited before each word: without one a whole stream comes in a single read.
    """

    def __init__(self, text: str = "The weather is fine today.") -> None:
        self.text = text
        self.pause_s = 0.0
        super().__init__(self._complete)

    def _complete(self, seen: Seen) -> Say:
        if seen.method == "GET":
            return Say(b'{"object": "list", "data": [{"id": "fake-model", "object": "model"}]}')
        if seen.json.get("stream"):
            return stream([word + " " for word in self.text.split(" ")], pause_s=self.pause_s)
        return Say(completion(self.text))
