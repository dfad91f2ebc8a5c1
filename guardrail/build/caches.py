"""From the sections ``cache`` and ``history`` to what remembers verdicts and conversations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from guardrail.backends.memory_cache import MemoryCache, MemoryHistory
from guardrail.config import CacheConfig, HistoryConfig
from guardrail.ports import HistoryCache, VerdictCache

__all__ = ["Caches"]


class Caches:
    """Both caches, None where one is turned off, and the Redis behind them. Raises ``ConfigError``."""

    def __init__(self, cache: CacheConfig, history: HistoryConfig) -> None:
        self.verdicts: VerdictCache | None = None
        self.history: HistoryCache | None = None
        self._closers: list[Callable[[], Awaitable[None]]] = []
        verdicts = MemoryCache(cache.max_entries, cache.ttl_s) if cache.max_entries else None
        known = MemoryHistory(history.max_entries, history.ttl_s) if history.max_entries else None
        if cache.redis_url:
            self._share(cache, verdicts, known)
        else:
            self.verdicts, self.history = verdicts, known

    def _share(self, cache: CacheConfig, verdicts: MemoryCache | None, known: MemoryHistory | None) -> None:
        from guardrail.backends.cache_codec import Seal
        from guardrail.backends.redis_cache import RedisCache, RedisHistory
        from guardrail.backends.redis_link import RedisLink

        link = RedisLink(cache.redis_url, timeout_s=cache.redis_timeout_s)
        seal = Seal(cache.secret)
        self._closers.append(link.aclose)
        if verdicts is not None:
            self.verdicts = RedisCache(link, front=verdicts, seal=seal)
        if known is not None:
            self.history = RedisHistory(link, front=known, seal=seal)

    async def aclose(self) -> None:
        """Close the running loop's connections to Redis."""
        for close in self._closers:
            await close()
