"""Redaction: where matched text stands, and what is put in its place.

A *view* is a text derived from the raw one together with the raw offsets of each of its characters.
Matching runs on a view (folded for excerpts, unescaped for JSON); the spans it finds are mapped back,
so what is replaced is always a piece of the raw text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from guardrail.core.conversation import Address, Kind, Segment
from guardrail.core.policy import Strategy

__all__ = [
    "Redaction",
    "Span",
    "View",
    "folded",
    "json_view",
    "locate",
    "merge",
    "redact",
    "redact_segment",
]

_STRING: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_PIECE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"-?[0-9][0-9.eE+-]*")
# U+2039 and U+00A6 stand for "<" and "|" in the judge's copy (prompt.py), so they fold back here.
_SAME: Final = str.maketrans("‘’‚‛`“”„‟«»‹›¦", '\'\'\'\'\'""""""<>|')  # noqa: RUF001


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """``text[start:end]`` in code points, found under ``label`` (a policy's label).

    ``kind``: what it is, where that is known (``"email"``). ``strategy``: what is put in its place.
    """

    start: int
    end: int
    label: str
    kind: str = ""
    strategy: Strategy = Strategy.REPLACE


@dataclass(frozen=True, slots=True)
class Redaction:
    """The spans to replace in one segment."""

    segment: Segment = field(repr=False)
    spans: tuple[Span, ...]

    @property
    def address(self) -> Address:
        """Where in the body the segment stands."""
        return self.segment.address

    @property
    def text(self) -> str:
        """The segment's text with every span replaced."""
        return redact_segment(self.segment, self.spans)


@dataclass(frozen=True, slots=True)
class View:
    """``text`` derived from a raw text; character ``i`` came from ``raw[starts[i]:ends[i]]``."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def to_raw(self, start: int, end: int) -> tuple[int, int]:
        """The raw range behind ``text[start:end]`` (``start < end``)."""
        return self.starts[start], self.ends[end - 1]

    def whole(self, span: Span) -> Span:
        """A span of the raw text widened so that it cuts no piece (an escape, a letter) in two."""
        first = bisect_right(self.starts, span.start) - 1
        last = min(bisect_left(self.ends, span.end), len(self.ends) - 1)
        return Span(self.starts[first], self.ends[last], span.label)


def json_view(raw: str) -> View | None:
    """``raw`` with the escapes inside its JSON strings resolved, or None when it is not JSON."""
    try:
        json.loads(raw, parse_int=str)  # int() refuses numbers of more than 4,300 digits
    except (ValueError, RecursionError):
        return None
    text: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def keep(piece: str, start: int, end: int) -> None:
        text.append(piece)
        starts.extend([start] * len(piece))
        ends.extend([end] * len(piece))

    position = 0
    for string in _STRING.finditer(raw):
        for offset in range(position, string.start(1)):
            keep(raw[offset], offset, offset + 1)
        for piece in _PIECE.finditer(raw, string.start(1), string.end(1)):
            value = piece[0] if len(piece[0]) == 1 else json.loads(f'"{piece[0]}"')
            keep(value, piece.start(), piece.end())
        position = string.end(1)
    for offset in range(position, len(raw)):
        keep(raw[offset], offset, offset + 1)
    return View("".join(text), starts, ends)


def folded(text: str) -> View:
    """Case, accents, compatibility forms, quotes, white space and invisible characters folded."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for offset, char in enumerate(text):
        pieces = _fold(char)
        if out and not pieces:  # a mark belongs to the letter before it
            ends[-1] = offset + 1
        for piece in pieces:
            if piece == " " and out and out[-1] == " ":
                ends[-1] = offset + 1
                continue
            out.append(piece)
            starts.append(offset)
            ends.append(offset + 1)
    return View("".join(out), starts, ends)


@lru_cache(maxsize=8192)
def _fold(char: str) -> str:
    decomposed = unicodedata.normalize("NFKD", char).translate(_SAME).casefold()
    return "".join(
        " " if c.isspace() else c
        for c in decomposed
        if c.isspace() or unicodedata.category(c) not in ("Mn", "Cf", "Cc")
    )


def locate(text: str, excerpts: Iterable[str], label: str) -> tuple[list[Span], list[str]]:
    """Find excerpts that a judge quoted; return their spans and the excerpts that are not there.

    Every occurrence counts. Both sides are folded before they are compared, because models change
    case, quotes and white space when they copy, and hostile text hides invisible characters in words.
    """
    view = folded(text)
    spans: list[Span] = []
    missing: list[str] = []
    for excerpt in excerpts:
        wanted = folded(excerpt).text.strip()
        stretches = _stretches(view.text, wanted) if wanted and wanted in view.text else []
        if not stretches:
            missing.append(excerpt)
        spans.extend(Span(*view.to_raw(start, end), label) for start, end in stretches)
    return spans, missing


def _stretches(text: str, wanted: str) -> list[tuple[int, int]]:
    """What the occurrences of ``wanted`` cover, those that overlap included, in linear time."""
    tail = wanted[-_period(wanted) :]
    found: list[tuple[int, int]] = []
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        while text.startswith(tail, end):  # "aaaa" goes on for as long as the "a"s do
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


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sorted spans without overlaps; where two overlap, the one that starts first gives the label."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end, s.label)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            if span.end > last.end:
                merged[-1] = Span(last.start, span.end, last.label)
        elif span.end > span.start:
            merged.append(span)
    return tuple(merged)


def redact(text: str, spans: Iterable[Span]) -> str:
    """``text`` with each span replaced by ``[REDACTED:<label>]``."""
    out: list[str] = []
    position = 0
    for span in merge(spans):
        out.append(text[position : span.start])
        out.append(f"[REDACTED:{span.label}]")
        position = span.end
    out.append(text[position:])
    return "".join(out)


def redact_segment(segment: Segment, spans: Iterable[Span]) -> str:
    """The segment's text redacted; JSON arguments are redacted leaf by leaf and stay JSON."""
    view = json_view(segment.text) if segment.kind is Kind.TOOL_ARGUMENTS else None
    if view is None:
        return redact(segment.text, spans)
    return _redact_json(segment.text, merge(view.whole(span) for span in merge(spans)))


def _redact_json(raw: str, spans: Sequence[Span]) -> str:
    """Replace only inside strings, and numbers as a whole; everything else keeps its bytes."""
    out: list[str] = []
    position = 0
    for start, end, quoted in _leaves(raw):
        hit = [s for s in spans if s.start < end and start < s.end]
        if not hit:
            continue
        out.append(raw[position:start])
        if quoted:
            inside = [Span(max(s.start, start) - start, min(s.end, end) - start, s.label) for s in hit]
            out.append(redact(raw[start:end], inside))
        else:
            out.append(f'"[REDACTED:{hit[0].label}]"')
        position = end
    out.append(raw[position:])
    return "".join(out)


def _leaves(raw: str) -> Iterable[tuple[int, int, bool]]:
    """(start, end, quoted) of each string's inside and each number of a valid JSON text."""
    position = 0
    for string in _STRING.finditer(raw):
        for number in _SCALAR.finditer(raw, position, string.start()):
            yield number.start(), number.end(), False
        yield string.start(1), string.end(1), True
        position = string.end()
    for number in _SCALAR.finditer(raw, position):
        yield number.start(), number.end(), False
