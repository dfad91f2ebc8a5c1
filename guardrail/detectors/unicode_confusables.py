"""Words that mix alphabets whose letters look alike (``unicode.confusables``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns

__all__ = ["CONFUSABLES", "find_confusables"]

_LONGEST: Final = 64

# Letters of Cyrillic, Greek, Armenian and Cherokee that pass for Latin ones (Unicode TR39,
# confusables.txt, only what is alike in common typefaces), and the Latin letters they pass for.
_FOREIGN: Final = frozenset(
    "аеорсухіјѕԁһӏԛԝѵгАВЕКМНОРСТУХІЈЅԌԚԜѴαορνιυγΑΒΕΖΗΙΚΜΝΟΡΤΥΧհոօսցզյՍՕՏԼᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᎩᏃ"
)
_LATIN: Final = frozenset("aceopxyijsdhlqwvruABEKMHOPCTYXIJSNZGQWV")
_LATIN_LETTERS: Final = r"\p{Latin}"
_FOREIGN_LETTERS: Final = r"\p{Cyrillic}\p{Greek}\p{Armenian}\p{Cherokee}"
_MIXED: Final = rf"[{_LATIN_LETTERS}]\pM*[{_FOREIGN_LETTERS}]|[{_FOREIGN_LETTERS}]\pM*[{_LATIN_LETTERS}]"
# A word of three letters or more, taken in pieces should it be longer than any word is; looked for
# only where two letters of different alphabets touch.
_WORDS: Final = Patterns([rf"[{_LATIN_LETTERS}{_FOREIGN_LETTERS}\pM]{{3,{_LONGEST}}}"], screens=[_MIXED])


def find_confusables(text: str) -> list[tuple[int, int]]:
    """Spans of words of Latin letters and those of another script, one side all look-alikes.

    So "paypal" with its first two letters in Cyrillic is found; a Russian ending on a Latin
    abbreviation and a unit such as "μm" are not.
    """
    spans = [(start, end) for _, start, end in _WORDS.spans(text) if _is_disguised(text[start:end])]
    return tidy(spans, _LONGEST)


def _is_disguised(word: str) -> bool:
    latin = [c for c in word if c.isascii()]
    foreign = [c for c in word if "\u0370" <= c <= "\u058f" or "\u13a0" <= c <= "\u13ff"]
    if not latin or not foreign:
        return False
    if _FOREIGN.issuperset(foreign):
        return True
    # A native ending on a Latin abbreviation, as Russian puts one on SMS, hides nothing.
    is_abbreviation = len(latin) > 1 and "".join(latin).isupper() and "".join(foreign).islower()
    return _LATIN.issuperset(latin) and not is_abbreviation


CONFUSABLES: Final = Triggered(
    Detector("unicode.confusables", find_confusables, _LONGEST, unbroken=True, inside=False),
    _MIXED,
    beyond_ascii=True,
)
