"""VerdictCache and HistoryCache in process, on cachetools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cachetools import TLRUCache, TTLCache

from guardrail.core.history import Remembered
from guardrail.core.policy import JUDGE_REFUSAL, Policy
from guardrail.core.verdict import Verdict

__all__ = ["MemoryCache", "MemoryHistory", "under"]


def under(verdict: Verdict, policy: Policy) -> Verdict | None:
    """A remembered verdict under today's front matter; None where it cannot stand any more.

    That is: the label was dropped, or is now said otherwise whether it is a violation, or the policy
    wants nothing remembered.
    """
    if policy.cache_ttl_s == 0:
        return None
    if verdict.label == JUDGE_REFUSAL:
        return replace(verdict, policy=policy) if verdict.violation else None
    if verdict.label is not None:
        rule = policy.labels.get(verdict.label)
        if rule is None or rule.violation is not verdict.violation:
            return None
    return replace(verdict, policy=policy)


class MemoryCache:
    """Least recently used, at most ``max_entries``.

    Each is kept for its policy's ``cache_ttl_s`` seconds, else for ``ttl_s``; with 0 it is not kept.
    """

    def __init__(self, max_entries: int = 10_000, ttl_s: float = 600.0) -> None:
        self._ttl_s = ttl_s
        # Each with its own time to live, since ttu sees nothing else of a put.
        self._entries: TLRUCache[str, tuple[Verdict, float]] = TLRUCache(
            max_entries, lambda _key, entry, now: now + entry[1]
        )

    def ttl_s(self, policy: Policy) -> float:
        """How long a verdict of this policy is kept, in seconds."""
        return self._ttl_s if policy.cache_ttl_s is None else policy.cache_ttl_s

    async def get_many(self, keys: Sequence[str], policies: Sequence[Policy]) -> list[Verdict | None]:
        """The remembered verdicts under today's front matter (``under``)."""
        return [self._get(key, policy) for key, policy in zip(keys, policies, strict=True)]

    def _get(self, key: str, policy: Policy) -> Verdict | None:
        try:
            verdict = self._entries[key][0]  # half the price of get(), which looks twice
        except KeyError:
            return None
        return verdict if verdict.policy is policy else under(verdict, policy)

    async def put(self, key: str, verdict: Verdict, *, age_s: float = 0.0) -> None:
        """Remember it, marked as cached and without what its calls cost.

        ``age_s``: how long ago it was given, in seconds, which it is kept the less.
        """
        steps = tuple(replace(step, usage=None, latency_ms=0.0) for step in verdict.steps)
        kept = replace(verdict, steps=steps, cached=True, latency_ms=0.0, usage=None)
        self._entries[key] = kept, self.ttl_s(verdict.policy) - age_s


class MemoryHistory:
    """Least recently used, at most ``max_entries``, each for at most ``ttl_s`` seconds."""

    def __init__(self, max_entries: int = 10_000, ttl_s: float = 3600.0) -> None:
        self.ttl_s = ttl_s
        self._entries: TTLCache[str, Remembered] = TTLCache(max_entries, ttl_s)

    async def get_many(self, keys: Sequence[str]) -> list[Remembered | None]:
        """What is known under each key."""
        return [self._entries.get(key) for key in keys]

    async def put(self, key: str, known: Remembered) -> None:
        """Remember it."""
        self._entries[key] = known
