"""The chat dialect, streams: every text of a chunk has its channel, an edit touches nothing else."""

from __future__ import annotations

import json
from typing import Any

import openai
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, json_path
from guardrail.errors import UnreadableResponse
from guardrail.wire.chat_stream import MAX_RUN
from guardrail.wire.dialect import StreamEvent
from guardrail.wire.sse import Event, SseDecoder, encode
from tests.wire.chats import (
    CHAT,
    EVIL,
    MARK,
    at,
    chunk,
    delta,
    event,
    is_silent,
    leaves,
    message_fields,
    mostly,
    sdk,
    shaped,
    strings,
    values,
)


class TestReadEvent:
    @pytest.mark.parametrize(
        "data", [None, b"[DONE]", b" [DONE] ", b"{}", b'{"choices": null}', b'{"error": {}}']
    )
    def test_an_event_without_choices_adds_nothing(self, data: bytes | None):
        whole = Event(b": raw\n\n", data)
        found = CHAT.read_event(whole)
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
        found = CHAT.read_event(chunk({"index": 7, place: fields}))
        told = [(d.channel, d.kind, d.text, d.address, d.whole) for d in found.deltas]
        assert told == [(c, k, t, ("choices", 0, place, *way), w) for c, k, t, way, w in expected]
        assert {d.choice for d in found.deltas} <= {7}
        assert (list(found.unreadable), list(found.choices), list(found.finished)) == ([], [7], [])

    def test_text_in_a_delta_does_not_hide_text_in_a_message_beside_it(self):
        found = CHAT.read_event(chunk({"index": 0, "delta": {"content": "a"}, "message": {"content": "b"}}))
        assert [(d.text, d.address[2]) for d in found.deltas] == [("a", "delta"), ("b", "message")]

    def test_choices_their_ends_and_their_places_in_the_event(self):
        ends = {"index": 2, "delta": {"content": "b"}, "finish_reason": "length"}
        found = CHAT.read_event(
            chunk(delta(1, content="a"), ends, {"delta": {"content": "c"}}, {"index": 3})
        )
        assert [(d.choice, d.text, d.address[1]) for d in found.deltas] == [
            (1, "a", 0),
            (2, "b", 1),
            (0, "c", 2),
        ]
        assert (list(found.choices), list(found.finished)) == ([1, 2, 0, 3], [2])

    def test_a_text_and_the_end_of_its_choice_may_come_in_one_event(self):
        found = CHAT.read_event(chunk({"index": 3, "delta": {"content": "a"}, "finish_reason": "stop"}))
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
        found = CHAT.read_event(chunk(delta(0, **fields)))
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
            CHAT.read_event(event(data))
        assert MARK not in str(caught.value)


fields_of_a_delta = shaped(**message_fields)


choices_of_a_chunk = shaped(
    index=st.integers(0, 3),
    delta=fields_of_a_delta,
    message=fields_of_a_delta,
    logprobs=values,
    finish_reason=strings,
)


streamed = mostly(
    st.lists(mostly(choices_of_a_chunk), min_size=1, max_size=3).map(lambda own: {"choices": own})
)


class TestAnyEvent:
    @given(streamed.map(orjson.dumps) | st.binary(max_size=20))
    def test_is_read_or_unreadable_and_every_text_in_it_can_be_replaced(self, data: bytes):
        try:
            found = CHAT.read_event(event(data))
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        assert type(found) is StreamEvent
        assert all(type(index) is int for index in [*found.choices, *found.finished])
        assert all(type(d.text) is str and type(d.choice) is int for d in found.deltas)
        assert {d.choice for d in found.deltas} <= {*found.choices}
        texts = {d.address: f"new{i}" for i, d in enumerate(found.deltas) if d.text}
        if not texts:
            return
        value = orjson.loads(data)
        assert all(at(value, d.address) == d.text for d in found.deltas if d.text)
        [after] = SseDecoder().feed(CHAT.edit_event(found.event, texts, ()))
        changed = orjson.loads(after.data or b"")
        for address, text in texts.items():
            assert at(changed, address) == text
            assert not changed["choices"][address[1]].get("logprobs")

    @given(fields_of_a_delta)
    def test_no_text_of_a_delta_is_neither_read_nor_named(self, fields: Any):
        value = {"choices": [{"index": 0, "delta": fields}]}
        try:
            found = CHAT.read_event(event(value))
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


class TestEditEvent:
    DATA = (
        b'{"id":"c", "choices":[{"index":0,"delta":{"content":"a 42"},'
        b'"logprobs":{"content":[{"token":"42"}]}},\n'
        b' {"index":1, "delta":{"content":"b"},"logprobs":{"content":[1.0E0]}},'
        b'{"delta":{"content":"c"}, "index":2}],"x":1.0}'
    )

    def test_only_the_new_texts_and_their_log_probabilities_change(self):
        after = CHAT.edit_event(event(self.DATA), {("choices", 0, "delta", "content"): "a [R]"}, ())
        expected = self.DATA.replace(b"a 42", b"a [R]").replace(b'{"content":[{"token":"42"}]}', b"null")
        assert SseDecoder().feed(after) == [Event(after, expected)]

    def test_a_choice_without_log_probabilities_gets_none(self):
        after = CHAT.edit_event(event(self.DATA), {("choices", 2, "delta", "content"): "C"}, ())
        assert SseDecoder().feed(after)[0].data == self.DATA.replace(b'"c"}', b'"C"}')

    @pytest.mark.parametrize(
        ("dropped", "kept"),
        [([0], [1, 2]), ([1], [0, 2]), ([2], [0, 1]), ([0, 1], [2]), ([1, 2], [0]), ([0, 2], [1])],
    )
    def test_halted_choices_are_taken_out_and_the_others_keep_their_bytes(
        self, dropped: list[int], kept: list[int]
    ):
        after = CHAT.edit_event(event(self.DATA), {}, dropped)
        [only] = SseDecoder().feed(after)
        value = orjson.loads(only.data or b"")
        before = orjson.loads(self.DATA)
        assert value == before | {"choices": [before["choices"][index] for index in kept]}
        assert (b"[1.0E0]" in after) == (1 in kept)
        assert after.endswith(b'],"x":1.0}\n\n')

    def test_new_texts_and_halted_choices_in_one_event(self):
        after = CHAT.edit_event(event(self.DATA), {("choices", 1, "delta", "content"): "B"}, [0])
        choices = orjson.loads(SseDecoder().feed(after)[0].data or b"")["choices"]
        assert [(c["index"], c["delta"]["content"], c.get("logprobs")) for c in choices] == [
            (1, "B", None),
            (2, "c", None),
        ]

    def test_an_event_of_halted_choices_alone_is_gone(self):
        assert CHAT.edit_event(event(self.DATA), {}, [0, 1, 2]) == b""

    @pytest.mark.parametrize(
        "whole", [event(DATA), Event(b": ping\n\n", None), event({"choices": [], "usage": {}})]
    )
    def test_an_event_that_none_of_it_concerns_stays_as_it_was(self, whole: Event):
        assert CHAT.edit_event(whole, {}, [9]) == whole.raw

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    @pytest.mark.parametrize("close", [True, False], ids=["closed", "broken off"])
    def test_what_stands_beside_the_data_stays_line_ends_included(self, end: bytes, close: bool):
        lines = [
            b": a note",
            b"event: chunk",
            b'data:{"choices":',
            b"id: 7",
            b'data:  [{"index":0,"delta":{"content":"a 42"}}',
            b"retry: 9",
            b'\xef\xbb\xbfdata: ], "data: 42":1.0}',
            b": bye 42",
        ]
        raw = end.join(lines) + end + (end if close else b"")
        decoder = SseDecoder()
        [whole] = decoder.feed(raw) or [decoder.flush()]
        after = CHAT.edit_event(whole, {("choices", 0, "delta", "content"): "a [R]"}, ())
        assert after == raw.replace(b"a 42", b"a [R]")

    def test_lines_of_a_halted_choice_go_and_the_others_stay_where_they_were(self):
        raw = (
            b'data: {"choices":[\nid: 7\ndata: {"index":0,"delta":{"content":"a"}},\n'
            b'data: {"index":1,\nevent: x\ndata: "delta":{"content":"b"}}]}\n: end\n\n'
        )
        [whole] = SseDecoder().feed(raw)
        for dropped, kept in ((0, b'{"index":1,\ndata: "delta":{"content":"b"}}]}'), (1, b'"a"}}]}')):
            after = CHAT.edit_event(whole, {}, [dropped])
            [read] = SseDecoder().feed(after)
            assert [c["index"] for c in orjson.loads(read.data or b"")["choices"]] == [1 - dropped]
            assert [line for line in after.split(b"\n") if line[:4] != b"data"] == [
                *(b"id: 7", b"event: x", b": end", b"", b"")
            ]
            assert kept in after.replace(b"\nevent: x", b"").replace(b"\n: end", b"")


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
        before = chunk(delta(0, content="a"))
        found = CHAT.read_events([before, event(data)])
        assert next(found).event is before
        for read in (lambda: next(found), lambda: CHAT.read_event(event(data))):
            with pytest.raises(UnreadableResponse) as caught:
                read()
            assert MARK not in str(caught.value)

    @given(st.text(), st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))
    @example('":"content": {"content":', False, (",", ":"))
    @example('\\"content\\" :\\u0022', True, (", ", ": "))
    def test_a_text_that_looks_like_one_is_a_text_however_it_is_written(
        self, text: str, ascii_only: bool, spacing: tuple[str, str]
    ):
        value = {"choices": [{"index": 0, "delta": {"content": text, "x": {"content": "a"}}}], "index": 0}
        data = json.dumps(value, ensure_ascii=ascii_only, separators=spacing).encode()
        assert [d.text for d in CHAT.read_event(event(data)).deltas] == ([text] if text else [])

    @pytest.mark.parametrize("depth", [240, 260, 1100, 100_000])
    def test_deep_nesting_is_read_and_edited_or_unreadable(self, depth: int):
        nested = b'{"a":[' * (depth // 2) + b"]}" * (depth // 2)
        data = b'{"x":' + nested + b',"choices":[{"index":0,"delta":{"content":"a"}}]}'
        if depth > 250:
            with pytest.raises(UnreadableResponse):
                CHAT.read_event(event(data))
            return
        found = CHAT.read_event(event(data))
        after = CHAT.edit_event(found.event, {found.deltas[0].address: "b"}, ())
        assert after == event(data.replace(b'"content":"a"', b'"content":"b"')).raw


class TestEnds:
    def test_the_end_of_a_stream_is_done(self):
        assert CHAT.end() == b"data: [DONE]\n\n"

    def test_an_error_in_mid_stream_is_raised_by_the_sdk_and_does_not_look_like_an_end(self):
        stream = CHAT.error_event("guardrail_unavailable", "Not checked.")
        assert b"[DONE]" not in stream
        assert stream == encode(
            b'{"error":{"message":"Not checked.","type":"guardrail_error","param":null,'
            b'"code":"guardrail_unavailable"}}'
        )
        with sdk(stream, "text/event-stream") as client:
            answer = client.chat.completions.create(model="m", messages=[], stream=True)
            with pytest.raises(openai.APIError, match="Not checked"):
                next(answer)


class TestRunsOfEvents:
    """Read many at once, events mean what they mean one by one."""

    EVENTS = st.one_of(
        st.builds(lambda i, t: chunk(delta(i, content=t)), st.integers(0, 1), st.text(max_size=3)),
        st.sampled_from(
            [
                chunk(delta(0, role="assistant", content="")),
                chunk(delta(0, reasoning="hm")),
                chunk({"index": 0, "delta": {}, "finish_reason": "stop"}),
                chunk(delta(0, content="a"), delta(1, content="b")),
                chunk(),
                Event(b": ping\n\n", None),
                event(b"[DONE]"),
                event(b" [DONE] "),
            ]
        ),
    )

    @given(st.lists(EVENTS, max_size=40))
    def test_a_run_is_the_sum_of_its_events(self, events: list[Event]):
        found = list(CHAT.read_events(events))
        assert b"".join(read.event.raw for read in found) == b"".join(one.raw for one in events)
        parts = [part for read in found for part in (read.parts or [read.event])]
        assert parts == events
        for read in found:
            alone = [CHAT.read_event(part) for part in read.parts]
            if not alone:
                assert read == CHAT.read_event(read.event)
                continue
            assert 1 < len(alone) <= MAX_RUN
            (delta_,) = read.deltas
            assert delta_.text == "".join(one.deltas[0].text for one in alone)
            assert {one.deltas[0]._replace(text="") for one in alone} == {delta_._replace(text="")}
            assert (read.choices, read.finished, read.unreadable) == ((delta_.choice,), (), ())
            assert read.event.data == read.parts[-1].data

    def test_what_comes_before_an_event_that_cannot_be_read_is_read(self):
        events = [chunk(delta(0, content="a")), chunk(delta(0, content="b")), event(b"{")]
        found = CHAT.read_events(events)
        assert next(found).deltas[0].text == "ab"
        with pytest.raises(UnreadableResponse):
            next(found)
