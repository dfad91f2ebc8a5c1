"""The chat dialect, bodies: every text is found or named, nothing but the asked-for bytes ever changes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.core.addition import Addition
from guardrail.core.conversation import Address, Kind, json_path
from guardrail.core.policy import Mode
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.chat_messages import read_messages
from guardrail.wire.dialect import Choice, GuardedRequest
from tests.wire.chats import (
    CHAT,
    EVIL,
    MARK,
    answer,
    at,
    body,
    call,
    chunk,
    custom,
    delta,
    is_silent,
    leaves,
    message_fields,
    mostly,
    numbers,
    openais_error,
    read_one,
    replaced_alone,
    segments,
    shaped,
    strings,
    user,
    values,
)


def read(message: Any) -> tuple[list[tuple[Address, Kind, str]], list[str]]:
    """The segments and unreadable paths of one message, relative to it."""
    conversation = CHAT.read_request(body(message)).conversation
    found = [(s.address, s.kind, s.text) for s in segments(conversation)]
    assert all(address[:2] == ("messages", 0) for address, _, _ in found)
    prefix = "$.messages[0]."
    assert all(path.startswith(prefix) for path in conversation.unreadable)
    return [(a[2:], kind, text) for a, kind, text in found], [
        p[len(prefix) :] for p in conversation.unreadable
    ]


messages = mostly(
    st.builds(lambda fields, role: fields | {"role": role}, shaped(**message_fields), strings)
)


bodies = mostly(
    st.builds(
        lambda fields, own: fields | {"messages": own},
        shaped(
            n=st.integers(1, 3),
            stream=st.booleans(),
            guardrails=st.lists(strings, max_size=2),
            model=strings,
            prediction=shaped(type=strings, content=message_fields["content"]),
            tools=values,
            response_format=shaped(type=st.just("json_object")),
            x=values,
        ),
        mostly(st.lists(messages, min_size=1, max_size=3)),
    )
)


class TestARequestThatPasses:
    def test_its_bytes_are_the_very_same_object(self):
        raw = b' {"messages" : [ {"role":"user","content":"\\u00e9\\/"} ], "zeta":1.0E0 ,"n":1}\n'
        assert CHAT.read_request(raw).raw is raw

    @pytest.mark.parametrize(
        ("fields", "read"),
        [
            ({}, ("m", False, 1, False)),
            ({"model": None, "stream": None, "n": None, "stream_options": None}, ("", False, 1, False)),
            ({"model": 5, "stream": False, "n": 0}, ("", False, 1, False)),
            ({"stream": True, "n": 128, "stream_options": {"include_usage": True}}, ("m", True, 128, True)),
            ({"stream_options": {"include_usage": 1}}, ("m", False, 1, False)),
            ({"stream_options": "include_usage"}, ("m", False, 1, False)),
        ],
    )
    def test_what_shapes_the_answer_is_read(self, fields: dict[str, Any], read: tuple[Any, ...]):
        request = CHAT.read_request(body(user("hi"), **fields))
        assert (request.model, request.stream, request.choices, request.include_usage) == read

    @pytest.mark.parametrize(
        ("raw", "added", "forwarded"),
        [
            (
                b'{"messages": [], "guardrails": ["a", "b"], "n": 1}',
                ("a", "b"),
                b'{"messages": [], "n": 1}',
            ),
            (b'{"guard\\u0072ails" : [ "a" ] , "messages": []}', ("a",), b'{"messages": []}'),
            (b'{"messages": [], "guardrails": []}', (), b'{"messages": []}'),
            (
                b'{"guardrails": ["a", {"name": "b", "mode": "enforce"}], "messages": []}',
                ("a", Addition("b", Mode.ENFORCE)),
                b'{"messages": []}',
            ),
            (b'{"messages": [], "guardrails": null}', (), b'{"messages": []}'),
        ],
    )
    def test_added_policies_are_read_and_stripped_and_nothing_else_changes(
        self, raw: bytes, added: tuple[str, ...], forwarded: bytes
    ):
        request = CHAT.read_request(raw)
        assert (request.added_policies, request.raw) == (added, forwarded)


@pytest.mark.parametrize("text", [EVIL, {"a": EVIL}, [EVIL]])
def test_text_beside_the_message_of_a_choice_is_named(text: Any):
    known = {
        "index": 0,
        "finish_reason": "stop",
        "stop_reason": "x",
        "logprobs": {"content": []},
        "seed": 1,
    }
    choice = known | {"text": text, "weight": 5, "empty": ""}
    [whole] = CHAT.read_response(
        orjson.dumps({"choices": [{"message": {"role": "assistant", "content": "a"}} | choice]})
    )
    assert whole.unreadable == ("$.choices[0].text",)
    found = read_one(chunk({"delta": {"content": "a"}} | choice))
    assert list(found.unreadable) == ["$.choices[0].text"]
    alone = read_one(chunk({"index": 0, "delta": {"content": "a"}, "text": text}))
    assert ([d.text for d in alone.deltas], list(alone.unreadable)) == (["a"], ["$.choices[0].text"])


def test_a_delta_beside_the_message_of_a_body_is_judged_or_named():
    for value, texts, named in (
        ({"role": "assistant", "content": ""}, [], ()),
        ({"content": EVIL, "x": [EVIL]}, [(EVIL, Kind.FIELD)], ("$.choices[0].delta.x",)),
        ({"reasoning": "b"}, [("b", Kind.REASONING)], ()),
        (EVIL, [], ("$.choices[0].delta",)),
        ([EVIL], [], ("$.choices[0].delta",)),
    ):
        raw = orjson.dumps(
            {"choices": [{"message": {"role": "assistant", "content": "a"}, "delta": value}]}
        )
        [found] = CHAT.read_response(raw)
        own, *beside = found.turn.segments
        assert (own.text, own.kind) == ("a", Kind.TEXT)
        assert ([(s.text, s.kind) for s in beside], found.unreadable) == (texts, named)
        for segment in beside:
            after = orjson.loads(CHAT.edit(raw, {segment.address: "new"}))
            assert at(after, segment.address) == "new"


@pytest.mark.parametrize("text", [EVIL, {"a": EVIL}, [EVIL]])
def test_text_beside_the_choices_is_named_with_each_of_them(text: Any):
    found = CHAT.read_response(answer({"content": "a"}, {"content": "b"}, x=text, weight=5, empty=""))
    assert [one.unreadable for one in found] == [("$.x",), ("$.x",)]
    for added in ([delta(content="a")], []):
        read = read_one(chunk(choices=added, x=text, weight=5, empty=""))
        assert ([d.text for d in read.deltas], list(read.unreadable)) == (["a"] if added else [], ["$.x"])


class TestTextsOutsideTheMessages:
    @pytest.mark.parametrize(
        ("content", "addresses"),
        [
            ("a", [("prediction", "content")]),
            (
                [{"type": "text", "text": "a"}, "b"],
                [("prediction", "content", 0, "text"), ("prediction", "content", 1)],
            ),
        ],
    )
    def test_a_prediction_is_a_turn_of_its_own(self, content: Any, addresses: list[Address]):
        raw = body(user("hi"), prediction={"type": "content", "content": content})
        conversation = CHAT.read_request(raw).conversation
        assert [turn.role for turn in conversation.turns] == ["user"]
        assert [turn.role for turn in conversation.asides] == ["prediction"]
        assert [s.address for s in conversation.asides[0].segments] == addresses
        assert all(at(orjson.loads(raw), s.address) == s.text for s in segments(conversation))
        assert conversation.unreadable == ()

    @pytest.mark.parametrize(
        "prediction", [EVIL, {"text": EVIL}, {"content": None, "x": EVIL}, [EVIL], {"content": []}]
    )
    def test_a_prediction_without_readable_content_is_named(self, prediction: Any):
        conversation = CHAT.read_request(body(user("hi"), prediction=prediction)).conversation
        assert conversation.unreadable == ("$.prediction",)

    def test_an_unreadable_part_of_a_prediction_is_named(self):
        content = ["a", {"type": "image_url"}]
        conversation = CHAT.read_request(body(prediction={"content": content})).conversation
        assert conversation.unreadable == ("$.prediction.content[1]",)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("tools", [{"type": "function", "function": {"name": "f", "description": EVIL}}]),
            ("functions", [{"name": "f"}]),
            ("documents", [EVIL]),
            ("chat_template", EVIL),
            ("x", {"y": 1}),
            ("response_format", {"type": "json_schema", "json_schema": {"description": EVIL}}),
            ("response_format", {"type": "json_object", "schema": {"description": EVIL}}),
            ("response_format", EVIL),
            ("response_format", [EVIL]),
        ],
    )
    def test_tools_and_unknown_text_fields_are_named_as_unjudged(self, field: str, value: Any):
        assert CHAT.read_request(body(user("hi"), **{field: value})).conversation.unreadable == (
            f"$.{field}",
        )

    @pytest.mark.parametrize(
        "fields",
        [
            {"x": 5, "y": 1.5, "z": True, "temperature": 0.3, "seed": 7},
            {"x": None, "tools": [], "functions": {}, "y": "", "prediction": None},
            {"response_format": {"type": "json_object"}},
            {
                "tool_choice": "auto",
                "user": "u",
                "metadata": {"k": "v"},
                "stop": ["\n"],
                "logit_bias": {"5": 1},
            },
            {"prompt_cache_key": "k", "prompt_cache_options": {"mode": "explicit", "ttl": "24h"}},
            {
                "provider": {"order": ["groq"]},
                "reasoning": {"effort": "low"},
                "usage": {"include": True},
                "models": ["m", "n"],
                "route": "fallback",
                "transforms": ["middle-out"],
                "thinking": {"type": "enabled"},
            },
        ],
    )
    def test_numbers_empty_values_and_fields_the_model_never_sees_are_not(self, fields: dict[str, Any]):
        assert CHAT.read_request(body(user("hi"), **fields)).conversation.unreadable == ()


class TestRequestsThatCannotBeRead:
    @pytest.mark.parametrize(
        ("raw", "param"),
        [
            (b"", None),
            (b'{"messages": [', None),
            (b'{"messages": [], "messages": []}', None),
            (b"[]", None),
            (b'"\xc2\xa7"', None),
            (b"{}", "messages"),
            (b'{"messages": null}', "messages"),
            (b'{"messages": {"0": "\xc2\xa7"}}', "messages"),
            (body(5), "messages[0]"),
            (body(user("a"), f"{MARK}"), "messages[1]"),
            (body({"content": MARK}), "messages[0]"),
            (body({"role": [MARK], "content": MARK}), "messages[0]"),
            (body(user({"text": MARK})), "messages[0].content"),
            (body(user(5)), "messages[0].content"),
            (body(user(False)), "messages[0].content"),
            (body(user([MARK, None])), "messages[0].content[1]"),
            (body(user([[MARK]])), "messages[0].content[0]"),
            (body(prediction={"content": {"text": MARK}}), "prediction.content"),
            (body(prediction={"content": [MARK, 1]}), "prediction.content[1]"),
            (body(stream=1), "stream"),
            (body(stream=MARK), "stream"),
            (body(n=129), "n"),
            (body(n=-1), "n"),
            (body(n=True), "n"),
            (body(n=2.0), "n"),
            (body(n=MARK), "n"),
            (body(guardrails=MARK), "guardrails"),
            (body(guardrails=[5]), "guardrails"),
            (body(guardrails={MARK: 1}), "guardrails"),
            (body(guardrails=False), "guardrails"),
            (body(guardrails=0), "guardrails"),
        ],
    )
    def test_say_which_parameter_is_wrong_and_quote_nothing(self, raw: bytes, param: str | None):
        with pytest.raises(UnreadableRequest) as caught:
            CHAT.read_request(raw)
        assert (caught.value.status, caught.value.param) == (400, param)
        assert str(caught.value)
        assert MARK not in str(caught.value)

    @pytest.mark.parametrize(
        ("messages", "param"),
        [
            ([5], "[0]"),
            ([user("a"), {}], "[1]"),
            ([user(5)], "[0].content"),
            ([user(["a", 1])], "[0].content[1]"),
        ],
    )
    def test_a_list_that_is_no_body_is_addressed_from_its_top(self, messages: list[Any], param: str):
        with pytest.raises(UnreadableRequest) as caught:
            read_messages(messages, ())
        assert caught.value.param == param


class TestAnyRequest:
    @given(bodies)
    @example({"messages": [], "guardrails": None})
    def test_is_read_or_refused_without_quoting_it(self, value: Any):
        try:
            request = CHAT.read_request(orjson.dumps(value))
        except UnreadableRequest as error:
            told = f"{error} {error.param}"
        else:
            told = ""
            assert type(request) is GuardedRequest
            assert type(request.stream) is bool
            assert type(request.choices) is int
            assert 1 <= request.choices <= 128
            assert all(isinstance(added, str | Addition) for added in request.added_policies)
        assert MARK not in told

    @given(bodies)
    def test_no_text_of_it_is_neither_judged_nor_named(self, value: Any):
        try:
            request = CHAT.read_request(orjson.dumps(value))
        except UnreadableRequest:
            return
        judged = {segment.address: segment.text for segment in segments(request.conversation)}
        assert all(at(value, address) == text for address, text in judged.items())
        named = request.conversation.unreadable
        for address, text in leaves(value):
            prefixes = {json_path(address[:size]) for size in range(len(address) + 1)}
            assert address in judged or prefixes & {*named} or is_silent(address, text), json_path(address)

    @given(st.lists(messages, max_size=3))
    def test_any_messages_are_a_conversation_or_refused(self, value: list[Any]):
        try:
            conversation = read_messages(value, ())
        except UnreadableRequest as error:
            told = (error.param or MARK) + str(error)
        else:
            told = ""
            assert [turn.role for turn in conversation.turns] == [message["role"] for message in value]
            assert all(at(value, segment.address) == segment.text for segment in segments(conversation))
        assert MARK not in told

    @given(bodies)
    def test_every_text_found_in_it_can_be_replaced_alone(self, value: Any):
        replaced_alone(CHAT, value)


class TestRedaction:
    def test_a_request_changes_only_in_the_redacted_strings(self):
        raw = (
            b'{"messages": [ {"role":"system","content":"s\\u00e9"},\n'
            b'  {"role":"user", "content":[{"type":"text","text":"my secret: 42", '
            b'"cache_control":{"type":"ephemeral"}}]} ],  "top_p":1.0E0,"logprobs":true, "zeta":[1,2 ]}'
        )
        segment = segments(CHAT.read_request(raw).conversation)[1]
        after = CHAT.edit(raw, {segment.address: segment.text.replace("42", "[R]")})
        assert after == raw.replace(b"secret: 42", b"secret: [R]")

    def test_a_text_that_is_json_is_written_as_a_string(self):
        raw = body({"role": "assistant", "content": None, "tool_calls": [call('{"q": "a 42 b"}')]})
        segment = segments(CHAT.read_request(raw).conversation)[0]
        new = '{"q": "\\u00e9 \\"[R]\\"\\n"}'
        after = orjson.loads(CHAT.edit(raw, {segment.address: new}))
        assert after["messages"][0]["tool_calls"][0]["function"]["arguments"] == new

    def test_log_probabilities_of_a_redacted_choice_go_and_of_no_other(self):
        raw = (
            b'{"id":"c",  "choices":[{"index":0,"message":{"role":"assistant","content":"a 42"},"logprobs":'
            b'{"content":[{"token":"42","logprob":-1.0E-1}]}},'
            b' {"index":1,"message":{"content":"b"},"logprobs": {"content":[{"token":"b"}]}},'
            b'{"index":2,"message":{"content":"c 42"}}, '
            b'{"index":3,"message":{"content":"42"},"logprobs":null}],"usage":{}}'
        )
        texts = {
            segment.address: segment.text.replace("42", "[R]")
            for choice in CHAT.read_response(raw)
            for segment in choice.turn.segments
            if "42" in segment.text
        }
        expected = raw.replace(b'{"content":[{"token":"42","logprob":-1.0E-1}]}', b"null")
        for text in (b'"a 42"', b'"c 42"', b'"42"'):
            expected = expected.replace(text, text.replace(b"42", b"[R]"))
        assert CHAT.edit(raw, texts) == expected


choices_of_an_answer = st.builds(
    lambda fields, own: fields | {"message": own},
    shaped(index=numbers, logprobs=values),
    mostly(shaped(**message_fields)),
)


answers = mostly(
    st.lists(mostly(choices_of_an_answer), min_size=1, max_size=3).map(lambda own: {"choices": own})
)


class TestDrop:
    @given(st.data())
    def test_takes_out_these_messages_and_nothing_else(self, data: st.DataObject):
        forms = st.sampled_from(['{"role": "user", "content": "a"}', '{ "role":"x" }'])
        messages = data.draw(st.lists(forms, max_size=6))
        turns = data.draw(st.sets(st.sampled_from(range(len(messages)))) if messages else st.just(set()))
        raw = '{"n": 1.0, "messages": [' + " , ".join(messages) + ' ], "x": "\\u00e9"}'
        dropped = CHAT.drop(raw.encode(), sorted(turns)).decode()
        assert dropped.startswith('{"n": 1.0, "messages": [')
        assert dropped.endswith('], "x": "\\u00e9"}')
        wanted = [json.loads(m) for i, m in enumerate(messages) if i not in turns]
        assert json.loads(dropped)["messages"] == wanted
        assert turns or dropped == raw

    def test_comes_after_an_edit(self):
        edited = CHAT.edit(body(user("a"), user("b"), user("secret")), {("messages", 2, "content"): "[R]"})
        assert json.loads(CHAT.drop(edited, [0]))["messages"] == [user("b"), user("[R]")]


class TestReadResponse:
    def test_every_choice_with_all_its_texts(self):
        raw = answer(
            {"role": "assistant", "content": "a", "reasoning": "b", "refusal": None, "annotations": []},
            {"content": None, "tool_calls": [call("{}"), custom("c")], "audio": {"transcript": "d"}},
            {"reasoning_content": "e", "content": [{"type": "text", "text": "f"}, {"type": "image_url"}]},
        )
        choices = CHAT.read_response(raw)
        assert [choice.position for choice in choices] == [0, 1, 2]
        texts = [[(s.kind, s.text) for s in choice.turn.segments] for choice in choices]
        assert texts == [
            [(Kind.TEXT, "a"), (Kind.REASONING, "b")],
            [(Kind.TOOL_ARGUMENTS, "{}"), (Kind.TEXT, "c")],
            [(Kind.TEXT, "f"), (Kind.REASONING, "e")],
        ]
        assert [choice.unreadable for choice in choices] == [
            (),
            ("$.choices[1].message.audio",),
            ("$.choices[2].message.content[1]",),
        ]
        assert {choice.turn.role for choice in choices} == {"assistant"}

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"not json",
            b"[]",
            b"null",
            b"{}",
            b'{"choices": null}',
            b'{"choices": {}}',
            b'{"choices": ""}',
            b'{"choices": "\xc2\xa7"}',
            b'{"choices": 0}',
            b'{"choices": [5]}',
            b'{"choices": [["message"]]}',
            b'{"choices": [{}]}',
            b'{"choices": [{"message": null}]}',
            b'{"choices": [{"message": []}]}',
            b'{"choices": [{"message": {"content": 5}}]}',
            b'{"choices": [{"message": {"content": [5]}}]}',
            b'{"choices": [{"message": {"content": "\xc2\xa7", "content": "b"}}]}',
            b'{"choices": [], "x": ' + b"[" * 600 + b"]" * 600 + b"}",
        ],
    )
    def test_what_is_no_completion_is_unreadable_and_not_quoted(self, raw: bytes):
        with pytest.raises(UnreadableResponse) as caught:
            CHAT.read_response(raw)
        assert MARK not in str(caught.value)

    @given(answers)
    def test_any_json_is_choices_or_unreadable_and_what_is_found_can_be_replaced(self, value: Any):
        raw = orjson.dumps(value)
        try:
            choices = CHAT.read_response(raw)
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        assert [choice.position for choice in choices] == list(range(len(value["choices"])))
        found = [s for choice in choices for s in choice.turn.segments]
        assert all(isinstance(choice, Choice) for choice in choices)
        assert all(at(value, segment.address) == segment.text for segment in found)
        texts = {segment.address: f"[{place}]" for place, segment in enumerate(found)}
        after = orjson.loads(CHAT.edit(raw, texts))
        for address, text in texts.items():
            assert at(after, address) == text
            assert not after["choices"][address[1]].get("logprobs")

    def test_any_bytes_are_choices_or_unreadable(self):
        for raw in (b"\xff", b"\x00", b'{"choices": [{"message": {"content": "\xff"}}]}', b"data: {}\n\n"):
            with pytest.raises(UnreadableResponse):
                CHAT.read_response(raw)


class TestKeysInOtherLetters:
    """Go servers, Ollama among them, take ``Content`` for ``content``; what they read must be judged."""

    @pytest.mark.parametrize("key", ["Messages", "STREAM", "Prediction"])
    def test_in_a_body_they_are_refused(self, key: str):
        with pytest.raises(UnreadableRequest, match="only in case"):
            CHAT.read_request(body(user("hi"), **{key: [{"role": "user", "content": EVIL}]}))

    @pytest.mark.parametrize("key", ["Content", "ROLE", "Tool_Calls"])
    def test_in_a_message_they_are_refused(self, key: str):
        with pytest.raises(UnreadableRequest, match="only in case") as caught:
            CHAT.read_request(body({"role": "user", "content": "hi", key: EVIL}))
        assert caught.value.param == "messages[0]"

    def test_in_an_answer_too(self):
        message = {"role": "assistant", "content": "hi", "Content": EVIL}
        with pytest.raises(UnreadableResponse):
            CHAT.read_response(orjson.dumps({"choices": [{"index": 0, "message": message}]}))
        with pytest.raises(UnreadableResponse):
            read_one(chunk({"index": 0, "delta": {"content": "a"}, "Delta": {"content": EVIL}}))


def test_an_error_answer_is_openais():
    openais_error(CHAT)
    assert dict(CHAT.error(503, "c", "m").headers)[b"x-should-retry"] == b"false"
