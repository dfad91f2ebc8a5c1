"""Telephone numbers (``pii.phone``)."""

from __future__ import annotations

import re
from typing import Final

import phonenumbers

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns

__all__ = ["PHONE", "find_phone"]

_LONGEST: Final = 48

# Not inside a word, a decimal, a version, a range or another number.
_LEFT: Final = r"(?:^|[^\w.+\-])"
_RIGHT: Final = r"(?:$|[^\w.\-]|[.\-](?:\D|$))"
_EXTENSION: Final = r"(?: ?(?:x|ext\.?) ?\d{1,5})?"
# E.164: a plus sign and at most 15 digits; ITU-T E.123 writes them in groups.
_INTERNATIONAL: Final = _LEFT + r"(\+ ?\(?[1-9](?:[ ().\-/]{0,3}\d){6,15}" + _EXTENSION + ")" + _RIGHT
# The North American plan writes 3-3-4 and begins area and exchange with 2-9 (nanpa.com).
_AMERICAN: Final = (
    _LEFT
    + r"((?:1[ .\-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .\-])[2-9]\d\d[ .\-]\d{4}"
    + _EXTENSION
    + ")"
    + _RIGHT
)
# Trunk prefix 0, an area code, the rest in groups: Britain (Ofcom's numbering plan), Germany
# (DIN 5008).
_TRUNK: Final = (
    _LEFT + r"((?:\(0[1-9]\d{1,4}\)|0[1-9]\d{1,4})(?: ?[/\-] ?| )\d{2,8}(?:[ \-]\d{2,8}){0,3})" + _RIGHT
)
_PATTERNS: Final = Patterns([_INTERNATIONAL, _AMERICAN, _TRUNK])
_TRUNK_INDEX: Final = 2
# A ZIP+4 code of New England (USPS) and an ISSN (ISO 3297), which would do as numbers of Germany.
_OTHER: Final = re.compile(r"0[0-9]{3,4}-[0-9]{4}")
_REGIONS: Final[tuple[tuple[str | None, ...], ...]] = ((None,), ("US",), ("GB", "DE"))


def find_phone(text: str) -> list[tuple[int, int]]:
    """Spans of numbers that ``phonenumbers`` (Google's libphonenumber metadata) knows.

    International ones of any country; national ones as the United States, Britain and Germany write
    them. A bare run of digits is no phone number: order numbers and times look just the same. The
    number must lie in an assigned range; only one that has both a plus sign and groups need merely
    be of a possible length, because nothing else is written so and ranges change.
    """
    spans = [
        (start, end)
        for index, start, end in _PATTERNS.spans(text)
        if end - start <= _LONGEST
        and any(_is_number(text[start:end], region) for region in _REGIONS[index])
        and not (index == _TRUNK_INDEX and _is_other(text, start, end))
    ]
    return tidy(spans, _LONGEST)


def _is_other(text: str, start: int, end: int) -> bool:
    """Whether a number with a trunk prefix is of another kind, or the end of a longer one."""
    is_tail = text[max(0, start - 2) : start].strip().isdigit()
    return is_tail or _OTHER.fullmatch(text, start, end) is not None


def _is_number(written: str, region: str | None) -> bool:
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return False
    if region is None and not written[1:].isdigit():
        return phonenumbers.is_possible_number(number)
    return phonenumbers.is_valid_number(number)


PHONE: Final = Triggered(
    Detector("pii.phone", find_phone, _LONGEST),
    r"\+ ?\(?[1-9]|\d{3}\)? ?[ .\-]\d{3}[ .\-]\d{4}|\d{3}\) ?\d{3}|0[1-9]\d{1,4}\)?[ /\-]{1,3}\d\d",
)
