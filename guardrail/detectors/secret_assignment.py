"""Secrets by the name they are given (``secrets.assignment``)."""

from __future__ import annotations

from collections import Counter
from math import log2
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns
from guardrail.detectors.placeholders import is_placeholder

__all__ = ["ASSIGNMENT", "entropy", "find_assignment", "is_random"]

_LONGEST: Final = 200

# The names under which configuration files and code keep secrets (those of gitleaks' generic rule),
# at the end of the identifier: "password_field" and "token_count" name something else.
_NAME: Final = (
    r"(?i)(?:pass(?:w(?:or)?d|phrase)|pwd|secret|token|api[ _\-]?key|access[_\-]?key|auth[_\-]?key"
    r"|private[_\-]?key|encryption[_\-]?key|signing[_\-]?key|credentials?)"
    r"(?:[_\-]?(?:access[_\-]?)?(?:key|value|token))?(?:[_\-](?:prod|production|dev|staging|live|test))?"
)
# The quotes may be escaped, as in JSON inside JSON.
_QUOTE: Final = r"\\{0,3}[\"'`]"
_SET: Final = r"(?:\\{0,3}[\"'`\]]){0,2}\s{0,4}(?::\s?[A-Za-z]{1,12}\s{0,2}=|=>|:=|\?=|={1,3}|:)\s{0,4}"
# In sentences: "the password of the ticket system is ...", in the languages of the evaluation data.
_TOLD_NAME: Final = (
    r"(?i)(?:pass(?:word|phrase|code|wort)|api[ \-]?key|(?:access|api) token|kennwort|mot de passe"
    r"|contrase(?:n|ñ)a|пароль\p{Cyrillic}{0,2}|كلمة (?:ال)?(?:مرور|سر)|पासवर्ड|পাসওয়ার্ড)"
)
_TOLD: Final = (
    r"(?:\s[\pL\pM'’ ]{1,60}?)??(?:\s(?:is|was|ist|lautet|est|es|है|হল|هي)|\s?[:：]|\s[—-]\s)\s{0,2}"  # noqa: RUF001
)
_TOLD_CJK: Final = r"(?i)(?:密[码碼]|口令|パスワード)[\pL\s]{0,6}?(?:[是为為はが:：]|设为|設為)\s{0,2}"  # noqa: RUF001
# Printable ASCII without quotes and backslash, and the letters of Latin-1 and Latin Extended.
_CHAR: Final = r"[!#-&(-\[\]-_a-~\x{A1}-\x{24F}]"
_LAST: Final = r"[#-&*-+\-/-9=@-Z^_a-z|~\x{C0}-\x{24F}]"
_PATTERNS: Final = Patterns(
    [
        rf"{_NAME}{_SET}[a-z]{{0,2}}{_QUOTE}({_CHAR}{{8,200}}){_QUOTE}",
        rf"{_NAME}{_QUOTE}\s{{0,4}},\s{{0,4}}{_QUOTE}({_CHAR}{{8,200}}){_QUOTE}",
        rf"{_TOLD_NAME}{_TOLD}(?:{_QUOTE})?({_CHAR}{{7,64}}{_LAST})",
        rf"{_TOLD_CJK}(?:{_QUOTE}|[「“])?({_CHAR}{{7,64}}{_LAST})",
        rf"""{_NAME}{_SET}([A-Za-z0-9+/=_.~!@#$%^*:\-]{{8,200}})(?:[\s"'`,;&)\]}}<\\]|$)""",
    ]
)
_BARE: Final = 4
_OTHER: Final = Patterns(
    [
        r"^[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+$",  # what a program fetches it from
        r"^[A-Za-z]*\d{1,4}-[a-z]+$",  # what a sentence says of it: "32-characters", "base64-encoded"
        r"(?i)[a-z_](?:key|token|secret|password|credential)s?$",  # a name: "Ed25519PrivateKey"
    ]
)
# Shannon's entropy of the value's own characters, in bits a character. English words lie near 2.5
# to 3, random hexadecimal of 32 digits near 3.6, random base 64 of 40 near 4.6. What carries no
# quotes is more often code than a secret, and has to look more random.
_QUOTED_BITS: Final = 2.75
_BARE_BITS: Final = 3.2


def entropy(value: str) -> float:
    """Shannon's entropy of the characters of a value, in bits a character; 0.0 for no value."""
    size = len(value)
    return -sum(n / size * log2(n / size) for n in Counter(value).values())


def is_random(value: str, bits: float) -> bool:
    """Whether a value has letters and digits, and at least so many bits of entropy a character."""
    return any(c.isalpha() for c in value) and any(c.isdigit() for c in value) and entropy(value) >= bits


def find_assignment(text: str) -> list[tuple[int, int]]:
    """Spans of the values (not the names) of ``password = "..."`` and its relatives."""
    spans = [
        (start, end)
        for index, start, end in _PATTERNS.spans(text)
        if _is_secret(text[start:end], _BARE_BITS if index == _BARE else _QUOTED_BITS)
    ]
    return tidy(spans, _LONGEST)


def _is_secret(value: str, bits: float) -> bool:
    """Random enough, and neither a placeholder nor code."""
    return is_random(value, bits) and not is_placeholder(value) and not _OTHER.hits(value)


ASSIGNMENT: Final = Triggered(
    Detector("secrets.assignment", find_assignment, _LONGEST, unbroken=True),
    rf"{_NAME}(?:\\{{0,3}}[\"'`\]]){{0,2}}\s{{0,4}}(?:=|:|\?=|,)|{_TOLD_NAME}|{_TOLD_CJK}",
)
