"""Chat messages as turns: every text of a message is found, and what cannot be read is named."""

from __future__ import annotations

from typing import Any

import pytest

from guardrail.core.conversation import Address, Kind
from guardrail.errors import UnreadableRequest
from guardrail.wire.chat_messages import PLAIN_NAME, as_list, beside, param_of
from tests.wire.chats import CHAT, EVIL, answer, at, call, custom
from tests.wire.test_chat import read


class TestTextsOfAMessage:
    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"content": "a"}, [(("content",), Kind.TEXT, "a")]),
            ({"content": ""}, [(("content",), Kind.TEXT, "")]),
            ({"content": None}, []),
            ({}, []),
            (
                {"content": ["a", {"type": "text", "text": "b"}, {"type": "refusal", "refusal": "c"}]},
                [
                    (("content", 0), Kind.TEXT, "a"),
                    (("content", 1, "text"), Kind.TEXT, "b"),
                    (("content", 2, "refusal"), Kind.TEXT, "c"),
                ],
            ),
            (
                {"content": [{"type": "input_text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
                [(("content", 0, "text"), Kind.TEXT, "a")],
            ),
            (
                {
                    "content": [
                        {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
                    ]
                },
                [(("content", 0, "text"), Kind.TEXT, "a")],
            ),
            ({"name": "a"}, [(("name",), Kind.FIELD, "a")]),
            ({"refusal": "a"}, [(("refusal",), Kind.REFUSAL, "a")]),
            ({"reasoning": "a"}, [(("reasoning",), Kind.REASONING, "a")]),
            ({"reasoning_content": "a"}, [(("reasoning_content",), Kind.REASONING, "a")]),
            (
                {
                    "reasoning_details": [
                        {"type": "reasoning.text", "text": "a", "signature": "s"},
                        {"summary": "b"},
                    ]
                },
                [
                    (("reasoning_details", 0, "text"), Kind.REASONING, "a"),
                    (("reasoning_details", 1, "summary"), Kind.REASONING, "b"),
                ],
            ),
            (
                {"reasoning_details": {"text": "a", "summary": "b"}},
                [
                    (("reasoning_details", "text"), Kind.REASONING, "a"),
                    (("reasoning_details", "summary"), Kind.REASONING, "b"),
                ],
            ),
            (
                {"tool_calls": [call('{"q": 1}'), custom("a")]},
                [
                    (("tool_calls", 0, "function", "arguments"), Kind.TOOL_ARGUMENTS, '{"q": 1}'),
                    (("tool_calls", 1, "custom", "input"), Kind.TEXT, "a"),
                ],
            ),
            (
                {"tool_calls": call("a")},
                [(("tool_calls", "function", "arguments"), Kind.TOOL_ARGUMENTS, "a")],
            ),
            (
                {"tool_calls": [call("a") | custom("b")]},
                [
                    (("tool_calls", 0, "function", "arguments"), Kind.TOOL_ARGUMENTS, "a"),
                    (("tool_calls", 0, "custom", "input"), Kind.TEXT, "b"),
                ],
            ),
            (
                {"function_call": {"name": "f", "arguments": "a"}},
                [(("function_call", "arguments"), Kind.TOOL_ARGUMENTS, "a")],
            ),
            ({"tool_calls": [], "function_call": None, "reasoning_details": [], "name": ""}, []),
            ({"tool_call_id": "functions.look_up:0", "weight": 1, "flag": True, "annotations": []}, []),
        ],
    )
    def test_each_is_found_where_it_stands(
        self, fields: dict[str, Any], found: list[tuple[Address, Kind, str]]
    ):
        message = {"role": "user", **fields}
        assert read(message) == (found, [])
        assert all(at(message, address) == text for address, _, text in found)

    @pytest.mark.parametrize(
        ("fields", "address"),
        [
            ({"role": EVIL}, ("role",)),
            ({"role": "a" * 65}, ("role",)),
            ({"role": "user\n"}, ("role",)),
            ({"tool_call_id": EVIL}, ("tool_call_id",)),
            ({"tool_calls": [call(name=EVIL)]}, ("tool_calls", 0, "function", "name")),
            ({"tool_calls": [call(id=EVIL)]}, ("tool_calls", 0, "id")),
            ({"tool_calls": [call(type=EVIL)]}, ("tool_calls", 0, "type")),
            (
                {"tool_calls": [{"custom": {"name": EVIL, "input": ""}}]},
                ("tool_calls", 0, "custom", "name"),
            ),
            ({"function_call": {"name": EVIL, "arguments": ""}}, ("function_call", "name")),
            ({"reasoning_details": [{"text": "", "type": EVIL}]}, ("reasoning_details", 0, "type")),
        ],
    )
    def test_a_name_that_is_more_than_a_name_is_text(self, fields: dict[str, Any], address: Address):
        message = {"role": "user", **fields}
        found, unreadable = read(message)
        assert (address, Kind.FIELD, at(message, address)) in found
        assert unreadable == []

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            (
                {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
                ["content[0]"],
            ),
            ({"content": [{"type": "input_audio", "input_audio": {"data": "AA"}}]}, ["content[0]"]),
            ({"content": [{"type": "file", "file": {"file_id": "f"}}]}, ["content[0]"]),
            (
                {"content": [{"type": "hologram"}, {}, {"text": "a"}]},
                ["content[0]", "content[1]", "content[2]"],
            ),
            ({"content": [{"type": "text"}, {"type": "text", "text": 5}]}, ["content[0]", "content[1]"]),
            ({"content": [{"type": ["text"], "text": "a"}]}, ["content[0]"]),
            ({"content": [{"type": "refusal", "text": "a"}]}, ["content[0]"]),
            ({"name": {"a": 1}, "reasoning": ["a"], "refusal": 1}, ["reasoning", "refusal", "name"]),
            ({"tool_calls": "a"}, ["tool_calls"]),
            ({"tool_calls": [{"id": "a"}, "b", 5]}, ["tool_calls[0]", "tool_calls[1]", "tool_calls[2]"]),
            ({"tool_calls": [call({"q": "a"})]}, ["tool_calls[0]"]),
            ({"tool_calls": [{"function": "a"}]}, ["tool_calls[0]"]),
            ({"function_call": "auto"}, ["function_call"]),
            (
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "a"}]},
                ["reasoning_details[0]"],
            ),
            ({"audio": {"id": "a"}, "x": "a", "y": ["a"], "z": 5, "e": ""}, ["audio", "x", "y"]),
            ({"tool_call_id": ["a"]}, ["tool_call_id"]),
        ],
    )
    def test_what_cannot_be_read_is_named(self, fields: dict[str, Any], named: list[str]):
        assert read({"role": "user", **fields}) == ([], named)

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"content": [{"type": "text", "text": "", "x": EVIL, "y": 5}]}, ["content[0].x"]),
            ({"tool_calls": [call(x={"y": EVIL})]}, ["tool_calls[0].x"]),
            (
                {"tool_calls": [{"function": {"arguments": "", "x": [EVIL]}, "custom": EVIL}]},
                ["tool_calls[0].function.x", "tool_calls[0].custom"],
            ),
            ({"tool_calls": [call() | {"custom": {"input": 5}}]}, ["tool_calls[0]"]),
            ({"function_call": {"arguments": "", "x": EVIL}}, ["function_call.x"]),
            ({"reasoning_details": [{"text": "", "data": EVIL}]}, ["reasoning_details[0].data"]),
            ({"tool_calls": [call(name=[EVIL])]}, ["tool_calls[0].function.name"]),
        ],
    )
    def test_unknown_fields_beside_a_text_are_named(self, fields: dict[str, Any], named: list[str]):
        found, unreadable = read({"role": "user", **fields})
        assert unreadable == named
        assert EVIL not in [text for _, _, text in found]

    @pytest.mark.parametrize("content", ["a", ""])
    @pytest.mark.parametrize(
        ("fields", "found", "named"),
        [
            ({}, [], []),
            ({"role": EVIL}, [("role",)], []),
            ({"role": "critic"}, [], []),
            ({"name": EVIL}, [("name",)], []),
            ({"x": EVIL}, [], ["x"]),
            ({"tool_calls": [call(EVIL)]}, [("tool_calls", 0, "function", "arguments")], []),
        ],
    )
    def test_a_plain_text_hides_nothing_that_stands_beside_it(
        self, content: str, fields: dict[str, Any], found: list[Address], named: list[str]
    ):
        message = {"role": "user", "content": content, **fields}
        assert ([address for address, _, _ in read(message)[0]], read(message)[1]) == (
            [("content",), *found],
            named,
        )
        [choice] = CHAT.read_response(answer(message))
        assert [s.address[3:] for s in choice.turn.segments] == [("content",), *found]
        assert choice.unreadable == tuple(f"$.choices[0].message.{path}" for path in named)


@pytest.mark.parametrize(
    ("address", "param"),
    [
        ((), ""),
        (("a",), "a"),
        (("messages", 0, "content"), "messages[0].content"),
        ((1, "content"), "[1].content"),
    ],
)
def test_an_error_names_the_field_at_an_address(address: Address, param: str):
    assert param_of(address) == param


@pytest.mark.parametrize("name", ["", "gpt-4.1/mini", "call_1:0", "a" * 64])
def test_a_plain_name_says_nothing(name: str):
    assert PLAIN_NAME.fullmatch(name)


@pytest.mark.parametrize("name", [EVIL, "a\n", "é", "a" * 65])
def test_any_other_name_does(name: str):
    assert not PLAIN_NAME.fullmatch(name)


@pytest.mark.parametrize("value", [None, {}, "a", (), 0])
def test_what_must_be_a_list_is_one(value: Any):
    assert as_list([value]) == [value]
    with pytest.raises(TypeError):
        as_list(value)


def test_text_outside_the_choices_is_named():
    head = {"id": "c", "object": "text_completion", "model": "m", "provider": "p", "usage": {"x": "y"}}
    assert beside({**head, "choices": [EVIL], "token": {"text": EVIL}, "n": 5, "empty": ""}) == []
    assert beside({**head, "content": EVIL, "__verbose": {"content": EVIL}}) == [
        "$.content",
        "$.__verbose",
    ]
    with pytest.raises(UnreadableRequest, match="only in case"):
        beside({"Choices": []})


@pytest.mark.parametrize(
    "said",
    [
        {"created": "1", "service_tier": "default", "system_fingerprint": "fp_1"},
        {"prompt_filter_results": [{"prompt_index": 0}], "choices": []},  # Azure
        {"kv_transfer_params": {"x": "y"}},  # vLLM
        {"metadata": {"weight_version": "default"}, "sglext": {"routed_experts": "AA=="}},  # SGLang
        {"timings": {"prompt_n": 5}, "system_fingerprint": "b6000"},  # llama.cpp
        {"stats": {"draft_model": "m"}, "provider": "p"},  # LM Studio, OpenRouter
        {"token": {"id": 5, "text": "a"}, "seed": "5", "finish_reason": "eos"},  # Together
        {"obfuscation": "xyz", "error": {"message": "no"}},
        {"x_groq": {"id": "r"}, "usage_breakdown": {"models": ["m"]}},  # Groq
        {"time_info": {"queue_time": 0.1}, "model_info": {"arch": "m"}, "runtime": {"name": "r"}},
        {"moderation": {"input": {"type": "error"}}, "prompt_logprobs": [{"a": 1}]},
    ],
)
def test_what_servers_say_outside_the_choices_is_known(said: dict[str, Any]):
    assert beside({"id": "c", "object": "text_completion", "model": "m", "usage": {"x": "y"}, **said}) == []
