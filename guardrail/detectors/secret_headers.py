"""Secrets in what a client sends: headers and the log-in of a command (``secrets.header``)."""

from __future__ import annotations

from base64 import b64decode
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.placeholders import is_placeholder
from guardrail.detectors.secret_assignment import is_random

__all__ = ["HEADER", "find_header"]

_LONGEST: Final = 1_024

# RFC 9110 section 11.6.2, RFC 6750 section 2.1 (the characters of a bearer token), RFC 7617 (Basic).
# The name may be quoted, as in JSON or code, and its quotes escaped once more.
_SET: Final = r"\\{0,3}[\"']?\s{0,2}[:=,]\s{0,2}\\{0,3}[\"'`]?"
# Neither ends with a full stop, which is the sentence's.
_TOKEN68: Final = r"([A-Za-z0-9\-._~+/]{15,998}[A-Za-z0-9\-_~+/]={0,2})"
_BARE68: Final = (
    r"([A-Za-z0-9\-._~+/]{23,998}[A-Za-z0-9\-_~+/]={0,2})"  # longer than the name of any scheme
)
_END: Final = r"(?:[^A-Za-z0-9\-_~+/=]|$)"
_BASIC: Final = 0
_LOGIN: Final = 1
_PATTERNS: Final = Patterns(
    [
        # Basic: base 64 of user and password.
        r"(?i)\bauthorization" + _SET + r"basic\s{1,3}([A-Za-z0-9+/]{8,400}={0,2})" + _END,
        # curl, wget, HTTPie: the log-in of a command.
        r"\b(?:curl|wget|http|https)\b[^\r\n|]{0,56}?\s(?:-u|--user|-a|--auth)[\s=]{1,2}"
        r"[\"']?[^\s:\"'$<{]{1,24}:([^\s\"'`|]{3,128})(?:[\s\"'`|]|$)",
        # Any other scheme: Token, ApiKey, Okta's SSWS, Discord's Bot; then none, and Bearer anywhere.
        r"(?i)\bauthorization" + _SET + r"(?:token|apikey|ssws|bot|key)\s{1,3}" + _TOKEN68 + _END,
        r"(?i)\bauthorization" + _SET + _BARE68 + _END,
        r"(?i)\bbearer\s{1,3}" + _TOKEN68 + _END,
        # Headers that vendors made up: GitLab, Vault, Datadog, Azure, and the general ones.
        r"(?i)\b(?:x-(?:[a-z]{1,20}-){0,2}(?:api-?key|auth(?:-?token)?|token|secret)|private-token"
        r"|api-key|apikey|dd-ap(?:i|plication)-key|ocp-apim-subscription-key)" + _SET + _TOKEN68 + _END,
        # RFC 6265: the cookies that hold a session, by the names that frameworks give them.
        r"(?i)(?:^|[;\s?&\"'])(?:[a-z0-9_\-.]{0,16}sess(?:ion)?(?:[_\-]?id)?|[a-z0-9_\-.]{0,16}\.?sid"
        r"|[a-z0-9]{0,12}[_\-](?:auth|jwt|token))=([A-Za-z0-9\-._~+/%:|]{16,1000}={0,2})(?:[;\s\"',&]|$)",
    ]
)
_BITS: Final = 3.0  # as in secret_assignment: random hexadecimal of 16 digits lies near 3.2


def find_header(text: str) -> list[tuple[int, int]]:
    """Spans of the values (not the names) of headers, cookies and ``-u user:password``."""
    spans = [
        (start, end) for index, start, end in _PATTERNS.spans(text) if _is_secret(index, text[start:end])
    ]
    return tidy(spans, _LONGEST)


def _is_secret(index: int, value: str) -> bool:
    if index == _BASIC:
        return _is_basic(value)
    if is_placeholder(value):
        return False
    return index == _LOGIN or is_random(value, _BITS)


def _is_basic(value: str) -> bool:
    """Whether the value is a user and a password, neither of them a placeholder."""
    try:
        user, colon, password = b64decode(value + "=" * (-len(value) % 4)).decode().partition(":")
    except ValueError:
        return False
    return bool(colon and password) and user.isprintable() and not is_placeholder(password)


HEADER: Final = Triggered(
    Detector("secrets.header", find_header, _LONGEST, unbroken=True),
    r"(?i)\bauthorization\\{0,3}[\"']?\s{0,2}[:=,]|\bbearer\s{1,3}[^\s]{16}"
    r"|(?:sess(?:ion)?(?:[_\-]?id)?|sid|[_\-](?:auth|jwt|token))=[^\s]{16}"
    r"|\b(?:x-[a-z\-]{3,60}|private-token|api-?key|[a-z]{2}-[a-z]{3,11}-key|ocp-apim-subscription-key)"
    r"\\{0,3}[\"']?\s{0,2}[:=,]|\s(?:-u|--user|-a|--auth)[\s=]{1,2}[\"']?[^\s:]{1,24}:[^\s]{3}",
)
