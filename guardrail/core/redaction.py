"""Redaction: which pieces of a text are replaced, and the replacing, which leaves JSON as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from guardrail.core.conversation import Address, Kind, Segment
from guardrail.core.policy import Strategy
from guardrail.core.views import Leaf, View, json_view, leaves

__all__ = ["Edit", "Put", "Redaction", "Span", "apply", "edits", "escaped", "merge", "touching"]

# Of spans that overlap the one that tells least decides: nothing, whether two texts are equal,
# the text itself to the client alone, some of its characters to the model.
_STRICTNESS: Final = (Strategy.REPLACE, Strategy.HASH, Strategy.PLACEHOLDER, Strategy.MASK)


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


@dataclass(frozen=True, slots=True)
class Edit:
    """``text[start:end]``, in code points, becomes ``text``, which is never shown in a log."""

    start: int
    end: int
    text: str = field(repr=False)


Put = Callable[[Span, str], str]
"""What comes in the place of a span, given what stands there, both without JSON's escapes."""


def apply(text: str, changes: Iterable[Edit]) -> str:
    """``text`` after the edits, which are sorted and do not overlap."""
    out: list[str] = []
    position = 0
    for edit in changes:
        out.append(text[position : edit.start])
        out.append(edit.text)
        position = edit.end
    out.append(text[position:])
    return "".join(out)


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sorted spans without overlaps; where two overlap, the one that starts first gives the label.

    The kind is the first that is known, the strategy the strictest of them.
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end, s.label, s.kind, s.strategy)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            strategy = min(last.strategy, span.strategy, key=_STRICTNESS.index)
            end = max(last.end, span.end)
            merged[-1] = Span(last.start, end, last.label, last.kind or span.kind, strategy)
        elif span.end > span.start:
            merged.append(span)
    return tuple(merged)


def touching(spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """From where to where sorted spans reach without a gap, told anew with each of them."""
    first = last = 0
    for span in spans:
        first, last = (first if span.start == last else span.start), span.end
        yield first, last


def edits(segment: Segment, spans: Iterable[Span], put: Put) -> list[Edit]:
    """The edits that replace each span by what ``put`` says.

    In tool arguments only strings and numbers are replaced, leaf by leaf; a number becomes a string,
    and keys that would become equal get a number, so that JSON stays JSON. What looks like broken JSON
    gets its replacements escaped, because clients repair it.
    """
    text = segment.text
    merged = [replace(s, end=min(s.end, len(text))) for s in merge(spans) if s.start < len(text)]
    if segment.kind is Kind.TOOL_ARGUMENTS and merged:
        view = json_view(text)
        if view is not None:
            return _in_json(text, view, merged, put)
        if text.lstrip()[:1] in ("{", "[", '"'):
            return [Edit(s.start, s.end, escaped(put(s, text[s.start : s.end]))) for s in merged]
    return [Edit(s.start, s.end, put(s, text[s.start : s.end])) for s in merged]


def _in_json(raw: str, view: View, spans: Sequence[Span], put: Put) -> list[Edit]:
    """Replace only inside strings, and numbers as a whole; everything else keeps its bytes."""
    whole = [view.whole(span.start, span.end) for span in spans]
    pieces = merge(replace(s, start=at, end=end) for s, (at, end) in zip(spans, whole, strict=True))
    made: list[Edit] = []
    keys = _Keys(raw)
    for leaf, own in _shared_out(raw, pieces):
        before = len(made)
        for span in own:
            new = escaped(put(span, view.read(span.start, span.end)))
            made.append(Edit(span.start, span.end, new if leaf.quoted else f'"{new}"'))
        if leaf.owner >= 0 and own:
            number = keys.number(leaf, made[before:])
            if number:
                made.append(Edit(leaf.end, leaf.end, number))
    return made


def _shared_out(raw: str, spans: Sequence[Span]) -> Iterator[tuple[Leaf, tuple[Span, ...]]]:
    """Every leaf with the parts of the spans that lie in it; a number is hit as a whole."""
    first = 0
    for leaf in leaves(raw):
        while first < len(spans) and spans[first].end <= leaf.start:
            first += 1
        own: list[Span] = []
        for at in range(first, len(spans)):
            span = spans[at]
            if span.start >= leaf.end:
                break
            start, end = leaf.start, leaf.end
            if leaf.quoted:
                start, end = max(start, span.start), min(end, span.end)
            own.append(replace(span, start=start, end=end))
        yield leaf, merge(own)


class _Keys:
    """Keeps the keys of each object apart when some of them are replaced."""

    def __init__(self, raw: str) -> None:
        self._raw = raw
        self._taken: set[tuple[int, str]] | None = None
        self._last: dict[tuple[int, str], int] = {}

    def number(self, leaf: Leaf, changes: Sequence[Edit]) -> str:
        """What is to be added to a key after its changes: nothing, or ``#2`` and so on."""
        if self._taken is None:
            own = (one for one in leaves(self._raw) if one.owner >= 0)
            self._taken = {(one.owner, self._read(one, ())) for one in own}
        key = leaf.owner, self._read(leaf, changes)
        if key not in self._taken:
            self._taken.add(key)
            return ""
        count = self._last.get(key, 1) + 1
        while (leaf.owner, f"{key[1]}#{count}") in self._taken:
            count += 1
        self._last[key] = count
        self._taken.add((leaf.owner, f"{key[1]}#{count}"))
        return f"#{count}"

    def _read(self, leaf: Leaf, changes: Iterable[Edit]) -> str:
        moved = [Edit(e.start - leaf.start, e.end - leaf.start, e.text) for e in changes]
        written = apply(self._raw[leaf.start : leaf.end], moved)
        return str(json.loads(f'"{written}"', strict=False))


def escaped(text: str) -> str:
    """A text as the content of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
