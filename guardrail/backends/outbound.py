"""The outbound HTTP client: one pool of connections per event loop.

A connection belongs to the loop it was made in, and one engine may be used from several (the server's,
a filter's own thread), so pools are kept by loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from guardrail.backends.pool import Asked, Body, Origin, Pool
from guardrail.errors import ConfigError
from guardrail.wire.replies import Header

__all__ = ["Outbound", "bearer", "origin_of"]


def bearer(api_key: str, name: str) -> str:
    """The ``Authorization`` for a key; nothing for no key.

    Raises ``ConfigError`` for one that no header can carry; ``name`` is its place in the configuration.
    """
    if not api_key.isprintable():
        raise ConfigError(f"{name}: holds a line break or another control character; remove it")
    return f"Bearer {api_key}" if api_key else ""


def origin_of(base_url: str, name: str) -> tuple[Origin, str]:
    """The server of an address, and its path without a closing slash.

    Raises ``ConfigError`` where it is none; ``name`` is its place in the configuration.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
        ascii_host = host if host is None or ":" in host else host.encode("idna").decode()
    except ValueError:  # UnicodeError is one
        ascii_host = None
    if not ascii_host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{name}: must begin with http:// or https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{name}: holds a user name, a query or a fragment; remove it")
    if not (parts.path.isascii() and parts.path.isprintable()) or " " in parts.path:
        raise ConfigError(f"{name}: its path holds characters that must be percent-encoded")
    tls = parts.scheme == "https"
    usual = 443 if tls else 80
    authority = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    if port not in (None, usual):
        authority += f":{port}"
    return Origin(ascii_host, port or usual, tls, authority.encode()), parts.path.rstrip("/")


class Outbound:
    """Asks over the running loop's pool.

    ``read_timeout_s`` is the longest silence, in seconds; ``most`` limits the calls at once (0: no limit),
    more wait for their turn. ``resend`` is as in ``Pool``.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 600.0,
        most: int = 0,
        resend: bool = True,
    ) -> None:
        self._limits = (connect_timeout_s, read_timeout_s, most, resend)
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()

    def ask(
        self, origin: Origin, method: bytes, target: bytes, headers: Iterable[Header], body: Body = b""
    ) -> Asked:
        """One request: ``async with outbound.ask(...) as answer``, then its status, headers and body.

        The block raises ``NetworkError``; leaving it before the end of the answer cuts the connection.
        """
        return self.pool().ask(origin, method, target, headers, body)

    def pool(self) -> Pool:
        """The pool of the running loop, made on first use."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = Pool(*self._limits)
        return pool

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            pool.close()
