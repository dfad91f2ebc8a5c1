"""Coverage: which texts of a subject the policies have read, and which they have not.

Every text of a prompt, and every text of an answer, is in one of three groups:

* *judged*: the checks of all policies that act were made. Whether anything was found does not matter.
* *unchecked*: a check of a policy that acts could not be made. What then happens the fail mode says.
* *skipped*: nobody was to read it: the application's own turns, turns that were judged with an earlier
  request, blank texts, and all of it where no policy judges the stage.

The context of an answer is its prompt, whose texts are told with the decision about the prompt.
"""

from __future__ import annotations

from typing import NamedTuple

from guardrail.core.conversation import Address, Segment, Subject
from guardrail.core.policy import Stage

__all__ = ["Coverage", "Places", "count", "places"]


class Coverage(NamedTuple):
    """How many texts."""

    judged: int = 0
    unchecked: int = 0
    skipped: int = 0


class Places(NamedTuple):
    """Where the same texts stand in the body."""

    judged: tuple[Address, ...] = ()
    unchecked: tuple[Address, ...] = ()
    skipped: tuple[Address, ...] = ()


def count(subject: Subject, *, asked: bool, failed: bool) -> Coverage:
    """``asked``: there are policies that were to read the subject; ``failed``: not all that act could."""
    read = skipped = 0
    for turn in subject.turns:
        for segment in turn.segments:
            if asked and _is_read(segment):
                read += 1
            else:
                skipped += 1
    if subject.stage is Stage.INPUT:
        skipped += sum([len(turn.segments) for turn in subject.context])
    return Coverage(0, read, skipped) if failed else Coverage(read, 0, skipped)


def places(subject: Subject, *, asked: bool, failed: bool) -> Places:
    """As ``count``, with the address of each text instead; of a prompt in its order."""
    context = subject.context if subject.stage is Stage.INPUT else ()
    skipped = [segment.address for turn in context for segment in turn.segments]
    read: list[Address] = []
    for segment in subject.segments:
        (read if asked and _is_read(segment) else skipped).append(segment.address)
    return Places((), (*read,), (*skipped,)) if failed else Places((*read,), (), (*skipped,))


def _is_read(segment: Segment) -> bool:
    """Whether there is anything to read."""
    text = segment.text
    return text != "" and not text.isspace()  # at most a look at its first characters
