"""Secrets with a structure: private keys, web tokens, connection strings (``secrets.*``)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.placeholders import is_placeholder

__all__ = [
    "CONNECTION_STRING",
    "JWT",
    "PRIVATE_KEY",
    "find_connection_string",
    "find_jwt",
    "find_private_key",
]

# An RSA key of 4,096 bits, the largest in common use, takes 3,272 characters. Longer blocks are
# found as well and reported in several spans that touch.
_LONGEST_KEY: Final = 4_096
# What may stand before a key is told by its beginning: the label, four header lines, the line ends
# and the first 16 characters of base 64.
_HELD_KEY: Final = 600
_LONGEST_JWT: Final = 4_096  # what identity providers with many claims issue
_LONGEST_URL: Final = 600

# RFC 7468 section 2, RFC 4716 and OpenPGP's armor (RFC 9580 section 6.2): a label, perhaps header
# lines, base 64 in lines of which only the last ones are short, and the end where there is one.
# Line ends may be escaped, as in a JSON key file.
_EOL: Final = r"(?:\s|\\[nr])"
_KEYS: Final = Patterns(
    [
        r"(-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        rf"(?:{_EOL}{{1,4}}[A-Z][A-Za-z\-]{{2,20}}: [^\r\n\\]{{1,80}}){{0,4}}"
        rf"{_EOL}{{0,6}}[A-Za-z0-9+/=]{{16,}}(?:{_EOL}{{1,4}}[A-Za-z0-9+/=]{{16,}})*"
        rf"(?:(?:{_EOL}{{1,4}}[A-Za-z0-9+/=]{{1,15}}){{0,2}}{_EOL}{{0,4}}"
        r"(?:-----END [A-Z0-9 ]{1,60}-----|\z))?)"
    ]
)

# RFC 7519: three parts of base 64 for URLs; a JSON object always begins "eyJ" or "ey" + "A".
_JWT: Final = Patterns([r"\b(ey[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*)"])

# RFC 3986 section 3.2.1: the user information, which that section deprecates because it leaks.
_URLS: Final = Patterns(
    [
        r"\b([A-Za-z][A-Za-z0-9+.\-]{1,30}://[^\s:/@\"'<>]{0,64}:[^\s/@\"'<>]{3,200}"
        r"@[A-Za-z0-9\[][A-Za-z0-9.:_\-\]]{0,255})"
    ]
)

# ODBC, OLE DB, ADO.NET, JDBC for SQL Server: "name=value" pairs, set apart by semicolons. A password
# counts where a server, a database or a user is named close before it or right behind it.
_NAMED: Final = (
    r"(?:server|data source|host(?:name)?|address|addr|initial catalog|database(?:name)?|dbname|dsn"
    r"|provider|driver|user(?:[ _]?id|name)?|uid|endpoint)\s?="
)
_VALUE: Final = r"(?:password|pwd)\s?=\s?([^\s;\"'<>{}]{3,64})"
_PAIRS: Final = Patterns(
    [
        rf"(?i)\b{_NAMED}\s?[^;\r\n\"']{{1,40}};(?:[^\r\n\"']{{0,24}}[;\s])?{_VALUE}(?:[;\"'\s]|$)",
        rf"(?i)\b{_VALUE};\s?{_NAMED}",
    ]
)


def find_private_key(text: str) -> list[tuple[int, int]]:
    """Spans of PEM and OpenPGP private keys; one without its end counts as far as it goes."""
    return tidy(((start, end) for _, start, end in _KEYS.spans(text)), _LONGEST_KEY)


def find_jwt(text: str) -> list[tuple[int, int]]:
    """Spans of JSON web tokens whose header is a JSON object that names its algorithm."""
    spans = [
        (start, end)
        for _, start, end in _JWT.spans(text)
        if _is_header(text[start : text.index(".", start)])
    ]
    return tidy(spans, _LONGEST_JWT)


def _is_header(encoded: str) -> bool:
    try:
        header = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and isinstance(header.get("alg"), str)


def find_connection_string(text: str) -> list[tuple[int, int]]:
    """Spans of connection strings whose password is not a mere placeholder.

    Of ``scheme://user:password@host`` the whole, of ``Server=...;Password=...;`` the password.
    """
    spans = [
        (start, end)
        for _, start, end in _PAIRS.spans(text)
        if not is_placeholder(text[start:end]) and not text[start:end].endswith("(")
    ]
    for _, start, end in _URLS.spans(text):
        password = text[start:end].split("://", 1)[1].rpartition("@")[0].partition(":")[2]
        if not is_placeholder(password):
            spans.append((start, end))
    return tidy(spans, _LONGEST_URL)


PRIVATE_KEY: Final = Triggered(
    Detector("secrets.private_key", find_private_key, _LONGEST_KEY, hold=_HELD_KEY, opening="-----BEGIN "),
    "PRIVATE KEY",
)
JWT: Final = Triggered(
    Detector("secrets.jwt", find_jwt, _LONGEST_JWT, unbroken=True), r"\bey[A-Za-z0-9_\-]{10,}\."
)
CONNECTION_STRING: Final = Triggered(
    Detector("secrets.connection_string", find_connection_string, _LONGEST_URL, unbroken=True),
    r"://[^\s/@]{0,64}:[^\s/@]{3,200}@|(?i:password|pwd)\s?=\s?[^\s;]{3}",
)
