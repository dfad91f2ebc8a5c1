"""The outbound HTTP client: one aiohttp session per event loop, and its exceptions by name.

A session belongs to the loop it was made in, and one engine may be used from several (the server's,
a filter's own thread), so sessions are kept by loop.
"""

from __future__ import annotations

import asyncio
import io
from typing import Final
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from guardrail.errors import ConfigError

__all__ = ["NETWORK_ERRORS", "Outbound", "bearer", "upload"]

# aiohttp's pure-Python parser lets HttpProcessingError out where a body's framing is broken.
NETWORK_ERRORS: Final = (aiohttp.ClientError, HttpProcessingError, OSError, asyncio.TimeoutError)
"""Everything aiohttp raises when a call fails on the network or on the protocol."""


_LARGE: Final = 1 << 20  # aiohttp.payload.TOO_LARGE_BYTES_BODY, where its warning begins


def bearer(api_key: str, name: str) -> str:
    """The ``Authorization`` for a key; nothing for no key.

    Raises ``ConfigError`` for one that no header can carry; ``name`` is its place in the configuration.
    """
    if not api_key.isprintable():
        raise ConfigError(f"{name}: holds a line break or another control character; remove it")
    return f"Bearer {api_key}" if api_key else ""


def upload(body: bytes) -> bytes | io.BytesIO:
    """The body as aiohttp wants it: one above 1 MiB as a file, which it writes piece by piece."""
    return io.BytesIO(body) if len(body) > _LARGE else body


class Outbound:
    """Hands out the running loop's session.

    ``read_timeout_s`` is the longest silence, in seconds; ``most`` limits the calls at once (0: no limit),
    more wait for their turn.
    """

    def __init__(
        self, *, connect_timeout_s: float = 5.0, read_timeout_s: float = 600.0, most: int = 0
    ) -> None:
        self._most = most
        self.read_timeout_s = read_timeout_s
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_s, sock_read=read_timeout_s
        )
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            WeakKeyDictionary()
        )

    def session(self) -> aiohttp.ClientSession:
        """The session of the running loop, made on first use."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._most, ttl_dns_cache=60),
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return session

    async def aclose(self) -> None:
        """Close the running loop's session."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
