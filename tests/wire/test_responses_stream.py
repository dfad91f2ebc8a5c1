"""One streamed response: what is new is read once, what is repeated says what left, and its ends."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Kind
from guardrail.errors import UnreadableResponse
from guardrail.wire.replies import Refusal
from guardrail.wire.responses_stream import ResponsesStream
from guardrail.wire.sse import SseDecoder
from tests.wire.chats import BLOCK, EVIL, MARK, REFUSALS, event, sdk
from tests.wire.responses import (
    RESPONSES,
    Json,
    asked,
    call,
    channels,
    citation,
    decoded,
    encoded,
    events,
    gathered,
    in_order,
    message,
    passed,
    reasoning,
    response,
    said,
    spoken,
    strictly,
    told,
)

texts = st.text('ab c\u00e4\U0001f600"\\', min_size=1, max_size=12)
outputs = st.lists(
    st.one_of(
        st.lists(texts, min_size=1, max_size=2).map(lambda own: message(*own)),
        texts.map(lambda own: message(said(own, "refusal"))),
        st.lists(texts, max_size=2).map(lambda own: reasoning(*own)),
        st.dictionaries(texts, texts, max_size=2).map(lambda own: call(orjson.dumps(own).decode())),
        texts.map(
            lambda own: {"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "n", "input": own}
        ),
        texts.map(
            lambda own: {
                "type": "code_interpreter_call",
                "id": "i",
                "container_id": "c",
                "status": "completed",
                "code": own,
                "outputs": None,
            }
        ),
    ),
    max_size=3,
)
sizes = st.integers(1, 5)


class City(pydantic.BaseModel):
    name: str


def begin(**fields: Any) -> ResponsesStream:
    return RESPONSES.stream(asked(stream=True, **fields))


def agrees(found: list[Json]) -> None:
    """All that is told more than once in a stream, up to its last event, is told in the same words."""
    pieces = {place: text for place, text in gathered(found).items() if text}
    assert pieces == spoken(found[-1]["response"]["output"])
    for one in found:
        if one["type"] == "response.output_item.done":
            here = {place[1:]: text for place, text in spoken([one["item"]]).items()}
            at = one["output_index"]
            assert here == {place[1:]: text for place, text in pieces.items() if place[0] == at}
        if one["type"] == "response.output_text.done":
            place = (one["output_index"], "content", one["content_index"], "text")
            assert one["text"] == pieces.get(place, "")


class TestAnyEvents:
    @given(st.lists(events, max_size=4))
    def test_are_read_or_unreadable_and_pass_byte_for_byte(self, drawn: list[Any]):
        came = [event(one) for one in drawn]
        stream, left = begin(), []
        try:
            for read in stream.read(came):
                left.append(stream.write(read, {}, ()))
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
        assert left == [one.raw for one in came][: len(left)]

    @given(st.lists(events, max_size=4), st.data())
    def test_leave_as_events_when_they_are_changed_and_can_always_be_ended(
        self, drawn: list[Any], data: st.DataObject
    ):
        stream = begin()
        out = b""
        try:
            for read in stream.read([event(one) for one in drawn]):
                chosen = {d.address: f"new{len(d.text)}" for d in read.deltas if data.draw(st.booleans())}
                out += stream.write(read, chosen, ())
        except UnreadableResponse:
            pass
        for end in (
            begin().halt(0, BLOCK, Refusal(), spoke=False),
            stream.halt(0, BLOCK, Refusal(), spoke=data.draw(st.booleans())),
        ):
            last = decoded(end)[-1]
            assert last["type"] == "response.incomplete"
            assert last["response"]["incomplete_details"] == {"reason": "content_filter"}
        for one in SseDecoder().feed(out):
            assert type(orjson.loads(one.data or b"")) is dict


class TestRead:
    @given(outputs, sizes)
    def test_each_text_is_new_once(self, items: list[Json], size: int):
        raw = encoded(told(*items, size=size))
        out, reads = passed(begin(), raw)
        assert out == raw
        found = channels(reads)
        assert found.get("content", "") == "".join(
            part["text"]
            for item in items
            for part in item.get("content") or ()
            if part["type"] == "output_text"
        )
        for at, item in enumerate(items):
            if item["type"] == "function_call":
                assert found[f"{at}.arguments"] == item["arguments"]
        assert [read.finished for read in reads].count((0,)) == 1
        assert reads[-1].finished == (0,)
        assert all(read.choices == (0,) and not read.parts for read in reads)

    def test_a_call_waits_from_its_head_on(self):
        stream = told(call('{"a":1}', name="not plain"), call("", at=1))
        reads = passed(begin(), encoded(stream))[1]
        heads = [
            d for read in reads for d in read.deltas if read.event.data and b"item.added" in read.event.data
        ]
        assert [(d.channel, d.kind, d.text, d.whole) for d in heads] == [
            ("0.name", Kind.FIELD, "not plain", True),
            ("1", Kind.TOOL_ARGUMENTS, "", True),
        ]
        assert {d.whole for read in reads for d in read.deltas} == {True}

    def test_what_a_repetition_has_more_is_new(self):
        stream = told(message("abcd"))
        for one in stream:
            if one["type"] == "response.output_text.done":
                one["text"] = "abcdef"
        reads = passed(begin(), encoded(stream))[1]
        added = [(d.channel, d.text, d.address) for read in reads for d in read.deltas]
        assert added == [
            ("content", "abcd", ("delta",)),
            ("content", "ef", ("text",)),
            ("content*", "abcd", ("part", "text")),
        ]

    def test_a_server_that_tells_all_at_the_end_is_read_there(self):
        whole = {"type": "response.completed", "response": response(message("a", "b"), output_text="ab")}
        reads = passed(begin(), encoded([whole]))[1]
        assert channels(reads) == {"content": "ab", "output_text": "ab"}
        assert reads[0].finished == (0,)

    def test_comments_and_the_sign_of_the_end_pass(self):
        raw = b": ping\n\ndata: [DONE]\n\n"
        stream = begin()
        reads = list(stream.read(SseDecoder().feed(raw)))
        assert [read.choices for read in reads] == [(), ()]
        assert b"".join(stream.write(read, {}, ()) for read in reads) == raw
        assert b"".join(stream.write(read, {}, (0,)) for read in reads) == raw

    def test_an_event_is_one_alone(self):
        [read] = begin().read([event({"type": "response.queued"})])
        assert begin().split(read) == ()

    def test_what_cannot_be_read_is_named(self):
        [read] = begin().read([event({"type": "response.of_tomorrow", "x": "y"})])
        assert (read.unreadable, read.choices) == (["$.x"], (0,))

    def test_events_before_an_unreadable_one_are_read(self):
        found = begin().read([event({"type": "response.queued"}), event(b"[]")])
        assert next(found).choices == (0,)
        with pytest.raises(UnreadableResponse):
            next(found)


class TestWrite:
    @given(outputs, sizes, st.data())
    def test_what_is_repeated_is_what_left(self, items: list[Json], size: int, data: st.DataObject):
        new = st.sampled_from(["", "[R]", "x"])

        def change(delta: Any) -> str:
            if not delta.text or data.draw(st.booleans()):
                return str(delta.text)
            return data.draw(new)

        out, _ = passed(begin(), encoded(told(*items, size=size)), change)
        found = decoded(out)
        assert in_order(found)
        agrees(found)

    @given(st.integers(0, 5000))
    def test_a_stream_may_be_cut_at_every_byte(self, at: int):
        notes = [citation(0, 2), citation(6, 9)]
        raw = encoded(told(reasoning("r"), message(said("a redword b", "output_text", annotations=notes))))
        at %= len(raw)
        expected = passed(begin(), raw, lambda delta: delta.text.replace("red", "R"))[0]
        decoder, stream, out = SseDecoder(), begin(), b""
        for chunk in (raw[:at], raw[at:]):
            out += passed(stream, decoder.feed(chunk), lambda delta: delta.text.replace("red", "R"))[0]
        assert out == expected

    def test_only_what_must_change_changes(self):
        raw = (
            b"event: response.output_text.delta\n"
            b'data: {"type":"response.output_text.delta", "delta":"a 42","x":1.0,'
            b' "logprobs":[{"token":"42"}]}\n'
            b"id: 7\n\n"
        )
        out, _ = passed(begin(), raw, lambda delta: "a [R]")
        assert out == raw.replace(b"a 42", b"a [R]").replace(b'[{"token":"42"}]', b"[]")

    def test_log_probabilities_of_untouched_pieces_stay(self):
        spelled = [{"token": "x"}]
        kind = "response.output_text."
        stream = [{"type": f"{kind}delta", "delta": text, "logprobs": spelled} for text in ("a", "b", "c")]
        stream.append({"type": f"{kind}done", "text": "abc", "logprobs": spelled})
        out, _ = passed(begin(), encoded(stream), lambda delta: delta.text.replace("b", "X"))
        assert [one["logprobs"] for one in decoded(out)] == [spelled, [], spelled, []]

    def test_annotations_behind_a_change_go_and_the_numbers_close_up(self):
        notes = [
            citation(0, 2),
            citation(9, 11, title="a red one"),
            {"type": "file_path", "file_id": "f", "index": 0},
        ]
        stream = told(message(said("ab red cd ef", "output_text", annotations=notes)), size=20)
        out, _ = passed(begin(), encoded(stream), lambda delta: delta.text.replace("red", "[R]!"))
        found = decoded(out)
        assert len(found) == len(stream) - 1
        assert in_order(found)
        assert b"red" not in out
        kept = [notes[0], notes[2]]
        assert [one["annotation"] for one in found if "annotation" in one] == kept
        [part] = [one["part"] for one in found if one["type"] == "response.content_part.done"]
        assert part["annotations"] == kept
        assert found[-1]["response"]["output"][0]["content"] == [part]

    def test_a_text_that_is_told_anew_is_what_left_from_then_on(self):
        stream = told(message("ab red"), size=20)
        for one in stream[-4:]:
            one.pop("response", None)
        stream[5]["text"] = "other red"
        out, reads = passed(begin(), encoded(stream[:6]), lambda delta: delta.text.replace("red", "R"))
        assert [one.get("delta", one.get("text")) for one in decoded(out)[-2:]] == ["ab R", "other R"]
        assert channels(reads) == {"content": "ab red", "content*": "other red"}

    def test_streams_without_numbers_get_none_until_they_are_ended(self):
        stream = begin()
        out, _ = passed(
            stream, encoded([{"type": "response.queued"}, {"type": "response.output_text.delta"}])
        )
        assert b"sequence_number" not in out
        assert decoded(stream.error("c", "m"))[0]["sequence_number"] == 2

    def test_nothing_leaves_behind_a_halt(self):
        [read] = begin().read([event({"type": "response.queued"})])
        assert begin().write(read, {}, (0,)) == b""


ITEMS = [reasoning("Let me think."), message("The answer is 42, they say."), call('{"a": 1}', at=2)]


def halted(
    stream: ResponsesStream, came: list[Json], refusal: Refusal, *, spoke: bool
) -> tuple[bytes, list[Json]]:
    out = passed(stream, encoded(came))[0] + stream.halt(0, BLOCK, refusal, spoke=spoke)
    return out, decoded(out)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
class TestHalt:
    def test_after_every_event_the_end_holds_what_left(self, refusal: Refusal):
        stream = told(*ITEMS)
        for count in range(len(stream)):
            for spoke in (True, False):
                out, found = halted(begin(), stream[:count], refusal, spoke=spoke)
                assert in_order(found)
                agrees(found)
                strictly([one for one in found[count:] if "response" not in one])
                last = found[-1]["response"]
                stops = refusal.finish_reason == "stop"
                assert last["status"] == ("completed" if stops else "incomplete")
                assert found[-1]["type"] == f"response.{last['status']}"
                words = [p for item in last["output"] for p in item.get("content", ()) if "refusal" in p]
                assert words == ([] if spoke else [said(refusal.message, "refusal")])
                added = [one["output_index"] for one in found if one["type"].endswith("output_item.added")]
                done = [one["output_index"] for one in found if one["type"].endswith("output_item.done")]
                assert sorted(added) == sorted(done) == list(range(len(last["output"])))
                assert MARK.encode() not in out
                self.taken(out, refusal)

    def taken(self, out: bytes, refusal: Refusal, **options: Any) -> None:
        """The SDK's helper takes the stream to its end."""
        with sdk(out).responses.stream(model="m", input="x", **options) as stream:
            kinds = [one.type for one in stream]
            if refusal.finish_reason == "stop":
                assert kinds[-1] == "response.completed"
                assert stream.get_final_response().status == "completed"
            else:
                assert kinds[-1] == "response.incomplete"

    def test_structured_output_that_broke_off_is_not_parsed(self, refusal: Refusal):
        form = {"format": {"type": "json_schema", "name": "City", "schema": {}}}
        stream = told(message('{"name": "Oslo"}', at=0), message('{"name": "' + EVIL + '"}', at=1))
        for count in range(len(stream)):
            out, found = halted(begin(text=form), stream[:count], refusal, spoke=count > 4)
            last = found[-1]["response"]["output"]
            assert last[-1]["content"] == [said(refusal.message, "refusal")]
            assert "refusal" in found[-2]["item"]["content"][0]
            for item in last:
                for part in item["content"]:
                    assert part["type"] == "refusal" or City.model_validate_json(part["text"])
            self.taken(out, refusal, text_format=City)

    def test_what_was_changed_stays_changed(self, refusal: Refusal):
        stream, came = begin(), told(message("a red word"), size=3)[:6]
        out, _ = passed(stream, encoded(came), lambda delta: delta.text.replace("ed", "[E]"))
        out += stream.halt(0, BLOCK, refusal, spoke=True)
        last = decoded(out)[-1]["response"]
        assert last["output"][0]["status"] == last["status"]
        assert last["output"][0]["content"][0]["text"] == "a r[E] "

    def test_nothing_has_left(self, refusal: Refusal):
        out, found = halted(begin(), [], refusal, spoke=False)
        strictly(found)
        assert [one["type"] for one in found[:2]] == ["response.created", "response.output_item.added"]
        assert (found[0]["response"]["id"], found[0]["response"]["model"]) == ("resp_d-1", "m")
        self.taken(out, refusal)

    def test_the_end_says_nothing_of_what_was_held(self, refusal: Refusal):
        whole = told(message(EVIL), output_messages=[EVIL], instructions="Be brief.")
        _, found = halted(begin(), whole[:2], refusal, spoke=False)
        last = found[-1]["response"]
        assert (last["id"], last["instructions"]) == ("resp_1", "Be brief.")
        assert EVIL not in str(last)


class TestErrors:
    def test_a_block_in_error_style_is_raised(self):
        stream = begin()
        out = passed(stream, encoded(told(message("abcd"))[:5]))[0]
        out += stream.halt(0, BLOCK, Refusal(style="error", message="No."), spoke=True)
        last = decoded(out)[-1]
        assert (last["type"], last["code"], last["message"]) == ("error", "content_filter", "No.")
        assert in_order(decoded(out))
        with pytest.raises(openai.APIError, match=r"No\."):
            list(sdk(out).responses.create(model="m", input="x", stream=True))

    def test_an_error_is_raised_and_nothing_follows(self):
        stream = begin()
        out = passed(stream, encoded(told(message("abcd"))[:5]))[0] + stream.error("lost", "It is lost.")
        assert decoded(out)[-1]["error"] == {
            "message": "It is lost.",
            "type": "guardrail_error",
            "param": None,
            "code": "lost",
        }
        with (
            pytest.raises(openai.APIError, match="It is lost"),
            sdk(out).responses.stream(model="m", input="x") as events_,
        ):
            events_.until_done()

    def test_a_whole_stream_needs_no_end(self):
        assert begin().end() == b""
