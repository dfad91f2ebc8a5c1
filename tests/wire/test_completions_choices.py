"""The choices of a text completion: each text has a channel, what may be text has a name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from guardrail.core.conversation import Kind, json_path
from guardrail.errors import UnreadableRequest
from guardrail.wire.completions_choices import read_choice
from tests.wire.chats import EVIL, at, leaves
from tests.wire.texts import drawn_choices

AT = ("choices", 0)
# What is the client's own or says nothing, and what spells a text that is read.
SILENT = {"index", "finish_reason", "logprobs", "role", "token_ids", "token_id"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"text": "a"}, [("text", Kind.TEXT, "a", ("text",))]),
        ({"text": ""}, []),
        ({"text": None, "reasoning": None, "delta": None}, []),
        ({}, []),
        (
            {"text": "a", "reasoning": "b", "reasoning_content": "c"},
            [
                ("reasoning", Kind.REASONING, "b", ("reasoning",)),
                ("reasoning_content", Kind.REASONING, "c", ("reasoning_content",)),
                ("text", Kind.TEXT, "a", ("text",)),
            ],
        ),
        (  # neither hides the other
            {"text": "a", "delta": {"role": "assistant", "content": "b", "token_id": 5}},
            [("text", Kind.TEXT, "a", ("text",)), ("delta", Kind.TEXT, "b", ("delta", "content"))],
        ),
    ],
)
def test_each_text_has_its_channel_and_address(choice: dict[str, Any], expected: list[Any]):
    unreadable: list[str] = []
    found = [tuple(text) for text in read_choice(choice, AT, unreadable)]
    assert found == [(channel, kind, text, (*AT, *way)) for channel, kind, text, way in expected]
    assert unreadable == []


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ({"text": ["a"], "reasoning": {"a": "b"}}, ["reasoning", "text"]),
        ({"text": 5}, ["text"]),
        ({"delta": {"content": ["a"]}}, ["delta.content"]),
        ({"delta": {"tool_calls": [EVIL], "token_id": 5}}, ["delta.tool_calls"]),
        ({"delta": EVIL}, ["delta"]),
        ({"message": {"content": EVIL}, "x": EVIL, "y": 5, "z": ""}, ["message", "x"]),
        ({"index": 0, "stop_reason": "\n", "seed": 5, "content_filter_results": {"hate": {}}}, []),
        ({"logprobs": {"tokens": ["a"]}, "token_ids": [1], "prompt_logprobs": [{"1": {}}]}, []),
    ],
)
def test_what_cannot_be_read_is_named(choice: dict[str, Any], named: list[str]):
    unreadable: list[str] = []
    assert list(read_choice(choice, AT, unreadable)) == []
    assert unreadable == [f"$.choices[0].{path}" for path in named]


@given(drawn_choices)
def test_no_text_of_a_choice_is_neither_read_nor_named(choice: Any):
    if not isinstance(choice, dict):
        return
    unreadable: list[str] = []
    try:
        found = {text.address: text.text for text in read_choice(choice, (), unreadable)}
    except UnreadableRequest:
        return
    assert all(at(choice, address) == text for address, text in found.items())
    for address, _ in leaves(choice):
        prefixes = {json_path(address[:size]) for size in range(len(address) + 1)}
        assert address in found or prefixes & {*unreadable} or SILENT & {*address}, json_path(address)


@pytest.mark.parametrize(
    "choice", [{"Text": EVIL}, {"text": "a", "LOGPROBS": 1}, {"delta": {"Content": "a"}}]
)
def test_known_keys_in_other_letters_are_refused(choice: dict[str, Any]):
    with pytest.raises(UnreadableRequest, match="only in case"):
        list(read_choice(choice, AT, []))
