"""Slots: as many as there are, and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardrail.frontends.slots import Slots


def test_none_is_given_twice():
    slots = Slots(2)
    assert (slots.take(), slots.take(), slots.take()) == (True, True, False)
    slots.give_back()
    assert (slots.take(), slots.take()) == (True, False)


@given(st.integers(0, 5), st.lists(st.booleans(), max_size=40))
def test_never_are_more_out_than_there_are(most: int, taking: list[bool]):
    slots, out = Slots(most), 0
    for take in taking:
        if take:
            given = slots.take()
            assert given is (out < most)
            out += given
        elif out:
            slots.give_back()
            out -= 1
