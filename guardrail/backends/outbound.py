"""The outbound HTTP client: one aiohttp session per event loop, and its exceptions by name.

A session belongs to the loop it was made in, and one engine may be used from several (the server's,
a filter's own thread), so sessions are kept by loop.
"""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakKeyDictionary

import aiohttp

__all__ = ["NETWORK_ERRORS", "Outbound"]

NETWORK_ERRORS: Final = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
"""Everything aiohttp raises when a call fails on the network or on the protocol."""


class Outbound:
    """Hands out the running loop's session. ``read_timeout_s`` is the longest silence, in seconds."""

    def __init__(self, *, connect_timeout_s: float = 5.0, read_timeout_s: float = 600.0) -> None:
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
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
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
