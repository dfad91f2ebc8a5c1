"""What changes around a text that changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.wire.json_edit import REMOVE
from guardrail.wire.responses_edits import agreed, misplaced, respelled, without_removed

short = st.text("ab", max_size=5)


@given(short, short)
def test_agreed_counts_the_common_start(old: str, new: str):
    count = agreed(old, new)
    assert old[:count] == new[:count]
    assert count in (len(old), len(new)) or old[count] != new[count]


@pytest.mark.parametrize(
    ("annotation", "gone"),
    [
        ({"start_index": 0, "end_index": 4}, False),
        ({"start_index": 0, "end_index": 5}, True),
        ({"start_index": 5}, True),
        ({"index": 9, "file_id": "f"}, False),
        ({"end_index": "9"}, False),
        ("x", False),
    ],
)
def test_an_annotation_is_misplaced_behind_what_stayed_the_same(annotation: object, gone: bool):
    assert misplaced(annotation, 4) is gone


def test_respelled_takes_out_what_spells_the_old_text():
    part = {"text": "x", "logprobs": [1], "annotations": [{"end_index": 3}, {"end_index": 1}, 7]}
    assert respelled(part, ("p",), 1) == {("p", "logprobs"): [], ("p", "annotations", 0): REMOVE}
    assert respelled({"logprobs": None, "annotations": None}, (), 0) == {}
    assert respelled({"logprobs": [], "annotations": {"end_index": 3}}, (), 0) == {}


def test_changes_inside_of_what_is_removed_go():
    changes: dict[tuple[str | int, ...], object] = {
        ("a", 1): REMOVE,
        ("a", 1, "t"): "x",
        ("a", 10, "t"): "y",
    }
    assert without_removed(changes) == {("a", 1): REMOVE, ("a", 10, "t"): "y"}


addresses = st.lists(st.integers(0, 2) | st.sampled_from("ab"), max_size=4).map(tuple)


@given(st.dictionaries(addresses, st.sampled_from([REMOVE, "x", None])))
def test_a_change_stays_where_nothing_around_it_is_removed(changes: dict[Any, object]):
    gone = [address for address, new in changes.items() if new is REMOVE]
    left = without_removed(changes)
    assert list(left.items()) == [
        (address, new)
        for address, new in changes.items()
        if new is REMOVE or not any(address[: len(own)] == own for own in gone)
    ]


def test_many_removed_annotations_do_not_slow_down_each_other():
    changes: dict[tuple[str | int, ...], object] = {}
    for index in range(50_000):
        changes["p", index, "text"] = "x"
        changes["p", index, "annotations", 0] = REMOVE
    assert without_removed(changes) == changes
