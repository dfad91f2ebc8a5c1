"""Azure's annotations: where they stand in bodies and streams, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, FailMode, Stage
from guardrail.core.verdict import Verdict
from guardrail.errors import FailureCode
from guardrail.wire.azure import Annotations, annotates
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.completions import CompletionsDialect
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply
from guardrail.wire.sse import Event, SseDecoder, encode
from tests.wire.chats import BLOCK, CHAT, POLICY, answer, body, chunk, delta, user

CLEAN = {"the-policy": {"filtered": False, "detected": False}}
FILTERED = {"the-policy": {"filtered": True, "detected": True}}
PASSED = Decision(Stage.OUTPUT, Action.PASS, (Verdict(POLICY, "SAFE", violation=False),))
FAILED = Decision(
    Stage.OUTPUT, Action.PASS, (Failure(POLICY, FailureCode.TIMEOUT, FailMode.OPEN), *PASSED.findings)
)
ERROR = {"error": {"code": "content_filter_error", "message": "not checked: the-policy=timeout"}}
REQUEST = CHAT.read_request(body(user("hello"), n=2))
AZURE = Annotations()
COMMENT = Event(b": wait\n\n", None)
DONE = Event(b"data: [DONE]\n\n", b"[DONE]")
LAST: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}


def prompt(results: Any) -> list[Any]:
    return [{"prompt_index": 0, "content_filter_results": results}]


def chunks(raw: bytes) -> list[Any]:
    return [orjson.loads(e.data) for e in SseDecoder().feed(raw) if e.data not in (None, b"[DONE]")]


def through(*events: Event, found: Decision = PASSED) -> list[bytes]:
    """What leaves for each event of a stream that passes."""
    stream = AZURE.stream(ChatStream(structured=False), PASSED, lambda choice: found, 1)
    return [stream.write(read, {}, ()) for read in stream.read(events)]


def test_chats_alone_are_annotated():
    assert (annotates(CHAT), annotates(CompletionsDialect())) == (True, False)


class TestBody:
    def test_prompt_and_each_choice(self):
        raw = answer({"content": "a"}, {"content": "b"}, usage={"x": 1.5})
        told = orjson.loads(AZURE.body(raw, BLOCK, {0: PASSED, 1: FAILED}.get))
        assert told.pop("prompt_filter_results") == prompt(FILTERED)
        assert [c.pop("content_filter_results") for c in told["choices"]] == [CLEAN, CLEAN | ERROR]
        assert told == orjson.loads(raw)

    def test_what_stands_there_already_stays(self):
        choice = {"index": 0, "message": {}, "content_filter_results": {"hate": {"filtered": False}}}
        raw = orjson.dumps({"choices": [choice], "prompt_filter_results": prompt({"hate": {}})})
        told = orjson.loads(AZURE.body(raw, PASSED, {0: PASSED}.get))
        assert told["prompt_filter_results"] == prompt({"hate": {}} | CLEAN)
        assert told["choices"][0]["content_filter_results"] == {"hate": {"filtered": False}} | CLEAN

    @pytest.mark.parametrize("null", ["prompt_filter_results", "content_filter_results"])
    def test_null_is_nothing(self, null: str):
        raw = orjson.dumps({"choices": [{"message": {}, null: None}], null: None})
        told = orjson.loads(AZURE.body(raw, PASSED, {}.get))
        assert told["prompt_filter_results"] == prompt(CLEAN)
        assert told["choices"][0]["content_filter_results"] == {}

    def test_neither_rationale_nor_excerpt_is_told(self):
        assert "§" not in AZURE.body(answer({"content": "a"}), BLOCK, {0: BLOCK}.get).decode()


class TestReply:
    def test_a_refused_prompt_as_a_body(self):
        reply = AZURE.reply(CHAT.refuse(REQUEST, BLOCK, Refusal()), BLOCK)
        told = orjson.loads(reply.body)
        assert told["prompt_filter_results"] == prompt(FILTERED)
        assert [c["content_filter_results"] for c in told["choices"]] == [{}, {}]

    def test_a_refused_answer_as_a_stream(self):
        request = CHAT.read_request(body(user("hello"), stream=True))
        plain = CHAT.refuse(request, BLOCK, Refusal())
        reply = AZURE.reply(plain, PASSED, BLOCK)
        first, *rest = chunks(reply.body)
        assert (first["choices"], first["prompt_filter_results"]) == ([], prompt(CLEAN))
        assert reply.headers == (EVENT_STREAM,)
        assert reply.body.endswith(DONE.raw)
        assert [rest[-1]["choices"][0].pop("content_filter_results")] == [FILTERED]
        assert rest == chunks(plain.body)
        assert (first["id"], first["model"]) == (rest[0]["id"], rest[0]["model"])

    def test_an_error_stays_as_it_is(self):
        error = CHAT.refuse(REQUEST, BLOCK, Refusal(style="error"))
        assert AZURE.reply(error, BLOCK) is error
        assert AZURE.reply(Reply(503, b"{}"), BLOCK).body == b"{}"


class TestStream:
    def test_the_first_chunk_is_led_and_the_last_one_tells(self):
        start, end = chunk(delta(content="a"), model="m", created=5), chunk(LAST)
        led, told, done = through(start, end, DONE)
        first = encode(
            orjson.dumps(
                {
                    "id": "c-1",
                    "object": "chat.completion.chunk",
                    "created": 5,
                    "model": "m",
                    "choices": [],
                    "prompt_filter_results": prompt(CLEAN),
                }
            )
        )
        assert led == first + start.raw
        assert chunks(told) == [
            {**orjson.loads(end.data or b""), "choices": [LAST | {"content_filter_results": CLEAN}]}
        ]
        assert done == DONE.raw

    def test_a_comment_is_not_led(self):
        start = chunk(delta(content="a"))
        comment, led = through(COMMENT, start)
        assert comment == COMMENT.raw
        assert led.endswith(start.raw)
        assert len(chunks(led)) == 2

    def test_a_check_that_could_not_be_made(self):
        _, told = through(chunk(delta(content="a")), chunk(LAST), found=FAILED)
        assert chunks(told)[0]["choices"][0]["content_filter_results"] == CLEAN | ERROR

    def test_azures_own_chunk_is_added_to(self):
        own = chunk(prompt_filter_results=prompt({"hate": {}}))
        led, after = through(own, chunk(delta(content="a")))
        [first] = chunks(led)
        assert (first["choices"], first["prompt_filter_results"]) == ([], prompt({"hate": {}} | CLEAN))
        assert after == chunk(delta(content="a")).raw

    def test_a_halted_choice_tells_in_its_last_chunk(self):
        stream = AZURE.stream(ChatStream(structured=False), PASSED, lambda choice: BLOCK, 1)
        first, said, last = chunks(stream.halt(1, BLOCK, Refusal(message="No."), spoke=False))
        assert first["prompt_filter_results"] == prompt(CLEAN)
        assert said["choices"][0]["delta"]["content"] == "No."
        assert last["choices"][0]["content_filter_results"] == FILTERED
        assert stream.end() == DONE.raw

    def test_a_choice_that_was_dropped_leaves_nothing(self):
        stream = AZURE.stream(ChatStream(structured=False), PASSED, lambda choice: PASSED, 1)
        [read] = stream.read([chunk(LAST)])
        assert stream.write(read, {}, (0,)) == b""

    @pytest.mark.parametrize("style", ["error", "completion"])
    def test_an_error_is_no_chunk(self, style: Any):
        stream = AZURE.stream(ChatStream(structured=False), PASSED, lambda choice: PASSED, 1)
        plain = ChatStream(structured=False)
        if style == "error":
            refusal = Refusal(style="error")
            assert stream.halt(0, BLOCK, refusal, spoke=True) == plain.halt(0, BLOCK, refusal, spoke=True)
        assert stream.error("c", "m") == plain.error("c", "m")

    @given(
        st.lists(
            st.sampled_from(
                [chunk(delta(content="a")), chunk(delta(1, content="b")), COMMENT, chunk(LAST)]
            ),
            max_size=8,
        )
    )
    def test_without_its_annotations_it_is_the_same_stream(self, events: list[Event]):
        left = chunks(b"".join(through(*events)))
        told = [c for c in left if "prompt_filter_results" in c]
        assert len(told) == any(event.data is not None for event in events)
        for one in left:
            for choice in one["choices"]:
                results = choice.pop("content_filter_results", None)
                assert (results == CLEAN) is (choice["finish_reason"] is not None)
        assert [c for c in left if c not in told] == [
            orjson.loads(event.data) for event in events if event.data
        ]
