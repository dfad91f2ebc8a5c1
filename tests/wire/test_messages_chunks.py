"""Events of a streamed message: every text in them is in a delta or named, and stands where it says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind, json_path
from guardrail.errors import UnreadableResponse
from guardrail.wire.dialect import StreamEvent
from guardrail.wire.messages_chunks import MESSAGE, ChunkReader
from guardrail.wire.sse import Event
from tests.wire import claudes
from tests.wire.chats import MARK, at, leaves, mostly, numbers, shaped, strings, values
from tests.wire.claudes import (
    PING,
    STOPPED,
    blocks,
    closed,
    delta,
    ended,
    event,
    message,
    named,
    opened,
    said,
    started,
    text,
    thinking,
    thought,
    tool_use,
)

Row = tuple[str, Kind, str, bool]


def read(*events: Event) -> StreamEvent:
    """The last of these events, after the others."""
    reader = ChunkReader()
    return [reader.read(one) for one in events][-1]


def rows(*events: Event) -> list[Row]:
    return [(d.channel, d.kind, d.text, d.whole) for d in read(*events).deltas]


TEXT: Row = ("content", Kind.TEXT, "x", False)


class TestTexts:
    def test_texts_of_all_blocks_share_a_channel(self):
        for index in (0, 3):
            assert rows(opened(text(""), index), said("x", index)) == [TEXT]
        assert rows(opened(text("x"))) == [TEXT]
        assert rows(opened(text(""))) == rows(said("")) == []

    def test_thinking_is_reasoning(self):
        assert rows(thought("x")) == [("reasoning", Kind.REASONING, "x", False)]
        assert rows(opened(thinking("x", ""))) == [("reasoning", Kind.REASONING, "x", False)]
        assert rows(delta("signature_delta", signature="c2ln")) == []

    def test_citations_are_fields(self):
        citation = {"type": "char_location", "cited_text": "q", "document_title": "t", "document_index": 0}
        fields = [("fields", Kind.FIELD, "q", False), ("fields", Kind.FIELD, "t", False)]
        assert rows(delta("citations_delta", citation=citation)) == fields
        assert rows(opened(text("x", citations=[citation]))) == [TEXT, *fields]

    def test_results_of_the_servers_tools_are_fields(self):
        block = {"type": "web_search_tool_result", "content": [{"title": "t"}], "tool_use_id": "s"}
        assert rows(opened(block)) == [("fields", Kind.FIELD, "t", False)]

    def test_a_summary_is_a_field(self):
        assert rows(delta("compaction_delta", content="x")) == [("fields", Kind.FIELD, "x", False)]
        assert rows(delta("compaction_delta", content="")) == []

    def test_a_message_may_begin_with_blocks(self):
        found = read(started(content=[text("x"), tool_use({"a": "b"})]))
        assert [(d.text, d.address) for d in found.deltas] == [
            ("x", ("message", "content", 0, "text")),
            ("", ("message", "content", 1, "input")),
            ('{"a":"b"}', ("message", "content", 1, "input")),
        ]

    @pytest.mark.parametrize(
        "found",
        [
            ended("refusal", stop_details={"type": "refusal", "explanation": "a b"}),
            started(stop_details={"explanation": "a b"}),
        ],
    )
    def test_why_it_stopped_is_a_field(self, found: Event):
        assert rows(found) == [("fields", Kind.FIELD, "a b", False)]


class TestToolUse:
    def test_the_head_waits_with_its_input(self):
        assert rows(opened(tool_use({}), 2)) == [("tool_use[2]", Kind.TOOL_ARGUMENTS, "", True)]
        assert rows(opened(tool_use({}), 2), claudes.piece_of_input('{"a', 2)) == [
            ("tool_use[2]", Kind.TOOL_ARGUMENTS, '{"a', True)
        ]
        assert rows(opened(tool_use({}), 2), claudes.piece_of_input("", 2)) == [
            ("tool_use[2]", Kind.TOOL_ARGUMENTS, "", True)
        ]

    def test_what_is_no_name_is_a_field(self):
        assert rows(opened(tool_use({}, "not a name")))[1:] == [
            ("tool_use[0].name", Kind.FIELD, "not a name", True)
        ]

    def test_a_whole_input_in_the_head_is_apart_from_the_pieces(self):
        assert rows(opened(tool_use({"a": "b"})))[1:] == [
            ("tool_use[0].input", Kind.TOOL_ARGUMENTS, '{"a":"b"}', True)
        ]

    def test_what_the_server_calls_itself_does_not_wait_for_the_end(self):
        head = opened(tool_use({}, type="server_tool_use"))
        assert rows(head) == []
        assert rows(head, claudes.piece_of_input('{"a')) == [
            ("tool_use[0]", Kind.TOOL_ARGUMENTS, '{"a', False)
        ]

    def test_pieces_without_a_head_are_a_call_of_the_clients(self):
        assert rows(claudes.piece_of_input("{}")) == [("tool_use[0]", Kind.TOOL_ARGUMENTS, "{}", True)]


class TestEnds:
    def test_the_stop_reason_or_the_last_event_ends_the_message(self):
        assert read(ended()).finished == read(STOPPED).finished == (0,)
        assert read(ended(None)).finished == read(closed()).finished == ()

    def test_all_of_a_message_belongs_to_its_one_choice(self):
        for one in (started(), opened(text("")), said("x"), closed(), ended(), STOPPED, PING):
            assert read(one).choices == (0,)
            assert read(one).unreadable == []

    @pytest.mark.parametrize(
        "found",
        [
            Event(b": comment\n\n", None),
            Event(b"data: [DONE]\n\n", b"[DONE]"),
        ],
    )
    def test_what_is_none_of_the_message_holds_nothing(self, found: Event):
        assert read(found) == StreamEvent(found, ())

    def test_the_upstreams_word_on_itself_is_no_text_of_the_answers(self):
        error = {"type": "overloaded_error", "message": "Overloaded"}
        found = read(event("error", error=error, request_id="req_1"))
        assert (found.deltas, found.unreadable, found.finished) == ([], [], ())


class TestUnreadable:
    @pytest.mark.parametrize(
        ("found", "paths"),
        [
            (event("new_event", text="x", n=1), ["$.text"]),
            (named("message", {"choices": [5]}), ["$.choices"]),
            (delta("new_delta", text="x"), ["$.delta.text"]),
            (delta("new_delta", **{"": "x"}), ["$.delta."]),
            (delta("text_delta", text=["x"], thinking="y"), ["$.delta.text", "$.delta.thinking"]),
            (event("ping", more="x"), ["$.more"]),
            (event("error", error={}, delta={"text": "x"}), ["$.delta"]),
            (event("message_stop", error="x"), ["$.error"]),
            (event("content_block_delta", index=0, delta={"type": "text_delta"}, more="x"), ["$.more"]),
            (event("content_block_start", index=0, content_block=text(""), more="x"), ["$.more"]),
            (event("message_start", message=message(more="x"), other="y"), ["$.message.more", "$.other"]),
            (event("message_delta", delta={"more": "x"}, usage={}, other="y"), ["$.delta.more", "$.other"]),
            (opened({"type": "image"}), ["$.content_block"]),
            (opened(tool_use({}, more="x")), ["$.content_block.more"]),
            (opened({"type": "redacted_thinking", "data": "%%"}), []),
            (started(content=[{"type": "redacted_thinking", "data": "%%"}]), []),
            (opened({"type": "web_search_tool_result", "content": {"encrypted_content": "%%"}}), []),
        ],
    )
    def test_text_that_is_not_known_is_named(self, found: Event, paths: list[str]):
        assert read(found).unreadable == paths

    @pytest.mark.parametrize(
        "found",
        [
            named("x", b"[5]"),
            named("x", b'{"type": ["ping"]}'),
            named("x", b"no JSON"),
            named("x", b'{"type": "ping", "type": "error"}'),
            event("message_start"),
            event("message_start", message=5),
            event("message_start", message=message(5)),
            event("content_block_start", index=0),
            event("content_block_start", content_block=text("")),
            event("content_block_start", index=True, content_block=text("")),
            event("content_block_delta", index=0, delta=5),
            event("content_block_delta", delta={"type": "text_delta", "text": "x"}),
            event("message_delta", delta=None),
            delta("text_delta", text="x", Text="y"),
        ],
    )
    def test_what_is_no_event_is_unreadable(self, found: Event):
        with pytest.raises(UnreadableResponse):
            read(found)


own_deltas = shaped(
    type=st.sampled_from(
        [
            "text_delta",
            "thinking_delta",
            "input_json_delta",
            "citations_delta",
            "signature_delta",
            "new_delta",
        ]
    ),
    text=strings,
    thinking=strings,
    partial_json=strings,
    citation=values,
    stop_reason=strings,
    stop_details=values,
    x=values,
)
streamed = mostly(
    shaped(
        type=st.sampled_from(
            [
                *["message_start", "content_block_start", "content_block_delta", "content_block_stop"],
                *["message_delta", "message_stop", "ping", "new_event"],
            ]
        ),
        index=st.integers(0, 3),
        delta=own_deltas,
        content_block=blocks,
        message=shaped(content=st.lists(blocks, max_size=2), stop_details=values, usage=values, x=values),
        usage=numbers,
        x=values,
    )
)


def is_silent(address: tuple[Any, ...], words: str) -> bool:
    if address[0] == "message" and address[1:2] not in ((), ("content",), ("stop_details",)):
        return address[1] in MESSAGE
    quiet = address[0] in ("type", "usage") or address[:2] in (("delta", "stop_reason"), ("delta", "type"))
    sealed = address[-1] in ("encrypted_content", "data")
    return quiet or sealed or claudes.is_silent(address, words)


class TestAnyEvent:
    @given(st.lists(streamed.map(orjson.dumps) | st.binary(max_size=20), max_size=3))
    def test_is_read_or_unreadable_and_every_text_in_it_is_judged_or_named(self, stream: list[bytes]):
        reader = ChunkReader()
        for data in stream:
            try:
                found = reader.read(named("x", data))
            except UnreadableResponse as error:
                assert MARK not in str(error)  # noqa: PT017
                return
            value = orjson.loads(data) if data != b"[DONE]" else {}
            inputs = [d.address for d in found.deltas if d.address[-1] == "input"]
            assert all(at(value, d.address) == d.text for d in found.deltas if d.address not in inputs)
            known = [*map(json_path, [d.address for d in found.deltas]), *found.unreadable]
            if not value:
                continue
            for address, words in leaves(value):
                if not is_silent(address, words):
                    assert any(json_path(address).startswith(path) for path in known), (address, known)
