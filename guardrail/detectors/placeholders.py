"""Placeholders: what stands where a secret would, in examples, templates and code."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.patterns import Patterns

__all__ = ["is_placeholder"]

_PLACEHOLDERS: Final = Patterns(
    [
        # A hole to fill in: <your key>, ${VAR}, $VAR, {{ var }}, %(var)s, %VAR%, [key], @var@.
        r"^(?:<.*>?|\$[\w{(].*|#?\{.*|%[\w({].*|\[.*|@\w+@)$",
        # Filler: xxxx, ****, ...., ----, 0000, or the beginning of the alphabet or the numbers.
        r"(?i)x{4}|\*{3}|\.{3}|…|_{4}|-{4}|0{6}|^(?:abc(?:def)?|123456|qwerty)",
        # Words that say so. These and the next are read as gitleaks' allow-lists are.
        r"(?i)example|change[_\-]?(?:me|it|this)|placeholder|dummy|redacted|replace|sample|insert"
        r"|\byour|your[_\-]|[_\-]here\b|foobar|not[_\-]?(?:a[_\-])?(?:real|secret)|to-?do\b",
        # The name of the thing in place of the thing.
        r"(?i)^(?:my|the|some|a)?[_\-]?(?:super|very|top)?[_\-]?(?:pass(?:w(?:or)?d)?|pwd|secret"
        r"|token|api[_\-]?key|key|user(?:name)?|none|null|true|false)(?:[_\-]?(?:key|token|value|\d{1,3}))?$",
        # Code that fetches it: os.environ, process.env, getenv(), secrets.NAME, vault paths.
        r"(?i)environ|getenv|process\.env|\benv[.\[(]|secrets?\.|vault:|config[.\[(]|settings\.",
    ]
)


def is_placeholder(value: str) -> bool:
    """Whether a value put where a secret belongs is no secret."""
    return bool(_PLACEHOLDERS.hits(value))
