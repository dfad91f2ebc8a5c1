r"""Placeholders: how they are written, and how they are found again in what a model made of them.

``[EMAIL_XKCDQWRT]``: a kind, and a code of eight consonants. Without vowels a code is no word, without
digits it is no number that a detector could take for one, and it has no look-alikes to be mistaken for.

Found again are: any case; ``_`` escaped for Markdown, or written as a hyphen, a dash or a space; no
brackets, brackets escaped for Markdown, or the square ones of East Asian scripts. What goes with the
placeholder is one pair of square brackets around it, no other: ``(`` and ``<`` and ``{`` may be the
sentence's own, and so are ``**`` and backticks. Brackets before a ``(`` are those of a Markdown link and
stay. Without brackets it must not stand inside a longer word or name, emphasis by ``_`` aside; ASCII alone
makes such a word, because many scripts write no spaces.

Matching looks at each place once and never goes back further than one placeholder is long.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["Found", "Spelling", "code", "codes", "kind_of", "spelling"]

_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH: Final = 8
_LONGEST_KIND: Final = 24
_LONGEST: Final = _LONGEST_KIND + _LENGTH + 6  # with an escaped "_" and escaped brackets
_CODE: Final = rf"[{_ALPHABET}]{{{_LENGTH}}}"
_SEPARATOR: Final = r"(?:\\?[_-]|[ \u00a0\u202f\u2010-\u2013])"
_BRACKETS: Final = ((r"\[", r"\]"), ("[", "]"), ("【", "】"), ("［", "］"))  # noqa: RUF001
_ANY_CODE: Final = re.compile(rf"(?<![A-Za-z0-9]){_CODE}(?![A-Za-z0-9])", re.IGNORECASE | re.ASCII)
_JSON_ESCAPE: Final = re.compile(r"\\++u([0-9a-fA-F]{4})")
_WORD: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


class Found(NamedTuple):
    """A placeholder at ``text[start:end]``, its brackets included, and what it says."""

    start: int
    end: int
    kind: str
    code: str


def kind_of(*names: str) -> str:
    """The first name that leaves something, in capitals and digits: ``US_SSN`` is ``USSSN``."""
    for name in names:
        letters = "".join(char for char in name.upper() if char.isascii() and char.isalnum())
        if letters:
            return letters[:_LONGEST_KIND]
    return "TEXT"


def code(digest: bytes, length: int = _LENGTH) -> str:
    """``length`` letters (up to 16) that stand for a digest: about 4.3 bits each."""
    number = int.from_bytes(digest[:16], "big")
    letters = []
    for _ in range(length):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "".join(letters)


def codes(texts: Iterable[str]) -> set[str]:
    """Every code in these texts that any spelling of a placeholder could have, in capitals.

    Texts may be JSON, so letters written as JSON's escapes count too.
    """
    found: set[str] = set()
    for text in texts:
        found.update(letters.upper() for letters in _ANY_CODE.findall(text))
        if "\\u" in text:
            read = _JSON_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
            found.update(letters.upper() for letters in _ANY_CODE.findall(read))
    return found


class Spelling:
    """Finds the placeholders of some kinds, in any of their spellings."""

    __slots__ = ("_begun", "_body")

    def __init__(self, kinds: Iterable[str]) -> None:
        kinds = sorted(kinds)
        names = "|".join(kinds)
        begun = "|".join(_prefixes(kind) for kind in kinds)
        bracket = r"(?:\\?\[|[【［])"  # noqa: RUF001
        after = r"(?:_{1,2}|\\|[\]】］])?"  # noqa: RUF001
        self._body = re.compile(rf"({names}){_SEPARATOR}({_CODE})", re.IGNORECASE | re.ASCII)
        self._begun = re.compile(
            rf"(?:{bracket}|\\|(?<![A-Za-z0-9]))"
            rf"(?:(?:{begun})|(?:{names})(?:\\|{_SEPARATOR}(?:[{_ALPHABET}]{{0,7}}|{_CODE}{after})))?\Z",
            re.IGNORECASE | re.ASCII,
        )

    def find(self, text: str, start: int = 0, called: Collection[str] = ()) -> Iterator[Found]:
        """Every placeholder of these kinds from ``start`` on; what stands before is only looked at.

        ``called`` are codes after which a ``(`` is no sign of a link.
        """
        match = self._body.search(text, start)
        while match:
            name, letters = match[1].upper(), match[2].upper()
            edges = _edges(text, match.start(), match.end(), start, link=letters not in called)
            if edges:
                yield Found(*edges, name, letters)
            match = self._body.search(text, match.end() if edges else match.start() + 1)

    def open_at(self, text: str) -> int:
        """Where a placeholder may begin that is not complete, or whose edges depend on what follows."""
        match = self._begun.search(text, max(0, len(text) - _LONGEST))
        return match.start() if match else len(text)


@lru_cache(maxsize=256)
def spelling(kinds: frozenset[str]) -> Spelling:
    """The spelling of these kinds; kinds are few, and the same in every request."""
    return Spelling(kinds)


def _prefixes(word: str) -> str:
    """A pattern of all beginnings of a word but the empty one."""
    pattern = ""
    for letter in reversed(word):
        pattern = f"{letter}(?:{pattern})?" if pattern else letter
    return pattern


def _edges(text: str, start: int, end: int, least: int, *, link: bool) -> tuple[int, int] | None:
    """The edges of a placeholder around its bare form at ``text[start:end]``; None inside a word."""
    for opening, closing in _BRACKETS:
        at = start - len(opening)
        if at >= least and text.startswith(opening, at) and text.startswith(closing, end):
            after = end + len(closing)
            if link and opening == "[" and text.startswith("(", after):
                return start, end
            return at, after
    marks = 0  # of emphasis, the same on both sides
    while (
        marks < 2 and text[start - marks - 1 : start - marks] == "_" == text[end + marks : end + marks + 1]
    ):
        marks += 1
    before = text[start - marks - 1] if start > marks else ""
    if before in _WORD or text[end + marks : end + marks + 1] in _WORD:
        return None
    return start, end
