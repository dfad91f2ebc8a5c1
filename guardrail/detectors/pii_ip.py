"""IP addresses (``pii.ip``)."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.pii_context import RIGHT

__all__ = ["IP", "find_ip"]

_LONGEST: Final = 45  # RFC 4291 section 2.2: eight groups, the last two as IPv4

# Four decimal numbers, not a part of a longer dotted number, a word or a package's version.
_V4: Final = r"(?:^|[^\w.\-])(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})" + RIGHT
# Eight groups, or fewer with "::" behind a whole first group. A shorter first group is left alone:
# Python's slices (x[1::2]) and C++'s names (a::b) are well-formed IPv6, and what is assigned to
# hosts begins 2xxx, fcxx, fdxx or fe80.
_V6: Final = (
    r"(?i)(?:^|[^\w:.])"
    r"((?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}"
    r"|[0-9a-f]{4}(?::[0-9a-f]{1,4}){0,6}::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6})?)"
    r"(?:$|[^\w:]|:(?:[^\w:]|$))"
)
_PATTERNS: Final = Patterns([_V4, _V6])
# RFC 1918; carriers' own (RFC 6598); and RFC 3927's addresses of hosts that got none.
_PRIVATE: Final = tuple(
    IPv4Network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
)
_VERSION: Final = re.compile(
    r"(?:\bv|version|release|build|firmware|section|chapter|§|[=<>~!]=)[.:]? ?\Z", re.IGNORECASE
)
# One address in 4,096 has no number above this; hardly a version or a section has one.
_SMALL: Final = 31


def find_ip(text: str) -> list[tuple[int, int]]:
    """Spans of IPv4 and IPv6 addresses that may be someone's.

    Not loopback, unspecified, multicast, nor IPv4's reserved block (RFC 6890), which holds netmasks
    and the broadcast address; not IPv4's private networks, where everybody has the same addresses; not
    the numbers of versions and sections, which the word before tells, or that all four are small.
    """
    spans = [
        (start, end)
        for _, start, end in _PATTERNS.spans(text)
        if _is_host(text[start:end]) and not _VERSION.search(text, max(0, start - 12), start)
    ]
    return tidy(spans, _LONGEST)


def _is_host(written: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(written)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    if isinstance(address, IPv6Address):
        return True
    is_private = any(address in block for block in _PRIVATE)
    return not (is_private or address.is_reserved or max(address.packed) <= _SMALL)


IP: Final = Triggered(
    Detector("pii.ip", find_ip, _LONGEST, unbroken=True),
    r"(?i)\d\.\d{1,3}\.\d{1,3}\.\d|[0-9a-f]{4}:(?:[0-9a-f]{0,4}:|:)|[0-9a-f]:[0-9a-f]{1,4}:[0-9a-f]{1,4}:[0-9a-f]",
)
