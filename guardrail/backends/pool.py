"""The connections of one event loop: kept, limited, and each exchange with its way out.

``async with pool.ask(...) as answer`` holds one connection for one request and gives it back at the end of
the block: to the next one when the answer was read to its end, else it is cut.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import cache, partial
from types import TracebackType
from typing import Final

import anyio
from anyio.abc import TaskGroup

from guardrail.backends.http1 import Connection
from guardrail.backends.network_errors import ConnectFailed, Lost, Malformed, NetworkError
from guardrail.wire.replies import Header

__all__ = ["Origin", "Pool"]

KEEP_S: Final = 15.0
"""How long an unused connection is kept, in seconds; servers close after 5 (uvicorn) to 75 (nginx)."""
STALE_S: Final = 1.0
"""A kept connection that ends this soon after a request was sent had been closed before it arrived."""
_NO_BODY: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"CONNECT"})

Body = bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a server is; ``authority`` is what ``Host`` says."""

    host: str
    port: int
    tls: bool
    authority: bytes


class Pool:
    """The connections of one event loop. Times in seconds; ``most`` exchanges at once, 0 for no limit.

    ``resend``: a request whose kept connection turns out to be closed already goes out once more.
    """

    def __init__(self, connect_timeout_s: float, silence_s: float, most: int, resend: bool = True) -> None:
        self.in_use = 0
        self.resend = resend
        self._loop = asyncio.get_running_loop()
        self._connect_timeout_s = connect_timeout_s
        self._silence_s = silence_s
        self._turns = asyncio.Semaphore(most) if most else None  # first come, first served
        self._idle: dict[Origin, list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def ask(
        self, origin: Origin, method: bytes, target: bytes, headers: Iterable[Header], body: Body
    ) -> Asked:
        """One request; headers without ``Host``, lengths and codings of transfer.

        Raises ``Malformed`` for what would not be one request line and one line a header.
        """
        return Asked(self, origin, request_head(origin, method, target, headers, body), method, body)

    def close(self) -> None:
        """Cut the connections that are not in use."""
        for kept in self._idle.values():
            while kept:
                kept.pop().close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def enter(self) -> None:
        """Wait for a turn."""
        if self._turns is not None:
            await self._turns.acquire()
        self.in_use += 1

    def leave(self, origin: Origin, connection: Connection | None) -> None:
        """End a turn, and keep its connection if it can be used again."""
        self.in_use -= 1
        if self._turns is not None:
            self._turns.release()
        if connection is not None and connection.release():
            connection.idle_since = self._loop.time()
            self._idle.setdefault(origin, []).append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(KEEP_S, self._expire)

    def kept(self, origin: Origin) -> Connection | None:
        """The connection used last, if it is still good."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.alive:
                return connection
        return None

    async def connect(self, origin: Origin) -> Connection:
        """A new connection. Raises ``ConnectFailed``."""
        made = partial(Connection, self._loop, self._silence_s)
        # Without happy_eyeballs_delay: uvloop has none, and asyncio's leaks a socket when it is cancelled.
        try:
            with anyio.fail_after(self._connect_timeout_s):
                _, connection = await self._loop.create_connection(
                    made,
                    origin.host,
                    origin.port,
                    ssl=_tls() if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except (OSError, UnicodeError) as error:  # TimeoutError and every ssl error are OSErrors
            raise ConnectFailed(type(error).__name__) from None
        return connection

    def _expire(self) -> None:
        self._sweep = None
        before = self._loop.time() - KEEP_S
        for idle in self._idle.values():
            while idle and (idle[0].idle_since <= before or not idle[0].alive):
                idle.pop(0).close()
        if any(self._idle.values()):
            self._sweep = self._loop.call_later(KEEP_S, self._expire)


class Asked:
    """One exchange: it holds a connection, entered when the answer's head is there."""

    __slots__ = ("_body", "_connection", "_group", "_head", "_method", "_origin", "_pool")

    def __init__(self, pool: Pool, origin: Origin, head: bytes, method: bytes, body: Body) -> None:
        self._pool = pool
        self._origin = origin
        self._head = head
        self._method = method
        self._body = body
        self._connection: Connection | None = None
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Connection:
        await self._pool.enter()
        try:
            if isinstance(self._body, bytes):
                return await self._whole(self._body)
            return await self._upload(self._body)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        self._pool.leave(self._origin, connection)  # before the group: nothing may wait here
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
            if isinstance(error, asyncio.CancelledError):
                await group.__aexit__(kind, error, trace)
            else:  # a group would wrap the error
                await group.__aexit__(None, None, None)

    async def _whole(self, body: bytes) -> Connection:
        connection = self._pool.kept(self._origin)
        reused = connection is not None
        self._connection = connection = connection or await self._pool.connect(self._origin)
        bodiless = self._method == b"HEAD"
        connection.begin(self._head, body, bodiless=bodiless, uploading=False)
        try:
            await connection.head()
        except Lost as lost:
            if not (self._pool.resend and reused and connection.stale(STALE_S)):
                raise
            connection.close()
            try:
                self._connection = connection = await self._pool.connect(self._origin)
            except ConnectFailed:
                raise lost from None  # it may be the request that ended the server
            connection.begin(self._head, body, bodiless=bodiless, uploading=False)
            await connection.head()
        return connection

    async def _upload(self, body: AsyncIterator[bytes]) -> Connection:
        """Send in pieces while the answer is awaited; on a new connection, as it cannot be sent again."""
        self._connection = connection = await self._pool.connect(self._origin)
        connection.begin(self._head, b"", bodiless=self._method == b"HEAD", uploading=True)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(_send_all, connection, body)
        await connection.head()
        return connection


async def _send_all(connection: Connection, body: AsyncIterator[bytes]) -> None:
    try:
        async for part in body:
            if part:
                await connection.send(b"%x\r\n%s\r\n" % (len(part), part))
        await connection.send(b"0\r\n\r\n")
        connection.sent()
    except NetworkError:
        pass  # whoever reads the answer learns it there, or has the answer already
    except Exception as error:  # the body's own failure ends the exchange, where the answer is read
        connection.fail(error)


def request_head(
    origin: Origin, method: bytes, target: bytes, headers: Iterable[Header], body: Body
) -> bytes:
    """Everything before the body. Raises ``Malformed``."""
    lines = [b"%s %s HTTP/1.1" % (method, target), b"Host: " + origin.authority]
    lines += [b"%s: %s" % header for header in headers]
    if not isinstance(body, bytes):
        lines.append(b"Transfer-Encoding: chunked")
    elif body or method not in _NO_BODY:
        lines.append(b"Content-Length: %d" % len(body))
    head = b"\r\n".join(lines)
    ends = len(lines) - 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head or lines[0].count(b" ") != 2:
        raise Malformed("a line break or a space in the request's head")
    return head + b"\r\n\r\n"


@cache
def _tls() -> ssl.SSLContext:
    """The system's authorities, or those of ``SSL_CERT_FILE``; the host name is checked."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
