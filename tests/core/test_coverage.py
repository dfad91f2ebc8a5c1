"""Coverage: every text is in one group, and the counts are those of the places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.coverage import Coverage, Places, count, places
from guardrail.core.policy import Stage


def turn(*texts: str, at: int = 0) -> Turn:
    return Turn("user", tuple(Segment(text, (at, index)) for index, text in enumerate(texts)))


CONTEXT = (turn("You are kind.", "", at=0),)
TURNS = (turn("hello", " \n\u2003", "there", at=1),)


@pytest.mark.parametrize(
    ("stage", "asked", "found"),
    [
        (Stage.INPUT, True, Places(((1, 0), (1, 2)), ((0, 0), (0, 1), (1, 1)))),
        (Stage.INPUT, False, Places((), ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)))),
        (Stage.OUTPUT, True, Places(((1, 0), (1, 2)), ((1, 1),))),
        (Stage.OUTPUT, False, Places((), ((1, 0), (1, 1), (1, 2)))),
    ],
)
def test_each_group(stage: Stage, asked: bool, found: Places):
    subject = Subject(stage, CONTEXT, TURNS)
    assert places(subject, asked=asked) == found
    assert count(subject, asked=asked) == Coverage(len(found.read), len(found.skipped))


turns = st.lists(st.lists(st.text(max_size=3), max_size=3), max_size=3).map(
    lambda all_: tuple(turn(*texts, at=index) for index, texts in enumerate(all_))
)


@given(st.sampled_from(Stage), turns, turns, st.booleans())
def test_every_text_counts_once(
    stage: Stage, context: tuple[Turn, ...], judged: tuple[Turn, ...], asked: bool
):
    subject = Subject(stage, context, judged)
    found = places(subject, asked=asked)
    told = context if stage is Stage.INPUT else ()
    assert len(found.read) + len(found.skipped) == sum(len(own.segments) for own in (*told, *judged))
    assert count(subject, asked=asked) == tuple(map(len, found))
    # Something is read where the engine asks: where any judged text is more than blank.
    assert bool(found.read) is (asked and any(segment.text.strip() for segment in subject.segments))
