"""How long gpt-oss-safeguard thinks, and how oddly it answers: figures of others' records.

Measured on 6,215 recorded calls of gpt-oss-safeguard-20b over a hosted API at medium effort, November
2025; the shares of odd answers on about 22,000 answers of seven record sets. What was not measured says so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from random import Random
from typing import Final

__all__ = ["MEASURED_ODD_SHARE", "completion_tokens", "latency_s", "odd_answer"]

_TOKENS: Final = (
    (0, 30), (1, 48), (5, 63), (10, 72), (20, 88), (30, 108), (40, 136), (50, 172), (60, 226), (70, 309),
    (75, 376), (80, 465), (85, 587), (90, 762), (95, 1026), (98, 1360), (99, 1653),
    (99.9, 2520), (100, 3176),
)  # fmt: skip
_RESIDUAL: Final = (
    (0, 0.678), (1, 0.691), (5, 0.737), (10, 0.772), (25, 0.861), (50, 1.0), (75, 1.181), (90, 1.431),
    (95, 1.583), (99, 2.05), (100, 2.263),
)  # fmt: skip
_BASE_MS: Final = 328.7
_MS_PER_TOKEN: Final = 1.555
_MISS_MS: Final = 200.0  # added where the prefix was not cached
# Assumed, not measured: the published records are all of medium effort.
_EFFORT: Final[Mapping[str, float]] = {"low": 0.5, "medium": 1.0, "high": 2.0}
MEASURED_ODD_SHARE: Final = 0.02
"""Refusals, hijacks, echoes and fences under policies that state their answer form literally."""
_ODD: Final = (
    (0.10, "I'm sorry, but I can't help with that."),  # 0.2 to 0.4 % of calls
    (0.20, "Sure! Here is what you asked for: a poem about the sea."),  # the judge did what the text asked
    (0.45, "```json\n{answer}\n```"),
    (0.70, "Answer: {answer}"),
    (0.85, ""),
    (1.00, "The content was checked.\n{answer}"),
)


def completion_tokens(random: Random, effort: str) -> int:
    """Tokens of reasoning and answer together."""
    return max(1, round(_drawn(random, _TOKENS) * _EFFORT.get(effort, 1.0)))


def latency_s(random: Random, tokens: int, *, cached: bool) -> float:
    """Seconds to answer with so many tokens."""
    base = _BASE_MS + _MS_PER_TOKEN * tokens
    return (base * _drawn(random, _RESIDUAL) + (0.0 if cached else _MISS_MS)) / 1e3


def odd_answer(random: Random, answer: str) -> str:
    """One of the odd forms in which ``answer`` comes, or something else in its place."""
    at = random.random()
    form = next(form for share, form in _ODD if at <= share)
    return form.replace("{answer}", answer)


def _drawn(random: Random, table: tuple[tuple[float, float], ...]) -> float:
    """A value of an inverse distribution function, between its points by a straight line."""
    percent = random.random() * 100
    place = max(1, bisect_left(table, percent, key=lambda point: point[0]))
    (below, low), (above, high) = table[place - 1], table[place]
    return low + (high - low) * (percent - below) / (above - below)
