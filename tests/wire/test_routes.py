"""The twin of guardrail/wire/routes.py: requests and bodies of a route."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.dialect import Choice
from guardrail.wire.replies import Refusal
from guardrail.wire.route import Route
from guardrail.wire.routes import RouteDialect
from guardrail.wire.shapes import WHOLE

BLOCK = Decision(Stage.INPUT, Action.BLOCK, id="gr-1")
WORDS = Refusal(message="No.")
ERROR = Refusal(style="error", status=422, message="No.")


def dialect(**route: Any) -> RouteDialect:
    return RouteDialect(Route(**{"path": "/chat", "input": "$.message", "output": "$.reply", **route}))


class TestRequests:
    def test_the_prompt(self):
        raw = b'{ "message" : "Hello", "user": 7 }'
        request = dialect().read_request(raw)
        assert request.raw is raw
        assert request.conversation.turns == (Turn("user", (Segment("Hello", ("message",)),)),)
        assert (request.stream, request.choices, request.added_policies) == (False, 1, ())

    @pytest.mark.parametrize(
        "body", ["{}", "[]", '"Hello"', '{"message": null}', '{"message": [true, {}]}']
    )
    def test_a_body_without_a_prompt_is_refused(self, body: str):
        with pytest.raises(UnreadableRequest, match="holds no prompt") as caught:
            dialect(input=["$.message", "$.q"]).read_request(body.encode())
        assert (caught.value.status, caught.value.param) == (400, "$.message or $.q")

    @pytest.mark.parametrize(
        "body", [b"Hello", b'{"message": "a", "message": "b"}', b'{"message": "\xff"}', b""]
    )
    def test_a_body_that_two_could_read_two_ways_is_refused(self, body: bytes):
        with pytest.raises(UnreadableRequest):
            dialect().read_request(body)

    def test_one_of_several_paths_is_enough(self):
        request = dialect(input=["$.message", "$.q"]).read_request(b'{"q": "a"}')
        assert [s.text for s in request.conversation.turns[-1].segments] == ["a"]

    def test_plain_text(self):
        request = dialect(input="text").read_request(b'{"stream": false, "guardrails": ["x"]}')
        assert request.raw == b'{"stream": false, "guardrails": ["x"]}'
        assert request.conversation.turns[0].segments == (Segment(request.raw.decode(), WHOLE),)
        assert request.added_policies == ()

    def test_added_policies_are_taken_out(self):
        request = dialect().read_request(b'{"guardrails": ["pii"], "message": "a"}')
        assert (request.raw, request.added_policies) == (b'{"message": "a"}', ("pii",))
        with pytest.raises(UnreadableRequest) as caught:
            dialect().read_request(b'{"guardrails": "pii", "message": "a"}')
        assert caught.value.param == "guardrails"

    @pytest.mark.parametrize(("said", "stream"), [("true", True), ("false", False), ("null", False)])
    def test_whether_it_may_be_streamed(self, said: str, stream: bool):
        body = f'{{"message": "a", "stream": {said}}}'.encode()
        assert dialect(stream="sse", stream_if="$.stream").read_request(body).stream is stream
        assert dialect(stream="sse").read_request(body).stream is True
        assert dialect().read_request(body).stream is False

    @given(st.text(max_size=10), st.text(max_size=10), st.text(max_size=10), st.sampled_from([None, 2]))
    def test_an_edit_changes_its_leaf_alone(self, text: str, other: str, new: str, indent: int | None):
        body = {"other": other, "message": {"parts": [text, other]}, "n": 1}
        raw = json.dumps(body, indent=indent).encode()
        one = dialect()
        assert one.read_request(raw).raw == raw
        edited = one.edit(raw, {("message", "parts", 0): new})
        before, after = raw.decode().split(json.dumps(text), 1), edited.decode()
        if json.dumps(text) not in json.dumps([other, *body]):
            assert after.startswith(before[0])
            assert after.endswith(before[1])
        assert json.loads(edited) == {**body, "message": {"parts": [new, other]}}

    def test_there_is_no_turn_to_leave_out(self):
        assert dialect().drop(b'{"message": "a"}', [0]) == b'{"message": "a"}'


class TestAnswers:
    def test_the_texts_at_its_paths(self):
        body = b'{"reply": "a", "sources": [{"title": "b"}], "other": "c"}'
        assert dialect(output=["$.reply", "$.sources[*].title"]).read_response(body) == [
            Choice(
                0,
                Turn(
                    "assistant",
                    (Segment("a", ("reply",)), Segment("b", ("sources", 0, "title"))),
                ),
            )
        ]

    def test_one_without_any_text_is_named(self):
        assert dialect().read_response(b'{"error": "a"}') == [Choice(0, Turn("assistant", ()), ("$",))]

    def test_keys_that_may_be_text_are_named(self):
        assert dialect().read_response(b'{"reply": {"a b": "c"}}')[0].unreadable == ("$.reply.a b",)

    @pytest.mark.parametrize("body", [b"Hello", b"", b'{"reply": "a", "reply": "b"}'])
    def test_one_that_cannot_be_read(self, body: bytes):
        with pytest.raises(UnreadableResponse):
            dialect().read_response(body)

    def test_plain_text(self):
        one = dialect(output="text")
        assert one.read_response(b"Hello")[0].turn.segments == (Segment("Hello", WHOLE),)
        assert one.edit(b"Hello", {WHOLE: "Bye"}) == b"Bye"
        with pytest.raises(UnreadableResponse):
            one.read_response(b"\xff")

    def test_a_route_that_is_judged_before_alone(self):
        assert dialect(output=None).read_response(b'{"reply": "a"}') == []

    @pytest.mark.parametrize(
        ("route", "kind", "read"),
        [
            ({}, b"application/json", "body"),
            ({}, b"", "body"),
            ({}, b"Text/Event-Stream; charset=utf-8", "stream"),
            ({"stream": "sse"}, b"text/event-stream", "stream"),
            ({"stream": "sse"}, b"application/json", "body"),
            ({"stream": "ndjson"}, b"application/x-ndjson", "stream"),
            ({"stream": "ndjson"}, b"text/plain", "stream"),
            ({"stream": "ndjson"}, b"application/json; charset=utf-8", "body"),
            ({"stream": "text", "output": "text"}, b"text/html", "stream"),
            ({"stream": "text", "output": "text"}, b"application/json", "stream"),
            ({"stream": "text", "delta": "text"}, b"application/json", "body"),
            ({"stream": "text", "delta": "text"}, b"text/plain", "stream"),
            ({"output": None}, b"text/event-stream", "nothing"),
        ],
    )
    def test_how_it_is_read(self, route: dict[str, Any], kind: bytes, read: str):
        request = dialect(**route).read_request(b'{"message": "a"}')
        assert request.reads(kind) == read


class TestRefusals:
    def refused(self, body: bytes = b'{"message": "a"}', refusal: Refusal = WORDS, **route: Any) -> Any:
        one = dialect(**route)
        reply = one.refuse(one.read_request(body), BLOCK, refusal)
        return reply.status, dict(reply.headers)[b"content-type"], reply.body

    def test_a_body(self):
        assert self.refused() == (200, b"application/json", b'{"reply":"No."}')
        assert self.refused(output="text") == (200, b"text/plain; charset=utf-8", b"No.")

    @pytest.mark.parametrize(
        ("route", "kind", "body"),
        [
            ({"stream": "sse"}, b"text/event-stream; charset=utf-8", b'data: {"reply":"No."}\n\n'),
            ({"stream": "ndjson"}, b"application/x-ndjson", b'{"reply":"No."}\n'),
            ({"stream": "text", "output": "text"}, b"text/plain; charset=utf-8", b"No."),
            ({"stream": "sse", "output": "text"}, b"text/event-stream; charset=utf-8", b"data: No.\n\n"),
            ({"stream": "ndjson", "delta": "$.token"}, b"application/x-ndjson", b'{"token":"No."}\n'),
        ],
    )
    def test_a_stream(self, route: dict[str, Any], kind: bytes, body: bytes):
        assert self.refused(**route) == (200, kind, body)

    def test_a_body_where_the_client_wants_no_stream(self):
        asked = b'{"message": "a"}'
        assert self.refused(asked, stream="sse", stream_if="$.stream") == (
            200,
            b"application/json",
            b'{"reply":"No."}',
        )

    @pytest.mark.parametrize("route", [{}, {"stream": "sse"}, {"output": None}])
    def test_an_error(self, route: dict[str, Any]):
        status, kind, body = self.refused(refusal=ERROR, **route)
        assert (status, kind) == (422, b"application/json")
        assert json.loads(body)["error"]["code"] == "content_filter"

    def test_where_answers_have_no_shape_it_is_always_an_error(self):
        status, _, body = self.refused(output=None)
        assert (status, json.loads(body)["error"]["message"]) == (400, "No.")

    def test_nothing_of_a_refused_body_stays(self):
        raw = b'{"reply": "secret", "summary": "secret"}'
        assert (
            dialect(refusal={"v": 1}).refuse_choices(raw, {0: WORDS}, structured=False)
            == b'{"v":1,"reply":"No."}'
        )

    def test_errors(self):
        reply = dialect().error(503, "guardrail_unavailable", "down")
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "guardrail_unavailable")
