"""Phrases: a policy's own word lists, found in whatever way they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from guardrail.core.redaction import Span
from guardrail.detectors.folding import fold, folded_spans
from guardrail.detectors.patterns import Patterns, fault
from guardrail.errors import PolicyError

__all__ = ["PhraseRules"]

# Scripts that set spaces between words. RE2's \b knows ASCII only, so the edges of a phrase are
# guarded by these as well; scripts without spaces (Han, Kana, Thai ...) and Hangul, whose
# particles join the word, have no edge to guard.
_SPACED: Final = "Latin Greek Cyrillic Armenian Georgian Hebrew Arabic Ethiopic Devanagari Bengali"
_WORD: Final = "_0-9A-Za-z" + "".join(rf"\p{{{script}}}" for script in _SPACED.split())
_LEFT: Final = rf"(?:\b|^|[^{_WORD}])"
_RIGHT: Final = rf"(?:\b|$|[^{_WORD}])"
_EDGELESS: Final = Patterns([rf"[^{_WORD}\x00-\x7f]"])
# The pieces of a pattern that are not taken as they are: a quoted run, an escape, a character
# class, a character beyond ASCII, a plain space. No two alternatives begin alike, so that the
# backtracking of ``re`` has nothing to try twice.
_PIECE: Final = re.compile(
    r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|\[(?!:\^?\w+:\])|[^\[\]\\])*\]|[^\x00-\x7f]| ",
    re.DOTALL,
)
_SPECIAL: Final = frozenset(r"\.+*?()|[]{}^$-")


class PhraseRules:
    r"""RE2 patterns, each with its label, matched without regard to case, accents or disguise.

    A plain space stands for any run of white space; in a character class, after a backslash and
    between ``\Q`` and ``\E`` it stays as written. A match neither begins nor ends inside a word.
    Pattern and text are folded alike, and the text's look-alikes of Latin letters are seen through
    (see ``folding``). Raises ``PolicyError`` naming the pattern
    that RE2 does not accept.
    """

    def __init__(self, phrases: Mapping[str, str]) -> None:
        bodies = [_body(pattern) for pattern in phrases]
        self._labels = tuple(phrases.values())
        self._patterns = Patterns(
            [_guarded(body) for body in bodies],
            # The same with ASCII's idea of a word, which lets through at least as much: the
            # Unicode classes would make a set of 1,000 phrases some hundred times larger.
            [rf"(?i)(?:\b|^|\W)(?:{body})(?:\b|$|\W)" for body in bodies],
        )
        self._patterns.hits("")  # compiled now, not at the first request

    def find(self, text: str) -> list[Span]:
        """Every match as a span of the original text, sorted; different labels may overlap."""
        found = folded_spans(self._patterns, text)
        return sorted({Span(start, end, self._labels[index]) for index, start, end in found})


def _body(pattern: str) -> str:
    """The pattern as RE2 shall see it: folded, its plain spaces widened."""
    body = _PIECE.sub(lambda piece: _piece(piece[0]), pattern)
    if (reason := fault(body)) is not None:
        raise PolicyError(f"phrase {pattern!r} is not a pattern that RE2 accepts: {reason}")
    return body


def _piece(piece: str) -> str:
    """One piece; what folds to a character that RE2 gives a meaning to stays a plain character."""
    if piece == " ":
        return r"(?:\s+)"
    if piece.startswith(r"\Q"):
        return fold(piece.removesuffix(r"\E")) + r"\E"
    folded = ((char, fold(char)) for char in piece)
    return "".join(
        "".join("\\" + c if c in _SPECIAL else c for c in new) if new != char else char
        for char, new in folded
    )


def _guarded(body: str) -> str:
    """The pattern as a group between guards, save at an edge of a script without spaces."""
    left = "" if _EDGELESS.hits(body[:1]) else _LEFT
    right = "" if _EDGELESS.hits(body[-1:]) else _RIGHT
    return f"(?i){left}({body}){right}"
