"""Detectors: what a finder of spans is, and the shape its spans must have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Detector", "Triggered", "tidy"]


@dataclass(frozen=True, slots=True)
class Detector:
    """A pure, deterministic finder of spans.

    ``name`` is ``family.kind`` (``"pii.email"``). ``find`` takes any text, lone surrogates
    included, never raises, and gives ``(start, end)`` pairs in code points, sorted and free of
    overlaps. ``longest`` is the longest span it gives, in code points: a stream that keeps so much
    text back for its next window never lets part of a match leave.
    """

    name: str
    find: Callable[[str], list[tuple[int, int]]]
    longest: int


@dataclass(frozen=True, slots=True)
class Triggered:
    """A detector with the cheap RE2 pattern without which it can find nothing.

    ``folded``: the pattern is meant for the folded copy of a text (see ``folding``).
    ``beyond_ascii``: the detector finds nothing in pure-ASCII text.
    """

    detector: Detector
    trigger: str
    folded: bool = False
    beyond_ascii: bool = False


def tidy(spans: Iterable[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
    """Sorted spans without overlaps, none longer than ``longest`` code points.

    Spans that overlap become one; a span that is too long becomes several that touch, so that
    redaction still covers all of it.
    """
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return [
        (piece, min(piece + longest, end)) for start, end in joined for piece in range(start, end, longest)
    ]
