"""What a request asks of the guard: read strictly, refused by field, never quoted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.addition import Addition
from guardrail.core.policy import FailMode, Mode
from guardrail.errors import UnreadableRequest
from guardrail.wire.controls import Asked, read_guardrails, read_headers

MARK = "§mark"


class TestGuardrails:
    @pytest.mark.parametrize(
        ("value", "read"),
        [
            (None, ()),
            ([], ()),
            (["a", "b", "a"], ("a", "b", "a")),
            ([{"name": "a"}], (Addition("a"),)),
            (
                ["a", {"name": "b", "mode": "enforce", "on_unavailable": "closed"}],
                ("a", Addition("b", Mode.ENFORCE, FailMode.CLOSED)),
            ),
            (
                [{"name": "b", "mode": None, "on_unavailable": "open"}],
                (Addition("b", None, FailMode.OPEN),),
            ),
        ],
    )
    def test_ids_and_objects(self, value: Any, read: Any):
        assert read_guardrails(value) == read

    @pytest.mark.parametrize(
        ("value", "param"),
        [
            (MARK, "guardrails"),
            ({"name": MARK}, "guardrails"),
            (False, "guardrails"),
            (["a", 5], "guardrails"),
            (["a", [MARK]], "guardrails"),
            (["a", {"name": "b", MARK: 1}], "guardrails[1]"),
            ([{}], "guardrails[0].name"),
            ([{"name": [MARK]}], "guardrails[0].name"),
            ([{"name": "a", "mode": "monitor"}], "guardrails[0].mode"),
            ([{"name": "a", "mode": MARK}], "guardrails[0].mode"),
            ([{"name": "a", "mode": ["enforce"]}], "guardrails[0].mode"),
            ([{"name": "a", "on_unavailable": True}], "guardrails[0].on_unavailable"),
        ],
    )
    def test_the_field_that_is_wrong_is_named(self, value: Any, param: str):
        with pytest.raises(UnreadableRequest) as caught:
            read_guardrails(value)
        assert (caught.value.param, caught.value.status) == (param, 400)
        assert MARK not in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "param"),
        [
            ("a", "policies"),
            (["a", 1], "policies"),
            (["a", {"name": 1}], "policies[1].name"),
            ([{"name": "a", "mode": "x"}], "policies[0].mode"),
            ([{"name": "a", "more": 1}], "policies[0]"),
        ],
    )
    def test_by_the_name_that_it_has(self, value: Any, param: str):
        with pytest.raises(UnreadableRequest) as caught:
            read_guardrails(value, "policies")
        assert caught.value.param == param
        assert str(caught.value).startswith(param)


class TestHeaders:
    @pytest.mark.parametrize(
        ("headers", "asked"),
        [
            ([], Asked()),
            ([(b"accept", b"a"), (b"x-guardrail", b"b")], Asked()),
            ([(b"x-guardrail-id", b"a")], Asked()),
            ([(b"x-guardrail-add", b"a")], Asked(("a",))),
            ([(b"X-Guardrail-Add", b" a ,,b\t, ")], Asked(("a", "b"))),
            ([(b"x-guardrail-add", b"a"), (b"host", b"h"), (b"x-guardrail-add", b"b")], Asked(("a", "b"))),
            ([(b"x-guardrail-add", b"")], Asked()),
            ([(b"x-guardrail-annotations", b" Azure")], Asked((), True)),
            ([(b"x-guardrail-annotations", b"azure"), (b"x-guardrail-add", b"a")], Asked(("a",), True)),
        ],
    )
    def test_what_they_ask_for(self, headers: list[tuple[bytes, bytes]], asked: Asked):
        assert read_headers(headers) == asked
        assert any(asked) is (asked != Asked())

    @pytest.mark.parametrize("value", [b"", b"openai", b"azure, openai", MARK.encode()])
    def test_other_annotations_are_refused(self, value: bytes):
        with pytest.raises(UnreadableRequest) as caught:
            read_headers([(b"x-guardrail-annotations", value)])
        assert caught.value.param == "x-guardrail-annotations"
        assert MARK not in str(caught.value)

    @given(st.lists(st.binary(max_size=6), max_size=4))
    def test_whatever_bytes_it_holds_it_is_a_list_of_names(self, values: list[bytes]):
        asked = read_headers([(b"x-guardrail-add", value) for value in values])
        assert all(name and name == name.strip() and "," not in name for name in asked.added)
