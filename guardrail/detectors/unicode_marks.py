"""Floods of combining marks: "Zalgo" text, struck-out letters (``unicode.combining``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns

__all__ = ["COMBINING", "find_combining"]

_LONGEST: Final = 256
_HELD: Final = 20  # three letters with five marks each, the most before a run is found, and a rest

# Hebrew with vowels and cantillation puts five marks on a letter, no orthography more; UAX 15's
# stream-safe text allows 30. Vietnamese puts two on one letter, but not on three in a row. The
# overlays strike letters out, which hides words from filters and not from readers.
_FLOODS: Final = Patterns(
    [
        r"[^\pM\s]?[\p{Mn}\p{Me}]{6,}",
        r"(?:[A-Za-z][\x{0300}-\x{036F}]{2,}){3,}",
        r"(?:[A-Za-z][\x{0334}-\x{0338}]){3,}",
    ]
)


def find_combining(text: str) -> list[tuple[int, int]]:
    """Spans of letters under more marks than any orthography puts on them."""
    return tidy(((start, end) for _, start, end in _FLOODS.spans(text)), _LONGEST)


COMBINING: Final = Triggered(
    Detector("unicode.combining", find_combining, _LONGEST, hold=_HELD, inside=False),
    r"[\p{Mn}\p{Me}]{6}|(?:[A-Za-z][\x{0300}-\x{036F}]{2,}){3}|(?:[A-Za-z][\x{0334}-\x{0338}]){3}",
    beyond_ascii=True,
)
