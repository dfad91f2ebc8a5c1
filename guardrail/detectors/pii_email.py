"""E-mail addresses (``pii.email``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns

__all__ = ["EMAIL", "find_email"]

_LONGEST: Final = 254  # RFC 5321 section 4.5.3.1.3: a path of 256 octets with its angle brackets

# The unquoted form of RFC 5322 with the characters that mailboxes use in practice, Latin letters
# beyond ASCII in both parts (RFC 6531), and a top-level domain of letters or in punycode. Not all
# of Unicode in the local part: text in a script without spaces would become part of the address.
_ADDRESS: Final = (
    r"([\p{Latin}0-9_](?:[\p{Latin}0-9._%+'\-]{0,62}[\p{Latin}0-9_%+\-])?"
    r"@(?:[\p{Latin}0-9](?:[\p{Latin}0-9\-]{0,61}[\p{Latin}0-9])?\.){1,8}"
    r"(?:xn--[a-z0-9\-]{2,59}|[A-Za-z]{2,24}))(?:[^A-Za-z0-9]|$)"
)
_PATTERNS: Final = Patterns([_ADDRESS])
# "icon@2x.png" names a picture for dense screens, "name@domain.tld" shows the form: none of these is a
# top-level domain.
_NO_DOMAINS: Final = frozenset(
    ("css", "gif", "jpeg", "jpg", "js", "json", "png", "svg", "tld", "ts", "webp")
)


def find_email(text: str) -> list[tuple[int, int]]:
    """Spans of e-mail addresses; not of ``git@host:path`` (the login of SSH remotes)."""
    spans = []
    for _, start, end in _PATTERNS.spans(text):
        address = text[start:end]
        is_other = address.rpartition(".")[2].lower() in _NO_DOMAINS
        is_remote = address.startswith("git@") and text[end : end + 1] == ":"
        if end - start <= _LONGEST and not is_other and not is_remote:
            spans.append((start, end))
    return tidy(spans, _LONGEST)


EMAIL: Final = Triggered(Detector("pii.email", find_email, _LONGEST, unbroken=True), "@")
