"""Excerpts: where the pieces that a judge quoted stand in the text it judged.

Models copy with small changes, and hostile text hides words from who compares plainly. So both sides are
folded (``views.folded``), and an excerpt is tried in this order until it is found:

1. as it is, in the text with JSON's escapes resolved and in the text as written;
2. without the quotes and punctuation that the model may have put around it;
3. shortened: where it holds ``...``, its first and last piece, and all that lies between them. A piece
   that the model left out at an end is taken to reach to the end of the text: what stood there is unknown.

Every occurrence counts; of a shortened one the widest reading. Time is linear in the text, per excerpt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from guardrail.core.conversation import Kind, Segment
from guardrail.core.views import View, folded, plain, unescaped

__all__ = ["locate"]

_WRAP: Final = " \"'*_~"
_EDGE: Final = _WRAP + ",;:.!?()[]{}<>|-\\"
_ELLIPSIS: Final = re.compile(r"[\[(<]?\.{3,}+[\])>]?")


def locate(segment: Segment, excerpts: Iterable[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """The ranges of the segment's text where the excerpts stand, and the excerpts that are not there."""
    found: list[tuple[int, int]] = []
    missing: list[str] = []
    readings = [(reading, folded(reading.text)) for reading in _readings(segment)]
    for excerpt in excerpts:
        forms = _forms(excerpt)
        ways = (
            (find, form, reading)
            for find in (_stretches, _loosely)
            for form in forms
            for reading in readings
        )
        for find, form, (reading, view) in ways:
            if stretches := find(view.text, form):
                found.extend(reading.to_raw(*view.to_raw(start, end)) for start, end in stretches)
                break
        else:
            missing.append(excerpt)
    return found, missing


def _readings(segment: Segment) -> list[View]:
    """The text as written and with escapes resolved, the likelier one first.

    In a text that is no JSON, escapes are looked through because models confuse the levels of quoting
    when they write an excerpt into their own JSON.
    """
    if "\\" not in segment.text:
        return [plain(segment.text)]
    readings = [plain(segment.text), unescaped(segment.text)]
    return readings[::-1] if segment.kind is Kind.TOOL_ARGUMENTS else readings


def _forms(excerpt: str) -> list[str]:
    written = [excerpt, unescaped(excerpt).text] if "\\" in excerpt else [excerpt]
    return [form for form in (folded(one).text.strip() for one in written) if form]


def _loosely(text: str, wanted: str) -> list[tuple[int, int]]:
    pieces = [piece.strip(_EDGE) for piece in _ELLIPSIS.split(wanted.strip(_WRAP))]
    return _stretches(text, pieces[0]) if len(pieces) == 1 else _between(text, pieces)


def _between(text: str, pieces: Sequence[str]) -> list[tuple[int, int]]:
    """From the first piece to the last one, if all stand in this order."""
    if not any(pieces):
        return []
    start = at = 0
    for index, piece in enumerate(pieces):
        found = text.find(piece, at)
        if found < 0:
            return []
        start = start if index else found
        at = found + len(piece)
    last = pieces[-1]
    return [(start, text.rfind(last) + len(last) if last else len(text))]


def _stretches(text: str, wanted: str) -> list[tuple[int, int]]:
    """What the occurrences of ``wanted`` cover, those that overlap included, in linear time."""
    at = text.find(wanted) if wanted else -1
    if at < 0:
        return []
    period = _period(wanted)
    tail = wanted[-period:] if period < len(wanted) else ""  # side by side, they are two
    found: list[tuple[int, int]] = []
    while at >= 0:
        end = at + len(wanted)
        while tail and text.startswith(tail, end):  # "aba" in "ababa": they go on for as long as this does
            end += len(tail)
        found.append((at, end))
        at = text.find(wanted, end - len(wanted) + 1)
    return found


def _period(text: str) -> int:
    """The smallest distance at which two occurrences of ``text`` can overlap, or its length."""
    borders = [0]
    border = 0
    for char in text[1:]:
        while border and char != text[border]:
            border = borders[border - 1]
        border += char == text[border]
        borders.append(border)
    return len(text) - border
