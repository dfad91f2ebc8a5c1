"""VerdictCache and HistoryCache in two tiers: first in process, then one MGET to Redis."""

from __future__ import annotations

from collections.abc import Sequence

from guardrail.backends.cache_codec import Seal, known_fields, read_known, read_verdict, verdict_fields
from guardrail.backends.memory_cache import MemoryCache, MemoryHistory, under
from guardrail.backends.redis_link import RedisLink
from guardrail.core.history import Remembered
from guardrail.core.policy import Policy
from guardrail.core.verdict import Verdict

__all__ = ["RedisCache", "RedisHistory"]


class RedisCache:
    """Shares verdicts between processes behind ``front``, which also says how long they are kept."""

    def __init__(self, link: RedisLink, *, front: MemoryCache, seal: Seal) -> None:
        self._link = link
        self._front = front
        self._seal = seal

    async def get_many(self, keys: Sequence[str], policies: Sequence[Policy]) -> list[Verdict | None]:
        """The remembered verdicts under today's front matter, each no older than its policy allows."""
        found = await self._front.get_many(keys, policies)
        if all(found):
            return found
        # A policy that wants nothing remembered has nothing there to ask for.
        asked = [i for i, hit in enumerate(found) if hit is None and self._front.ttl_s(policies[i]) > 0]
        names = [self._seal.name("v", keys[i]) for i in asked]
        values = await self._link.read(names) if names else []
        for i, name, value in zip(asked, names, values, strict=True):
            if value is not None:
                found[i] = await self._taken(keys[i], policies[i], name, value)
        return found

    async def _taken(self, key: str, policy: Policy, name: str, value: bytes) -> Verdict | None:
        opened = self._seal.unpack(name, value)
        if opened is None or opened[0] >= self._front.ttl_s(policy):
            return None
        verdict = read_verdict(policy, opened[1])
        verdict = verdict and under(verdict, policy)
        if verdict is not None:
            await self._front.put(key, verdict, age_s=opened[0])
        return verdict

    async def put(self, key: str, verdict: Verdict) -> None:
        """Remember it here, and there unless it quotes the judged text."""
        await self._front.put(key, verdict)
        ttl_s = self._front.ttl_s(verdict.policy)
        fields = verdict_fields(verdict) if ttl_s > 0 else None
        if fields is not None:
            name = self._seal.name("v", key)
            await self._link.write(name, self._seal.pack(name, fields), ttl_s)


class RedisHistory:
    """Shares which conversations were judged, behind ``front``, which also says how long."""

    def __init__(self, link: RedisLink, *, front: MemoryHistory, seal: Seal) -> None:
        self._link = link
        self._front = front
        self._seal = seal

    async def get_many(self, keys: Sequence[str]) -> list[Remembered | None]:
        """What is known under each key."""
        found = await self._front.get_many(keys)
        asked = [i for i, hit in enumerate(found) if hit is None]
        names = [self._seal.name("h", keys[i]) for i in asked]
        values = await self._link.read(names) if names else []
        for i, name, value in zip(asked, names, values, strict=True):
            opened = value and self._seal.unpack(name, value)
            if opened and opened[0] < self._front.ttl_s:
                found[i] = known = read_known(opened[1])
                if known is not None:
                    await self._front.put(keys[i], known)
        return found

    async def put(self, key: str, known: Remembered) -> None:
        """Remember it here, and there unless something was redacted in it."""
        await self._front.put(key, known)
        fields = known_fields(known)
        if fields is not None:
            name = self._seal.name("h", key)
            await self._link.write(name, self._seal.pack(name, fields), self._front.ttl_s)
