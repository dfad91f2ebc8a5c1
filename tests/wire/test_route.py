"""The twin of guardrail/wire/route.py: which routes are sound, and what their bodies hold."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from guardrail.core.conversation import Segment, Turn
from guardrail.errors import ConfigError
from guardrail.wire.route import WEBSOCKET, Route, RouteText, placed
from guardrail.wire.shapes import PlainText

ODD_PATHS = {
    "/chat/{id}": "{",
    "/chat/id}": "}",
    "/chat/<int:id>": "<",
    "/chat/[id]": "[",
    "/chat/:id": "/:",
    "/chat/*": "*",
    "/*": "*",
    "/chat?v=1": "?",
    "/chat#top": "#",
    "/chat%20room": "%",
}


def text_of(**route: Any) -> RouteText:
    return RouteText(Route(**{"path": "/chat", "input": "$.message", "output": "$.reply", **route}))


class TestLaws:
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"path": "chat"}, "path: 'chat' does not begin with /"),
            *(
                ({"path": path}, rf"path: '{re.escape(path)}' holds '{re.escape(odd)}'")
                for path, odd in ODD_PATHS.items()
            ),
            ({"method": "post"}, "method: write it in capitals"),
            ({"method": "P0ST"}, "method: write it in capitals"),
            ({"stream": "xml"}, "stream: is none of sse, ndjson, text"),
            ({"input": "text", "context": "$.history"}, "context and stream_if: a plain text"),
            ({"output": None, "stream": "sse"}, "output: is missing"),
            ({"output": None, "refusal": {"a": 1}}, "output: is missing"),
            ({"output": "text", "refusal": {"a": 1}}, "output: a plain text has no fields"),
            ({"output": "text", "stream": "sse", "end": "$.done"}, "output: a plain text has no fields"),
            ({"stream": "text"}, "output: a stream of plain text"),
            ({"stream": "ndjson", "output": "text"}, "output: a stream of JSON lines"),
            ({"delta": "$.token"}, "delta and stream_if: are for streams"),
            ({"stream_if": "$.stream"}, "delta and stream_if: are for streams"),
            ({"input": "text", "stream_if": "$.s", "stream": "sse"}, "context and stream_if: a plain text"),
            ({"stream": "sse", "delta": "$.a[*]"}, "delta: a refusal is written there"),
            ({"stream": "sse", "delta": "text", "end": "$.done"}, "output: a plain text has no fields"),
            ({"websocket": True, "stream": "sse"}, "websocket: its messages"),
            ({"websocket": True, "method": "PUT"}, "websocket: its messages"),
            ({"end": "$.done"}, "end: tells where a stream ends"),
            ({"input": "message"}, "input: 'message' is no JSONPath"),
            ({"input": []}, "input: names no path"),
            ({"output": "$["}, r"output: '\$\[' is no JSONPath"),
            ({"context": "$["}, r"context: '\$\[' is no JSONPath"),
            ({"websocket": True, "end": "$["}, r"end: '\$\[' is no JSONPath"),
            (
                {"output": "$.a[*]"},
                "output: a refusal is written there, and its first path must name one place",
            ),
            ({"refusal": {"reply": "x"}}, "output: a refusal is written there, and a field stands"),
        ],
    )
    def test_what_cannot_be_guarded_stops_the_start(self, wrong: dict[str, Any], said: str):
        with pytest.raises(ConfigError, match=f"^{said}"):
            text_of(**wrong)

    @pytest.mark.parametrize(
        "right",
        [
            {"output": None},
            {"output": "text", "stream": "sse"},
            {"output": "text", "stream": "text"},
            {"stream": "ndjson", "end": ["$.done", "$.error"], "refusal": {"done": True}},
            {"websocket": True, "end": "$.done"},
            {"output": ["$.a[0]", "$.a[*]"]},
            {"stream": "text", "delta": "text", "refusal": {"type": "message"}},
            {"stream": "sse", "output": "text", "delta": "$.token", "end": "$.done"},
            {"method": "PUT", "input": ["$.a", "$.b"], "context": ("$.c",)},
            *({"path": path} for path in ("/", "/v1/m-1:chat", "/a.b/~c_d/@e,f;g=h", "/chat room/größe")),
        ],
    )
    def test_what_can_be(self, right: dict[str, Any]):
        assert text_of(**right).input is not None


class TestPlaced:
    def test_by_method_and_path(self):
        routes = [
            Route("/chat", "$.a"),
            Route("/chat", "$.a", method="PUT"),
            Route("/chat/", "$.a", websocket=True),
            Route("/", "$.a"),
        ]
        keys = [("POST", "/chat"), ("PUT", "/chat"), (WEBSOCKET, "/chat"), ("POST", "")]
        assert placed(routes) == dict(zip(keys, routes, strict=True))
        assert placed([]) == {}

    @pytest.mark.parametrize("more", [{}, {"method": "PUT"}, {"websocket": True}])
    def test_two_in_one_place(self, more: dict[str, Any]):
        with pytest.raises(
            ConfigError, match=r"^route /chat/ stands there twice; give one route both inputs"
        ):
            placed([Route("/chat", "$.a", **more), Route("/x", "$.a"), Route("/chat/", "$.b", **more)])


class TestPrompt:
    def test_all_of_it_is_one_turn(self):
        read = text_of(input=["$.message", "$.files[*].text"]).read_prompt(
            {"files": [{"text": "b"}, {"text": "c"}], "message": "a"}
        )
        assert read.turns == (
            Turn(
                "user",
                (
                    Segment("a", ("message",)),
                    Segment("b", ("files", 0, "text")),
                    Segment("c", ("files", 1, "text")),
                ),
            ),
        )

    def test_the_context_stands_before_it_as_the_apps_own(self):
        read = text_of(context=["$.system", "$.message"]).read_prompt({"message": "a", "system": "b"})
        assert read.turns == (
            Turn("system", (Segment("b", ("system",)),)),
            Turn("user", (Segment("a", ("message",)),)),
        ), "what is the prompt is judged, whatever else it is"
        assert [turn.role for turn in text_of(context="$.system").read_prompt({"message": "a"}).turns] == [
            "user"
        ]

    def test_what_cannot_be_read_is_named(self):
        assert text_of().read_prompt({"message": {"do this": "a"}}).unreadable == ("$.message.do this",)

    def test_its_paths_in_words(self):
        assert text_of(input=["$.a", "$.b"]).prompt_paths == "$.a or $.b"


class TestOwnBodies:
    def test_a_refusal(self):
        text = text_of(refusal={"type": "message"}, stream="sse", delta="$.token")
        assert json.loads(text.say("No.", text.output)) == {"type": "message", "reply": "No."}
        assert json.loads(text.say("No.", text.event)) == {"type": "message", "token": "No."}
        assert text_of(output="text").say("No.", PlainText()) == b"No."
        assert text_of(output=None).say("No.", None) == b"No."

    def test_an_error_in_the_shape_of_an_answer(self):
        assert json.loads(
            text_of(refusal={"done": True}).fail("guardrail_unavailable", "Down.", id="gr-1")
        ) == {
            "reply": "Down.",
            "done": True,
            "error": {
                "message": "Down.",
                "type": "guardrail_error",
                "param": None,
                "code": "guardrail_unavailable",
                "id": "gr-1",
            },
        }

    def test_an_error_where_answers_have_no_shape(self):
        assert list(json.loads(text_of(output=None).fail("guardrail_unavailable", "Down."))) == ["error"]

    @pytest.mark.parametrize(
        ("output", "said"), [("text", b"Down."), ("$", b'"Down."'), ("$[0]", b'["Down."]')]
    )
    def test_an_error_where_there_is_no_place_beside_the_text(self, output: str, said: bytes):
        assert text_of(output=output).fail("guardrail_unavailable", "Down.") == said
