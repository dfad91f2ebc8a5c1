"""VerdictCache in process, on cachetools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cachetools import TTLCache

from guardrail.core.policy import JUDGE_REFUSAL, Policy
from guardrail.core.verdict import Verdict

__all__ = ["MemoryCache"]


class MemoryCache:
    """Least recently used, at most ``max_entries``, each for at most ``ttl_s`` seconds."""

    def __init__(self, max_entries: int = 10_000, ttl_s: float = 600.0) -> None:
        self._entries: TTLCache[str, Verdict] = TTLCache(max_entries, ttl_s)

    async def get_many(self, keys: Sequence[str], policies: Sequence[Policy]) -> list[Verdict | None]:
        """The remembered verdicts under today's front matter.

        A label that it dropped, or of which it now says otherwise whether it is a violation, is a miss.
        """
        return [self._get(key, policy) for key, policy in zip(keys, policies, strict=True)]

    def _get(self, key: str, policy: Policy) -> Verdict | None:
        try:
            verdict = self._entries[key]  # half the price of get(), which looks twice
        except KeyError:
            return None
        if verdict.policy is policy:
            return verdict
        if verdict.label not in (None, JUDGE_REFUSAL):
            rule = policy.labels.get(verdict.label)
            if rule is None or rule.violation is not verdict.violation:
                return None
        return replace(verdict, policy=policy)

    async def put(self, key: str, verdict: Verdict) -> None:
        """Remember it, marked as cached."""
        self._entries[key] = replace(verdict, cached=True, latency_ms=0.0, usage=None)
