"""The twin of guardrail/wire/route_stream.py: streams of a route, read, changed and ended."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.errors import UnreadableResponse
from guardrail.wire.dialect import StreamEvent
from guardrail.wire.frames import SseFrames
from guardrail.wire.replies import Refusal
from guardrail.wire.route import Route
from guardrail.wire.route_stream import RouteStream, deltas_of
from guardrail.wire.routes import RouteDialect
from guardrail.wire.sse import Event

BLOCK = Decision(Stage.OUTPUT, Action.BLOCK, id="gr-1")
WORDS = Refusal(message="No.")
ERROR = Refusal(style="error", message="No.")
FORMS = [{"stream": "sse"}, {"stream": "ndjson"}, {"stream": "sse", "output": "text"}]
FORMS += [{"stream": "text", "output": "text"}]
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9), max_size=5)


def opened(**route: Any) -> RouteStream:
    route = {"path": "/chat", "input": "text", "output": "$.reply", "stream": "sse", **route}
    one = RouteDialect(Route(**route))
    return one.stream(one.read_request(b"Hello"))


def read(stream: RouteStream, data: bytes, *at: int) -> list[StreamEvent]:
    edges = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    frames = stream._frames
    events = [e for a, b in pairwise(edges) for e in frames.feed(data[a:b])]
    rest = frames.flush()
    return list(stream.read(events + ([rest] if rest else [])))


def texts(events: list[StreamEvent]) -> list[str]:
    return [delta.text for event in events for delta in event.deltas]


def stream_of(form: dict[str, str], words: list[str]) -> bytes:
    """A stream of the form as an app would write it."""
    if form == {"stream": "text", "output": "text"}:
        return "".join(words).encode()
    if form.get("output") == "text":
        lines = ["".join(f"data: {line}\n" for line in word.splitlines() or [""]) for word in words]
        return "\n".join([*lines, ""]).encode() if lines else b""
    parts = [json.dumps({"reply": word, "n": 1}, ensure_ascii=False).encode() for word in words]
    if form["stream"] == "sse":
        return b"".join(b"event: t\ndata: " + part + b"\n\n" for part in parts)
    return b"".join(part + b"\n" for part in parts)


@pytest.mark.parametrize("form", FORMS, ids=str)
@given(TEXTS, st.lists(st.integers(0, 300), max_size=5))
def test_what_passes_leaves_byte_for_byte(form: dict[str, str], words: list[str], at: list[int]):
    data = stream_of(form, words)
    stream = opened(**form)
    events = read(stream, data, *at)
    assert b"".join(stream.write(event, {}, ()) for event in events) == data
    if form.get("output") != "text":
        assert texts(events) == words


@pytest.mark.parametrize("form", FORMS, ids=str)
@given(TEXTS)
def test_what_is_changed_is_read_as_changed(form: dict[str, str], words: list[str]):
    stream = opened(**form)
    events = read(stream, stream_of(form, words))
    changed = [
        stream.write(event, {delta.address: "[gone]" for delta in event.deltas}, ()) for event in events
    ]
    again = read(opened(**form), b"".join(changed))
    assert "".join(texts(again)) == "[gone]" * len(texts(events))
    if form.get("output") != "text":
        rest = [json.loads(event.event.data or b"") for event in again]
        assert rest == [{"reply": "[gone]", "n": 1}] * len(words)


class TestReading:
    def test_each_path_is_a_channel(self):
        (event,) = read(
            opened(output=["$.reply", "$.thought"]), b'data: {"thought": "a", "reply": ["b", "c"]}\n\n'
        )
        assert [(d.channel, d.text) for d in event.deltas] == [
            ("output[0]", "b"),
            ("output[0]", "c"),
            ("output[1]", "a"),
        ]
        assert event.choices == (0,)

    def test_events_without_text(self):
        data = (
            b': ping\n\ndata: {"status": "busy"}\n\ndata: {"reply": ""}\n\ndata: [DONE]\n\nevent: end\n\n'
        )
        events = read(opened(), data)
        assert len(events) == 5
        assert texts(events) == []
        assert read(opened(stream="ndjson"), b"\n \n")[0].deltas == ()

    def test_events_with_a_place_of_their_own(self):
        stream = opened(delta="$.token")
        events = read(stream, b'data: {"token": "a", "reply": "b"}\n\n')
        assert texts(events) == ["a"]
        assert stream.halt(0, BLOCK, WORDS, spoke=False) == b'data: {"token":"No."}\n\n'

    def test_done_is_text_where_all_data_is(self):
        assert texts(read(opened(output="text"), b"data: [DONE]\n\n")) == ["[DONE]"]

    @pytest.mark.parametrize("data", [b"data: Hello\n\n", b'data: {"reply": "a", "reply": "b"}\n\n'])
    def test_what_is_not_what_the_route_says_comes_behind_what_is(self, data: bytes):
        events = opened().read(SseFrames().feed(b'data: {"reply": "a"}\n\n' + data))
        assert texts([next(events)]) == ["a"]
        with pytest.raises(UnreadableResponse):
            next(events)

    def test_a_last_event_that_has_no_end_is_read_too(self):
        assert texts(read(opened(), b'data: {"reply": "a"}')) == ["a"]

    def test_the_end_of_an_answer(self):
        stream = opened(end=["$.done", "$[?@ == 'stop']"])
        data = b'data: {"reply": "a", "done": false}\n\ndata: {"done": true}\n\ndata: {"why": "stop"}\n\n'
        assert [event.finished for event in read(stream, data)] == [(), (0,), (0,)]

    def test_keys_that_may_be_text_are_named(self):
        assert read(opened(), b'data: {"reply": {"a b": "c"}}\n\n')[0].unreadable == ["$.reply.a b"]

    def test_no_events_are_read_as_one(self):
        (event,) = read(opened(), b'data: {"reply": "a"}\n\n')
        assert opened().split(event) == ()

    def test_an_app_whose_answers_are_not_judged(self):
        text = RouteDialect(Route("/chat", "$.message"))._text
        assert deltas_of(text, Event(b"x", b"x")).deltas == ()


class TestEnds:
    def after(self, data: bytes, **route: Any) -> RouteStream:
        stream = opened(**route)
        for event in read(stream, data):
            stream.write(event, {}, ())
        return stream

    def test_a_halt_before_and_behind_text(self):
        stream = opened(refusal={"type": "token"})
        assert stream.halt(0, BLOCK, WORDS, spoke=False) == b'data: {"type":"token","reply":"No."}\n\n'
        assert json.loads(stream.halt(0, BLOCK, WORDS, spoke=True)[6:])["reply"] == "\n\nNo."
        assert stream.end() == b""

    def test_a_halt_is_called_what_the_text_was(self):
        stream = self.after(b'event:t\ndata: {"reply": "a"}\n\nevent: ping\ndata: {}\n\n')
        assert stream.halt(0, BLOCK, WORDS, spoke=False) == b'event: t\ndata: {"reply":"No."}\n\n'
        assert stream.error("code", "m").startswith(b"event: t\ndata: ")

    def test_nothing_of_what_was_halted(self):
        stream = opened()
        halted, ping = read(stream, b'data: {"reply": "a"}\n\ndata: {"status": 1}\n\n')
        assert stream.write(halted, {}, (0,)) == b""
        assert stream.write(ping, {}, (0,)) == ping.event.raw

    @pytest.mark.parametrize("form", FORMS[:2], ids=str)
    def test_errors_are_objects(self, form: dict[str, str]):
        stream = opened(**form)
        (failed,) = read(opened(**form), stream.error("guardrail_unavailable", "down"))
        assert json.loads(failed.event.data or b"")["error"]["code"] == "guardrail_unavailable"
        (halted,) = read(opened(**form), stream.halt(0, BLOCK, ERROR, spoke=True))
        assert json.loads(halted.event.data or b"")["error"]["code"] == "content_filter"

    def test_errors_beside_plain_text(self):
        events = opened(output="text")
        assert events.error("guardrail_unavailable", "down").startswith(b"event: error\ndata: {")
        assert events.halt(0, BLOCK, ERROR, spoke=False) == b"data: No.\n\n"
        text = opened(output="text", stream="text")
        assert text.error("guardrail_unavailable", "down") == b"", "it would be taken for the answer's"
        assert text.halt(0, BLOCK, ERROR, spoke=True) == b"\n\nNo."

    def test_what_says_that_text_is_held(self):
        assert [opened(**form)._frames.keep_alive for form in FORMS] == [
            b": held\n\n",
            b" ",
            b": held\n\n",
            b"",
        ]
