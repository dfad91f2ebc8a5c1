"""Coverage: which texts of a subject are there to be read by the policies, and which are skipped.

Skipped are the application's own turns, turns that were judged with an earlier request, blank texts, and
all of it where no policy judges the stage. Every other text is read, and so judged, unless a check could
not be made, which the decision knows. The context of an answer is its prompt, whose texts are told with the
decision about the prompt.
"""

from __future__ import annotations

from typing import NamedTuple

from guardrail.core.conversation import Address, Subject
from guardrail.core.policy import Stage

__all__ = ["Coverage", "Places", "count", "places"]


class Coverage(NamedTuple):
    """How many texts."""

    read: int
    skipped: int


class Places(NamedTuple):
    """Where the same texts stand in the body."""

    read: tuple[Address, ...]
    skipped: tuple[Address, ...]


def count(subject: Subject, *, asked: bool) -> Coverage:
    """``asked``: there are policies that judge the stage."""
    read = skipped = 0
    for turn in subject.turns:
        for segment in turn.segments:
            text = segment.text
            if asked and text and not text.isspace():  # at most a look at its first characters
                read += 1
            else:
                skipped += 1
    if subject.stage is Stage.INPUT:
        for turn in subject.context:
            skipped += len(turn.segments)
    return Coverage(read, skipped)


def places(subject: Subject, *, asked: bool) -> Places:
    """As ``count``, with the address of each text."""
    context = subject.context if subject.stage is Stage.INPUT else ()
    skipped = [segment.address for turn in context for segment in turn.segments]
    read: list[Address] = []
    for segment in subject.segments:
        is_read = asked and segment.text and not segment.text.isspace()
        (read if is_read else skipped).append(segment.address)
    return Places(tuple(read), tuple(skipped))
