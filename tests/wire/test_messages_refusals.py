"""Refusals and errors of the messages dialect, read by the real SDK."""

from __future__ import annotations

import anthropic
import orjson
import pytest
from anthropic.types import Message

from guardrail.wire.messages_refusals import (
    NO_USAGE,
    error_body,
    error_reply,
    event,
    refusal_reply,
    refused_message,
    stop,
)
from guardrail.wire.replies import JSON, Refusal, openai_error, refusal_error
from guardrail.wire.sse import SseDecoder
from tests.wire.chats import BLOCK, MARK, REFUSALS, extras
from tests.wire.claudes import sdk

ORDINARY = Refusal(message="No.", finish_reason="stop")


def raised(status: int, body: bytes) -> anthropic.APIStatusError:
    """What the SDK raises for such an answer."""
    with sdk(body, status, "application/json") as client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="m", max_tokens=9, messages=[])
    return caught.value


class TestRefusedMessage:
    @pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
    @pytest.mark.parametrize("structured", [False, True])
    def test_is_a_whole_message_of_the_sdks(self, refusal: Refusal, structured: bool):
        made = refused_message(refusal, id_="msg_1", model="m", usage=NO_USAGE, structured=structured)
        found = Message.model_validate_json(orjson.dumps(made))
        assert extras(found) == []
        assert (found.id, found.model, found.role, found.stop_sequence) == ("msg_1", "m", "assistant", None)
        assert (found.usage.input_tokens, found.usage.output_tokens) == (0, 0)
        assert [one.to_dict() for one in found.content] == (
            [] if structured else [{"type": "text", "text": refusal.message}]
        )

    def test_it_stops_as_a_refusal_and_says_so(self):
        found = Message.model_validate(
            refused_message(REFUSALS[0], id_="", model="", usage=NO_USAGE, structured=False)
        )
        assert found.stop_reason == "refusal"
        assert found.stop_details is not None
        assert found.stop_details.explanation == REFUSALS[0].message

    def test_it_may_end_like_any_message(self):
        assert stop(ORDINARY, structured=False) == {
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "stop_details": None,
        }

    def test_words_that_stand_nowhere_else_are_in_the_details(self):
        assert stop(ORDINARY, structured=True)["stop_details"]["explanation"] == ORDINARY.message


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind", "raises"),
        [
            (400, "invalid_request_error", anthropic.BadRequestError),
            (401, "authentication_error", anthropic.AuthenticationError),
            (403, "permission_error", anthropic.PermissionDeniedError),
            (404, "not_found_error", anthropic.NotFoundError),
            (408, "timeout_error", anthropic.RequestTimeoutError),
            (413, "request_too_large", anthropic.RequestTooLargeError),
            (415, "invalid_request_error", anthropic.APIStatusError),
            (429, "rate_limit_error", anthropic.RateLimitError),
            (502, "api_error", anthropic.InternalServerError),
            (503, "overloaded_error", anthropic.ServiceUnavailableError),
            (529, "overloaded_error", anthropic.OverloadedError),
        ],
    )
    def test_the_type_follows_from_the_status_and_the_sdk_shows_our_code(
        self, status: int, kind: str, raises: type[anthropic.APIStatusError]
    ):
        reply = error_reply(status, "our_code", "Some words.")
        assert reply.status == status
        assert orjson.loads(reply.body) == {
            "type": "error",
            "error": {
                "type": kind,
                "message": "Some words.",
                "code": "our_code",
                "details": {"error_code": "our_code"},
            },
        }
        error = raised(status, reply.body)
        assert type(error) is raises
        assert (error.type, error.api_message, error.error_code) == (kind, "Some words.", "our_code")

    def test_the_parameter_is_told_where_there_is_one(self):
        body = orjson.loads(error_reply(400, "c", "m", "messages[0]").body)
        assert body["error"]["param"] == "messages[0]"

    @pytest.mark.parametrize("status", [400, 503])
    def test_headers_are_those_of_every_dialect(self, status: int):
        assert error_reply(status, "c", "m").headers == openai_error(status, "c", "m").headers

    def test_a_block_as_an_error_holds_what_it_holds_elsewhere(self):
        refusal = Refusal(style="error", message="No.", status=403)
        reply = refusal_reply(BLOCK, refusal)
        error = orjson.loads(reply.body)["error"]
        told = orjson.loads(refusal_error(BLOCK, refusal).body)["error"]
        assert (reply.status, reply.headers) == (403, (JSON,))
        assert error == {
            **told,
            "type": "permission_error",
            "details": {"error_code": "content_filter"},
        }
        assert MARK.encode() not in reply.body
        caught = raised(403, reply.body)
        assert (caught.error_code, caught.api_message) == ("content_filter", "No.")

    def test_more_may_stand_in_an_error(self):
        assert orjson.loads(error_body(400, "c", "m", x=1))["error"]["x"] == 1


def test_an_event_has_its_type_twice():
    [found] = SseDecoder().feed(event("message_delta", usage={"output_tokens": 1}))
    assert found.raw.startswith(b"event: message_delta\n")
    assert orjson.loads(found.data or b"") == {"type": "message_delta", "usage": {"output_tokens": 1}}
