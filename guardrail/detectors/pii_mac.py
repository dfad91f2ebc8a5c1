"""Hardware addresses of network interfaces (``pii.mac``)."""

from __future__ import annotations

import re
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns

__all__ = ["MAC", "find_mac"]

_LONGEST: Final = 17  # IEEE 802 section 8.1: six octets, in hexadecimal, with a separator between them

# With colons or with hyphens (IEEE 802), or in three groups with full stops, as Cisco writes them. Not
# a piece of something longer: a fingerprint of a key is written in the same way.
_EDGE: Final = r"[^\w:.\-]"
_PATTERNS: Final = Patterns(
    [
        rf"(?i)(?:^|{_EDGE}){octets}(?:$|{_EDGE}|[.:\-](?:\W|$))"
        for octets in (
            r"((?:[0-9a-f]{2}:){5}[0-9a-f]{2})",
            r"((?:[0-9a-f]{2}-){5}[0-9a-f]{2})",
            r"((?:[0-9a-f]{4}\.){2}[0-9a-f]{4})",
        )
    ]
)
_DIGITS: Final = re.compile("[0-9a-f]")


def find_mac(text: str) -> list[tuple[int, int]]:
    """Spans of hardware addresses of one interface: not all zeros, not multicast or broadcast."""
    spans = [(start, end) for _, start, end in _PATTERNS.spans(text) if _is_single(text[start:end].lower())]
    return tidy(spans, _LONGEST)


def _is_single(written: str) -> bool:
    digits = "".join(_DIGITS.findall(written))
    return int(digits, 16) != 0 and int(digits[1], 16) % 2 == 0  # the lowest bit of the first octet


MAC: Final = Triggered(
    Detector("pii.mac", find_mac, _LONGEST, unbroken=True),
    r"(?i)[0-9a-f]:[0-9a-f]{2}:[0-9a-f]{2}:[0-9a-f]{2}:|[0-9a-f]-[0-9a-f]{2}-[0-9a-f]{2}-[0-9a-f]{2}-"
    r"|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}",
)
