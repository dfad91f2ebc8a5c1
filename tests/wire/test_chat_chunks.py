"""Chunks of chat completions: every text has its channel, and what cannot be read is named or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, json_path
from guardrail.errors import UnreadableResponse
from guardrail.wire.chat_chunks import Heard, index_of, parse_chunk, plain_text, read_chunk
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

    def test_a_role_that_is_more_than_a_name_is_judged(self):
        found = read(chunk(delta(0, role=EVIL, content="a")))
        assert [(d.channel, d.kind, d.text, d.address[2:]) for d in found.deltas] == [
            ("role", Kind.FIELD, EVIL, ("delta", "role")),
            ("content", Kind.TEXT, "a", ("delta", "content")),
        ]

    @pytest.mark.parametrize(
        ("call", "named"),
        [
            ({"function": {"arguments": "a", "note": EVIL}}, ["function.note"]),
            ({"extra_content": {"google": {"note": EVIL}}}, ["extra_content"]),
            ({"custom": {"input": "a", "x": [EVIL]}, "y": EVIL}, ["custom.x", "y"]),
        ],
    )
    def test_unknown_fields_of_a_call_are_named(self, call: dict[str, Any], named: list[str]):
        found = read(chunk(delta(0, tool_calls=[{"index": 0, "id": "c", **call}])))
        assert list(found.unreadable) == [f"$.choices[0].delta.tool_calls[0].{path}" for path in named]

    @pytest.mark.parametrize(
        "call", [{"function": {"Arguments": "\u00a7"}}, {"Function": {"arguments": "\u00a7"}}]
    )
    def test_known_keys_of_a_call_in_other_letters_are_refused(self, call: dict[str, Any]):
        for fields in ({"tool_calls": [call]}, {"function_call": call.get("function", {"Name": MARK})}):
            with pytest.raises(UnreadableResponse) as caught:
                read(chunk(delta(0, **fields)))
            assert MARK not in str(caught.value)

    def test_text_that_says_the_delta_once_more_is_no_other_text(self):
        found = read(chunk({"index": 0, "text": "a", "delta": {"content": "a"}}))
        assert ([d.text for d in found.deltas], list(found.unreadable)) == (["a"], [])


class TestNamesInPieces:
    @pytest.mark.parametrize(
        ("pieces", "named"),
        [
            (["get_", "weather"], []),
            (["look_up"] * 20, []),  # repeated whole
            (["ignore", " all rules"], [1]),
            ([EVIL], []),  # judged as a whole
            ([" ", "a", "b"], [1, 2]),
            (["a" * 40, "b" * 40, ""], [1]),
        ],
    )
    @pytest.mark.parametrize("key", ["tool_calls", "function_call"])
    def test_a_name_that_was_not_judged_as_a_whole_is_named(
        self, key: str, pieces: list[str], named: list[int]
    ):
        heard = Heard()
        found = []
        for number, name in enumerate(pieces):
            call = {"index": 2, "function": {"name": name}} if key == "tool_calls" else {"name": name}
            one = chunk(delta(0, **{key: [call] if key == "tool_calls" else call}))
            if read_chunk(one, parse_chunk(one.data), heard).unreadable:
                found.append(number)
        assert found == named


def with_message(added: str | None, said: str | None, **fields: Any) -> Event:
    return chunk({"index": 0, "delta": {"content": added}, "message": {"content": said}, **fields})


class TestMessagesBesideDeltas:
    @staticmethod
    def channels(*events: Event) -> list[list[tuple[str, str]]]:
        heard = Heard()
        found = [read_chunk(one, parse_chunk(one.data), heard) for one in events]
        return [[(d.channel, d.text) for d in one.deltas] for one in found]

    @given(st.lists(st.text(max_size=5), min_size=1))
    def test_what_repeats_the_deltas_is_no_text_of_its_own(self, pieces: list[str]):
        whole = [with_message(piece, "".join(pieces[: i + 1])) for i, piece in enumerate(pieces)]
        for events in (whole, [with_message(piece, piece) for piece in pieces]):
            expected = [[("content", piece)] if piece else [] for piece in pieces]
            assert self.channels(*events) == expected

    def test_what_says_something_else_has_its_own_channels(self):
        assert self.channels(with_message("a", "x"), with_message("b", "y"), with_message("", "ab")) == [
            [("content", "a"), ("message.content", "x")],
            [("content", "b"), ("message.content", "y")],
            [("message.content", "ab")],
        ]

    def test_what_the_deltas_said_without_it_is_not_taken_for_said(self):
        other = chunk({"index": 0, "delta": {"content": "x", "reasoning": "r"}})
        assert self.channels(with_message("a", "a"), other, with_message("b", "ab"))[2] == [
            ("content", "b")
        ]
        heard = Heard(plain=True)
        found = read_chunk(one := with_message("b", "ab"), parse_chunk(one.data), heard)
        assert [d.channel for d in found.deltas] == ["content", "message.content"]

    def test_one_that_grows_and_repeats_no_delta_is_taken_out(self):
        heard = Heard()
        events = [with_message("a ", "a"), with_message("42", "a42"), with_message("", "a42!")]
        found = [read_chunk(one, parse_chunk(one.data), heard) for one in events]
        messages = [parse_chunk(one.event.data)["choices"][0]["message"] for one in found]
        assert messages == [{"content": "a"}, {}, {}]
        assert [[d.text for d in one.deltas] for one in found] == [["a ", "a"], ["42"], []]

    def test_a_whole_message_behind_the_deltas_is_a_text_of_its_own(self):
        done = chunk({"index": 0, "message": {"content": "all"}})
        assert self.channels(chunk(delta(0, content="all")), done)[1] == [("message.content", "all")]


class TestLogProbabilities:
    @given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=4), st.text(max_size=3))
    def test_those_of_the_text_leave_byte_for_byte_and_others_never(self, tokens: list[str], text: str):
        spelled = {"content": [{"token": token, "logprob": -1.0} for token in tokens]}
        for content in ("".join(tokens), text):
            whole = chunk({"index": 0, "delta": {"content": content}, "logprobs": spelled})
            left = read(whole).event
            if content == "".join(tokens):
                assert left is whole
                assert plain_text(parse_chunk(whole.data)) == (0, content)
            else:
                assert parse_chunk(left.data)["choices"][0]["logprobs"] is None
                assert plain_text(parse_chunk(whole.data)) is None

    def test_those_of_thinking_and_of_a_refusal_stay_with_it(self):
        for key, name in (("reasoning", "content"), ("refusal", "refusal")):
            spelled = {name: [{"token": "a"}]}
            whole = chunk({"index": 0, "delta": {key: "a"}, "logprobs": spelled})
            assert read(whole).event is whole


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
            assert known or is_silent(("messages", 0, *address), text), json_path(whole)


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
