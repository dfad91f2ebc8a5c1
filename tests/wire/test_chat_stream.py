"""The chat dialect, streams: an edit touches nothing else, and every end is what clients take for one."""

from __future__ import annotations

import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import UnreadableResponse
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.dialect import StreamEvent
from guardrail.wire.sse import Event, SseDecoder, encode
from tests.wire.chats import (
    MARK,
    at,
    chunk,
    delta,
    event,
    message_fields,
    mostly,
    read_one,
    rewritten,
    sdk,
    shaped,
    strings,
    values,
)

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


def test_the_reader_of_a_stream_adds_up_what_its_events_add():
    events = [chunk(delta(1, content="a")), chunk(delta(1, content="b"))]
    [read] = ChatStream(structured=False).read(events)
    assert read.parts == events
    assert read.deltas == (read_one(events[0]).deltas[0]._replace(text="ab"),)


class TestAnyEvent:
    @given(streamed.map(orjson.dumps) | st.binary(max_size=20))
    def test_is_read_or_unreadable_and_every_text_in_it_can_be_replaced(self, data: bytes):
        try:
            found = read_one(event(data))
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
        [after] = SseDecoder().feed(rewritten(found.event, texts, ()))
        changed = orjson.loads(after.data or b"")
        for address, text in texts.items():
            assert at(changed, address) == text
            assert not changed["choices"][address[1]].get("logprobs")


class TestEditEvent:
    DATA = (
        b'{"id":"c", "choices":[{"index":0,"delta":{"content":"a 42"},'
        b'"logprobs":{"content":[{"token":"a "},{"token":"42"}]}},\n'
        b' {"index":1, "delta":{"content":"b"},"logprobs":{"content":[1.0E0]}},'
        b'{"delta":{"content":"c"}, "index":2}],"x":1.0}'
    )

    def test_only_the_new_texts_and_their_log_probabilities_change(self):
        after = rewritten(event(self.DATA), {("choices", 0, "delta", "content"): "a [R]"}, ())
        expected = self.DATA.replace(b"a 42", b"a [R]").replace(
            b'{"content":[{"token":"a "},{"token":"42"}]}', b"null"
        )
        assert SseDecoder().feed(after) == [Event(after, expected)]

    def test_a_choice_without_log_probabilities_gets_none(self):
        after = rewritten(event(self.DATA), {("choices", 2, "delta", "content"): "C"}, ())
        assert SseDecoder().feed(after)[0].data == self.DATA.replace(b'"c"}', b'"C"}')

    @pytest.mark.parametrize(
        ("dropped", "kept"),
        [([0], [1, 2]), ([1], [0, 2]), ([2], [0, 1]), ([0, 1], [2]), ([1, 2], [0]), ([0, 2], [1])],
    )
    def test_halted_choices_are_taken_out_and_the_others_keep_their_bytes(
        self, dropped: list[int], kept: list[int]
    ):
        after = rewritten(event(self.DATA), {}, dropped)
        [only] = SseDecoder().feed(after)
        value = orjson.loads(only.data or b"")
        before = orjson.loads(self.DATA)
        assert value == before | {"choices": [before["choices"][index] for index in kept]}
        assert (b"[1.0E0]" in after) == (1 in kept)
        assert after.endswith(b'],"x":1.0}\n\n')

    def test_new_texts_and_halted_choices_in_one_event(self):
        after = rewritten(event(self.DATA), {("choices", 1, "delta", "content"): "B"}, [0])
        choices = orjson.loads(SseDecoder().feed(after)[0].data or b"")["choices"]
        assert [(c["index"], c["delta"]["content"], c.get("logprobs")) for c in choices] == [
            (1, "B", None),
            (2, "c", None),
        ]

    def test_an_event_of_halted_choices_alone_is_gone(self):
        assert rewritten(event(self.DATA), {}, [0, 1, 2]) == b""

    @pytest.mark.parametrize(
        "whole", [event(DATA), Event(b": ping\n\n", None), event({"choices": [], "usage": {}})]
    )
    def test_an_event_that_none_of_it_concerns_stays_as_it_was(self, whole: Event):
        assert rewritten(whole, {}, [9]) == whole.raw

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
        after = rewritten(whole, {("choices", 0, "delta", "content"): "a [R]"}, ())
        assert after == raw.replace(b"a 42", b"a [R]")

    def test_lines_of_a_halted_choice_go_and_the_others_stay_where_they_were(self):
        raw = (
            b'data: {"choices":[\nid: 7\ndata: {"index":0,"delta":{"content":"a"}},\n'
            b'data: {"index":1,\nevent: x\ndata: "delta":{"content":"b"}}]}\n: end\n\n'
        )
        [whole] = SseDecoder().feed(raw)
        for dropped, kept in ((0, b'{"index":1,\ndata: "delta":{"content":"b"}}]}'), (1, b'"a"}}]}')):
            after = rewritten(whole, {}, [dropped])
            [read] = SseDecoder().feed(after)
            assert [c["index"] for c in orjson.loads(read.data or b"")["choices"]] == [1 - dropped]
            assert [line for line in after.split(b"\n") if line[:4] != b"data"] == [
                *(b"id: 7", b"event: x", b": end", b"", b"")
            ]
            assert kept in after.replace(b"\nevent: x", b"").replace(b"\n: end", b"")

    @pytest.mark.parametrize("depth", [240, 260, 1100, 100_000])
    def test_deep_nesting_is_read_and_edited_or_unreadable(self, depth: int):
        nested = b'{"a":[' * (depth // 2) + b"]}" * (depth // 2)
        data = b'{"x":' + nested + b',"choices":[{"index":0,"delta":{"content":"a"}}]}'
        if depth > 250:
            with pytest.raises(UnreadableResponse):
                read_one(event(data))
            return
        found = read_one(event(data))
        after = rewritten(found.event, {found.deltas[0].address: "b"}, ())
        assert after == event(data.replace(b'"content":"a"', b'"content":"b"')).raw


class TestWhatIsSaidAgain:
    """It leaves as the text does: in the event whose text changed, and behind it."""

    @given(
        st.lists(st.tuples(st.text(max_size=4), st.none() | st.text(max_size=4)), min_size=1), st.booleans()
    )
    def test_a_message_that_repeats_the_deltas_says_what_they_said(
        self, pieces: list[tuple[str, str | None]], cumulative: bool
    ):
        stream = ChatStream(structured=False)
        events, before = [], ""
        for old, _ in pieces:
            before = before + old if cumulative else old
            events.append(chunk({"index": 0, "delta": {"content": old}, "message": {"content": before}}))
        said = ""
        for read, whole, (old, new) in zip(stream.read(events), events, pieces, strict=True):
            texts = {("choices", 0, "delta", "content"): new} if old and new is not None else {}
            left = stream.write(read, texts, ())
            [value] = orjson.loads(SseDecoder().feed(left)[0].data or b"")["choices"]
            said = said + value["delta"]["content"] if cumulative else value["delta"]["content"]
            assert value["message"]["content"] == said
            if said == orjson.loads(whole.data or b"")["choices"][0]["message"]["content"] and not texts:
                assert left == whole.raw

    def test_the_text_beside_a_delta_is_what_the_delta_says(self):
        whole = event({"choices": [{"index": 0, "text": "a 42", "delta": {"content": "a 42"}}]})
        left = rewritten(whole, {("choices", 0, "delta", "content"): "a [R]"}, ())
        assert left == whole.raw.replace(b"42", b"[R]")

    def test_behind_a_new_text_the_token_ids_of_its_choice_go(self):
        spelled = {"content": [{"token": "42"}]}
        parts = [
            chunk({"index": i, "delta": {"content": "42"}, "logprobs": spelled, "token_ids": [42]})
            for i in (0, 1)
        ]
        stream = ChatStream(structured=False)
        first, *others = stream.read([parts[0], parts[1], parts[0], parts[0], event(b"[DONE]")])
        assert b"42" not in stream.write(first, {("choices", 0, "delta", "content"): "[R]"}, ())
        other, run, done = (stream.write(read, {}, ()) for read in others)
        assert (other, done) == (parts[1].raw, b"data: [DONE]\n\n")
        gone = parts[0].raw.replace(b"[42]", b"null")
        assert run == gone * 2

    def test_tokens_that_run_ahead_of_their_text_do_not_leave(self):
        stream = ChatStream(structured=False)
        texts, tokens = ["", "a s", "ecret"], ["a ", "sec", "ret"]
        events = [
            chunk({"index": 0, "delta": {"content": text}, "logprobs": {"content": [{"token": token}]}})
            for text, token in zip(texts, tokens, strict=True)
        ]
        left = b"".join(stream.write(read, {}, ()) for read in stream.read(events))
        assert b"token" not in left
        assert left.count(b'"logprobs":null') == 3


class TestEnds:
    def test_the_end_of_a_stream_is_done(self):
        assert ChatStream(structured=False).end() == b"data: [DONE]\n\n"

    def test_an_error_in_mid_stream_is_raised_by_the_sdk_and_does_not_look_like_an_end(self):
        stream = ChatStream(structured=False).error("guardrail_unavailable", "Not checked.")
        assert b"[DONE]" not in stream
        assert stream == encode(
            b'{"error":{"message":"Not checked.","type":"guardrail_error","param":null,'
            b'"code":"guardrail_unavailable"}}'
        )
        with sdk(stream, "text/event-stream") as client:
            answer = client.chat.completions.create(model="m", messages=[], stream=True)
            with pytest.raises(openai.APIError, match="Not checked"):
                next(answer)
