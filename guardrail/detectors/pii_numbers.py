"""Numbers that carry their own check: cards, IBANs, US social security numbers (``pii.*``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final

from stdnum import iban, luhn, numdb
from stdnum.us import ssn

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import behind

__all__ = ["CARD", "IBAN", "US_SSN", "find_card", "find_iban", "find_us_ssn"]

# (first and last prefix, lengths), from the issuers' published ranges (ISO/IEC 7812-1): Visa,
# Mastercard, American Express, Discover, JCB, Diners Club, UnionPay, Maestro, Mir, Troy.
_ISSUERS: Final = (
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16, 19)),
    ("644", "659", (16, 19)),
    ("3528", "3589", (16, 17, 18, 19)),
    ("1800", "1800", (15,)),  # JCB's older cards
    ("2131", "2131", (15,)),
    ("300", "305", (14, 16, 19)),
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16, 19)),
    ("62", "62", (16, 17, 18, 19)),
    ("5018", "5018", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("5020", "5020", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6759", "6759", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("6761", "6763", (12, 13, 14, 15, 16, 17, 18, 19)),
    ("2200", "2204", (16, 17, 18, 19)),
    ("9792", "9792", (16,)),
)
_MOST_GROUPS: Final = 6  # 19 digits in groups of three or more
_LONGEST_CARD: Final = 19 + _MOST_GROUPS - 1
_LONGEST_IBAN: Final = 34 + 33  # ISO 13616: 34 characters, here with a separator between any two
_LONGEST_SSN: Final = 11

# Digits in groups of three or more, not inside a word or behind a decimal point.
_DIGITS: Final = Patterns([r"(?:^|[^\w.]|[^\d]\.)(\d{3,}(?:[ \-]\d{3,})*)(?:\W|$)"])
_GROUP: Final = re.compile(r"[0-9]+")
# Country, check digits, and at least eleven more (Norway's is the shortest, 15 in all).
_IBAN_HEAD: Final = Patterns([r"(?i)\b([a-z]{2}\d{2})(?:[ \-]?[a-z0-9]){11}"])
_SSN: Final = Patterns(
    [
        r"(?:^|[^\w\-])(\d{3}-\d\d-\d{4}|\d{3} \d\d \d{4})(?:$|[^\w\-])",
        behind(r"ssn|social security(?: card)?", r"\d{3}[ .\-]?\d\d[ .\-]?\d{4}"),
    ]
)


def find_card(text: str) -> list[tuple[int, int]]:
    """Spans of card numbers: 12-19 digits, a known issuer's prefix and length, Luhn's check."""
    spans: list[tuple[int, int]] = []
    for _, start, end in _DIGITS.spans(text):
        groups = [match.span() for match in _GROUP.finditer(text, start, end)]
        spans.extend(_cards(text, groups))
    return tidy(spans, _LONGEST_CARD)


def _cards(text: str, groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs of neighbouring groups that make a card number; the longest from each first group."""
    for first, (start, _) in enumerate(groups):
        digits = ""
        card = None
        for group_start, end in groups[first : first + _MOST_GROUPS]:
            digits += text[group_start:end]
            if len(digits) > 19:
                break
            if len(digits) in _lengths(digits[:4]) and luhn.is_valid(digits):
                card = (start, end)
        if card is not None:
            yield card


@lru_cache(maxsize=10_000)
def _lengths(prefix: str) -> frozenset[int]:
    """The lengths of the cards that begin with these four digits."""
    issued = (lengths for low, high, lengths in _ISSUERS if low <= prefix[: len(low)] <= high)
    return frozenset().union(*issued)


def find_iban(text: str) -> list[tuple[int, int]]:
    """Spans of IBANs: a country of the registry, its length and structure, ISO 7064's check."""
    spans = []
    for _, start, _ in _IBAN_HEAD.spans(text):
        end = _iban_end(text, start, _iban_length(text[start : start + 2].upper()))
        if end is not None and iban.is_valid(text[start:end]):
            spans.append((start, end))
    return tidy(spans, _LONGEST_IBAN)


@cache
def _iban_length(country: str) -> int:
    """The length of a country's IBANs by SWIFT's registry, as python-stdnum has it; 0 for none."""
    structure = numdb.get("iban").info(country)[0][1].get("bban", "")
    parts = [int(part) for part in re.findall("[0-9]+", structure)]
    return 4 + sum(parts) if parts else 0


def _iban_end(text: str, start: int, length: int) -> int | None:
    """Where the given number of letters and digits ends, single separators left out."""
    end, missing = start, length
    while missing and end < len(text):
        if text[end].isalnum():
            missing -= 1
        elif text[end] not in " -" or text[end - 1] in " -":
            return None
        end += 1
    is_whole = length and not missing and not text[end : end + 1].isalnum()
    return end if is_whole else None


def find_us_ssn(text: str) -> list[tuple[int, int]]:
    """Spans of social security numbers: written with separators and in a range that SSA assigns.

    Behind their name in any form and range, but for zeros, which show the form.
    """
    spans = [
        (start, end)
        for index, start, end in _SSN.spans(text)
        if (text[start:end].strip("0 .-") if index else ssn.is_valid(text[start:end].replace(" ", "-")))
    ]
    return tidy(spans, _LONGEST_SSN)


CARD: Final = Triggered(Detector("pii.card", find_card, _LONGEST_CARD), r"\d(?:[ \-]?\d){11}")
IBAN: Final = Triggered(
    Detector("pii.iban", find_iban, _LONGEST_IBAN), r"(?i)\b[a-z]{2}\d\d[ \-]?[a-z0-9]{2}"
)
US_SSN: Final = Triggered(
    Detector("pii.us_ssn", find_us_ssn, _LONGEST_SSN), r"\d{3}[ .\-]?\d\d[ .\-]?\d{4}"
)
