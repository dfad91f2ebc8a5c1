"""Where a text may be cut: at the end of a sentence, and never inside what a reader takes for one letter.

A *grapheme cluster* (Unicode UAX 29) is an accent with its letter, a flag, a family of emoji, a syllable of
Hangul or Devanagari. The rules here are coarser than the standard's on purpose: they need no tables beyond
``unicodedata``, keep together whatever it keeps together, and a little more.
"""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["boundary", "window_end"]

_MARKS: Final = frozenset({"Mn", "Me", "Mc"})
_JOINER: Final = "\u200d"
_VIRAMA: Final = 9  # canonical combining class: the next consonant joins the syllable
# Extend and SpacingMark (rules GB9 and GB9a) that are no marks by their category.
_EXTENDING: Final = frozenset("\u200c\u200d\uff9e\uff9f\u0e33\u0eb3")
# Prepend (rule GB9b), from GraphemeBreakProperty.txt.
_PREPENDED: Final = frozenset(
    map(
        chr,
        (
            *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2,
            0x111C3, 0x113D1, 0x1193F, 0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02,
        ),
    )
)  # fmt: skip
_LONGEST: Final = 64  # code points of a cluster; no language has longer ones, hostile text has
_ASCII_ENDS: Final = (". ", "! ", "? ", "\n")
_SENTENCE_ENDS: Final = (". ", "! ", "? ", "\n", "。", "！", "？")  # noqa: RUF001


def boundary(text: str, at: int) -> int:
    """The last place at or before ``at`` where ``text`` may be cut.

    ``at`` itself where a cluster is longer than 64 code points. Behind the end of the text more may come:
    there only what is known to go on, such as a joiner, is kept together.
    """
    if at >= len(text):
        if not text or text[-1].isascii() or not _goes_on(text[-1]):
            return at
        at = len(text) - 1
    if at > 0 and text[at - 1].isascii() and text[at].isascii():
        return at - (text[at - 1] == "\r" and text[at] == "\n")
    for place in range(at, max(0, at - _LONGEST), -1):
        if not _joined(text[place - 1], text[place]) and not _is_conjunct(text, place):
            return place
    return 0 if at <= _LONGEST else at


def window_end(text: str, least: int) -> int:
    """Where a window that may end anywhere from ``least`` on had best end.

    Behind the last sentence there, else at the text's last boundary.
    """
    best = -1
    for end in _ASCII_ENDS if text.isascii() else _SENTENCE_ENDS:
        found = text.rfind(end, least)
        if found >= 0:
            best = max(best, found + len(end))
    return best if best >= 0 else boundary(text, len(text))


def _joined(before: str, after: str) -> bool:
    if before.isascii() and after.isascii():
        return before == "\r" and after == "\n"
    return (
        before in _PREPENDED
        or before == _JOINER
        or _is_extending(after)
        or (_is_flag_half(before) and _is_flag_half(after))
        or _is_syllable(before, after)
    )


def _goes_on(last: str) -> bool:
    """Whether whatever comes next belongs to it."""
    return last in _PREPENDED or last == _JOINER or unicodedata.combining(last) == _VIRAMA


def _is_extending(char: str) -> bool:
    """Marks; skin tones and tag characters, which belong to the emoji before them."""
    return (
        char in _EXTENDING
        or unicodedata.category(char) in _MARKS
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _is_conjunct(text: str, place: int) -> bool:
    """Rule GB9c: a virama before it, maybe behind other marks, takes a consonant into its syllable."""
    if unicodedata.category(text[place]) != "Lo":
        return False
    for before in reversed(text[max(0, place - _LONGEST) : place]):
        if unicodedata.combining(before) == _VIRAMA:
            return True
        if not _is_extending(before):
            return False
    return False


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _is_syllable(before: str, after: str) -> bool:
    """Hangul's rules GB6 to GB8, in which a leading letter takes any, and a vowel or final is taken."""
    leading = "\u1100" <= before <= "\u115f" or "\ua960" <= before <= "\ua97c"
    taken = "\u1160" <= after <= "\u11ff" or "\ud7b0" <= after <= "\ud7fb"
    syllable = (
        "\u1100" <= after <= "\u11ff" or "\ua960" <= after <= "\ua97c" or "\uac00" <= after <= "\ud7fb"
    )
    return taken or (leading and syllable)
