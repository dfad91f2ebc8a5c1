"""Cuts: never inside what Unicode calls one grapheme cluster, and at sentence ends if there are any."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.graphemes import boundary, window_end

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
TRICKY = st.text(
    st.sampled_from(
        "ab \r\n.\u0301\u200d\u200c\u094d\u0915\u093c\u0600\u1100\u1161\u11a8\uac00\u0e33\ufe0f"
        "\U0001f1e9\U0001f1ea\U0001f468\U0001f469\U0001f3fd\U000e0067\U000e007f\xa9"
    ),
    max_size=40,
)


@given(TRICKY | st.text(max_size=30), st.data())
def test_every_boundary_is_one_of_the_standards(text: str, data: st.DataObject):
    at = data.draw(st.integers(0, len(text)))
    ends = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    place = boundary(text, at)
    assert place in ends
    assert place <= at


@pytest.mark.parametrize(
    ("text", "at", "place"),
    [
        ("hello world", 5, 5),
        ("e\u0301x", 1, 0),
        ("ab\r\ncd", 3, 2),
        (f"hi {FAMILY}!", 6, 3),
        (f"hi {FAMILY}!", 8, 8),
        ("\U0001f1e9\U0001f1ea", 1, 0),
        ("हिन्दी", 3, 2),
        ("\u1100\u1161\u11a8", 2, 0),
        ("ba\u200d", 3, 1),  # behind the text's end: a joiner goes on
        ("\u200d", 1, 0),
        ("", 0, 0),
        ("a" + "\u0301" * 100, 90, 90),  # longer than any letter
        ("a" + "\u0301" * 60, 50, 0),
        ("\ud800\udc00", 1, 1),  # lone surrogates are letters of their own
    ],
)
def test_boundary(text: str, at: int, place: int):
    assert boundary(text, at) == place


@pytest.mark.parametrize(
    ("text", "least", "end"),
    [
        ("One. Two. Thr", 0, len("One. Two. ")),
        ("One. Two. Thr", 9, len("One. Two. Thr")),
        ("One! Two? Three and", 0, len("One! Two? ")),
        ("a line\nanother", 2, len("a line\n")),
        ("一句。二句！三", 0, len("一句。二句！")),  # noqa: RUF001
        ("version 1.2 of it", 0, len("version 1.2 of it")),
        ("no end\u200d", 0, len("no en")),
    ],
)
def test_window_end(text: str, least: int, end: int):
    assert window_end(text, least) == end
