"""The way to Redis: it answers in time or is done without, and left alone for a while.

Theory. A cache may save time but never cost any, so every failure is a miss:

    state     an operation                          what ends the state
    answers   is sent, with ``timeout_s`` at most   a failure: rests for 1 s, one line in the log
    rests     is a miss at once, nothing is sent    its time: the next operation is the probe
    probed    one is sent, all others still miss    an answer: answers; none: rests twice as long (to 30 s)

An error that Redis itself sends (out of memory, read-only, no permission) lets only that side rest,
reading or writing; what cannot be reached or understood lets both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import anyio

from guardrail.errors import ConfigError

try:
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ResponseError
except ImportError:
    raise ConfigError(
        "cache.redis_url needs redis-py: install it with pip install 'guardrail[redis]'"
    ) from None

__all__ = ["RedisLink", "Rest"]

_log = logging.getLogger("guardrail.redis")

_MOST: Final = 16  # connections; one operation keeps one for about a network round trip
_LONGEST_S: Final = 30 * 86_400.0  # longer than anybody caches, and a number that PX takes


class Rest:
    """Counts the time in which Redis is not asked. ``clock`` gives seconds."""

    FIRST_S: Final = 1.0
    MOST_S: Final = 30.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._pause_s = self.FIRST_S

    def over(self) -> bool:
        """Whether to ask. The first to ask after a rest is the probe and renews the rest for all others."""
        if not self._until:
            return True
        now = self._clock()
        if now < self._until:
            return False
        self._pause_s = min(2 * self._pause_s, self.MOST_S)
        self._until = now + self._pause_s
        return True

    def begin(self) -> bool:
        """Note a failure. True when it is the first of an outage."""
        if self._until:
            return False
        self._pause_s = self.FIRST_S
        self._until = self._clock() + self._pause_s
        return True

    def end(self) -> bool:
        """Note an answer. True when it ends an outage."""
        rested, self._until = bool(self._until), 0.0
        return rested


@dataclass(frozen=True, slots=True)
class _Line:
    """What one event loop has: the client, and turns at its connections."""

    client: Redis
    turns: anyio.CapacityLimiter


class RedisLink:
    """One Redis for verdicts and history alike; an outage is met once. Never raises after its start.

    ``url`` is ``redis://`` or ``rediss://`` and may hold user and password, which are never logged.
    ``timeout_s``, in seconds, covers all of an operation: waiting for a connection, connecting with
    TLS and password, asking. Raises ``ConfigError`` for a URL that cannot be read.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 0.05, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._all, self._reads, self._writes = Rest(clock), Rest(clock), Rest(clock)
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()
        try:
            pool = self._pool()
            pool.connection_class(**pool.connection_kwargs)  # finds out about an unknown option now
            host, port = pool.connection_kwargs.get("host"), pool.connection_kwargs.get("port")
        except Exception:  # whatever the URL makes it raise; its text may hold the password
            raise ConfigError(
                "cache.redis_url cannot be read: redis://[user:password@]host:port/0"
            ) from None
        self._where = f"{host or 'localhost'}:{port or 6379}"  # redis-py's own defaults

    async def read(self, names: Sequence[str]) -> list[bytes | None]:
        """The value under each name, asked for at once; None on a miss."""
        reply = await self._ask(self._reads, "MGET", *names)
        return reply if reply is not None else [None] * len(names)

    async def write(self, name: str, value: bytes, ttl_s: float) -> None:
        """Store a value for so many seconds (rounded up to a millisecond); 0 or less stores nothing."""
        if ttl_s > 0:
            await self._ask(self._writes, "SET", name, value, "PX", int(min(ttl_s, _LONGEST_S) * 1e3) + 1)

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            with anyio.move_on_after(self._timeout_s):
                await line.client.aclose(close_connection_pool=True)

    async def _ask(self, side: Rest, *command: str | bytes | int) -> Any:
        """The reply that this command must have; None where there is none."""
        if not (self._all.over() and side.over()):
            return None
        try:
            line = self._line()
            execute: Any = line.client.execute_command  # has no types
            with anyio.fail_after(self._timeout_s):
                async with line.turns:
                    reply = await execute(*command)
            _law_reply(reply, command)
        except ResponseError as error:
            self._end(self._all)
            self._begin(side, error, command[0])
        except Exception as error:  # refused, hanging, garbage: whatever it is, it is only a cache
            self._begin(self._all, error, "all")
        else:
            self._end(self._all)
            self._end(side)
            return reply
        return None

    def _begin(self, rest: Rest, error: Exception, what: Any) -> None:
        if rest.begin():
            name = type(error).__name__
            _log.warning("redis at %s: %s (%s); done without until it answers", self._where, name, what)

    def _end(self, rest: Rest) -> None:
        if rest.end():
            _log.warning("redis at %s answers again", self._where)

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            client = Redis(connection_pool=self._pool())
            line = self._lines[loop] = _Line(client, anyio.CapacityLimiter(_MOST))
        return line

    def _pool(self) -> ConnectionPool:
        # Not the blocking pool: its lock can be cancelled while a connection is given back.
        ours: dict[str, Any] = {
            "max_connections": _MOST,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,  # fail_after covers all; its own would cost a task per command
            "socket_connect_timeout": None,
            "socket_keepalive": True,
            "decode_responses": False,
            "protocol": 2,  # no HELLO, no push messages
        }
        return ConnectionPool(**{**parse_url(self._url), **ours})


def _law_reply(reply: Any, command: Sequence[str | bytes | int]) -> None:
    """Raise ``ValueError`` for what no Redis answers."""
    if command[0] == "SET":
        sound = reply is True
    else:
        sound = isinstance(reply, list) and len(reply) == len(command) - 1
        sound = sound and all(value is None or isinstance(value, bytes) for value in reply)
    if not sound:
        raise ValueError("not a reply to this command")
