"""Characters that are not seen: zero-width, bidi controls, tags (``unicode.*``)."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns

__all__ = ["BIDI", "INVISIBLE", "TAGS", "find_bidi", "find_invisible", "find_tags"]

_LONGEST: Final = 256

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt) with the marks LRM, RLM, ALM and
# the interlinear annotation characters, without the bidi controls and the tags, which have detectors
# of their own.
_INVISIBLE: Final = (
    r"[\x{00AD}\x{034F}\x{061C}\x{115F}\x{1160}\x{17B4}\x{17B5}\x{180B}-\x{180F}\x{200B}-\x{200F}"
    r"\x{2060}-\x{2065}\x{206A}-\x{206F}\x{3164}\x{FE00}-\x{FE0F}\x{FEFF}\x{FFA0}\x{FFF0}-\x{FFFB}"
    r"\x{1BCA0}-\x{1BCA3}\x{1D173}-\x{1D17A}\x{E0100}-\x{E01EF}]"
)
# UAX 9: the embeddings and overrides, and the isolates ("Trojan Source", CVE-2021-42574).
_BIDI: Final = r"[\x{202A}-\x{202E}\x{2066}-\x{2069}]"
_TAGS: Final = r"[\x{E0000}-\x{E007F}]"

_RUNS: Final = Patterns([f"({_INVISIBLE}+)"])
_CONTROLS: Final = Patterns([f"{_BIDI}+"])
_TAG_RUNS: Final = Patterns([f"{_TAGS}+"])
# UTS 51 ED-14a: a black flag, a region's letters and digits as tags, and the cancel tag.
_FLAG: Final = Patterns([r"\A\x{1F3F4}[\x{E0030}-\x{E0039}\x{E0061}-\x{E007A}]{3,6}\x{E007F}\z"])

# Where joiners and zero-width spaces are part of the spelling, as first and last code points:
# Arabic to Myanmar (with the scripts of India and Tibet), Khmer and Mongolian, Meetei Mayek and its
# neighbours, Arabic's presentation forms, the Brahmi family beyond the BMP. Within the core
# specification, chapters 9, 12, 13 and 16 tell their use.
_JOINED: Final = (
    (0x0600, 0x109F),
    (0x1780, 0x18AF),
    (0x1A20, 0x1AAF),
    (0xA800, 0xABFF),
    (0xFB50, 0xFDFF),
    (0xFE70, 0xFEFE),
    (0x10A00, 0x11FFF),
)
_FIRSTS: Final = [first for first, _ in _JOINED]
_HIDDEN_TEXT: Final = 3  # so many in a row spell nothing and may carry bytes


def find_invisible(text: str) -> list[tuple[int, int]]:
    """Spans of invisible characters between letters or digits, and of long runs of them anywhere.

    Not the joiners of emoji, of Arabic and of the scripts of India, nor variation selectors behind
    a character that has variants.
    """
    spans = [(start, end) for _, start, end in _RUNS.spans(text) if _is_hidden(text, start, end)]
    return tidy(spans, _LONGEST)


def _is_hidden(text: str, start: int, end: int) -> bool:
    if end - start >= _HIDDEN_TEXT:
        return True
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if not (before.isalnum() and after.isalnum()):
        return False
    if _is_joined(before) or _is_joined(after):
        return False
    # U+2139 is a letter with an emoji form; Han has registered variants (UTS 37).
    is_variant = end - start == 1 and (before == "\u2139" or before >= "\u3400")
    return not (is_variant and text[start] in _SELECTORS)


_SELECTORS: Final = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))


def _is_joined(char: str) -> bool:
    at = bisect_right(_FIRSTS, ord(char)) - 1
    return at >= 0 and ord(char) <= _JOINED[at][1]


def find_bidi(text: str) -> list[tuple[int, int]]:
    """Spans of bidirectional embeddings, overrides and isolates; marks (LRM, RLM) are harmless."""
    return tidy(((start, end) for _, start, end in _CONTROLS.spans(text)), _LONGEST)


def find_tags(text: str) -> list[tuple[int, int]]:
    """Spans of tag characters ("ASCII smuggling") that are not part of a flag such as Scotland's."""
    spans = [
        (start, end)
        for _, start, end in _TAG_RUNS.spans(text)
        if not _FLAG.hits(text[max(0, start - 1) : end])
    ]
    return tidy(spans, _LONGEST)


# One or two at the end of a text may be the beginning of more, or lie before a letter; the others are
# found at their first character.
INVISIBLE: Final = Triggered(
    Detector("unicode.invisible", find_invisible, _LONGEST, hold=_HIDDEN_TEXT, inside=False),
    _INVISIBLE,
    beyond_ascii=True,
)
BIDI: Final = Triggered(
    Detector("unicode.bidi", find_bidi, _LONGEST, hold=1, inside=False), _BIDI, beyond_ascii=True
)
TAGS: Final = Triggered(
    Detector("unicode.tags", find_tags, _LONGEST, hold=1, inside=False), _TAGS, beyond_ascii=True
)
