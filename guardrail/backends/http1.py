"""One HTTP/1.1 connection of a client: a request is written, its answer read, bytes and nothing else.

States: idle -> ``begin`` -> waiting for the head -> body -> complete -> idle again, or closed. The rules:

- Whatever is no HTTP ends the connection: RFC 9112 framing is checked by llhttp (two lengths, a length
  beside chunks, a chunk that is none), unfinished heads and trailers are bounded here.
- An answer is whole only by its length, its last chunk, or, having neither, the server's clean close.
- Interim answers (1xx) are skipped; HEAD, 204 and 304 have no body, whatever their head says.
- Reading stops above ``HIGH_BYTES`` until the reader has caught up. Bytes that nobody asked for close.
- Every failure is a ``NetworkError`` (``guardrail.backends.network_errors``).
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import httptools

from guardrail.backends.network_errors import Lost, Malformed, Silent
from guardrail.wire.replies import Header

__all__ = ["Connection"]

HEAD_BYTES: Final = 65_536
"""The most that may come without a byte of body: heads, trailers, chunk extensions (nginx: 32 KiB)."""
HIGH_BYTES: Final = 262_144  # one read of uvloop's
_BODILESS: Final = frozenset({204, 304})  # RFC 9110 section 6.4.1


class Connection(asyncio.Protocol):
    """One connection and the answer that comes on it; ``silence_s`` is the longest silence in seconds.

    ``status`` is 0 and ``headers`` empty before ``head()`` has returned.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, silence_s: float) -> None:
        self.idle_since = 0.0
        self.busy = self.heard = self.complete = self.reset = False
        self.status = 0
        self.headers: list[Header] = []
        self._loop = loop
        self._silence_s = silence_s
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None
        self._parts: list[bytes] = []
        self._size = 0  # of the body, buffered
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._bodiless = self._uploading = self._framed = self._keep = False
        self._overhead = self._unsent = 0
        self._began = self._deadline = 0.0
        self._parser = httptools.HttpResponseParser(self)

    # The caller's side.

    def begin(self, head: bytes, body: bytes, *, bodiless: bool, uploading: bool) -> None:
        """Write a request; ``bodiless`` when its answer has no body, ``uploading`` when more follows.

        Raises ``Lost`` when the connection is over.
        """
        if self._transport is None:
            raise Lost("closed")
        self.busy = True
        self.heard = self.complete = False
        self._began = self._loop.time()
        self.status = 0
        self.headers = []
        self._bodiless = bodiless
        self._uploading = uploading
        self._framed = self._keep = False
        self._overhead = 0
        # A new one each time: httptools cannot be told that an answer has no body, nor be reset.
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(head + body if len(body) < HEAD_BYTES else head)
        if len(body) >= HEAD_BYTES:
            self._transport.write(body)

    async def send(self, part: bytes) -> None:
        """Write more of a request's body, and wait while the server does not read. Raises ``Lost``."""
        if self._transport is None or self._transport.is_closing():
            raise self._error or Lost("closed")
        self._transport.write(part)
        while self._drain is not None and self._error is None:
            await self._drain

    def sent(self) -> None:
        """The request's body is through."""
        self._uploading = False
        self._deadline = self._loop.time() + self._silence_s

    async def head(self) -> None:
        """Wait until ``status`` and ``headers`` are there. Raises ``NetworkError``."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self) -> bytes:
        """What has come of the body, at least a byte of it; nothing at its end. Raises ``NetworkError``."""
        while not self._parts:
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        parts, self._parts, self._size = self._parts, [], 0
        if not self._reading:
            self._reading = True
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_all(self, limit: int) -> bytes:
        """The whole body. Raises ``NetworkError``; ``Malformed`` when it is longer than ``limit`` bytes."""
        parts: list[bytes] = []
        size = 0
        while not self.ended:
            part = await self.read()
            parts.append(part)
            size += len(part)
            if size > limit:
                raise Malformed(f"longer than {limit} bytes")
        return b"".join(parts)

    @property
    def ended(self) -> bool:
        """Whether the answer is complete and all of it was read."""
        return self.complete and not self._parts

    @property
    def alive(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def stale(self, within_s: float) -> bool:
        """Whether it was closed, cleanly, before the request of ``within_s`` ago reached it."""
        ended = isinstance(self._error, Lost) and not self.heard and not self.reset
        return ended and self._loop.time() - self._began <= within_s

    def release(self) -> bool:
        """End this exchange; whether the connection can be used again. It is closed where it cannot."""
        reusable = self.ended and self._keep and not self._uploading and self._reading and self.alive
        self.busy = False
        self._parts, self._size = [], 0
        if not reusable:
            self.close()
        return reusable

    def close(self) -> None:
        """Cut the connection, with whatever is under way on it."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        """Cut the connection; who waits for the answer gets ``error``, unless it is complete."""
        if self._error is None and not self.complete:
            self._error = error
        self.close()
        self._wake()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if not self.busy or self.complete:  # nobody asked: the next answer would be another's
            self._keep = False
            self.close()
            return
        self.heard = True
        size = self._size
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep = False
            self.fail(Malformed(type(error).__name__))
        self._overhead = 0 if self._size != size else self._overhead + len(data)
        if self._overhead > HEAD_BYTES and not self.complete:
            self.fail(Malformed("a head without end"))
        if self._size > HIGH_BYTES and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over: the end of an answer that has no other, or its loss."""
        self._transport = None
        self.reset = isinstance(exc, ConnectionResetError)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.busy and not self.complete and self._error is None:
            if self.status and not self._framed and exc is None:
                self.complete = True
            else:
                self._error = Lost("reset" if exc else "closed")
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        """The transport takes more."""
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    # The parser's side.

    def on_message_begin(self) -> None:
        """Another message behind the answer is not ours."""
        if self.complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; one behind the body is a trailer, which is left out."""
        if self.status or self.complete:
            return
        self.headers.append((name, value))
        if len(name) == 14 and name.lower() == b"content-length":
            self._framed = True
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            self._framed = True
            if value.strip().lower() != b"chunked":  # the header ends here, so the coding would be lost
                raise Malformed("a transfer coding that was not asked for")

    def on_headers_complete(self) -> None:
        """The head is through: an interim one is forgotten."""
        if self.complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = []
            self._framed = False
            if status < 100 or status == 101:
                raise Malformed("a status that was not asked for")
            return
        if self._parser.get_http_version() not in ("1.1", "1.0"):  # llhttp takes 2.0 and 0.9 as well
            raise Malformed("another version of HTTP")
        self.status = status
        self._keep = self._parser.should_keep_alive()
        if self._bodiless or status in _BODILESS:
            self.complete = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            self._keep = False
            return
        self._parts.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if self.status:
            self.complete = True

    # Waiting.

    async def _wait(self) -> None:
        """Until something new has come; ``_watch`` ends a silence."""
        self._deadline = self._loop.time() + self._silence_s
        if self._timer is None and self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(self._silence_s, self._watch)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _watch(self) -> None:
        """One timer for many waits: it moves on to the deadline of the last one."""
        self._timer = None
        if self._waiter is None or self._transport is None:
            return
        now = self._loop.time()
        left = self._transport.get_write_buffer_size()
        if (left and left != self._unsent) or (self._uploading and self._drain is None):
            self._deadline = now + self._silence_s  # the server still reads, or waits for us
        self._unsent = left
        if now < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._watch)
        else:
            self.fail(Silent("nothing came in time"))
