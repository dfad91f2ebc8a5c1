"""Addresses of streets and post boxes (``pii.address``)."""

from __future__ import annotations

import re
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_streets import CORES

__all__ = ["ADDRESS", "find_address"]

_LONGEST_CORE: Final = 80
_LONGEST_TAIL: Final = 120

_PATTERNS: Final = Patterns(CORES)

# What may follow the street: a flat, the town, its postal code. Counts are bounded, so that looking
# for it costs the same behind every street.
_WORD: Final = r"[A-Z\u00c0-\u052f][A-Za-z\u00c0-\u052f'\u2019.\-]{0,24}"
_TOWN: Final = rf"{_WORD}(?: {_WORD}){{0,3}}"
_GAP: Final = r"[,\s]{1,6}"
_FLAT: Final = (
    r"(?:apartment|apt|suite|ste|unit|flat|room|rm|floor|fl)\.? ?#?[0-9]{1,5}[a-z]?\b|#[0-9]{1,5}\b"
)
_STATE_CODE: Final = r"[A-Z]{2,3}\.?[,\s]{1,4}[0-9]{4,5}(?:-[0-9]{4})?"
_CODE: Final = (
    r"(?:[0-9]{5}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}|[A-Z][0-9][A-Z] ?[0-9][A-Z][0-9])"
)
_TAIL: Final = re.compile(
    rf"(?:{_GAP}(?i:{_FLAT})){{0,2}}"
    rf"(?:{_GAP}(?:[A-Z]{{1,2}}-)?[0-9]{{4,5}}(?: ?[A-Z]{{2}}\b)? {_TOWN}"
    rf"|{_GAP}(?:{_TOWN}{_GAP})?(?:{_TOWN}{_GAP})?(?:{_STATE_CODE}|{_CODE})\b)?"
)
# A year is no house number: "the 2008 Wall Street crash", "in 1886, Robert Lane", "1991-1998, T. Hill".
# Behind one only a word that is not a surname too makes a street.
_YEAR: Final = re.compile(r"(?:1[5-9]|20)[0-9]{2}(?P<range>-[0-9]{4})?(?P<comma>,)? ")
_OF_A_YEAR: Final = re.compile(r"\b(?:the|in|of|since|by|a|from|until|during) \Z", re.IGNORECASE)
_STREETS: Final = ("Street", "Avenue", "Road", "Drive", "Boulevard", "St", "Ave", "Rd", "Dr", "Blvd")
# Compounds that are no streets, and what people count on the way to one.
_NO_STREET: Final = re.compile(
    r"(?i:arbeits|ausbildungs|bau|fenster|park|schlaf|sitz|spiel|steh|stell|studien|tabellen)platz"
    r"|(?i:aus|fu[sß]|heim|hin|lösungs|mittel|rad|rechen|rück|um)weg"
    r"|[0-9]+[a-z]? (?:[a-z'.]+ )?(?:a|blocks?|days?|down|feet|from|hours?|in|km|lane|meters?|miles?"
    r"|minutes?|more|of|or|other|the|to|up|way|yards?) "
)


def find_address(text: str) -> list[tuple[int, int]]:
    """Spans of house numbers with their street, and of post boxes, in some twenty languages.

    With the flat, the town and the postal code where they follow. The street alone, or the town alone,
    is no address.
    """
    spans = []
    for _, start, end in _PATTERNS.spans(text):
        if end - start <= _LONGEST_CORE and not _is_other(text, start, end):
            tail = _TAIL.match(text, end, end + _LONGEST_TAIL)
            spans.append((start, tail.end() if tail else end))
    return tidy(spans, _LONGEST_CORE + _LONGEST_TAIL)


def _is_other(text: str, start: int, end: int) -> bool:
    """Whether the number is a year, or the word no street's."""
    year = _YEAR.match(text, start, end)
    if year is None:
        return _NO_STREET.match(text, start, end) is not None
    is_street = text[start:end].rstrip(".").endswith(_STREETS) or text[start:end][-1].isdigit()
    is_listed = year["range"] is not None or year["comma"] is not None
    return is_listed or not is_street or _OF_A_YEAR.search(text, max(0, start - 8), start) is not None


ADDRESS: Final = Triggered(
    Detector("pii.address", find_address, _LONGEST_CORE + _LONGEST_TAIL, hold=_LONGEST_CORE),
    "|".join(CORES),
)
