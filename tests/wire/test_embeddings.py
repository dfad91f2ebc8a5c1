"""The embeddings dialect: every text that is embedded is found or named, the vectors pass as they are."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from guardrail.core.conversation import Address, Kind, Turn, json_path
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.dialect import Choice, GuardedRequest
from guardrail.wire.embeddings import EmbeddingsDialect
from guardrail.wire.replies import JSON, Refusal
from tests.wire.chats import (
    BLOCK,
    EVIL,
    MARK,
    at,
    is_silent,
    leaves,
    message_fields,
    mostly,
    openais_error,
    replaced_alone,
    sdk,
    segments,
    shaped,
    strings,
    user,
    values,
)

EMBEDDINGS = EmbeddingsDialect()
SILENT = {"model", "guardrails", "user", "encoding_format", "dimensions"}
NAMES = ("input_type", "task", "prompt_name", "truncate")
VECTORS = (
    b'{"object":"list", "data":[{"object":"embedding","index":0,"embedding":[1.0E0,-0.5]}],'
    b'"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}'
)

items = st.one_of(
    strings,
    shaped(
        text=strings,
        content=st.lists(shaped(type=strings, text=strings, image_url=values) | strings, max_size=2),
        image=strings,
        x=values,
    ),
    st.lists(st.integers(0, 9), max_size=2),
    st.integers(0, 9),
)

bodies = mostly(
    st.builds(
        lambda fields, own: fields | own,
        shaped(
            model=strings,
            user=strings,
            guardrails=st.lists(strings, max_size=2),
            encoding_format=strings,
            dimensions=st.integers(1, 9),
            input_type=strings,
            task=strings,
            truncate=values,
            stream=values,
            x=values,
        ),
        st.fixed_dictionaries({"input": mostly(items | st.lists(items, max_size=3))})
        | st.fixed_dictionaries(
            {
                "messages": mostly(
                    st.lists(
                        st.builds(
                            lambda fields, role: fields | {"role": role}, shaped(**message_fields), strings
                        ),
                        max_size=2,
                    )
                )
            }
        ),
    )
)

vectors = st.one_of(st.lists(st.floats(allow_nan=False), max_size=2), strings, values)
entries = shaped(embedding=vectors, embeddings=vectors, index=st.integers(0, 9), object=strings, x=values)
lists = st.lists(mostly(entries), max_size=2)
answers = mostly(
    shaped(data=mostly(lists), model=strings, object=strings, usage=values, choices=values, x=values)
    | lists
)
QUIET = {"model", "object", "usage"}


def body(given: Any = "a cat", **fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "input": given, **fields})


def asked(given: Any = "a cat", **fields: Any) -> GuardedRequest:
    return EMBEDDINGS.read_request(body(given, **fields))


def one(vector: Any, **fields: Any) -> bytes:
    """An answer with one entry."""
    entry = {"object": "embedding", "index": 0, "embedding": vector, **fields}
    return orjson.dumps({"object": "list", "data": [entry], "model": "m", "usage": {"total_tokens": 1}})


def test_its_name_is_what_records_tell():
    assert EMBEDDINGS.name == "embeddings"


class TestReadRequest:
    def test_a_body_that_passes_is_the_very_same_object(self):
        raw = b' {"input" : "\\u00e9\\/", "zeta":1.0E0 ,"n":1}\n'
        assert EMBEDDINGS.read_request(raw).raw is raw

    @pytest.mark.parametrize(
        ("given", "addresses", "named"),
        [
            ("a", [("input",)], ()),
            ("", [("input",)], ()),
            (["a", "b"], [("input", 0), ("input", 1)], ()),
            ([], [], ()),
            ([1, 2], [], ("$.input",)),
            ([0], [], ("$.input",)),
            ([[1, 2], [3]], [], ("$.input",)),
            (["a", [1], "b"], [("input", 0), ("input", 2)], ("$.input",)),
            (5, [], ("$.input",)),
            ({"text": "a"}, [("input", "text")], ()),
            ([{"text": "a"}, {"image": "data:…"}], [("input", 0, "text")], ("$.input[1].image",)),
            ([{"text": ["a"]}, {"text": None}], [], ("$.input[0].text",)),
            (
                [{"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}],
                [("input", 0, "content", 0, "text")],
                ("$.input[0].content[1]",),
            ),
            (
                {"text": "a", "content": "b", "title": "c"},
                [("input", "text"), ("input", "content")],
                ("$.input.title",),
            ),
        ],
    )
    def test_every_text_of_the_input_is_found_and_the_rest_is_named(
        self, given: Any, addresses: list[Address], named: tuple[str, ...]
    ):
        raw = body(given)
        conversation = EMBEDDINGS.read_request(raw).conversation
        [turn] = conversation.turns
        assert turn.role == "user"
        assert [segment.address for segment in turn.segments] == addresses
        assert all(at(orjson.loads(raw), s.address) == s.text for s in turn.segments)
        assert (conversation.unreadable, conversation.asides) == (named, ())

    def test_a_chat_instead_of_an_input_is_read_as_a_chat(self):
        parts = [{"type": "image_url", "image_url": {"url": "data:…"}}, {"type": "text", "text": "a cat"}]
        messages = [{"role": "system", "content": "Represent it."}, user(parts)]
        conversation = asked(None, messages=messages).conversation
        assert [turn.role for turn in conversation.turns] == ["system", "user"]
        assert [s.address for s in segments(conversation)] == [
            ("messages", 0, "content"),
            ("messages", 1, "content", 1, "text"),
        ]
        assert conversation.unreadable == ("$.messages[1].content[0]",)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_name_of_a_task_is_judged_where_it_is_more_than_a_name(self, name: str):
        assert asked(**{name: "retrieval.query"}).conversation.asides == ()
        [aside] = asked(**{name: EVIL}).conversation.asides
        assert aside.role == "task"
        assert [(s.text, s.address, s.kind) for s in aside.segments] == [(EVIL, (name,), Kind.FIELD)]
        assert asked(**{name: [EVIL]}).conversation.unreadable == (f"$.{name}",)

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"prompt": EVIL}, ("$.prompt",)),
            ({"instruction": EVIL, "x": {"y": 1}, "z": [1]}, ("$.instruction", "$.x", "$.z")),
            ({"stream": EVIL}, ("$.stream",)),
            ({"chat_template": EVIL}, ("$.chat_template",)),
            ({"dimensions": 5, "encoding_format": "base64", "user": "u", "normalized": True}, ()),
        ],
    )
    def test_unknown_texts_are_named(self, fields: dict[str, Any], named: tuple[str, ...]):
        assert asked(**fields).conversation.unreadable == named

    def test_it_is_never_a_stream_and_has_no_choices(self):
        request = asked(stream=True, n=3, guardrails=["p"], stream_options={"include_usage": True})
        assert (request.stream, request.choices, request.include_usage) == (False, 0, False)
        assert (request.model, request.added_policies, request.structured) == ("m", ("p",), False)
        assert request.conversation.unreadable == ("$.stream_options",)
        assert b"guardrails" not in request.raw

    @pytest.mark.parametrize(
        ("raw", "param"),
        [
            (b"", None),
            (b"[]", None),
            (b'{"input": "a", "input": "b"}', None),
            (b"{}", "input"),
            (b'{"input": null, "messages": null}', "input"),
            (b'{"input": "\xc2\xa7", "messages": []}', "input"),
            (b'{"messages": "\xc2\xa7"}', "messages"),
            (b'{"messages": ["\xc2\xa7"]}', "messages[0]"),
            (body({"content": 5}), "input.content"),
            (body([{"content": [MARK, 5]}]), "input[0].content[1]"),
            (body({"Text": MARK}), "input"),
            (body(Input=MARK), None),
            (body(Dimensions=5), None),
            (body(guardrails=MARK), "guardrails"),
        ],
    )
    def test_what_cannot_be_read_says_which_parameter_is_wrong_and_quotes_nothing(
        self, raw: bytes, param: str | None
    ):
        with pytest.raises(UnreadableRequest) as caught:
            EMBEDDINGS.read_request(raw)
        assert (caught.value.status, caught.value.param) == (400, param)
        assert MARK not in str(caught.value)

    @given(bodies)
    def test_any_body_is_read_or_refused_and_no_text_is_neither_judged_nor_named(self, value: Any):
        raw = orjson.dumps(value)
        try:
            request = EMBEDDINGS.read_request(raw)
        except UnreadableRequest as error:
            assert MARK not in f"{error} {error.param}"  # noqa: PT017
            return
        assert type(request) is GuardedRequest
        assert "guardrails" in value or request.raw is raw
        judged = {segment.address: segment.text for segment in segments(request.conversation)}
        assert all(at(value, address) == text for address, text in judged.items())
        named = {*request.conversation.unreadable}
        for address, text in leaves(value):
            prefixes = {json_path(address[:size]) for size in range(len(address) + 1)}
            silent = address[0] in SILENT or (address[0] in NAMES and " " not in text)
            if address[0] == "messages":
                silent = is_silent(address, text)
            if "content" in address and address[-1] == "type":
                silent = True
            assert address in judged or prefixes & named or silent, json_path(address)

    @given(bodies)
    def test_every_text_found_in_it_can_be_replaced_alone(self, value: Any):
        replaced_alone(EMBEDDINGS, value)


class TestEdit:
    def test_a_request_changes_only_in_the_redacted_strings(self):
        raw = b'{"input": [ "a",\n "my secret: 42" , {"text":"42" }],  "dimensions":1.0E0}'
        texts = {("input", 1): "my secret: [R]", ("input", 2, "text"): "[R]"}
        assert EMBEDDINGS.edit(raw, texts) == raw.replace(b"42", b"[R]")

    def test_messages_can_be_dropped(self):
        raw = b'{"messages": [{"role":"user","content":"a"} , {"role":"user","content":"b"}], "x":1.0}'
        assert EMBEDDINGS.drop(raw, [0]) == b'{"messages": [{"role":"user","content":"b"}], "x":1.0}'
        assert EMBEDDINGS.drop(raw, []) == raw


class TestAnswers:
    @given(answers.map(orjson.dumps) | st.binary(max_size=20))
    def test_a_text_in_it_is_named_or_it_is_none_at_all(self, raw: bytes):
        try:
            choices = EMBEDDINGS.read_response(raw)
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        assert [choice.turn.segments for choice in choices] in ([], [()])
        named = {path for choice in choices for path in choice.unreadable}
        for address, text in leaves(orjson.loads(raw)):
            prefixes = {json_path(address[:size]) for size in range(len(address) + 1)}
            assert prefixes & named or address[0] in QUIET or address[-1] == "index" or " " not in text

    @pytest.mark.parametrize(
        "raw",
        [
            VECTORS,
            one([]),
            one("AACAPwAAAL8="),
            one([[1, -0.5], [0, None]]),
            one([1], encoding_format="base64", tokens=3),
            one(None, embeddings=[[1.0], [2.0]]),
            b'{"object":"list","data":[],"model":"m"}',
            b'[{"index":0,"embedding":[[0.1,0.2]]}]',
            b'{"id":"i","created":1,"data":[{"embedding":[1]}],"meta":{"api_version":{"version":"2"}}}',
        ],
    )
    def test_what_servers_answer_has_no_choices_and_stays_as_it_is(self, raw: bytes):
        assert EMBEDDINGS.read_response(raw) == []
        assert EMBEDDINGS.refuse_choices(raw, {}, structured=False) is raw

    @pytest.mark.parametrize(
        "raw",
        [
            orjson.dumps({"id": "x", "choices": [{"message": {"role": "assistant", "content": MARK}}]}),
            orjson.dumps({"data": MARK}),
            orjson.dumps({"data": {"embedding": [1.0]}}),
            orjson.dumps({"data": [MARK]}),
            orjson.dumps({"data": [{"text": MARK}]}),
            orjson.dumps({"Data": [], "data": []}),
            orjson.dumps([MARK]),
            b'{"data":[],"data":[]}',
            b"null",
            b"5",
            *(
                one(bad)
                for bad in (None, True, 5, f"{MARK} {MARK}", "word!", "words", [MARK], [True], [{}])
            ),
            one([[1.0], [MARK]]),
            one([1.0], embeddings=MARK),
            one([1.0], Embedding=MARK),
        ],
    )
    def test_what_holds_no_vectors_is_unreadable(self, raw: bytes):
        with pytest.raises(UnreadableResponse) as caught:
            EMBEDDINGS.read_response(raw)
        assert MARK not in str(caught.value)

    @pytest.mark.parametrize(
        ("raw", "named"),
        [
            (one([1.0], text=MARK), ["$.data[0].text"]),
            (one({"indices": [1], "values": [0.5]}), ["$.data[0].embedding"]),
            (b'[{"embedding":[1],"note":["x"]}]', ["$[0].note"]),
            (b'{"choices":[{}],"data":[{"embedding":[1]}]}', ["$.choices"]),
            (b'{"meta":{"warnings":["x"]},"data":[]}', ["$.meta.warnings"]),
        ],
    )
    def test_what_else_may_hold_text_is_named(self, raw: bytes, named: list[str]):
        [choice] = EMBEDDINGS.read_response(raw)
        assert choice == Choice(0, Turn("assistant", ()), tuple(named))
        with pytest.raises(UnreadableResponse):
            EMBEDDINGS.refuse_choices(raw, {0: Refusal("completion", "No.")}, structured=False)

    def test_a_file_is_looked_for_where_one_was_asked_for(self):
        asked_for = [{"encoding_format": "bytes"}, {"encoding_format": "bytes_only"}]
        assert [asked(**fields).files for fields in asked_for] == [True, True]
        others: list[dict[str, Any]] = [{}, {"encoding_format": "base64"}, {"encoding_format": ["bytes"]}]
        assert [asked(**fields).files for fields in others] == [False, False, False]

    def test_the_sdk_reads_what_passed(self):
        assert EMBEDDINGS.read_response(VECTORS) == []
        with sdk(VECTORS, "application/json") as client:
            found = client.embeddings.create(model="m", input="a cat", encoding_format="float")
        assert type(found) is CreateEmbeddingResponse
        assert found.data[0].embedding == [1.0, -0.5]

    def test_there_are_no_streams_of_it(self):
        with pytest.raises(UnreadableResponse):
            EMBEDDINGS.stream(asked())


class TestRefuse:
    @pytest.mark.parametrize("style", ["completion", "error"])
    def test_a_blocked_one_is_an_error_of_the_sdks_whatever_the_style(self, style: Any):
        reply = EMBEDDINGS.refuse(asked(), BLOCK, Refusal(style, "No."))
        assert (reply.status, reply.headers) == (400, (JSON,))
        assert MARK.encode() not in reply.body

        with (
            sdk(reply.body, "application/json", reply.status) as client,
            pytest.raises(openai.BadRequestError, match=r"No\.") as caught,
        ):
            client.embeddings.create(model="m", input="a cat")
        assert caught.value.code == "content_filter"
        error: Any = caught.value.body
        assert error["innererror"]["content_filter_result"] == {
            "the-policy": {"filtered": True, "detected": True}
        }

    def test_a_status_that_was_set_is_the_errors(self):
        assert EMBEDDINGS.refuse(asked(), BLOCK, Refusal("error", status=451)).status == 451

    def test_an_error_answer_is_openais(self):
        openais_error(EMBEDDINGS)
