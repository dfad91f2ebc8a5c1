"""The twin of guardrail/wire/spelled.py: what spells a text is found wherever a server puts it."""

from __future__ import annotations

import orjson

from guardrail.wire.spelled import put, spelled


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
