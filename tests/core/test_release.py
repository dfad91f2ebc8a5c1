"""The twin of guardrail/core/release.py: how much of a text's end is held for what may still grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.release import StreamRules


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("", 0),
        ("no run at the end ", 0),
        ("key sk-abc", 6),
        ("a line\nsk-abc", 6),
        ("x" * 8, 8),
        ("x" * 9, 8),  # not more than it is told to hold
        ("鍵はsk-abc", 6),  # scripts without spaces end a run
        ("กุญแจsk-abc", 6),
    ],
)
def test_an_unbroken_run_at_the_end_is_held(text, tail):
    assert StreamRules(overlap=0, unbroken=8).tail(text) == tail


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("nothing opens here", 4),
        ("a BEGIN KEY and more", 18),
        ("BEGIN KEY, BEGIN KEY", 20),  # the first of them
        ("BEGIN KEY" + "." * 20, 4),  # beyond its size
    ],
)
def test_what_stands_behind_an_opening_is_held(text, tail):
    rules = StreamRules(overlap=4, openings=(("BEGIN KEY", 20),))
    assert rules.tail(text) == min(tail, 20)


def test_the_overlap_is_the_least():
    assert StreamRules(overlap=5, unbroken=20).tail("text abc") == 5
    assert StreamRules(overlap=5).reach == 0


@given(st.text("ab \nBK", max_size=60), st.integers(0, 9), st.integers(0, 20), st.integers(2, 30))
def test_no_more_than_reach_has_to_be_seen(text, overlap, unbroken, size):
    rules = StreamRules(overlap=overlap, unbroken=unbroken, openings=(("BK", size), ("KB", 5)))
    seen = text[max(0, len(text) - rules.reach) :]
    assert rules.tail(seen) == rules.tail(text)
    assert overlap <= rules.tail(text) <= max(overlap, rules.reach)
