"""Where a bank account is: ABA numbers, sort codes, BICs, and accounts named so (``pii.bank_routing``)."""

from __future__ import annotations

from typing import Final

import phonenumbers
from stdnum.us import rtn

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import behind

__all__ = ["BANK_ROUTING", "find_bank_routing"]

_LONGEST: Final = 17  # digits of an account; ABA numbers have 9, sort codes 8, BICs 11 characters

_ROUTING: Final = r"(?:bank )?routing(?: transit)?|aba|rtn"
_SORT: Final = r"sort[ _\-]?code"
_ACCOUNT: Final = r"(?:account|acct|a/c)"
_FORMS: Final = (
    behind(_ROUTING, r"\d{4} ?\d{4} ?\d"),
    behind(_SORT, r"\d\d[ \-]?\d\d[ \-]?\d\d"),
    # An account may be one at a shop: it is a bank's behind the bank, a sort code or a routing number.
    behind(
        rf"(?:bank|checking|savings|current) {_ACCOUNT}|kontonummer|bankverbindung"
        rf"|(?:{_SORT}|routing)[^A-Za-z]{{1,16}}(?:number[^A-Za-z]{{1,16}})?(?:and )?{_ACCOUNT}",
        r"\d{6,17}",
    ),
    # ISO 9362. "SWIFT" is a word of other trades as well.
    behind(
        r"bic(?: ?/ ?swift)?|swift[ _/\-]?(?:bic|code|number)|swift ?[:=#]",
        r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?",
    ),
)
_PATTERNS: Final = Patterns(_FORMS)
_ROUTING_INDEX, _BIC_INDEX = 0, 3


def find_bank_routing(text: str) -> list[tuple[int, int]]:
    """Spans of routing numbers, sort codes, BICs and bank accounts behind their names.

    An ABA number must pass its check, a BIC must hold the code of a country.
    """
    spans = [
        (start, end) for index, start, end in _PATTERNS.spans(text) if _is_sound(index, text[start:end])
    ]
    return tidy(spans, _LONGEST)


def _is_sound(index: int, written: str) -> bool:
    if index == _ROUTING_INDEX:
        return bool(rtn.is_valid(written.replace(" ", "")))
    return index != _BIC_INDEX or written[4:6] in phonenumbers.SUPPORTED_REGIONS


BANK_ROUTING: Final = Triggered(Detector("pii.bank_routing", find_bank_routing, _LONGEST), "|".join(_FORMS))
