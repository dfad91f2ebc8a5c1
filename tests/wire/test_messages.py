"""The messages dialect, bodies: read, edited, refused; and the counting of tokens."""

from __future__ import annotations

from typing import Any

import anthropic
import orjson
import pydantic
import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Address, Kind, json_path
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.dialect import Choice, GuardedRequest
from guardrail.wire.messages_edit import EDITED
from guardrail.wire.messages_stream import MessagesStream
from guardrail.wire.replies import EVENT_STREAM, JSON, Refusal
from tests.wire.chats import (
    BLOCK,
    MARK,
    REFUSALS,
    at,
    extras,
    leaves,
    mostly,
    segments,
    shaped,
    strings,
    values,
)
from tests.wire.claudes import (
    COUNT,
    MESSAGES,
    USAGE,
    answer,
    assistant,
    blocks,
    body,
    contents,
    final,
    is_silent,
    sdk,
    strictly,
    text,
    texts,
    thinking,
    tool_result,
    tool_use,
    user,
)

FORMAT = {"format": {"type": "json_schema", "schema": {"type": "object"}}}


class City(pydantic.BaseModel):
    name: str


def asked(**fields: Any) -> GuardedRequest:
    return MESSAGES.read_request(body(user("hi"), **fields))


class TestReadRequest:
    def test_a_request_is_read(self):
        raw = body(user("hi"), system="be kind", stream=True)
        request = MESSAGES.read_request(raw)
        assert request.raw is raw
        assert texts(request.conversation) == ["be kind", "hi"]
        assert (request.model, request.stream, request.choices) == ("m", True, 1)
        assert (request.added_policies, request.structured) == ((), False)
        assert request.conversation.unreadable == ()

    @pytest.mark.parametrize("dialect", [MESSAGES, COUNT])
    @pytest.mark.parametrize(
        ("raw", "param"),
        [
            (b"[]", None),
            (b"no JSON", None),
            (b'{"messages": [], "messages": []}', None),
            (b'{"Messages": [], "messages": []}', None),
            (b"{}", "messages"),
            (b'{"messages": {}}', "messages"),
            (b'{"messages": [], "stream": 1}', "stream"),
            (b'{"messages": [], "guardrails": "p"}', "guardrails"),
            (b'{"messages": [], "guardrails": [5]}', "guardrails"),
            (b'{"messages": [5]}', "messages[0]"),
        ],
    )
    def test_what_is_none_says_why(self, dialect: Any, raw: bytes, param: str | None):
        with pytest.raises(UnreadableRequest) as caught:
            dialect.read_request(raw)
        assert caught.value.param == param

    def test_policies_that_are_asked_for_stay_here(self):
        request = asked(guardrails=["p", "q"])
        assert request.added_policies == ("p", "q")
        assert request.raw == body(user("hi"))
        assert asked(guardrails=None).raw == body(user("hi"))

    def test_thinking_that_was_edited_here_is_neither_read_nor_forwarded(self):
        raw = body(user("hi"), assistant(thinking("x", EDITED), text("y")), user("go on"))
        request = MESSAGES.read_request(raw)
        assert request.raw == body(user("hi"), assistant(text("y")), user("go on"))
        assert texts(request.conversation) == ["hi", "y", "go on"]
        assert segments(request.conversation)[1].address == ("messages", 1, "content", 0, "text")

    @pytest.mark.parametrize("model", [None, 5])
    def test_a_model_that_is_no_name_is_none(self, model: Any):
        assert asked(model=model).model == ""

    @pytest.mark.parametrize(
        ("fields", "structured"),
        [
            ({"output_config": FORMAT}, True),
            ({"output_format": FORMAT["format"]}, True),
            ({"output_config": {"effort": "low"}}, False),
            ({"output_config": "x"}, False),
        ],
    )
    def test_structured_output_is_seen(self, fields: dict[str, Any], structured: bool):
        assert asked(**fields).structured is structured

    def test_fields_that_may_hold_text_are_named(self):
        tools = [{"name": "book", "description": "Books.", "input_schema": {"type": "object"}}]
        request = asked(
            tools=tools,
            output_config=FORMAT,
            mcp_servers=[{"url": "https://x.example"}],
            new_field="x",
            new_number=5,
            empty=[],
            metadata={"user_id": "u"},
            stop_sequences=["x"],
            thinking={"type": "enabled", "budget_tokens": 1024},
            tool_choice={"type": "auto"},
        )
        assert request.conversation.unreadable == (
            "$.tools",
            "$.output_config",
            "$.mcp_servers",
            "$.new_field",
        )
        assert asked(output_config={"effort": "low"}).conversation.unreadable == ()

    def test_stored_skills_of_a_container_are_named(self):
        skills = [{"type": "custom", "skill_id": "s-1", "version": "latest"}]
        for container, named in (
            ("c-1", ()),
            ({"id": "c-1", "skills": []}, ()),
            ({"skills": skills}, ("$.container.skills",)),
        ):
            assert asked(container=container).conversation.unreadable == named


messages = mostly(
    st.lists(
        mostly(
            shaped(
                role=st.sampled_from(["user", "assistant", "system"]) | strings, content=contents, x=values
            )
        ),
        max_size=3,
    )
)
requests = mostly(
    st.fixed_dictionaries(
        {"messages": messages},
        optional={
            "system": mostly(st.one_of(strings, st.lists(blocks, max_size=2))),
            "stream": mostly(st.booleans()),
            "tools": values,
            "guardrails": mostly(st.lists(strings, max_size=2)),
            "output_config": values,
            "x": values,
        },
    )
)


def new(address: Address) -> str:
    return '{"new": 1}' if address[-1] == "input" else "new"


class TestAnyRequest:
    @given(requests.map(orjson.dumps) | st.binary(max_size=20))
    def test_every_text_in_it_is_judged_or_named_and_can_be_replaced(self, raw: bytes):
        try:
            request = MESSAGES.read_request(raw)
        except UnreadableRequest as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        value = orjson.loads(request.raw)
        assert "guardrails" not in value
        found = segments(request.conversation)
        known = [json_path(s.address) for s in found] + [*request.conversation.unreadable]
        for address, words in leaves(value):
            if address[0] in ("messages", "system", "tools", "x") and not is_silent(address, words):
                assert any(json_path(address).startswith(path) for path in known), (address, known)
        edits = {s.address: new(s.address) for s in found}
        changed = orjson.loads(MESSAGES.edit(request.raw, edits))
        assert MARK not in "".join(
            words
            for address, words in leaves(changed)
            if json_path(address) in {json_path(a) for a in edits}
        )
        kept = {a: t for a, t in leaves(value) if not any(a[: len(e)] == e for e in edits)}
        if not any(a[-1] == "thinking" for a in edits):
            assert all(at(changed, address) == words for address, words in kept.items())

    @given(requests.map(orjson.dumps))
    def test_what_passes_keeps_its_bytes(self, raw: bytes):
        try:
            request = MESSAGES.read_request(raw)
        except UnreadableRequest:
            return
        if "guardrails" not in orjson.loads(raw):
            assert request.raw == raw


class TestEditAndDrop:
    def test_a_text_is_replaced_and_marks_keep_their_bytes(self):
        raw = (
            b'{"system" : [ {"type":"text", "text":"a", "cache_control":{ "type":"ephemeral" }} ],'
            b' "messages":[{"role":"user","content":"b"}]}'
        )
        changed = MESSAGES.edit(raw, {("system", 0, "text"): "new", ("messages", 0, "content"): "c"})
        assert changed == raw.replace(b'"a"', b'"new"').replace(b'"b"', b'"c"')

    def test_a_turn_is_dropped_with_its_message(self):
        raw = body(user("hi"), assistant(text("no")), user("well?"), system="be kind")
        assert MESSAGES.drop(raw, [1, 2]) == body(user("well?"), system="be kind")


class TestReadResponse:
    def test_all_blocks_are_one_choice(self):
        raw = answer(thinking("hm"), text("x"), tool_use({"a": 1}))
        [choice] = MESSAGES.read_response(raw)
        assert (choice.position, choice.turn.role, choice.unreadable) == (0, "assistant", ())
        assert [(s.text, s.address, s.kind) for s in choice.turn.segments] == [
            ("hm", ("content", 0, "thinking"), Kind.REASONING),
            ("x", ("content", 1, "text"), Kind.TEXT),
            ('{"a":1}', ("content", 2, "input"), Kind.TOOL_ARGUMENTS),
        ]

    def test_why_it_stopped_is_read(self):
        raw = answer(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "a b"})
        [choice] = MESSAGES.read_response(raw)
        assert [(s.text, s.kind) for s in choice.turn.segments] == [("a b", Kind.FIELD)]

    def test_other_fields_are_named_and_sealed_thinking_is_not(self):
        raw = answer({"type": "redacted_thinking", "data": "%%"}, {"type": "new", "x": "y"}, more="z")
        assert MESSAGES.read_response(raw)[0].unreadable == ("$.content[1]", "$.more")

    @pytest.mark.parametrize(
        "raw",
        [b"no JSON", b"[]", b"5", b"{}", b'{"content": "x"}', b'{"content": [5]}', b'{"content": null}'],
    )
    def test_what_is_no_message_is_unreadable(self, raw: bytes):
        with pytest.raises(UnreadableResponse):
            MESSAGES.read_response(raw)

    @given(
        mostly(shaped(content=mostly(st.lists(blocks, max_size=3)), stop_details=values, x=values)).map(
            orjson.dumps
        )
        | st.binary(max_size=20)
    )
    def test_any_answer_is_read_or_unreadable_and_every_text_can_be_replaced(self, raw: bytes):
        try:
            [choice] = MESSAGES.read_response(raw)
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        value = orjson.loads(raw)
        known = [json_path(s.address) for s in choice.turn.segments] + [*choice.unreadable]
        sealed = ("encrypted_content", "data")
        for address, words in leaves(value):
            if address[-1] not in sealed and not is_silent(address, words):
                assert any(json_path(address).startswith(path) for path in known), (address, known)
        changed = orjson.loads(
            MESSAGES.edit(raw, {s.address: new(s.address) for s in choice.turn.segments})
        )
        for segment in choice.turn.segments:
            found = at(changed, segment.address)
            assert found == "new" or segment.address[-1] == "input"

    def test_an_edited_answer_is_one_to_the_sdk(self):
        raw = answer(thinking("hm"), text("x"), tool_use({"a": "b", "n": 1.5}))
        edited = MESSAGES.edit(
            raw, {("content", 2, "input"): '{"a":"c","n":1.5}', ("content", 1, "text"): "y"}
        )
        assert edited == raw.replace(b'"b"', b'"c"').replace(b'"x"', b'"y"')
        found = Message.model_validate_json(edited)
        assert extras(found) == []


class TestRefuse:
    @pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
    @pytest.mark.parametrize("stream", [False, True])
    def test_the_sdk_reads_a_whole_message(self, refusal: Refusal, stream: bool):
        reply = MESSAGES.refuse(asked(stream=stream), BLOCK, refusal)
        assert (reply.status, reply.headers) == (200, (EVENT_STREAM if stream else JSON,))
        assert MARK.encode() not in reply.body
        if stream:
            strictly(reply.body)
            found = final(reply.body)
        else:
            with sdk(reply.body, kind="application/json") as client:
                found = client.messages.create(model="m", max_tokens=9, messages=[])
        assert (found.id, found.model, found.role, found.type) == ("msg_d-1", "m", "assistant", "message")
        assert [(block.type, block.text) for block in found.content] == [("text", refusal.message)]
        assert found.stop_reason == ("end_turn" if refusal.finish_reason == "stop" else "refusal")
        assert (found.usage.input_tokens, found.usage.output_tokens) == (0, 0)

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_structured_one_is_parsed_to_nothing(self, stream: bool):
        reply = MESSAGES.refuse(asked(stream=stream, output_config=FORMAT), BLOCK, REFUSALS[0])
        with sdk(reply.body, kind="text/event-stream" if stream else "application/json") as client:
            if stream:
                with client.messages.stream(
                    model="m", max_tokens=9, messages=[], output_format=City
                ) as events:
                    found = events.get_final_message()
            else:
                found = client.messages.parse(model="m", max_tokens=9, messages=[], output_format=City)
        assert (found.content, found.parsed_output, found.stop_reason) == ([], None, "refusal")

    @pytest.mark.parametrize("stream", [False, True])
    def test_in_error_style_the_sdk_raises(self, stream: bool):
        reply = MESSAGES.refuse(asked(stream=stream), BLOCK, Refusal(style="error", message="No."))
        assert (reply.status, reply.headers) == (400, (JSON,))
        client = sdk(reply.body, reply.status, "application/json")
        with client, pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(model="m", max_tokens=9, messages=[])
        assert (caught.value.error_code, caught.value.api_message) == ("content_filter", "No.")

    def test_a_refused_answer_keeps_its_identity_and_usage(self):
        raw = answer(thinking("evil"), text("evil"), stop_details={"explanation": "evil"})
        refused = MESSAGES.refuse_choices(raw, {0: REFUSALS[0]}, structured=False)
        found = Message.model_validate_json(refused)
        assert b"evil" not in refused
        assert (found.id, found.model, found.usage.to_dict()) == ("msg_1", "m-1", USAGE)
        assert [block.to_dict() for block in found.content] == [text(REFUSALS[0].message)]
        assert found.stop_reason == "refusal"

    def test_a_refused_answer_that_has_none_gets_one(self):
        found = Message.model_validate_json(
            MESSAGES.refuse_choices(b'{"content": []}', {0: REFUSALS[0]}, structured=True)
        )
        assert (found.id, found.model, found.content, found.usage.output_tokens) == ("", "", [], 0)

    def test_nothing_is_refused(self):
        raw = answer(text("x"))
        assert MESSAGES.refuse_choices(raw, {}, structured=False) is raw


class TestRest:
    def test_a_stream_is_new_each_time(self):
        request = asked(stream=True)
        one = MESSAGES.stream(request)
        assert type(one) is MessagesStream
        assert one is not MESSAGES.stream(request)

    def test_an_error_has_the_dialects_form(self):
        reply = MESSAGES.error(400, "c", "m", "p")
        error = {"type": "invalid_request_error", "message": "m", "param": "p", "code": "c"}
        assert orjson.loads(reply.body)["error"] == {**error, "details": {"error_code": "c"}}


class TestCountTokens:
    def test_is_read_like_its_message_and_never_streams(self):
        raw = body(user([tool_result("found")]), stream=True)
        request, counted = MESSAGES.read_request(raw), COUNT.read_request(raw)
        assert counted.conversation == request.conversation
        assert (request.stream, counted.stream, counted.raw) == (True, False, raw)

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"input_tokens": 5}',
            b'{"input_tokens": 0, "context_management": {"original_input_tokens": 7}}',
        ],
    )
    def test_a_number_is_no_choice(self, raw: bytes):
        assert COUNT.read_response(raw) == []

    @pytest.mark.parametrize(
        "raw",
        [
            b"no JSON",
            b"5",
            b"{}",
            b'{"input_tokens": "5"}',
            b'{"input_tokens": true}',
            b'{"input_tokens": 5, "text": "x"}',
            b'{"input_tokens": 5, "data": "x"}',
            b'{"input_tokens": 5, "input_tokens": 5}',
        ],
    )
    def test_more_than_a_number_is_unreadable(self, raw: bytes):
        with pytest.raises(UnreadableResponse):
            COUNT.read_response(raw)

    @pytest.mark.parametrize("style", ["completion", "error"])
    def test_a_blocked_one_is_an_error(self, style: Any):
        refusal = Refusal(style=style, message="No.")
        reply = COUNT.refuse(COUNT.read_request(body(user("hi"))), BLOCK, refusal)
        assert reply.status == 400
        client = sdk(reply.body, reply.status, "application/json")
        with client, pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.count_tokens(model="m", messages=[])
        assert (caught.value.error_code, caught.value.type) == ("content_filter", "invalid_request_error")

    def test_a_choice_is_what_others_have(self):
        assert type(MESSAGES.read_response(answer(text("x")))[0]) is Choice
