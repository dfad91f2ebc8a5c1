"""The twin of guardrail/wire/spelled.py: what spells a text is found wherever a server puts it."""

from __future__ import annotations

from guardrail.wire.spelled import spelled


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
