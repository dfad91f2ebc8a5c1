"""Keys that vendors mark with a prefix or a shape of their own (``secrets.provider_key``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.secret_formats import EXACT, OPEN, SHAPED

__all__ = ["PROVIDER_KEY", "find_provider_key"]

_LONGEST: Final = 1_024  # the longest of the formats, 1Password's, takes some 900

_BEGINNINGS: Final = [rf"\b{begin}" for begin, _ in (*EXACT, *OPEN)]
_PATTERNS: Final = Patterns(
    [
        *(rf"\b({begin}{rest})(?:[^\w\-]|$)" for begin, rest in EXACT),
        *(rf"\b({begin}{rest})" for begin, rest in OPEN),
        *(pattern for pattern, _ in SHAPED),
    ],
    screens=[*_BEGINNINGS, *(screen for _, screen in SHAPED)],
)


def find_provider_key(text: str) -> list[tuple[int, int]]:
    """Spans of keys in a well-known vendor's format; no attempt is made to use or verify one."""
    return tidy(((start, end) for _, start, end in _PATTERNS.spans(text)), _LONGEST)


PROVIDER_KEY: Final = Triggered(
    Detector("secrets.provider_key", find_provider_key, _LONGEST, unbroken=True),
    rf"\b(?:{'|'.join(begin for begin, _ in (*EXACT, *OPEN))})|" + "|".join(screen for _, screen in SHAPED),
)
