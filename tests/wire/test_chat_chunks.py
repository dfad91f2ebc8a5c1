"""Chunks of chat completions: every text has its channel, and what cannot be read is named or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, json_path
from guardrail.errors import UnreadableResponse
from guardrail.wire.chat_chunks import index_of, parse_chunk, plain_text, read_chunk
from guardrail.wire.dialect import Delta, StreamEvent
from guardrail.wire.sse import Event
from tests.wire.chats import (
    EVIL,
    MARK,
    chunk,
    delta,
    event,
    is_silent,
    leaves,
    message_fields,
    mostly,
    shaped,
    strings,
    values,
)


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def read(whole: Event) -> StreamEvent:
    return read_chunk(whole, parse_chunk(whole.data))


class TestReadChunk:
    @pytest.mark.parametrize(
        "data", [None, b"[DONE]", b" [DONE] ", b"{}", b'{"choices": null}', b'{"error": {}}']
    )
    def test_an_event_without_choices_adds_nothing(self, data: bytes | None):
        whole = Event(b": raw\n\n", data)
        found = read(whole)
        assert found.event is whole
        assert [list(found.deltas), list(found.finished), list(found.unreadable), list(found.choices)] == [
            []
        ] * 4

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"content": "a", "role": "assistant"}, [("content", Kind.TEXT, "a", ("content",), False)]),
            ({"refusal": "a"}, [("refusal", Kind.REFUSAL, "a", ("refusal",), False)]),
            ({"reasoning": "a"}, [("reasoning", Kind.REASONING, "a", ("reasoning",), False)]),
            (
                {"reasoning_content": "a", "content": "b"},
                [
                    ("reasoning_content", Kind.REASONING, "a", ("reasoning_content",), False),
                    ("content", Kind.TEXT, "b", ("content",), False),
                ],
            ),
            (
                {"reasoning_details": [{"type": "reasoning.text", "text": "a"}, {"summary": "b"}]},
                [
                    ("reasoning_details", Kind.REASONING, "a", ("reasoning_details", 0, "text"), False),
                    ("reasoning_details", Kind.REASONING, "b", ("reasoning_details", 1, "summary"), False),
                ],
            ),
            (
                {"tool_calls": [{"index": 4, "function": {"arguments": "{"}}, {"custom": {"input": "b"}}]},
                [
                    (
                        "tool_calls[4]",
                        Kind.TOOL_ARGUMENTS,
                        "{",
                        ("tool_calls", 0, "function", "arguments"),
                        True,
                    ),
                    ("tool_calls[1]", Kind.TEXT, "b", ("tool_calls", 1, "custom", "input"), True),
                ],
            ),
            (  # both at once: neither hides the other
                {"tool_calls": [{"index": 0, "function": {"arguments": "a"}, "custom": {"input": "b"}}]},
                [
                    (
                        "tool_calls[0]",
                        Kind.TOOL_ARGUMENTS,
                        "a",
                        ("tool_calls", 0, "function", "arguments"),
                        True,
                    ),
                    ("tool_calls[0]", Kind.TEXT, "b", ("tool_calls", 0, "custom", "input"), True),
                ],
            ),
            (  # the head of a call waits with its arguments
                {
                    "tool_calls": [
                        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f"}}
                    ]
                },
                [
                    (
                        "tool_calls[0]",
                        Kind.TOOL_ARGUMENTS,
                        "",
                        ("tool_calls", 0, "function", "arguments"),
                        True,
                    )
                ],
            ),
            (
                {"tool_calls": [{"index": 0, "id": "call_1"}]},
                [
                    (
                        "tool_calls[0]",
                        Kind.TOOL_ARGUMENTS,
                        "",
                        ("tool_calls", 0, "function", "arguments"),
                        True,
                    )
                ],
            ),
            (
                {"tool_calls": [{"index": 0, "id": "call_1", "custom": {"name": "f"}}]},
                [("tool_calls[0]", Kind.TEXT, "", ("tool_calls", 0, "custom", "input"), True)],
            ),
            (
                {"tool_calls": [{"index": 0, "function": {"name": EVIL, "arguments": "a"}}]},
                [
                    ("tool_calls[0].name", Kind.FIELD, EVIL, ("tool_calls", 0, "function", "name"), True),
                    (
                        "tool_calls[0]",
                        Kind.TOOL_ARGUMENTS,
                        "a",
                        ("tool_calls", 0, "function", "arguments"),
                        True,
                    ),
                ],
            ),
            (
                {"function_call": {"name": "f", "arguments": "a"}},
                [("function_call", Kind.TOOL_ARGUMENTS, "a", ("function_call", "arguments"), True)],
            ),
            (
                {"function_call": {"name": "f"}},
                [("function_call", Kind.TOOL_ARGUMENTS, "", ("function_call", "arguments"), True)],
            ),
            (
                {"content": "", "tool_calls": None, "function_call": {}, "obfuscation": "xyz", "weight": 5},
                [],
            ),
        ],
    )
    @pytest.mark.parametrize("place", ["delta", "message"])
    def test_each_text_has_its_channel_and_address(
        self, place: str, fields: dict[str, Any], expected: list[Any]
    ):
        found = read(chunk({"index": 7, place: fields}))
        told = [(d.channel, d.kind, d.text, d.address, d.whole) for d in found.deltas]
        assert told == [(c, k, t, ("choices", 0, place, *way), w) for c, k, t, way, w in expected]
        assert {d.choice for d in found.deltas} <= {7}
        assert (list(found.unreadable), list(found.choices), list(found.finished)) == ([], [7], [])

    def test_text_in_a_delta_does_not_hide_text_in_a_message_beside_it(self):
        found = read(chunk({"index": 0, "delta": {"content": "a"}, "message": {"content": "b"}}))
        assert [(d.text, d.address[2]) for d in found.deltas] == [("a", "delta"), ("b", "message")]

    def test_choices_their_ends_and_their_places_in_the_event(self):
        ends = {"index": 2, "delta": {"content": "b"}, "finish_reason": "length"}
        found = read(chunk(delta(1, content="a"), ends, {"delta": {"content": "c"}}, {"index": 3}))
        assert [(d.choice, d.text, d.address[1]) for d in found.deltas] == [
            (1, "a", 0),
            (2, "b", 1),
            (0, "c", 2),
        ]
        assert (list(found.choices), list(found.finished)) == ([1, 2, 0, 3], [2])

    def test_a_text_and_the_end_of_its_choice_may_come_in_one_event(self):
        found = read(chunk({"index": 3, "delta": {"content": "a"}, "finish_reason": "stop"}))
        assert [(d.choice, d.text) for d in found.deltas] == [(3, "a")]
        assert (list(found.choices), list(found.finished)) == ([3], [3])

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"content": ["a"]}, ["content"]),
            ({"reasoning": {"a": 1}}, ["reasoning"]),
            ({"audio": {"transcript": "a"}, "x": "a", "y": ["a"], "z": 5}, ["audio", "x", "y"]),
            ({"tool_calls": [{"function": {"arguments": {"q": "a"}}}]}, ["tool_calls[0]"]),
            ({"tool_calls": [{"custom": {"input": ["a"]}}]}, ["tool_calls[0]"]),
            ({"function_call": {"arguments": {"q": "a"}}}, ["function_call"]),
            ({"function_call": {"arguments": 5}}, ["function_call"]),
            ({"reasoning_details": [{"data": "a"}, "b"]}, ["reasoning_details[0]", "reasoning_details[1]"]),
            ({"reasoning_details": "abcdef"}, ["reasoning_details"]),
        ],
    )
    def test_what_cannot_be_read_is_named(self, fields: dict[str, Any], named: list[str]):
        found = read(chunk(delta(0, **fields)))
        assert list(found.deltas) == []
        assert list(found.unreadable) == [f"$.choices[0].delta.{path}" for path in named]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xc2\xa7",
            b'{"choices": [{"delta": {"content": "\xc2\xa7"}}',
            b"[]",
            b"null",
            b"5",
            b'"\xc2\xa7"',
            b'{"choices": 5}',
            b'{"choices": "\xc2\xa7"}',
            b'{"choices": {"0": {}}}',
            b'{"choices": ["\xc2\xa7"]}',
            b'{"choices": [null]}',
            b'{"choices": [[]]}',
            b'{"choices": [{"index": "0"}]}',
            b'{"choices": [{"index": null}]}',
            b'{"choices": [{"index": []}]}',
            b'{"choices": [{"index": 1.0}]}',
            b'{"choices": [{"index": true}]}',
            b'{"choices": [{"index": "0", "delta": {"content": "\xc2\xa7"}}]}',
            b'{"choices": [{"index": [], "delta": {"content": "\xc2\xa7"}}]}',
            b'{"choices": [{"delta": ["\xc2\xa7"]}]}',
            b'{"choices": [{"delta": "\xc2\xa7"}]}',
            b'{"choices": [{"message": ["\xc2\xa7"]}]}',
            b'{"choices": [{"delta": {"tool_calls": 5}}]}',
            b'{"choices": [{"delta": {"tool_calls": "\xc2\xa7"}}]}',
            b'{"choices": [{"delta": {"tool_calls": {"function": {}}}}]}',
            b'{"choices": [{"delta": {"tool_calls": [{"function": "\xc2\xa7"}]}}]}',
            b'{"choices": [{"delta": {"tool_calls": [{"custom": ["\xc2\xa7"]}]}}]}',
            b'{"choices": [{"delta": {"function_call": "\xc2\xa7"}}]}',
        ],
    )
    def test_what_is_no_chunk_is_unreadable_and_not_quoted(self, data: bytes):
        with pytest.raises(UnreadableResponse) as caught:
            read(event(data))
        assert MARK not in str(caught.value)


class TestParseChunk:
    @pytest.mark.parametrize("data", [None, b"[DONE]", b" [DONE] \n"])
    def test_what_holds_no_chunk_is_an_empty_one(self, data: bytes | None):
        assert parse_chunk(data) == {}

    @pytest.mark.parametrize("data", [b"", b"[done]", b"[DONE][DONE]", b"{}{}", b"{", b'"\\ud800"', b"NaN"])
    def test_what_is_no_json_is_unreadable(self, data: bytes):
        with pytest.raises(UnreadableResponse):
            parse_chunk(data)

    @pytest.mark.parametrize("depth", [240, 260, 1100, 100_000])
    def test_what_is_nested_too_deeply_is_unreadable(self, depth: int):
        data = b'{"a":[' * (depth // 2) + b"]}" * (depth // 2)
        if depth < 250:
            assert parse_chunk(data) == json.loads(data)
            return
        with pytest.raises(UnreadableResponse):
            parse_chunk(data)


class TestIndexOf:
    @pytest.mark.parametrize(("choice", "index"), [({}, 0), ({"index": 3}, 3), ({"index": -1}, -1)])
    def test_is_the_number_of_the_choice_or_the_first(self, choice: Any, index: int):
        assert index_of(choice) == index

    @pytest.mark.parametrize("index", [None, "0", 0.0, True, [0]])
    def test_is_a_number(self, index: Any):
        with pytest.raises(TypeError):
            index_of({"index": index})

    def test_of_another_key_it_is_the_same(self):
        assert index_of({}, "output_index") == 0
        assert index_of({"index": 1, "output_index": 2}, "output_index") == 2
        with pytest.raises(TypeError):
            index_of({"output_index": True}, "output_index")


fields_of_a_delta = shaped(**message_fields)

choices_of_a_chunk = shaped(
    index=st.integers(-1, 3),
    finish_reason=strings,
    logprobs=values,
    token_ids=values,
    message=fields_of_a_delta,
    Delta=values,
    x=values,
    error=values,
)


class TestPlainText:
    """The short way to what ``read_chunk`` finds."""

    @pytest.mark.parametrize(
        "choice",
        [
            {"index": 4, "delta": {"content": "a"}},
            {"index": 4, "delta": {"content": "a"}, "finish_reason": None},
            {"index": 4, "delta": {"content": "a"}, "logprobs": {"content": []}, "finish_reason": ""},
            {"index": 4, "delta": {"role": "assistant", "content": "a", "obfuscation": "x"}},
            {"index": 4, "delta": {"content": "a", "tool_calls": None, "reasoning": "", "x": 0}},
            {"index": 4, "delta": {"content": "a"}, "token_ids": [5], "matched_stop": None},
        ],
    )
    def test_is_told_for_chunks_as_servers_write_them(self, choice: Any):
        assert plain_text({"id": "c-1", "choices": [choice], "usage": {"total_tokens": 5}}) == (4, "a")

    @given(
        st.lists(
            mostly(
                st.tuples(
                    st.just({"index": 1, "finish_reason": None}),
                    choices_of_a_chunk,
                    mostly(fields_of_a_delta | st.just({"content": "a"})).map(lambda own: {"delta": own}),
                ).map(lambda three: {**three[0], **mapping(three[1]), **three[2]})
            ),
            min_size=1,
            max_size=2,
        ).map(lambda choices: {"choices": choices})
        | values
    )
    @example({"choices": [{"index": 0, "delta": {"content": "a", "x": "b"}}]})
    @example({"choices": [{"index": 0, "delta": {"content": "a"}, "x": "b"}]})
    @example({"choices": [{"index": 0, "delta": {"content": "a"}, "Delta": None}]})
    @example({"choices": [{"index": 0, "delta": {"content": "a"}, "message": {"content": "b"}}]})
    @example({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]})
    @example({"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1}]})
    @example({"choices": [{"index": True, "delta": {"content": "a"}}]})
    @example({"choices": [{"index": 0, "delta": {"content": ""}}]})
    @example({"choices": [{"index": 0, "delta": {"content": ["a"]}}]})
    @example({"choices": [{"index": 0, "delta": ["content"]}]})
    @example({"choices": {"index": 0}})
    @example([])
    def test_is_told_only_where_nothing_else_is_found(self, value: Any):
        plain = plain_text(value)
        if plain is None:
            return
        (added,) = read_chunk(event(value), value).deltas
        choice, text = plain
        assert added == Delta(choice, "content", Kind.TEXT, text, ("choices", 0, "delta", "content"))
        found = read_chunk(event(value), value)
        assert (list(found.unreadable), list(found.finished), list(found.choices)) == ([], [], [choice])


class TestAnyDelta:
    @given(fields_of_a_delta)
    def test_no_text_of_a_delta_is_neither_read_nor_named(self, fields: Any):
        value = {"choices": [{"index": 0, "delta": fields}]}
        try:
            found = read(event(value))
        except UnreadableResponse:
            return
        addresses = {d.address for d in found.deltas}
        for address, text in leaves(fields):
            whole = ("choices", 0, "delta", *address)
            prefixes = {json_path(whole[:size]) for size in range(len(whole) + 1)}
            known = whole in addresses or prefixes & {*found.unreadable}
            # A model writes the texts of its calls, never their keys: unknown keys there are not its.
            assert (
                known
                or address[0] in ("role", "tool_calls", "function_call")
                or is_silent(("messages", 0, *address), text)
            ), json_path(whole)


class TestRepeatedKeys:
    """What a client reads in such a chunk depends on its parser, so nobody gets to read it."""

    @pytest.mark.parametrize(
        "data",
        [
            b'{"choices":[{"index":0,"delta":{"content":"\xc2\xa7","content":"b"},"finish_reason":null}]}',
            b'{"choices":[{"index":0,"delta":{"content":"\xc2\xa7"},"delta":{"content":"b"}}]}',
            b'{"choices":[{"index":1,"index":0,"delta":{"content":"b"}}]}',
            b'{"choices":[{"index":0,"delta":{"content":"\xc2\xa7"}}],"choices":[]}',
            b'{"choices" : [ {"index": 0, "delta": {"content": "\xc2\xa7", "content": "b"}} ] }',
            b'{"choices":[{"index":0,"delta":{"c\\u006fntent":"\xc2\xa7","content":"b"}}]}',
            b'{"choices":[{"index":0,"delta":{"content":"\\u00a7","content":"\\u0022:"}}]}',
            b'{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","name":"g"}}]}}]}',
            b'{"choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"content":[],"content":[]}}]}',
            b'{"usage":{"a":1,"a":2},"choices":[]}',
            b'{"error":{},"error":{}}',
        ],
    )
    def test_the_chunk_is_unreadable(self, data: bytes):
        with pytest.raises(UnreadableResponse) as caught:
            parse_chunk(data)
        assert MARK not in str(caught.value)

    @given(st.text(), st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))
    @example('":"content": {"content":', False, (",", ":"))
    @example('\\"content\\" :\\u0022', True, (", ", ": "))
    def test_a_text_that_looks_like_one_is_a_text_however_it_is_written(
        self, text: str, ascii_only: bool, spacing: tuple[str, str]
    ):
        value = {"choices": [{"index": 0, "delta": {"content": text, "x": {"content": "a"}}}], "index": 0}
        data = json.dumps(value, ensure_ascii=ascii_only, separators=spacing).encode()
        assert [d.text for d in read(event(data)).deltas] == ([text] if text else [])
