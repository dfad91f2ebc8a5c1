"""What requests of OpenAI's routes have in common: read or refused, and no text without a name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import UnreadableRequest
from guardrail.wire.openai_body import (
    GENERATING_FIELDS,
    is_structured,
    read_flag,
    read_model,
    read_n,
    read_object,
    read_stream,
    read_usage,
    take_policies,
    unknown_texts,
)
from tests.wire.chats import EVIL, MARK, values

KNOWN = GENERATING_FIELDS | {"prompt"}


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"5", b'"\xc2\xa7"', b"null", b'{"a":1,"a":2}', b'{"a":{"b":1,"b":2}}']
)
def test_what_is_no_object_or_two_in_one_is_refused_and_not_quoted(raw: bytes):
    with pytest.raises(UnreadableRequest) as caught:
        read_object(raw)
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "added", "forwarded"),
    [
        (b'{"x": 1, "guardrails": ["a", "b"], "n": 1.0}', ("a", "b"), b'{"x": 1, "n": 1.0}'),
        (b'{"guard\\u0072ails" : [ "a" ] , "x": 1}', ("a",), b'{"x": 1}'),
        (b'{"x": 1, "guardrails": []}', (), b'{"x": 1}'),
        (b'{"x": 1, "guardrails": null}', (), b'{"x": 1}'),
    ],
)
def test_added_policies_are_taken_out_and_nothing_else_changes(
    raw: bytes, added: tuple[str, ...], forwarded: bytes
):
    assert take_policies(raw, read_object(raw)) == (forwarded, added)


def test_a_body_without_added_policies_is_the_very_same_object():
    raw = b'{ "x":1.0E0}'
    assert take_policies(raw, read_object(raw))[0] is raw


@pytest.mark.parametrize("value", [MARK, [5], {MARK: 1}, False, 0, ["a", None]])
def test_added_policies_that_are_no_list_of_names_are_refused(value: Any):
    with pytest.raises(UnreadableRequest) as caught:
        take_policies(b"{}", {"guardrails": value})
    assert caught.value.param == "guardrails"
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ({}, ("", False, 1, False, False)),
        ({"model": None, "stream": None, "n": None, "stream_options": None}, ("", False, 1, False, False)),
        ({"model": 5, "stream": False, "n": 0}, ("", False, 1, False, False)),
        (
            {"model": "m", "stream": True, "n": 128, "stream_options": {"include_usage": True}},
            ("m", True, 128, True, False),
        ),
        ({"stream_options": {"include_usage": 1}}, ("", False, 1, False, False)),
        ({"stream_options": "include_usage"}, ("", False, 1, False, False)),
        ({"response_format": {"type": "json_object"}}, ("", False, 1, False, True)),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, ("", False, 1, False, True)),
        ({"response_format": {"type": "text"}}, ("", False, 1, False, False)),
        ({"response_format": "json_object"}, ("", False, 1, False, False)),
        ({"response_format": {"type": ["json_object"]}}, ("", False, 1, False, False)),
    ],
)
def test_what_shapes_the_answer_is_read(body: dict[str, Any], read: tuple[Any, ...]):
    found = (read_model(body), read_stream(body), read_n(body), read_usage(body), is_structured(body))
    assert found == read
    assert [type(one) for one in found] == [type(one) for one in read]


@pytest.mark.parametrize("value", [1, MARK, [True], {"a": 1}, 0.5])
def test_a_stream_that_is_neither_true_nor_false_is_refused(value: Any):
    with pytest.raises(UnreadableRequest) as caught:
        read_stream({"stream": value})
    assert caught.value.param == "stream"
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(("value", "flag"), [(True, True), (False, False), (None, False), (0, False)])
def test_a_flag_is_the_one_of_its_key(value: Any, flag: bool):
    assert read_flag({"stream": not flag, "background": value}, "background") is flag
    with pytest.raises(UnreadableRequest, match="background is not") as caught:
        read_flag({"background": MARK}, "background")
    assert caught.value.param == "background"


@pytest.mark.parametrize("value", [129, -1, True, 2.0, MARK, [1], {"a": 1}])
def test_an_n_that_is_no_number_in_bounds_is_refused(value: Any):
    with pytest.raises(UnreadableRequest) as caught:
        read_n({"n": value})
    assert caught.value.param == "n"
    assert MARK not in str(caught.value)


class TestUnknownTexts:
    def test_what_never_reaches_the_model_as_text_is_known(self):
        body = {
            "model": "m",
            "user": "u",
            "safety_identifier": "u",
            "service_tier": "auto",
            "prompt_cache_key": "k",
            "prompt_cache_retention": "24h",
            "metadata": {"k": "v"},
            "guardrails": ["p"],
            "stop": ["\n"],
            "stop_token_ids": [5],
            "logit_bias": {"5": 1},
            "stream_options": {"include_usage": True},
            "request_id": "r",
            "cache_salt": "s",
        }
        assert list(unknown_texts(body, GENERATING_FIELDS)) == []

    @pytest.mark.parametrize(
        "key",
        [
            *("N", "Seed", "Store", "Stream", "Top_p", "Logprobs", "Max_tokens", "Temperature"),
            *("Presence_penalty", "Frequency_penalty"),
        ],
    )
    def test_numbers_are_known_by_one_name_only(self, key: str):
        with pytest.raises(UnreadableRequest, match="only in case"):
            list(unknown_texts({key: 1}, GENERATING_FIELDS))

    @pytest.mark.parametrize("value", [EVIL, [EVIL], {"a": EVIL}, [5]])
    def test_fields_that_may_hold_text_are_named(self, value: Any):
        assert list(unknown_texts({"prompt": EVIL, "x": value, "user": EVIL}, KNOWN)) == ["$.x"]

    @pytest.mark.parametrize("value", [5, 0.5, True, False, None, "", [], {}])
    def test_numbers_and_empty_values_are_not(self, value: Any):
        assert list(unknown_texts({"x": value}, KNOWN)) == []

    @pytest.mark.parametrize(
        ("value", "named"),
        [
            ({"type": "json_object"}, []),
            ({"type": "json_schema", "json_schema": {"description": EVIL}}, ["$.response_format"]),
            (EVIL, ["$.response_format"]),
            ([EVIL], ["$.response_format"]),
        ],
    )
    def test_a_response_format_is_text_where_it_says_more_than_its_type(self, value: Any, named: list[str]):
        assert list(unknown_texts({"response_format": value}, KNOWN)) == named

    def test_another_field_may_be_the_one_that_says_no_more_than_one_key(self):
        body = {"response_format": {"type": "x"}, "output_config": {"effort": "low"}}
        assert list(unknown_texts(body, KNOWN)) == ["$.output_config"]
        assert list(unknown_texts(body, KNOWN, ("output_config", "effort"))) == ["$.response_format"]

    @pytest.mark.parametrize("key", ["Prompt", "STREAM", "N"])
    def test_known_keys_in_other_letters_are_refused(self, key: str):
        with pytest.raises(UnreadableRequest, match="only in case"):
            list(unknown_texts({key: 1}, KNOWN))


@given(st.dictionaries(st.sampled_from([*KNOWN, "x", "response_format"]), values, max_size=6))
def test_any_body_is_read_or_refused_and_its_unknown_texts_are_its_own(body: dict[str, Any]):
    raw = orjson.dumps(body)
    assert read_object(raw) == body
    for read in (read_stream, read_n, lambda body: take_policies(raw, body)):
        try:
            read(body)
        except UnreadableRequest as error:
            field, _, _ = (error.param or "").partition("[")
            assert field in ("stream", "n", "guardrails")
            assert MARK not in str(error)  # noqa: PT017
    assert set(unknown_texts(body, KNOWN)) <= {f"$.{key}" for key in body.keys() - KNOWN}
