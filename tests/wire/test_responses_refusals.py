"""Refusals as responses, read by the real SDK."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pydantic
import pytest

from guardrail.wire.dialect import GuardedRequest
from guardrail.wire.replies import EVENT_STREAM, JSON, Refusal
from guardrail.wire.responses_refusals import (
    begun,
    ended,
    error_event,
    final_event,
    refusal_events,
    refusal_item,
    refused_body,
    refused_request,
    written,
)
from tests.wire.chats import BLOCK, EVIL, MARK, REFUSALS, sdk
from tests.wire.responses import asked, decoded, in_order, response, strictly, whole


class City(pydantic.BaseModel):
    name: str


def final_of(refusal: Refusal) -> str:
    return "completed" if refusal.finish_reason == "stop" else "incomplete"


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
class TestRefusedRequest:
    def request(self, **more: Any) -> GuardedRequest:
        return asked(**more)

    def test_a_body_is_a_whole_response(self, refusal: Refusal):
        reply = refused_request(self.request(), BLOCK, refusal)
        assert (reply.status, reply.headers) == (200, (JSON,))
        assert MARK.encode() not in reply.body
        found = whole(reply.body)
        assert (found.id, found.model, found.status) == ("resp_d-1", "m", final_of(refusal))
        assert found.usage is not None
        usage = found.usage.model_dump()
        assert {*usage.pop("input_tokens_details").values()} == {0}
        assert {*usage.pop("output_tokens_details").values()} == {0}
        assert {*usage.values()} == {0}
        assert found.output_text == ""
        assert found.created_at > 1_700_000_000

    def test_the_sdk_parses_it_where_structured_output_was_asked_for(self, refusal: Refusal):
        reply = refused_request(self.request(text={"format": {"type": "json_schema"}}), BLOCK, refusal)
        client = sdk(reply.body, "application/json")
        found = client.responses.parse(model="m", input="x", text_format=City)
        assert found.output_parsed is None
        part: Any = found.output[0].content[0]  # type: ignore[union-attr, index]
        assert part.refusal == refusal.message

    def test_a_stream_is_what_the_sdk_takes_for_one(self, refusal: Refusal):
        reply = refused_request(self.request(stream=True), BLOCK, refusal)
        assert (reply.status, reply.headers) == (200, (EVENT_STREAM,))
        events = decoded(reply.body)
        strictly(events)
        assert in_order(events)
        assert [one["type"].removeprefix("response.") for one in events] == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "refusal.delta",
            "refusal.done",
            "content_part.done",
            "output_item.done",
            final_of(refusal),
        ]
        assert events[4]["delta"] == refusal.message
        assert events[-1]["response"]["output"] == [events[7]["item"]]
        with sdk(reply.body).responses.stream(model="m", input="x", text_format=City) as stream:
            assert [one.type for one in stream][-1] == f"response.{final_of(refusal)}"
            if refusal.finish_reason == "stop":
                assert stream.get_final_response().output_parsed is None
            else:
                with pytest.raises(RuntimeError, match=r"response\.completed"):
                    stream.get_final_response()


def test_a_body_keeps_what_is_known_of_the_response_but_its_texts():
    raw = refused_body({**response(EVIL), "output_text": EVIL, "x": EVIL}, REFUSALS[0])
    found = orjson.loads(raw)
    assert EVIL.encode() not in raw
    assert (found["id"], found["billing"], found["status"]) == (
        "resp_1",
        {"payer": "developer"},
        "incomplete",
    )


def test_ended_says_why():
    head = begun("m", BLOCK)
    assert ended(head, [], Refusal())["incomplete_details"] == {"reason": "content_filter"}
    assert ended(head, [], Refusal(finish_reason="stop"))["incomplete_details"] is None
    assert final_event({"status": "completed"})["type"] == "response.completed"


def test_refusal_events_tell_where_the_message_stands():
    item = refusal_item({"id": "resp_1"}, Refusal())
    events = list(refusal_events(item, 3))
    assert {event["output_index"] for event in events} == {3}
    assert {event["item_id"] for event in events if "item_id" in event} == {"msg_1_refusal"}
    assert [event["sequence_number"] for event in decoded(written(events, 7))] == list(range(7, 13))


def test_an_error_is_documented_and_raised():
    event = error_event({"message": "No.", "code": "content_filter", "innererror": {"x": 1}})
    assert (event["code"], event["message"], event["param"]) == ("content_filter", "No.", None)
    client = sdk(written([event], 4))
    with pytest.raises(openai.APIError, match=r"No\.") as caught:
        list(client.responses.create(model="m", input="x", stream=True))
    assert caught.value.code == "content_filter"
