"""Neighbouring texts of an answer, which clients show as one: judged as one, redacted each in its place.

In a stream such texts share a channel; this is the same for an answer that comes as one body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from guardrail.core.conversation import Kind, Segment, Subject, Turn
from guardrail.core.policy import Stage, Strategy
from guardrail.core.redaction import Redaction, Span

__all__ = ["joined", "parted"]

_SHOWN_AS_ONE: Final = frozenset({Kind.TEXT, Kind.REASONING, Kind.REFUSAL})


def joined(subject: Subject) -> Subject:
    """The subject with such neighbours as one segment; itself where there are none, and for a prompt.

    What a server makes of the parts of a prompt is its own affair; many put line ends between them.
    """
    if subject.stage is Stage.INPUT or all(len(turn.segments) < 2 for turn in subject.turns):
        return subject
    turns = tuple(Turn(turn.role, tuple(map(_as_one, _groups(turn)))) for turn in subject.turns)
    return replace(subject, turns=turns)


def parted(redactions: Iterable[Redaction], judged: Subject, subject: Subject) -> tuple[Redaction, ...]:
    """Redactions of ``judged``, which is ``joined(subject)``, as those of the subject's own segments."""
    groups = [group for turn in subject.turns for group in _groups(turn)]
    spans = {id(redaction.segment): redaction.spans for redaction in redactions}
    return tuple(
        redaction
        for segment, group in zip(judged.segments, groups, strict=True)
        for redaction in _shared_out(spans.get(id(segment), ()), group)
    )


def _groups(turn: Turn) -> list[list[Segment]]:
    alike = groupby(turn.segments, key=lambda own: own.kind)
    return [
        part for kind, own in alike for part in ([[*own]] if kind in _SHOWN_AS_ONE else [[s] for s in own])
    ]


def _as_one(group: Sequence[Segment]) -> Segment:
    if len(group) == 1:
        return group[0]
    return replace(group[0], text="".join([segment.text for segment in group]))


def _shared_out(spans: Sequence[Span], group: Sequence[Segment]) -> Iterator[Redaction]:
    """Redactions of the segments of a group; ``spans`` are sorted and do not overlap."""
    start = first = 0
    for segment in group:
        end = start + len(segment.text)
        own: list[Span] = []
        while first < len(spans) and spans[first].start < end:
            if max(spans[first].start, start) < min(spans[first].end, end):
                own.append(_cut(spans[first], start, end))
            if spans[first].end > end:  # it reaches into the next one
                break
            first += 1
        if own:
            yield Redaction(segment, tuple(own))
        start = end


def _cut(span: Span, start: int, end: int) -> Span:
    """The piece of a span in ``start:end``, counted from there; only its last one may show an end."""
    strategy = span.strategy
    if span.end > end and strategy is Strategy.MASK:
        strategy = Strategy.REPLACE
    return replace(
        span, start=max(span.start, start) - start, end=min(span.end, end) - start, strategy=strategy
    )
