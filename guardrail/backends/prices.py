"""What a judge's tokens cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from guardrail.core.verdict import Usage

__all__ = ["Prices", "with_cost"]

_PER: Final = 1_000_000  # tokens


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens. ``cached`` is for prompt tokens from the cache (None: as others)."""

    prompt: float
    completion: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """US dollars of one call. Where the judge does not say what was cached, nothing was."""
        cached = min(usage.cached or 0, usage.prompt)
        of_cached = self.prompt if self.cached is None else self.cached
        fresh = (usage.prompt - cached) * self.prompt
        return (fresh + cached * of_cached + usage.completion * self.completion) / _PER


def with_cost(usage: Usage | None, prices: Prices | None) -> Usage | None:
    """``usage`` with its cost: as the judge reported it, else by ``prices``, else unknown."""
    if usage is None or prices is None or usage.cost_usd is not None:
        return usage
    return replace(usage, cost_usd=prices.cost(usage))
