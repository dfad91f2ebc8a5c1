"""Folding: one plain form for the many ways in which the same words can be written.

Each character is folded by itself: NFKD without combining marks, then NFC (so that Hangul stays
whole); default-ignorable characters (Unicode's DerivedCoreProperties: zero-width, bidi controls,
tags, variation selectors, fillers) vanish; curly quotes become straight and white space a space.
ASCII text is its own folded form. Case is left to the patterns, which ignore it.

Letters of other scripts that pass for Latin ones (Unicode TR39) are words of their own language as
often as a disguise, so a text that holds any has a second form, its skeleton, with these replaced.
Both forms are looked through, and both have the same offsets.
"""

# Letters that pass for others are what these tables are made of.
# ruff: noqa: RUF001

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from guardrail.detectors.patterns import Patterns

__all__ = ["fold", "folded_spans", "forms", "unfold"]

# Letters that NFKD leaves alone though readers take them for ASCII ones (Unicode TR39 confusables
# and the usual transliterations), quotes, and the fillers of category Lo.
_SAME: Final = {
    **dict(zip("‘’‚‛“”„‟«»´", '\'\'\'\'""""""\'', strict=True)),
    **dict(zip("øØłŁđĐıħĦ", "oOlLdDihH", strict=True)),
    "ß": "ss",
    "ẞ": "SS",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    **dict.fromkeys("\u115f\u1160\u3164\uffa0", ""),
}
# What passes for a Latin letter in common typefaces, after folding, one for one: TR39's confusables.txt
# as far as it concerns these scripts, and the letters whose small form is that of a Latin capital.
_CAPITALS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS: Final = (
    # Cyrillic
    ("авеһіјкӏмнорԛѕтуѵԝхгԁсԍп", "abehijklmhopqstyvwxrdcgn"),
    ("АВЕНІЈКМОРԚЅТУѴԜХСԌҮ", "ABEHIJKMOPQSTYVWXCGY"),
    # Greek
    ("αβγεηικνορτυχωϲϳ", "abyenikvoptuxwcj"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹ", "ABEZHIKMNOPTYXC"),
    # Armenian
    ("հոօսցզյ", "hnougqj"),
    ("ՍՕՏԼ", "UOSL"),
    # Cherokee
    ("ᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᎩᏃ", "ABCDEGHiJKLMPRSTVWYZ"),
    # Lisu
    ("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "ABCDEFGHIJKLMNOPRSTUVWXYZ"),
    # Small capitals and their like
    ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡɩʋ", "abcdefghijklmnoprstuvwyzagiv"),
    # Letters in black circles and squares, regional indicators
    *(("".join(map(chr, range(a, a + 26))), _CAPITALS) for a in (0x1F150, 0x1F170, 0x1F1E6)),
)
_LATIN: Final = {ord(a): b for alike, latin in _PAIRS for a, b in zip(alike, latin, strict=True)}
_ALIKE: Final = re.compile(f"[{''.join(map(chr, _LATIN))}]+")
_DROPPED: Final = frozenset(("Mn", "Cf"))
_CACHED: Final = 65_536  # some 12 MB, which only a hostile text fills
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
    if char.isspace():
        return " "
    if 0xE0000 <= ord(char) <= 0xE0FFF:
        return ""
    if not unicodedata.decomposition(char) and not "가" <= char <= "힣":  # most of Unicode
        return "" if unicodedata.category(char) in _DROPPED else char
    parts = [_SAME.get(c, c) for c in unicodedata.normalize("NFKD", char)]
    kept = [c for c in parts if not c or unicodedata.category(c[0]) not in _DROPPED]
    return unicodedata.normalize("NFC", "".join(kept))


_TABLE: Final = _Table()


def fold(text: str) -> str:
    """The folded form of a text."""
    if text.isascii():
        return text
    return _BEYOND_ASCII.sub(lambda run: run[0].translate(_TABLE), text)


@lru_cache(maxsize=1)  # several detectors ask for those of the same text, one after the other
def forms(text: str) -> tuple[str, ...]:
    """The folded text and, when letters in it pass for Latin ones, its skeleton; the offsets agree."""
    folded = fold(text)
    if not any(map(_ALIKE.search, _BEYOND_ASCII.findall(folded))):
        return (folded,)
    return folded, _ALIKE.sub(lambda run: run[0].translate(_LATIN), folded)


def folded_spans(patterns: Patterns, text: str) -> list[tuple[int, int, int]]:
    """(index of the pattern, start, end) of every match in a form of a text, as spans of the text."""
    found = dict.fromkeys(hit for form in forms(text) for hit in patterns.spans(form))
    places = unfold(text, [(start, end) for _, start, end in found])
    return [(index, *place) for (index, _, _), place in zip(found, places, strict=True)]


def unfold(text: str, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of ``fold(text)`` as spans of ``text``, in code points, in the order given.

    Characters that vanish belong to the one before them, as an accent does. The map is made anew for
    each call: ask only when something was found.
    """
    spans = list(spans)
    if not spans or text.isascii():
        return spans
    pieces = _pieces(text)
    starts = [piece[0] for piece in pieces]

    def place(at: int) -> tuple[int, int]:
        index = bisect_right(starts, at) - 1
        first, begin, end = pieces[index]
        if not text[begin].isascii():
            return begin, end
        is_last = starts[index + 1] == at + 1
        return begin + at - first, end if is_last else begin + at - first + 1

    return [(place(start)[0], place(end - 1)[1]) for start, end in spans]


def _pieces(text: str) -> list[tuple[int, int, int]]:
    """(start in the folded text, start, end) of each stretch of ASCII, each other character and the end.

    The end of each is that of what vanishes behind it.
    """
    pieces: list[tuple[int, int, int]] = []
    size = position = 0
    for run in _BEYOND_ASCII.finditer(text):
        if run.start() > position:
            pieces.append((size, position, run.start()))
            size += run.start() - position
        for position, char in enumerate(run[0], run.start()):
            if width := len(_TABLE[ord(char)]):
                pieces.append((size, position, position + 1))
                size += width
            elif pieces:
                pieces[-1] = (*pieces[-1][:2], position + 1)
        position = run.end()
    if position < len(text):
        pieces.append((size, position, len(text)))
        size += len(text) - position
    return [*pieces, (size, len(text), len(text))]
