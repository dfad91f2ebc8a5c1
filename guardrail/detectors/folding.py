"""Folding: one plain form for the many ways in which the same words can be written.

Each character is folded by itself: NFKD without combining marks, then NFC (so that Hangul stays
whole); default-ignorable characters (Unicode's DerivedCoreProperties: zero-width, bidi controls,
tags, variation selectors, fillers) vanish; curly quotes become straight and white space a space.
ASCII text is its own folded form. Case is left to the patterns, which ignore it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from guardrail.core.redaction import View

__all__ = ["fold", "unfold"]

# Letters that NFKD leaves alone though readers take them for ASCII ones (Unicode TR39 confusables
# and the usual transliterations), quotes, and the fillers of category Lo.
_SAME: Final = {
    **dict(zip("‘’‚‛“”„‟«»´", '\'\'\'\'""""""\'', strict=True)),  # noqa: RUF001
    **dict(zip("øØłŁđĐıħĦ", "oOlLdDihH", strict=True)),
    "ß": "ss",
    "ẞ": "SS",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    **dict.fromkeys("\u115f\u1160\u3164\uffa0", ""),
}
_DROPPED: Final = frozenset(("Mn", "Cf"))
_CACHED: Final = 20_000
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


class _Table(dict[int, str]):
    """Code point -> folded form, worked out when first asked for."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _CACHED:
            self.clear()  # a text of all of Unicode must not fill the memory
        folded = self[code] = _fold_one(chr(code))
        return folded


def _fold_one(char: str) -> str:
    if char in _SAME:
        return _SAME[char]
    if char.isascii():
        return char
    if char.isspace():
        return " "
    if 0xE0000 <= ord(char) <= 0xE0FFF:
        return ""
    parts = [_SAME.get(c, c) for c in unicodedata.normalize("NFKD", char)]
    kept = [c for c in parts if not c or unicodedata.category(c[0]) not in _DROPPED]
    return unicodedata.normalize("NFC", "".join(kept))


_TABLE: Final = _Table()


def fold(text: str) -> str:
    """The folded form of a text."""
    if text.isascii():
        return text
    return _BEYOND_ASCII.sub(lambda run: run[0].translate(_TABLE), text)


def unfold(text: str, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of ``fold(text)`` as spans of ``text``, in code points, in the order given.

    Characters that vanish belong to the one before them, as an accent does. The map is made anew for
    each call, character by character: ask only when something was found.
    """
    spans = list(spans)
    if not spans or text.isascii():
        return spans
    starts: list[int] = []
    ends: list[int] = []
    for offset, char in enumerate(text):
        width = len(_TABLE[ord(char)])
        starts.extend([offset] * width)
        ends.extend([offset + 1] * width)
        if not width and ends:
            ends[-1] = offset + 1
    view = View(fold(text), starts, ends)
    return [view.to_raw(start, end) for start, end in spans]
