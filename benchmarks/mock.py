"""The mock backend: chat model and judge in one process, on raw asyncio.Protocol, answers precomputed.

``python -m benchmarks.mock PORT LABEL``. The model's name in the request says what is played:
``chat-<d>-<p>`` is a chat completion after d ms (as a stream: 100 chunks, one every p ms, or one a turn
of the event loop when p is 0); ``judge-<d>-0`` is a safe verdict with LABEL after d ms.
``GET /served`` tells how many of each were answered.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Final

import httptools
import uvloop

CHUNKS: Final = 100
CHUNK_CHARS: Final = 28
MARK: Final = b"@"  # stands once in every chunk and nowhere else
_MODEL: Final = re.compile(rb'"model":\s*"(chat|judge)-(\d+)-(\d+)"')
_STREAM: Final = re.compile(rb'"stream":\s*true')
_WORDS: Final = (
    "The quick brown fox jumps over the lazy dog while the careful engineer measures every millisecond "
    "of the request path and writes the numbers down for later comparison. "
)
_HEAD: Final = {"id": "chatcmpl-mock0001", "created": 1_760_000_000, "model": "mock-model"}


def _json_answer(value: object) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def completion(content: str) -> bytes:
    """A whole chat completion as an HTTP answer."""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 2000, "completion_tokens": 300, "total_tokens": 2300}
    return _json_answer({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": usage})


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    chunk = {**_HEAD, "object": "chat.completion.chunk", "system_fingerprint": None, "choices": [choice]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def stream_parts() -> list[bytes]:
    """Head and role, the text chunks, and the end: one write each."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    texts = [f"{MARK.decode()}{i:03d} {_WORDS[i : i + CHUNK_CHARS - 5]}" for i in range(CHUNKS)]
    chunks = [_piece(_event({"content": text})) for text in texts]
    end = _piece(_event({}, "stop")) + _piece(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return [head + _piece(_event({"role": "assistant", "content": ""})), *chunks, end]


class Backend:
    """The answers, and how often each was given."""

    def __init__(self, label: str) -> None:
        verdict = {"violation": 0, "label": label, "rationale": "Benign; no rule applies.", "excerpts": []}
        self.answers = {b"chat": completion(_WORDS * 8), b"judge": completion(json.dumps(verdict))}
        self.stream = stream_parts()
        self.served = {b"chat": 0, b"judge": 0}

    def counts(self) -> bytes:
        return _json_answer({kind.decode(): count for kind, count in self.served.items()})


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.loop = asyncio.get_running_loop()
        self.parts: list[bytes] = []

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self.parts)
        self.parts.clear()
        asked = _MODEL.search(body)
        if asked is None:
            self.transport.write(self.backend.counts())
            return
        kind, delay, pause = asked[1], int(asked[2]) / 1e3, int(asked[3]) / 1e3
        if kind == b"chat" and _STREAM.search(body):
            self.later(delay, self.step, self.loop.time() + delay, pause, 0)
        else:
            self.later(delay, self.answer, kind)

    def later(self, delay: float, call, *args) -> None:
        if delay:
            self.loop.call_later(delay, call, *args)
        else:
            call(*args)

    def answer(self, kind: bytes) -> None:
        self.backend.served[kind] += 1
        self.transport.write(self.backend.answers[kind])

    def step(self, started: float, pause: float, index: int) -> None:
        """Write one part, and plan the next on the stream's own clock, so that delays do not add up."""
        if self.transport.is_closing():
            return
        self.transport.write(self.backend.stream[index])
        index += 1
        if index == len(self.backend.stream):
            self.backend.served[b"chat"] += 1
        elif pause:
            self.loop.call_at(started + index * pause, self.step, started, pause, index)
        else:
            self.loop.call_soon(self.step, started, pause, index)


async def serve(port: int, label: str) -> None:
    backend = Backend(label)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(backend), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), sys.argv[2]))
