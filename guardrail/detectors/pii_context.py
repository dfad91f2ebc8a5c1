"""Values that only the words before them tell: "passport no. X1234567", "born on 3 May 1990".

A bare number is one thing as well as another; behind its name it is that thing. Every detector that
needs a name builds its patterns here, so that all of them read the same distance back (``REACH``).
"""

from __future__ import annotations

from typing import Final

__all__ = ["LEFT", "REACH", "RIGHT", "behind"]

REACH: Final = 96
"""How many code points before a value its name may begin: a name of 58, and the longest link."""

LEFT: Final = r"(?:^|[^\w.+\-])"
"""Before a number: not inside a word, a decimal, a version, a range or another number."""

RIGHT: Final = r"(?:$|[^\w.\-]|[.\-](?:\W|$))"
"""After a number: the same, but for the full stop and the dash of the sentence."""

# Between a name and its value: punctuation (that of JSON, tables and forms too) and a few small words
# of the languages of the names. All counts are bounded: a text full of names costs no more than another.
_SMALL: Final = (
    r"(?:numbers?|num|no|nr|id|code|n[uú]mero|num[eé]ro|nummer|numer|n|is|was|are|to|for|of|on|at"
    r"|the|my|your|his|her|its|ist|war|lautet|est|es|era|er|som|is het|le|el|il|am|um|em)"
)
_LINK: Final = rf"(?i:(?:[^A-Za-z0-9]{{1,4}}{_SMALL}){{0,3}}[^A-Za-z0-9]{{0,4}}?)"


def behind(names: str, value: str, right: str = RIGHT) -> str:
    """The RE2 pattern of a value behind one of the names (alternatives, read in any case).

    The value alone is the span: what it is called need not be hidden. ``right``: what ends it.
    """
    return rf"(?:^|[^A-Za-z0-9])(?i:{names}){_LINK}({value}){right}"
