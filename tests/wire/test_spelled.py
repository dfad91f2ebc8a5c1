"""The twin of guardrail/wire/spelled.py: what spells a text is found wherever a server puts it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.wire.spelled import put, said_by, spelled, unlike


def test_what_spells_the_text_of_these_choices_is_taken_out():
    spells = {
        "logprobs": {"tokens": ["a"]},
        "token_ids": [0],
        "prompt_logprobs": [None],
        "prompt_token_ids": [],
        "delta": {"content": "a", "token_id": 0},
    }
    body = {"choices": [spells, {"text": "b", "logprobs": None}, spells], "token": {"text": "a"}}
    ways = [
        ("logprobs",),
        ("token_ids",),
        ("prompt_logprobs",),
        ("prompt_token_ids",),
        ("delta", "token_id"),
    ]
    assert spelled(body, [1, 2]) == {("token",): None} | {("choices", 2, *way): None for way in ways}
    assert spelled({"choices": [{"text": "a"}]}, [0]) == {}


def test_it_goes_where_a_text_of_a_choice_is_put_and_nowhere_else():
    raw = b'{"choices": [{"text":"a","logprobs":[1.0E0]}, {"text":"b","logprobs":[2.0E0]}], "token":"ab"}'
    after = raw.replace(b'"b"', b'"[R]"').replace(b"[2.0E0]", b"null").replace(b'"ab"', b"null")
    assert put(raw, {("choices", 1, "text"): "[R]"}) == after
    asked = orjson.dumps({"prompt": "a", "logprobs": 5, "token": "a"})
    assert put(asked, {("prompt",): "[R]"}) == asked.replace(b'"prompt":"a"', b'"prompt":"[R]"')


@pytest.mark.parametrize(
    ("logprobs", "said"),
    [
        (None, []),
        (-0.5, []),
        ({"content": [], "refusal": None}, []),
        (
            {"content": [{"token": "a", "bytes": [97], "top_logprobs": [{"token": "x"}]}, {"token": "b"}]},
            ["ab"],
        ),
        ({"content": [{"token": "a"}], "refusal": [{"token": "b"}]}, ["a", "b"]),
        ({"tokens": ["a", "b"], "token_logprobs": [0, 0], "top_logprobs": [{"x": 0}]}, ["ab"]),
        ({"content": [{"bytes": [97]}]}, [""]),
        ({"top_logprobs": [{"x": 0}]}, None),
        ({"x": "a"}, None),
        ({"content": {"token": "a"}}, None),
        ("a", None),
        ([{"token": "a"}], None),
    ],
)
def test_what_log_probabilities_spell(logprobs: Any, said: list[str] | None):
    assert said_by(logprobs) == said


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1), st.text(max_size=4))
def test_only_what_spells_the_text_that_is_added_stays(tokens: list[str], text: str):
    whole = "".join(tokens)
    for logprobs in ({"content": [{"token": token} for token in tokens]}, {"tokens": tokens}):
        body = {"choices": [{"logprobs": logprobs, "token_ids": [1]}], "token": {"text": whole}}
        assert unlike(body, [{whole, text}]) == {}
        gone = {("choices", 0, "logprobs"), ("choices", 0, "token_ids"), ("token",)}
        assert unlike(body, [{text} if text else ()]).keys() == (set() if text == whole else gone)
