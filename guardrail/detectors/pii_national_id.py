"""Numbers that states give to people, as they are written and checked (``pii.national_id``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import LEFT, RIGHT, behind
from guardrail.detectors.pii_schemes import SCHEMES

__all__ = ["NATIONAL_ID", "find_national_id"]

_LONGEST: Final = 21  # France's fifteen digits in seven groups

_FORMS: Final = [
    (pattern, scheme.is_valid)
    for scheme in SCHEMES
    for pattern in (
        rf"{LEFT}({scheme.form}){RIGHT}" if scheme.form else "",
        behind(scheme.names, scheme.bare) if scheme.names else "",
    )
    if pattern
]
_PATTERNS: Final = Patterns([pattern for pattern, _ in _FORMS])


def find_national_id(text: str) -> list[tuple[int, int]]:
    """Spans of identity, tax and insurance numbers of some fifty countries that pass their checks."""
    spans = [
        (start, end) for index, start, end in _PATTERNS.spans(text) if _FORMS[index][1](text[start:end])
    ]
    return tidy(spans, _LONGEST)


# Six digits with single separators at most, as in nearly all of them; Italy's, India's.
NATIONAL_ID: Final = Triggered(
    Detector("pii.national_id", find_national_id, _LONGEST),
    r"(?:\d[ .\-/+]?){5}\d|[A-Za-z]{6}\d\d[A-Za-z]\d\d[A-Za-z]\d{3}|[A-Z]{5}\d{4}[A-Z]",
)
