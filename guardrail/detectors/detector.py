"""Detectors: what a finder of spans is, and the shape its spans must have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["ENCODED_RUN", "LONGEST_ELSEWHERE", "Detector", "Triggered", "tidy"]

ENCODED_RUN: Final = 4_096
"""How much of a run of encoded text, in code points, a stream holds back so that it is read whole."""
LONGEST_ELSEWHERE: Final = 128
"""The longest span, in code points, of detectors that are not in the catalogue (``presidio.*``): they are
known by their names only, before and without the library behind them.
"""


@dataclass(frozen=True, slots=True)
class Detector:
    """A pure, deterministic finder of spans.

    ``name`` is ``family.kind`` (``"pii.email"``). ``find`` takes any text, lone surrogates
    included, never raises, and gives ``(start, end)`` pairs in code points, sorted and free of
    overlaps. All sizes are in code points; a stream holds back what they ask for, so that no part of
    a match leaves before the match is found:

    - ``longest``: the longest span it gives.
    - ``hold``: how much of a match may have come before its beginning is found, as far as it goes;
      None: all of it.
    - ``opening``: what every span begins with, if anything; only behind it is anything held.
    - ``unbroken``: no span of it holds white space, so only a word that goes on can become a match.
    - ``inside``: it looks through what is encoded in a text as well (see ``encodings``).
    """

    name: str
    find: Callable[[str], list[tuple[int, int]]]
    longest: int
    hold: int | None = None
    opening: str = ""
    unbroken: bool = False
    inside: bool = True

    @property
    def held(self) -> int:
        """How much text, behind which a match may be going on, is held back."""
        return self.longest if self.hold is None else self.hold

    @property
    def run(self) -> int:
        """How long a run without white space at a text's end, which may become a match, is held back."""
        return max(self.longest if self.unbroken else 0, ENCODED_RUN if self.inside else 0)


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
