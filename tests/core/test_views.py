"""Views: every character knows where it came from."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.views import Leaf, folded, json_view, leaves, plain, unescaped
from tests.core.json_values import JSON_VALUES, strings


class TestFolded:
    @given(st.text())
    def test_every_character_has_its_raw_range(self, text):
        view = folded(text)
        assert len(view.text) == len(view.starts) == len(view.ends)
        assert list(view.starts) == sorted(view.starts)
        assert all(0 <= a < b <= len(text) for a, b in zip(view.starts, view.ends, strict=True))

    def test_a_run_of_white_space_and_a_mark_belong_to_one_character(self):
        view = folded("a \u200b\n e\u0301b")
        assert view.text == "a eb"
        assert [view.to_raw(i, i + 1) for i in range(4)] == [(0, 1), (1, 5), (5, 7), (7, 8)]

    @given(st.text())
    def test_folding_twice_is_folding_once(self, text):
        once = folded(text).text
        assert folded(once).text == once

    @given(st.text())
    def test_white_space_never_stands_twice(self, text):
        assert not re.search(r"\s\s", folded(text).text)


class TestUnescaped:
    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            ("plain", "plain"),
            (r"a\nb\"c\\d\/", 'a\nb"c\\d/'),
            (r"\u0041\ud83d\ude00", "A😀"),
            (r"\ud83d!", "\ud83d!"),
            (r"C:\dir\xe \u12 \q" + "\\", r"C:\dir\xe \u12 \q" + "\\"),
            (r"C:\new", "C:\new"),
        ],
    )
    def test_escapes_are_resolved_and_other_backslashes_stay(self, raw, text):
        assert unescaped(raw).text == text

    @given(st.text(st.sampled_from('\\"/bfnrtu0dD83é \n'), max_size=30))
    def test_every_character_has_its_raw_range(self, raw):
        view = unescaped(raw)
        assert len(view.text) == len(view.starts) == len(view.ends)
        assert [0, *view.ends] == [*view.starts, len(raw)]


class TestJsonView:
    @given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1]))
    def test_resolves_escapes_and_keeps_offsets(self, value, ascii_only, indent):
        raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        view = json_view(raw)
        assert view.to_raw(0, len(view.text)) == (0, len(raw))
        for leaf in strings(value):
            assert leaf in view.text

    @pytest.mark.parametrize("raw", ["", "{", "not json", '{"a": "\n"}', "[" * 100_000, '{"a":1}}'])
    def test_what_is_no_json_has_no_view(self, raw):
        assert json_view(raw) is None

    def test_a_number_that_python_refuses_is_still_json(self):
        assert json_view("7" * 5_000) is not None


class TestView:
    view = unescaped(r"ab\u00e9\n.")

    def test_a_range_is_widened_to_whole_pieces_and_read(self):
        assert self.view.whole(4, 9) == (2, 10)
        assert self.view.whole(1, 99) == (1, 11)
        assert self.view.read(2, 10) == "é\n"

    def test_a_plain_text_is_its_own_view(self):
        assert plain("abc").whole(1, 2) == plain("abc").to_raw(1, 2) == (1, 2)


class TestLeaves:
    def test_strings_numbers_and_the_objects_of_keys(self):
        raw = '{"a" : [1, {"b": "x:"}, -2.5e+3, true], "c": {"b": ""}, "d": "e"}'
        found = [(raw[leaf.start : leaf.end], leaf.quoted, leaf.owner) for leaf in leaves(raw)]
        assert found == [
            ("a", True, 0), ("1", False, -1), ("b", True, 2), ("x:", True, -1), ("-2.5e+3", False, -1),
            ("c", True, 0), ("b", True, 3), ("", True, -1), ("d", True, 0), ("e", True, -1),
        ]  # fmt: skip

    @given(JSON_VALUES)
    def test_every_leaf_of_any_json(self, value):
        raw = json.dumps(value)
        assert [json.loads(f'"{raw[a:b]}"') for a, b, quoted, _ in leaves(raw) if quoted] == list(
            strings(value)
        )
        assert Leaf(0, 1, False, -1) in leaves("7")
