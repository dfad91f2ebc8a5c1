"""What annotated answers have in common, with a form that marks every event and body."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.wire.annotated import (
    AnnotatedStream,
    AnswerAnnotation,
    chunk_in,
    chunk_like,
    events_in,
    is_done,
)
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.dialect import DecisionOf, EventStream
from guardrail.wire.replies import EVENT_STREAM, Refusal, Reply
from guardrail.wire.sse import Event, encode
from tests.wire.chats import BLOCK, CHAT, body, chunk, delta, user

PASSED = Decision(Stage.INPUT, Action.PASS)
DONE = Event(b"data: [DONE]\n\n", b"[DONE]")
COMMENT = Event(b": wait\n\n", None)


class Marked(AnswerAnnotation):
    """Says what it was asked to tell."""

    def body(self, raw: bytes, before: Decision, found: DecisionOf) -> bytes:
        return raw + b"|%s|%s" % (before.action.name.encode(), repr([found(0), found(1)]).encode())

    def events(self, events: Sequence[Event], before: Decision, answer: Decision | None) -> bytes:
        return b"|".join([event.raw for event in events]) + f"|{before.action.name}|{answer}".encode()

    def stream(self, stream: EventStream, before: Decision, found: DecisionOf, choices: int) -> EventStream:
        return MarkedStream(stream, before, found, choices)


class MarkedStream(AnnotatedStream):
    def _tell(self, raw: bytes, finished: Sequence[int]) -> bytes:
        return raw + f"|{list(finished)}".encode()


class TestReply:
    def test_a_refused_body_has_one_decision_for_all_choices(self):
        reply = CHAT.refuse(CHAT.read_request(body(user("x"))), BLOCK, Refusal())
        told = Marked().reply(reply, PASSED, BLOCK)
        assert told == Reply(200, reply.body + f"|PASS|{[BLOCK, BLOCK]}".encode(), reply.headers)
        assert Marked().reply(reply, BLOCK).body == reply.body + b"|BLOCK|[None, None]"

    def test_a_refused_stream_is_told_of_by_its_events(self):
        reply = CHAT.refuse(CHAT.read_request(body(user("x"), stream=True)), BLOCK, Refusal())
        told = Marked().reply(reply, BLOCK)
        *pieces, before, answer = told.body.split(b"|")
        assert b"".join(pieces) == reply.body
        assert pieces[-1] == DONE.raw
        assert (before, answer, told.headers) == (b"BLOCK", b"None", (EVENT_STREAM,))

    @pytest.mark.parametrize("status", [400, 451, 503])
    def test_an_error_stays_as_it_is(self, status: int):
        error = Reply(status, b"{}")
        assert Marked().reply(error, BLOCK) is error


class TestStream:
    def test_what_leaves_is_told_of_with_the_choices_that_end(self):
        plain = ChatStream(structured=False)
        stream = Marked().stream(ChatStream(structured=False), PASSED, lambda choice: PASSED, 1)
        last = chunk({"index": 3, "delta": {}, "finish_reason": "stop"})
        said, ended = stream.read([chunk(delta(content="a")), last])
        assert stream.write(said, {}, ()) == said.event.raw + b"|[]"
        assert stream.write(ended, {}, ()) == last.raw + b"|[3]"
        halted = stream.halt(2, BLOCK, Refusal(style="error"), spoke=True)
        assert halted == plain.halt(2, BLOCK, Refusal(style="error"), spoke=True) + b"|[2]"
        assert stream.end() == DONE.raw + b"|[]"
        assert stream.error("c", "m") == plain.error("c", "m")


class TestEvents:
    def test_whole_bytes_are_cut_to_the_last_one(self):
        first, rest = chunk(delta(content="a")), b"data: {}"
        assert [event.raw for event in events_in(first.raw + COMMENT.raw + rest)] == [
            first.raw,
            COMMENT.raw,
            rest,
        ]
        assert events_in(b"") == []

    @pytest.mark.parametrize(
        "event", [DONE, COMMENT, Event(b"", b'{"error": {}}'), Event(b"", b" [DONE] ")]
    )
    def test_what_is_no_chunk(self, event: Event):
        assert chunk_in(event) is None
        assert is_done(event) is (b"[DONE]" in (event.data or b""))

    def test_a_chunk(self):
        assert chunk_in(Event(b"", b'{"choices": []}')) == {"choices": []}

    def test_a_chunk_of_ones_own_has_the_identity_of_another(self):
        known = {"id": "c-1", "created": 5, "model": "m", "usage": {}, "choices": [1]}
        told = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": []}
        assert chunk_like(known, {"x": 1}) == encode(orjson.dumps(told | {"x": 1}))
        own = orjson.loads(chunk_like({}, {})[6:])
        assert (own["id"], own["model"], own["choices"]) == ("", "", [])
        assert type(own["created"]) is int
