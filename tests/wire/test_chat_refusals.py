"""Refusals of the chat dialect, read by the real SDK."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pydantic
import pytest
from openai.types.chat import ChatCompletion

from guardrail.wire.chat_refusals import DONE, identified, refused_choices
from guardrail.wire.dialect import GuardedRequest
from guardrail.wire.replies import EVENT_STREAM, JSON, Refusal
from guardrail.wire.sse import Event
from tests.wire.chats import (
    BLOCK,
    CHAT,
    MARK,
    REFUSALS,
    body,
    chunk,
    chunks,
    delta,
    event,
    extras,
    halted,
    sdk,
    user,
)


def asked(n: int = 1, *, stream: bool = False, usage: bool = False, **more: Any) -> GuardedRequest:
    options = {"include_usage": usage}
    return CHAT.read_request(body(user("hi"), n=n, stream=stream, stream_options=options, **more))


class City(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
@pytest.mark.parametrize("n", [1, 3])
class TestRefuse:
    def test_a_body_is_a_whole_completion_with_as_many_choices_as_asked(self, refusal: Refusal, n: int):
        reply = CHAT.refuse(asked(n), BLOCK, refusal)
        assert (reply.status, reply.headers) == (200, (JSON,))
        assert MARK.encode() not in reply.body
        completion = ChatCompletion.model_validate_json(reply.body, strict=True)
        assert extras(completion) == []
        assert (completion.id, completion.model, completion.object) == (
            "chatcmpl-d-1",
            "m",
            "chat.completion",
        )
        assert completion.created > 1_700_000_000
        assert completion.usage
        assert completion.usage.total_tokens == 0
        assert [choice.index for choice in completion.choices] == list(range(n))
        for choice in completion.choices:
            assert choice.message.content == refusal.message
            assert (choice.message.role, choice.message.refusal) == ("assistant", None)
            assert (choice.finish_reason, choice.logprobs) == (refusal.finish_reason, None)

    @pytest.mark.parametrize("usage", [False, True])
    def test_a_stream_has_role_content_and_end_of_each_choice_then_usage_if_asked(
        self, refusal: Refusal, n: int, usage: bool
    ):
        reply = CHAT.refuse(asked(n, stream=True, usage=usage), BLOCK, refusal)
        assert (reply.status, reply.headers) == (200, (EVENT_STREAM,))
        assert reply.body.endswith(b"\n\ndata: [DONE]\n\n")
        assert reply.body.count(b"[DONE]") == 1
        assert MARK.encode() not in reply.body
        found = chunks(reply.body)
        assert {(c.id, c.model, c.object) for c in found} == {
            ("chatcmpl-d-1", "m", "chat.completion.chunk")
        }
        assert len({c.created for c in found}) == 1
        for index in range(n):
            own = [choice for c in found for choice in c.choices if choice.index == index]
            assert [choice.delta.role for choice in own] == ["assistant", None, None]
            assert [choice.delta.content for choice in own] == ["", refusal.message, None]
            assert [choice.finish_reason for choice in own] == [None, None, refusal.finish_reason]
        assert [c.usage.total_tokens for c in found if c.usage] == ([0] if usage else [])
        assert [len(c.choices) for c in found] == [1] * 3 * n + [0] * usage

    def test_the_sdk_itself_reads_both(self, refusal: Refusal, n: int):
        with sdk(CHAT.refuse(asked(n), BLOCK, refusal).body, "application/json") as client:
            completion = client.chat.completions.create(model="m", messages=[], n=n)
        assert [choice.message.content for choice in completion.choices] == [refusal.message] * n
        streamed = CHAT.refuse(asked(n, stream=True), BLOCK, refusal)
        texts = [""] * n
        with sdk(streamed.body, streamed.headers[0][1].decode()) as client:
            for part in client.chat.completions.create(model="m", messages=[], n=n, stream=True):
                for choice in part.choices:
                    texts[choice.index] += choice.delta.content or ""
        assert texts == [refusal.message] * n

    def test_in_the_error_style_both_are_one_http_error(self, refusal: Refusal, n: int):
        style = Refusal("error", refusal.message, refusal.finish_reason, 422)
        replies = [
            CHAT.refuse(asked(n, stream=stream, usage=True), BLOCK, style) for stream in (False, True)
        ]
        assert replies[0] == replies[1]
        assert (replies[0].status, replies[0].headers) == (422, (JSON,))
        error = orjson.loads(replies[0].body)["error"]
        assert (error["code"], error["message"]) == ("content_filter", refusal.message)
        assert error["innererror"]["content_filter_result"] == {
            "the-policy": {"filtered": True, "detected": True}
        }
        assert MARK.encode() not in replies[0].body


class TestRefuseChoices:
    RAW = (
        b'{"id":"c","created":1,"model":"m","object":"chat.completion", "choices":'
        b'[{"index":5,"message":{"role":"assistant","content":"bad"},'
        b'"logprobs":{"content":[]},"finish_reason":"stop"},'
        b' {"index":1, "message":{"role":"assistant","content":"good"},'
        b'"finish_reason":"stop","logprobs":null},{"message":{"content":"bad"}}],"usage" : null}'
    )

    @pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
    def test_only_the_refused_ones_are_replaced_and_keep_their_index(self, refusal: Refusal):
        raw = CHAT.refuse_choices(self.RAW, {0: refusal, 2: refusal}, structured=False)
        completion = ChatCompletion.model_validate_json(raw, strict=True)
        assert [choice.index for choice in completion.choices] == [5, 1, 2]
        assert [choice.message.content for choice in completion.choices] == [
            refusal.message,
            "good",
            refusal.message,
        ]
        assert [choice.finish_reason for choice in completion.choices] == [
            refusal.finish_reason,
            "stop",
            refusal.finish_reason,
        ]
        assert extras(completion) == []
        start, end = self.RAW.index(b"{", 1), self.RAW.index(b' {"index":1')
        assert raw.startswith(self.RAW[:start])
        kept = self.RAW[end : self.RAW.index(b',{"message"')]
        assert kept in raw
        assert raw.endswith(b'],"usage" : null}')
        assert b"bad" not in raw


class TestHalt:
    LAST = chunk(delta(0, content=f"{MARK}text"), created=1_700_000_001, model="upstream-model", x="y")

    @pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
    @pytest.mark.parametrize("last", [LAST, None, chunk(delta(1))], ids=["last", "none", "bare"])
    @pytest.mark.parametrize("spoke", [True, False])
    def test_ends_the_choice_and_refuses_if_nothing_was_said(
        self, refusal: Refusal, last: Event | None, spoke: bool
    ):
        stream = halted(last, 2, refusal, spoke=spoke)
        assert MARK.encode() not in stream
        assert b"[DONE]" not in stream
        found = chunks(stream)
        assert [choice.index for c in found for choice in c.choices] == [2] * len(found)
        assert [c.choices[0].finish_reason for c in found] == [None] * (not spoke) + [refusal.finish_reason]
        said = [(c.choices[0].delta.role, c.choices[0].delta.content) for c in found]
        assert said == [("assistant", refusal.message)] * (not spoke) + [(None, None)]
        assert {c.id for c in found} == {"chatcmpl-d-1" if last is None else "c-1"}
        if last is self.LAST:
            assert {(c.created, c.model) for c in found} == {(1_700_000_001, "upstream-model")}

    def test_a_structured_choice_is_refused_even_if_it_spoke_and_its_role_is_said_once(self):
        for spoke, said in ((True, (None, None)), (False, ("assistant", None))):
            found = chunks(halted(self.LAST, 2, REFUSALS[1], spoke=spoke, structured=True))
            assert [(c.choices[0].delta.role, c.choices[0].delta.content) for c in found] == [
                said,
                (None, None),
            ]
            assert [c.choices[0].delta.refusal for c in found] == ["No.", None]
            assert [c.choices[0].finish_reason for c in found] == [None, "stop"]

    def test_in_the_error_style_it_is_an_error_that_the_sdk_raises(self):
        stream = halted(self.LAST, 0, Refusal("error", "No."), spoke=True)
        assert MARK.encode() not in stream
        with sdk(self.LAST.raw + stream, "text/event-stream") as client:
            answer = client.chat.completions.create(model="m", messages=[], stream=True)
            assert next(answer).choices[0].delta.content == f"{MARK}text"
            with pytest.raises(openai.APIError, match=r"No\.") as caught:
                next(answer)
        assert caught.value.code == "content_filter"


class TestStructured:
    """Where the answer would be parsed, the words are a ``refusal`` and the content is null."""

    FORMATS = (
        {"type": "json_schema", "json_schema": {"name": "c", "schema": {}}},
        {"type": "json_object"},
    )
    STOP = REFUSALS[1]

    @pytest.mark.parametrize(
        ("format_", "structured"),
        [*((own, True) for own in FORMATS)]
        + [
            (own, False)
            for own in (
                None,
                {},
                {"type": "text"},
                {"type": ["json_object"]},
                "json_object",
                ["json_object"],
            )
        ],
    )
    def test_the_request_says_whether_the_answer_is_parsed(self, format_: Any, structured: bool):
        assert asked(response_format=format_).structured is structured
        assert asked().structured is False

    @pytest.mark.parametrize("format_", FORMATS, ids=lambda own: own["type"])
    def test_body_and_stream_say_it_as_openais_own_models(self, format_: dict[str, Any]):
        reply = CHAT.refuse(asked(2, response_format=format_), BLOCK, self.STOP)
        completion = ChatCompletion.model_validate_json(reply.body, strict=True)
        assert extras(completion) == []
        assert [(c.message.content, c.message.refusal) for c in completion.choices] == [(None, "No.")] * 2
        found = chunks(CHAT.refuse(asked(2, stream=True, response_format=format_), BLOCK, self.STOP).body)
        deltas = [(c.choices[0].delta.content, c.choices[0].delta.refusal) for c in found]
        assert deltas == [(None, None), (None, "No."), (None, None)] * 2

    def test_a_refused_choice_of_an_answer_says_it_too_and_the_others_stay(self):
        raw = CHAT.refuse_choices(TestRefuseChoices.RAW, {0: self.STOP}, structured=True)
        messages = [choice["message"] for choice in orjson.loads(raw)["choices"]]
        assert messages[0] == {"role": "assistant", "content": None, "refusal": "No."}
        assert [message["content"] for message in messages[1:]] == ["good", "bad"]

    def test_the_sdk_gives_the_refusal_instead_of_parsing_it(self):
        format_ = self.FORMATS[0]
        with sdk(
            CHAT.refuse(asked(response_format=format_), BLOCK, self.STOP).body, "application/json"
        ) as client:
            parsed = client.chat.completions.parse(model="m", messages=[], response_format=City)
        assert (parsed.choices[0].message.refusal, parsed.choices[0].message.parsed) == ("No.", None)
        whole = CHAT.refuse(asked(stream=True, response_format=format_), BLOCK, self.STOP).body
        begun = chunk(delta(0, role="assistant", content='{"name": "Os')).raw
        cut = begun + halted(None, 0, self.STOP, spoke=True, structured=True) + DONE
        for stream in (whole, cut):
            with (
                sdk(stream, "text/event-stream") as client,
                client.chat.completions.stream(model="m", messages=[], response_format=City) as events,
            ):
                kinds = [one.type for one in events]
                message = events.get_final_completion().choices[0].message
            assert (message.role, message.refusal, message.parsed) == ("assistant", "No.", None)
            assert kinds.count("refusal.done") == 1


def test_a_refused_choice_stands_where_the_other_stood_and_keeps_its_index():
    raw = b'{"choices":[{"index":5}, {"x":1.0},{}],"usage" : 1.0}'
    made = refused_choices(
        raw, {0: REFUSALS[0], 2: REFUSALS[1]}, lambda index, own: {str(index): own.message}
    )
    first, last = (
        (f'{{"{index}":"{own.message}"}}').encode() for index, own in zip((5, 2), REFUSALS, strict=True)
    )
    assert made == raw.replace(b'{"index":5}', first).replace(b"{}", last)
    assert refused_choices(raw, {}, lambda *_: {}) == raw


def test_a_head_has_the_identity_of_a_chunk_where_there_is_one():
    head = {"id": "ours", "object": "o", "model": ""}
    assert identified(head, event({"id": "theirs", "model": "m", "choices": []})) == {
        "id": "theirs",
        "object": "o",
        "model": "m",
    }
    assert identified(head, None) == identified(head, Event(b": ping\n\n", None)) == head
