"""One event: which texts stand in it, at which place of the output, and what in it is named."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given

from guardrail.core.conversation import Kind, json_path
from guardrail.errors import UnreadableResponse
from guardrail.wire.responses_events import ENDS, Found, parse, read
from guardrail.wire.responses_shapes import RESPONSE
from tests.wire.chats import MARK, at, event, leaves
from tests.wire.responses import (
    call,
    citation,
    encoded,
    events,
    gathered,
    message,
    reasoning,
    response,
    said,
    spoken,
    told,
)

# Texts of an event that say nothing of the answer's.
_SILENT = {
    "type",
    "sequence_number",
    "id",
    "status",
    "role",
    "logprobs",
    "call_id",
    "encrypted_content",
    "instructions",
}
_ERROR = {"code", "message", "param", "error"}


def texts(found: Any) -> list[tuple[Any, ...]]:
    return [(one.place, one.text, one.kind, one.channel) for one in found.found]


class TestAnyEvent:
    @given(events.map(orjson.dumps))
    def test_every_text_is_found_or_named(self, data: bytes):
        try:
            body = parse(data)
            assert body is not None
            found = read(body)
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        addresses = [one.address for one in found.found]
        assert len(set(addresses)) == len(addresses)
        assert all(at(body, one.address) == one.text for one in found.found)
        for address, _ in leaves(body):
            silent = _SILENT & {*address} or (
                address[0] in _ERROR and "error" in (*body, str(body.get("type")))
            )
            if address[0] == "response" and len(address) > 1 and RESPONSE.get(str(address[1]), "") is None:
                silent = silent or address[1] != "output"
            silent = silent or {"action", "x"} <= {*address}  # where a click goes to
            plain = address[-1] in ("name", "title", "url") or any(
                str(step).endswith("_index") for step in address
            )
            paths = [json_path(address[:end]) for end in range(1, len(address) + 1)]
            if address not in addresses and not silent and not plain:
                assert any(path in found.unreadable for path in paths), address


class TestParse:
    @pytest.mark.parametrize("data", [None, b"[DONE]", b" [DONE]\n"])
    def test_comments_and_the_sign_of_the_end_hold_nothing(self, data: bytes | None):
        assert parse(data) is None

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b'{"a":1, "a":2}', b'{"a":' * 400 + b"1"])
    def test_anything_else_is_unreadable(self, data: bytes):
        with pytest.raises(UnreadableResponse, match="none of a response"):
            parse(data)

    def test_json_may_be_written_in_any_way(self):
        assert parse(b'{ "type": "x" }') == {"type": "x"}


class TestPieces:
    @pytest.mark.parametrize(
        ("middle", "key", "where", "place", "kind", "channel", "whole"),
        [
            (
                "output_text",
                "text",
                {"content_index": 1},
                (2, "content", 1, "text"),
                "text",
                "content",
                False,
            ),
            ("refusal", "refusal", {}, (2, "content", 0, "refusal"), "refusal", "refusal", False),
            ("reasoning_text", "text", {}, (2, "content", 0, "text"), "reasoning", "reasoning", False),
            (
                *("reasoning_summary_text", "text", {"summary_index": 3}, (2, "summary", 3, "text")),
                *("reasoning", "reasoning", False),
            ),
            *[
                (middle, key, {}, (2, key), "tool_arguments", f"2.{key}", True)
                for middle, key in [
                    ("function_call_arguments", "arguments"),
                    ("mcp_call_arguments", "arguments"),
                    ("custom_tool_call_input", "input"),
                ]
            ],
            ("code_interpreter_call_code", "code", {}, (2, "code"), "field", "2.code", False),
        ],
    )
    def test_a_piece_and_the_whole_of_it_have_one_place(
        self, middle: str, key: str, where: Any, place: Any, kind: str, channel: str, whole: bool
    ):
        common = {"output_index": 2, **where, "item_id": "i", "obfuscation": "aBc", "sequence_number": 4}
        for end, name in (("delta", "delta"), ("done", key)):
            found = read({"type": f"response.{middle}.{end}", **common, name: "x"})
            adds = end == "delta"
            assert found.found[0] == Found(place, (name,), "x", Kind(kind), channel, adds, whole)
            assert (len(found.found), found.unreadable, found.call) == (1, [] if not adds else (), None)

    def test_the_name_of_a_call_is_repeated_with_its_arguments(self):
        done = {"type": "response.function_call_arguments.done", "arguments": "{}", "name": "not plain"}
        assert texts(read(done)) == [
            ((0, "name"), "not plain", Kind.FIELD, "0.name"),
            ((0, "arguments"), "{}", Kind.TOOL_ARGUMENTS, "0.arguments"),
        ]

    @pytest.mark.parametrize("delta", ["", None])
    def test_an_empty_piece_is_none(self, delta: Any):
        assert read({"type": "response.output_text.delta", "delta": delta}).found == []

    def test_what_else_stands_beside_a_piece_is_named(self):
        odd = {
            "type": "response.output_text.delta",
            "delta": ["x"],
            "more": "y",
            "logprobs": [{"token": "x"}],
        }
        assert read(odd).unreadable == ["$.more", "$.delta"]
        assert read({**odd, "delta": "x"}).unreadable == ["$.more"]


class TestWholes:
    def test_a_part_an_item_and_the_response_name_the_same_places(self):
        item = message(said("a", "output_text", annotations=[citation(0, 1)]), said("b", "refusal"))
        places = [(2, "content", 0, "text"), (2, "content", 0, "annotations", 0, "title")]
        places.append((2, "content", 1, "refusal"))
        found = read({"type": "response.output_item.done", "output_index": 2, "item": item})
        assert [one.place for one in found.found] == places
        assert [one.channel for one in found.found] == ["content", "annotations", "refusal"]
        whole = response(reasoning("r"), call(), item)
        found = read({"type": "response.completed", "response": whole})
        assert [one.place for one in found.found] == [(0, "summary", 0, "text"), (1, "arguments"), *places]
        part = {"type": "response.content_part.done", "output_index": 2, "content_index": 1}
        [one] = read({**part, "part": item["content"][1]}).found
        assert (one.place, one.address) == (places[2], ("part", "refusal"))

    def test_parts_of_reasoning(self):
        part = {"type": "response.reasoning_summary_part.added", "summary_index": 1}
        assert texts(read({**part, "part": said("x", "summary_text")})) == [
            ((0, "summary", 1, "text"), "x", Kind.REASONING, "reasoning")
        ]
        part = {"type": "response.content_part.added", "part": said("x", "reasoning_text")}
        assert texts(read(part)) == [((0, "content", 0, "text"), "x", Kind.REASONING, "reasoning")]

    def test_an_annotation(self):
        body = {"type": "response.output_text.annotation.added", "annotation_index": 4}
        [one] = read({**body, "annotation": citation(0, 1)}).found
        assert (one.place, one.address) == (
            (0, "content", 0, "annotations", 4, "title"),
            ("annotation", "title"),
        )

    def test_what_a_tool_of_the_server_found_is_a_field_in_a_channel_of_its_own(self):
        item = {"type": "shell_call_output", "output": [{"stdout": "x"}]}
        body = {"type": "response.output_item.done", "output_index": 1, "item": item}
        assert texts(read(body)) == [((1, "output", 0, "stdout"), "x", Kind.FIELD, "1.output.0.stdout")]

    def test_a_call_is_told_by_its_beginning(self):
        body = {"type": "response.output_item.added", "output_index": 3, "item": call("")}
        assert (read(body).call, read({**body, "type": "response.output_item.done"}).call) == (3, None)
        assert read({**body, "item": message()}).call is None

    def test_a_response_may_hold_nothing(self):
        assert read({"type": "response.queued"}) == read({"type": "response.queued", "response": None})
        assert read({"type": "response.failed", "response": {"output": None}}).found == []

    def test_text_beside_the_output(self):
        body = {"type": "response.completed", "response": response(output_text="x", more="y")}
        assert texts(read(body)) == [(("output_text",), "x", Kind.FIELD, "output_text")]
        assert read(body).unreadable == ["$.response.more"]


class TestOthers:
    def test_progress_says_nothing(self):
        body = {"type": "response.web_search_call.searching", "item_id": "i", "output_index": 0}
        assert read(body) == read({**body, "sequence_number": 3})

    @pytest.mark.parametrize("body", [{"type": "error", "code": "c"}, {"error": {"message": "m"}}])
    def test_an_error_is_the_upstreams_own(self, body: Any):
        assert (read(body).found, read(body).unreadable) == ([], [])

    def test_what_is_not_known_is_named(self):
        body = {"type": "response.of_tomorrow.delta", "delta": "x", "count": 1}
        assert read(body).unreadable == ["$.delta"]
        assert read({"type": "response.audio.delta", "delta": "aGk="}).unreadable == ["$.delta"]

    @pytest.mark.parametrize(
        "body",
        [
            {"type": "response.output_item.added"},
            {"type": "response.output_item.added", "item": {}, "output_index": "0"},
            {"type": "response.output_text.delta", "content_index": 1.0, "delta": "x"},
            {"type": "response.content_part.done", "part": 1},
            {"type": "response.completed", "response": "x"},
            {"type": "response.completed", "response": {"output": {}}},
            {"type": "response.completed", "response": {"output": ["x"]}},
            {"type": "response.completed", "response": {"Output": [message("x")]}},
        ],
    )
    def test_a_wrong_shape_is_unreadable(self, body: Any):
        with pytest.raises(UnreadableResponse, match="none of a response"):
            read(body)


def test_the_pieces_of_a_stream_add_up_to_its_response():
    items = [reasoning("r1", "r2"), message("a", "b"), call('{"a": 1}')]
    stream = told(*items, size=2)
    assert gathered(stream) == spoken(items)
    assert [one["type"] for one in stream if one["type"] in ENDS] == ["response.completed"]
    assert parse(event(encoded(stream[:1]).split(b"data: ")[1]).data) == stream[0]
