"""Streamed messages: what passes keeps its bytes, and every edit and every end is sound to the SDK."""

from __future__ import annotations

from typing import Any

import anthropic
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Address
from guardrail.errors import UnreadableResponse
from guardrail.wire.messages_edit import EDITED
from guardrail.wire.messages_stream import MessagesStream
from guardrail.wire.replies import Refusal
from guardrail.wire.sse import Event, SseDecoder, encode
from tests.wire.chats import BLOCK, MARK, REFUSALS, at, leaves
from tests.wire.claudes import (
    PING,
    STOPPED,
    delta,
    event,
    final,
    named,
    opened,
    piece_of_input,
    played,
    said,
    sdk,
    started,
    stream,
    strictly,
    text,
    thinking,
    thought,
    tool_use,
    whole,
)
from tests.wire.test_messages_chunks import streamed

REFUSAL = REFUSALS[0]
FORMAT = {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}
ANSWER = whole(
    (thinking("", ""), [thought("let me "), thought("see"), delta("signature_delta", signature="c2ln")]),
    (text(""), [said("The "), said("answer.")]),
    (tool_use({}), [piece_of_input(""), piece_of_input('{"who": "A'), piece_of_input('nn"}')]),
)


def numbered(events: list[Event]) -> list[Event]:
    """Deltas in the block that was opened last."""
    index = -1
    out = []
    for one in events:
        value = orjson.loads(one.data or b"{}")
        if value.get("type") == "content_block_start":
            index = value["index"]
        if value.get("type") == "content_block_delta":
            one = event("content_block_delta", index=index, delta=value["delta"])
        out.append(one)
    return out


ANSWER = numbered(ANSWER)
RAW = b"".join(one.raw for one in ANSWER)


def rewritten(events: list[Event], words: dict[str, str]) -> bytes:
    """The stream with these texts, wherever they are the text of a delta, replaced."""
    own = stream()
    out = []
    for read in own.read(events):
        texts = {d.address: words[d.text] for d in read.deltas if d.text in words}
        out.append(own.write(read, texts, ()))
    return b"".join(out)


def halted(events: list[Event], *, spoke: bool, refusal: Refusal = REFUSAL, **fields: Any) -> bytes:
    own = played(events, **fields)
    left = b"".join(one.raw for one in events)
    return left + own.halt(0, BLOCK, refusal, spoke=spoke) + own.end()


class TestPass:
    @pytest.mark.parametrize("size", range(1, 60))
    def test_every_event_keeps_its_bytes_however_the_stream_is_cut(self, size: int):
        raw = b": hi\n\n" + RAW.replace(b"\n", b"\r\n", 40) + b"data: [DONE]\n\n"
        decoder, own, out = SseDecoder(), stream(), []
        for start in range(0, len(raw), size):
            for read in own.read(decoder.feed(raw[start : start + size])):
                out.append(own.write(read, {}, ()))
        assert b"".join(out) == raw

    def test_nothing_is_read_as_one(self):
        own = stream()
        assert [own.split(read) for read in own.read(ANSWER)] == [()] * len(ANSWER)

    def test_what_was_read_before_an_unreadable_event_counts(self):
        found = stream().read([PING, named("x", b"5")])
        assert next(found).event is PING
        with pytest.raises(UnreadableResponse):
            next(found)

    def test_a_halted_message_goes_on_no_more(self):
        own = played([started()])
        [read] = own.read([said("x")])
        assert own.write(read, {}, (0,)) == b""


class TestEdit:
    def test_texts_and_inputs_change_where_they_stand(self):
        raw = rewritten(ANSWER, {"answer.": "reply.", '{"who": "A': '{"who": "B', 'nn"}': 'o"}'})
        expected = RAW
        for old, new in ((b'"answer."', b'"reply."'), (b'\\"A"', b'\\"B"'), (b'"nn\\"}"', b'"o\\"}"')):
            assert expected.count(old) == 1
            expected = expected.replace(old, new)
        assert raw == expected
        found = final(raw)
        assert [one.type for one in found.content] == ["thinking", "text", "tool_use"]
        assert found.content[0].signature == "c2ln"
        assert found.content[1].text == "The reply."
        assert found.content[2].input == {"who": "Bo"}

    def test_thinking_that_changed_loses_its_signature(self):
        found = final(rewritten(ANSWER, {"see": "look"}))
        assert (found.content[0].thinking, found.content[0].signature) == ("let me look", EDITED)

    @pytest.mark.parametrize("fields", [{}, {"signature": ""}, {"signature": None}])
    def test_a_signature_that_is_none_is_no_more_afterwards(self, fields: dict[str, Any]):
        last = delta("signature_delta", **fields)
        raw = rewritten([started(), opened(thinking("", "")), thought("one"), last], {"one": "new"})
        assert raw.endswith(last.raw)

    def test_the_thinking_of_another_block_keeps_it(self):
        block = (
            thinking("", ""),
            [thought("one"), delta("signature_delta", signature="b25l")],
        )
        other = (thinking("", ""), [thought("two"), delta("signature_delta", signature="dHdv")])
        found = final(rewritten(numbered(whole(block, other)), {"one": "new"}))
        assert [one.signature for one in found.content] == [EDITED, "dHdv"]

    def test_a_block_that_comes_at_once(self):
        block = tool_use({"who": "Ann", "n": 1})
        events = whole((thinking("hm", "c2ln"), []), (block, []))
        found = final(rewritten(events, {"hm": "oh", '{"who":"Ann","n":1}': '{"who":"Bo", "n":1}'}))
        assert (found.content[0].thinking, found.content[0].signature) == ("oh", EDITED)
        assert found.content[1].input == {"who": "Bo", "n": 1}

    @given(st.lists(streamed.map(orjson.dumps), max_size=3))
    def test_any_text_can_be_replaced_and_nothing_else_changes(self, data: list[bytes]):
        own = stream()
        try:
            found = list(own.read([named("x", one) for one in data]))
        except UnreadableResponse:
            return
        for read in found:
            texts: dict[Address, str] = {
                d.address: '"new"' if d.address[-1] == "input" else "new" for d in read.deltas if d.text
            }
            [after] = SseDecoder().feed(own.write(read, texts, ()))
            before = orjson.loads(read.event.data or b"")
            changed = orjson.loads(after.data or b"")
            for address in texts:
                assert at(changed, address) in ("new", '"new"')
                at(changed, address[:-1])[address[-1]] = at(before, address)
            for address, words in list(leaves(changed)):
                if words == EDITED:
                    assert (*address[:-1], "thinking") in texts
                    at(changed, address[:-1])["signature"] = at(before, address)
            assert changed == before
        assert MARK.encode() not in own.halt(0, BLOCK, REFUSAL, spoke=True)


class TestHalt:
    @pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
    @pytest.mark.parametrize("left", range(len(ANSWER) - 2))
    @pytest.mark.parametrize("spoke", [False, True])
    def test_is_a_whole_message_to_the_sdk_wherever_it_falls(
        self, left: int, refusal: Refusal, spoke: bool
    ):
        raw = halted(ANSWER[:left], spoke=spoke, refusal=refusal)
        events = strictly(raw)
        assert [one.type for one in events].count("message_start") == 1
        assert [one.type for one in events[-2:]] == ["message_delta", "message_stop"]
        assert MARK.encode() not in raw
        is_open = None
        count = 0
        for one in events:
            if one.type == "content_block_start":
                assert (is_open, one.index) == (None, count)
                is_open, count = one.index, count + 1
            elif one.type == "content_block_delta":
                assert one.index == is_open
            elif one.type == "content_block_stop":
                assert one.index == is_open
                is_open = None
        assert is_open is None
        found = final(raw)
        assert found.stop_reason == ("end_turn" if refusal.finish_reason == "stop" else "refusal")
        said_words = "".join(block.text for block in found.content if block.type == "text")
        assert said_words.endswith(refusal.message) is not spoke
        assert "" not in [block.text for block in found.content[:-1] if block.type == "text"]

    def test_before_anything_left_it_is_a_message_of_our_own(self):
        found = final(halted([], spoke=False))
        assert (found.id, found.model, found.role) == ("msg_d-1", "m", "assistant")
        assert [block.text for block in found.content] == [REFUSAL.message]
        assert (found.usage.input_tokens, found.usage.output_tokens) == (0, 0)

    def test_the_streams_own_identity_and_usage_stay(self):
        found = final(halted([started(), PING], spoke=False))
        assert (found.id, found.model) == ("msg_1", "m-1")
        assert (found.usage.input_tokens, found.usage.output_tokens) == (3, 5)

    def test_words_go_into_the_text_that_is_open(self):
        found = final(halted([started(), opened(text(""))], spoke=False))
        assert [block.text for block in found.content] == [REFUSAL.message]

    def test_words_go_behind_a_block_of_another_type(self):
        found = final(halted([started(), opened(thinking("", ""))], spoke=False))
        assert [block.type for block in found.content] == ["thinking", "text"]

    def test_what_broke_off_is_told_in_the_details(self):
        found = final(halted([started(), opened(text("")), said("so ")], spoke=True))
        assert [block.text for block in found.content] == ["so "]
        assert found.stop_details.explanation == REFUSAL.message

    def test_a_message_that_began_with_blocks_counts_them(self):
        events = strictly(halted([started(content=[text("x")])], spoke=False))
        assert [one.index for one in events if one.type == "content_block_start"] == [1]

    def test_a_structured_answer_holds_no_words_that_would_be_parsed(self):
        class City(pydantic.BaseModel):
            name: str

        raw = halted([], spoke=False, **FORMAT)
        with sdk(raw) as client:
            manager = client.messages.stream(model="m", max_tokens=9, messages=[], output_format=City)
            with manager as own:
                found = own.get_final_message()
        assert (found.content, found.stop_reason, found.parsed_output) == ([], "refusal", None)
        assert found.stop_details is not None
        assert found.stop_details.explanation == REFUSAL.message

    def test_in_error_style_the_sdk_raises(self):
        events = [started(), opened(text("")), said("so ")]
        own = played(events)
        refusal = Refusal(style="error", message="No.")
        raw = b"".join(one.raw for one in events) + own.halt(0, BLOCK, refusal, spoke=True)
        with pytest.raises(anthropic.APIStatusError) as caught:
            final(raw)
        assert (caught.value.error_code, caught.value.api_message) == ("content_filter", "No.")
        assert caught.value.type == "invalid_request_error"


def test_an_error_is_raised_by_the_sdk_and_nothing_looks_whole():
    raw = started().raw + stream().error("guardrail_unavailable", "Not checked.")
    assert b"message_stop" not in raw
    with pytest.raises(anthropic.APIStatusError) as caught:
        final(raw)
    assert (caught.value.type, caught.value.error_code) == ("api_error", "guardrail_unavailable")


def test_the_end_is_the_last_event():
    assert stream().end() == encode(b'{"type":"message_stop"}', "message_stop") == STOPPED.raw


def test_streams_know_nothing_of_each_other():
    one, other = stream(), stream()
    assert type(one) is type(other) is MessagesStream
    for read in one.read([started(), opened(text(""))]):
        one.write(read, {}, ())
    assert strictly(other.halt(0, BLOCK, REFUSAL, spoke=False))[0].message.id == "msg_d-1"
