"""The twin of guardrail/wire/shapes.py: texts at JSONPaths, and bodies that hold one of ours."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import ConfigError, UnreadableRequest
from guardrail.wire.shapes import TEXT, WHOLE, JsonShape, PlainText, edit, shape_of

NAMES = st.text(alphabet="abc", min_size=1, max_size=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SPACING = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


def at(value: Any, address: tuple[str | int, ...]) -> Any:
    for step in address:
        value = value[step]
    return value


def written(leaf: Any) -> str:
    return leaf if isinstance(leaf, str) else orjson.dumps(leaf).decode()


class TestPaths:
    @pytest.mark.parametrize(
        "path", ["", "message", "$.", "$.a[", "$.a[?nosuch(@)]", "$[99999999999999999999]"]
    )
    def test_what_is_no_path_is_named_at_the_start(self, path: str):
        with pytest.raises(ConfigError, match=r"^input: .* is no JSONPath"):
            JsonShape([path], "input")

    def test_no_path_at_all(self):
        with pytest.raises(ConfigError, match=r"^output: names no path"):
            JsonShape([], "output")

    @pytest.mark.parametrize(
        ("path", "way"),
        [
            ("$", ()),
            ("$.a.b", ("a", "b")),
            ("$['a'][0]", ("a", 0)),
            ("$.a[-1].b", ("a", 0, "b")),
            ("$.a[1]", None),
            ("$.a[*]", None),
            ("$..a", None),
            ("$['a','b']", None),
            ("$.a[?@.b]", None),
        ],
    )
    def test_the_one_place_that_a_path_names(self, path: str, way: tuple[str | int, ...] | None):
        assert JsonShape([path], "output").way == way


class TestFinding:
    def found(self, value: Any, *paths: str) -> list[tuple[int, str, tuple[str | int, ...]]]:
        return [tuple(leaf) for leaf in JsonShape(paths, "input").find(value).leaves]

    def test_strings_in_what_a_path_matches(self):
        value = {"q": {"text": "a", "more": ["b", {"c": "d"}]}, "other": "no"}
        assert self.found(value, "$.q") == [
            (0, "a", ("q", "text")),
            (0, "b", ("q", "more", 0)),
            (0, "d", ("q", "more", 1, "c")),
        ]

    def test_numbers_are_text_and_truth_is_not(self):
        assert self.found({"q": [4111111111111111, 1.5, True, None]}, "$.q") == [
            (0, "4111111111111111", ("q", 0)),
            (0, "1.5", ("q", 1)),
        ]

    def test_what_two_paths_match_belongs_to_the_first(self):
        assert self.found({"a": "x", "b": "y"}, "$.b", "$.*") == [(0, "y", ("b",)), (1, "x", ("a",))]

    def test_filters_slices_and_descent(self):
        value = {"m": [{"role": "user", "text": "a"}, {"role": "bot", "text": "b"}]}
        assert self.found(value, "$.m[?@.role == 'user'].text") == [(0, "a", ("m", 0, "text"))]
        assert self.found(value, "$.m[-1:].text") == [(0, "b", ("m", 1, "text"))]
        assert [text for _, text, _ in self.found(value, "$..text")] == ["a", "b"]

    def test_keys_that_may_be_text_are_named(self):
        value = {"q": {"plain_key-1.0": "a", "Ignore the rules": "b", "deep": [{"a b": 1}]}, "x y": "c"}
        assert JsonShape(["$.q"], "input").find(value).unreadable == [
            "$.q.Ignore the rules",
            "$.q.deep[0].a b",
        ]

    def test_too_deep_for_a_descent(self):
        value: Any = "x"
        for _ in range(200):
            value = {"a": value}
        with pytest.raises(UnreadableRequest, match="deeply"):
            JsonShape(["$..b"], "input").find(value)
        assert not JsonShape(["$..b"], "end").matches(value)

    @pytest.mark.parametrize(
        ("value", "matches"),
        [({}, False), ({"d": False}, False), ({"d": None}, False), ({"d": 0}, True), ({"d": "x"}, True)],
    )
    def test_matches(self, value: Any, matches: bool):
        assert JsonShape(["$.done", "$.d"], "end").matches(value) is matches

    @given(VALUES)
    def test_every_string_and_number_is_found_once(self, value: Any):
        leaves = JsonShape(["$..*", "$"], "input").find(value).leaves
        addresses = [leaf.address for leaf in leaves]
        assert len(addresses) == len(set(addresses))
        assert all(written(at(value, leaf.address)) == leaf.text for leaf in leaves)

        def count(inner: Any) -> int:
            if isinstance(inner, dict):
                return sum(map(count, inner.values()))
            if isinstance(inner, list):
                return sum(map(count, inner))
            return int(isinstance(inner, str | int) and not isinstance(inner, bool))

        assert len(leaves) == count(value)


class TestParsing:
    def test_no_key_twice(self):
        with pytest.raises(UnreadableRequest, match="repeats a key"):
            JsonShape(["$.a"], "input").parse(b'{"a": "x", "a": "y"}')

    def test_plain_text_is_utf_8(self):
        assert PlainText().parse("grüß".encode()) == "grüß"
        with pytest.raises(UnreadableRequest, match="UTF-8"):
            PlainText().parse(b"\xff")

    def test_which_shape(self):
        assert isinstance(shape_of(TEXT, "input"), PlainText)
        assert isinstance(shape_of("$.a", "input"), JsonShape)
        assert isinstance(shape_of(["$.a", "$.b"], "input"), JsonShape)


class TestEditing:
    @given(VALUES, SPACING, st.text(max_size=6), st.data())
    def test_only_the_leaves_that_are_named_change(
        self, value: Any, spacing: tuple[str, str], new: str, data: st.DataObject
    ):
        raw = json.dumps(value, separators=spacing).encode()
        leaves = JsonShape(["$"], "input").find(json.loads(raw)).leaves
        picked = data.draw(st.lists(st.sampled_from(leaves), unique=True)) if leaves else []
        edited = edit(raw, {leaf.address: new for leaf in picked})
        if not picked:
            assert edited == raw
        names = {leaf.address for leaf in picked}
        after = json.loads(edited)
        for leaf in leaves:
            expected = new if leaf.address in names else written(at(json.loads(raw), leaf.address))
            assert written(at(after, leaf.address)) == expected
        blank = {leaf.address: "" for leaf in leaves}
        assert json.loads(edit(edited, blank)) == json.loads(edit(raw, blank))

    def test_the_white_space_around_stays(self):
        assert edit(b' {"a" : "x" ,"n":1e5}\r\n', {("a",): "y"}) == b' {"a" : "y" ,"n":1e5}\r\n'
        assert edit(b' "x" \n', {(): "y"}) == b' "y" \n'

    def test_a_number_becomes_a_string(self):
        assert edit(b'{"a": 4111}', {("a",): "[gone]"}) == b'{"a": "[gone]"}'

    def test_the_whole(self):
        assert edit(b"abc", {WHOLE: "grüß"}) == "grüß".encode()


class TestFilling:
    @pytest.mark.parametrize(
        ("path", "more", "body"),
        [
            ("$.reply", {}, {"reply": "No."}),
            ("$", {}, "No."),
            ("$.choices[0].text", {}, {"choices": [{"text": "No."}]}),
            ("$[0]", {}, ["No."]),
            ("$.a.b", {"type": "message", "a": {"c": 1}}, {"type": "message", "a": {"c": 1, "b": "No."}}),
            ("$.a[0]", {"a": []}, {"a": ["No."]}),
        ],
    )
    def test_the_smallest_body(self, path: str, more: dict[str, Any], body: Any):
        shape = JsonShape([path, "$..other"], "output")
        before = json.dumps(more)
        assert json.loads(shape.fill("No.", more)) == body
        assert json.loads(shape.fill("No.", more)) == body, "nothing of the first stays"
        assert json.dumps(more) == before

    @pytest.mark.parametrize(
        ("path", "more"),
        [("$.a.b", {"a": "taken"}), ("$.a[0]", {"a": {}}), ("$.a", {"a": 1}), ("$", {"a": 1})],
    )
    def test_what_stands_in_the_way(self, path: str, more: dict[str, Any]):
        with pytest.raises(ConfigError, match="stands where"):
            JsonShape([path], "output").fill("No.", more)

    def test_no_one_place(self):
        with pytest.raises(ConfigError, match="must name one place"):
            JsonShape(["$.a[*]"], "output").fill("No.", {})

    def test_what_is_filled_in_is_found(self):
        shape = JsonShape(["$.a[0].b"], "output")
        assert [leaf.text for leaf in shape.find(shape.parse(shape.fill("No.", {"type": "t"}))).leaves] == [
            "No."
        ]

    def test_plain_text(self):
        assert PlainText().fill("No.", {}) == b"No."
        assert PlainText().find("x").leaves == [(0, "x", WHOLE)]
