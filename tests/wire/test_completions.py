"""The completions dialect, bodies: every text is found or named, only the asked-for bytes change."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Address, Kind, json_path
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.completions import MAX_CHOICES
from guardrail.wire.completions_stream import CompletionsStream
from guardrail.wire.dialect import GuardedRequest
from guardrail.wire.replies import JSON, Refusal
from tests.wire.chats import (
    BLOCK,
    EVIL,
    MARK,
    REFUSALS,
    at,
    leaves,
    mostly,
    openais_error,
    replaced_alone,
    segments,
    shaped,
    strings,
    values,
)
from tests.wire.texts import COMPLETIONS, answer, asked, body, choice, drawn_answers

SILENT = {"model", "guardrails", "response_format", "stop", "user"}

bodies = mostly(
    shaped(
        prompt=st.one_of(
            strings,
            st.lists(strings, max_size=3),
            st.lists(st.integers(0, 9), max_size=3),
            st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2),
        ),
        suffix=strings,
        n=st.integers(1, 3),
        stream=st.booleans(),
        guardrails=st.lists(strings, max_size=2),
        model=strings,
        response_format=shaped(type=st.just("json_object")),
        stop=st.lists(strings, max_size=2),
        user=strings,
        x=values,
    )
)


class TestReadRequest:
    def test_a_body_that_passes_is_the_very_same_object(self):
        raw = b' {"prompt" : "\\u00e9\\/", "zeta":1.0E0 ,"n":1}\n'
        assert COMPLETIONS.read_request(raw).raw is raw

    @pytest.mark.parametrize(
        ("prompt", "addresses", "named"),
        [
            ("a", [("prompt",)], ()),
            ("", [("prompt",)], ()),
            (["a", "b"], [("prompt", 0), ("prompt", 1)], ()),
            (None, [], ()),
            ([], [], ()),
            ([1, 2], [], ("$.prompt",)),
            ([0], [], ("$.prompt",)),
            ([[1, 2], [3]], [], ("$.prompt",)),
            (["a", [1]], [("prompt", 0)], ("$.prompt",)),
            ([1, "a"], [("prompt", 1)], ("$.prompt",)),
            ({"prompt_string": "a"}, [], ("$.prompt",)),
            ([["a"]], [], ("$.prompt",)),
            (5, [], ("$.prompt",)),
        ],
    )
    def test_every_prompt_is_a_text_of_the_users_and_token_ids_are_named(
        self, prompt: Any, addresses: list[Address], named: tuple[str, ...]
    ):
        raw = body(prompt)
        conversation = COMPLETIONS.read_request(raw).conversation
        [turn] = conversation.turns
        assert turn.role == "user"
        assert [segment.address for segment in turn.segments] == addresses
        assert all(at(orjson.loads(raw), s.address) == s.text for s in turn.segments)
        assert (conversation.unreadable, conversation.asides) == (named, ())

    def test_a_suffix_belongs_to_what_is_asked(self):
        conversation = asked("def f(", suffix="return x").conversation
        assert [(s.address, s.text) for s in conversation.turns[0].segments] == [
            (("prompt",), "def f("),
            (("suffix",), "return x"),
        ]
        assert asked(suffix=["a"]).conversation.unreadable == ("$.suffix",)
        assert asked(suffix=None).conversation.unreadable == ()

    @pytest.mark.parametrize(
        ("fields", "choices"),
        [
            ({}, 1),
            ({"prompt": None}, 1),
            ({"prompt": ""}, 1),
            ({"prompt": []}, 1),
            ({"n": 3, "best_of": 5}, 3),
            ({"prompt": ["a", "b", ""], "n": 2}, 6),
            ({"prompt": [1, 2, 3], "n": 2}, 2),
            ({"prompt": [[1, 2], [3]], "n": 2}, 4),
            ({"prompt": [1, "a", 2]}, 1),
            ({"prompt": None, "prompt_embeds": ["AA==", "AA=="]}, 2),
            ({"prompt": "a", "prompt_embeds": "AA=="}, 2),
            ({"prompt": [""] * 16, "n": 128}, MAX_CHOICES),
        ],
    )
    def test_there_are_n_choices_of_each_prompt(self, fields: dict[str, Any], choices: int):
        assert asked(**fields).choices == choices

    def test_what_shapes_the_answer_is_read(self):
        request = asked(stream=True, stream_options={"include_usage": True}, guardrails=["p"])
        assert (request.model, request.stream, request.include_usage) == ("m", True, True)
        assert (request.added_policies, request.structured) == (("p",), False)
        assert b"guardrails" not in request.raw
        plain = asked(response_format={"type": "json_object"})
        assert (plain.stream, plain.include_usage, plain.structured) == (False, False, True)

    @pytest.mark.parametrize(
        ("raw", "param"),
        [
            (b"", None),
            (b"[]", None),
            (b'{"prompt": "a", "prompt": "b"}', None),
            (body(stream=MARK), "stream"),
            (body(n=MARK), "n"),
            (body(n=129), "n"),
            (body(guardrails=MARK), "guardrails"),
            (body([""] * (MAX_CHOICES + 1)), "prompt"),
            (body([MARK] * 17, n=128), "prompt"),
            (body(Prompt=EVIL), None),
            (body(SUFFIX=EVIL), None),
            (body(messages=[{"role": "user", "content": MARK}]), "messages"),
            (body(messages=[]), "messages"),
            (body(Messages=[]), None),
            (body(Echo=True), None),
            (body(Best_of=2), None),
        ],
    )
    def test_what_cannot_be_read_says_which_parameter_is_wrong_and_quotes_nothing(
        self, raw: bytes, param: str | None
    ):
        with pytest.raises(UnreadableRequest) as caught:
            COMPLETIONS.read_request(raw)
        assert (caught.value.status, caught.value.param) == (400, param)
        assert MARK not in str(caught.value)

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"messages": None, "functions": [EVIL]}, ("$.functions",)),
            ({"prompt_embeds": "AA=="}, ("$.prompt_embeds",)),
            ({"structured_outputs": {"grammar": EVIL}}, ("$.structured_outputs",)),
            ({"x": EVIL, "y": 5, "z": ""}, ("$.x",)),
            ({"echo": True, "best_of": 2, "logprobs": 5, "suffix": None, "top_k": 3}, ()),
            ({"stop": ["\n"], "user": "u", "logit_bias": {"5": 1}, "stop_token_ids": [7]}, ()),
        ],
    )
    def test_unknown_texts_are_named(self, fields: dict[str, Any], named: tuple[str, ...]):
        assert asked(**fields).conversation.unreadable == named

    @given(bodies)
    def test_any_body_is_read_or_refused_and_no_text_is_neither_judged_nor_named(self, value: Any):
        raw = orjson.dumps(value)
        try:
            request = COMPLETIONS.read_request(raw)
        except UnreadableRequest as error:
            assert MARK not in f"{error} {error.param}"  # noqa: PT017
            return
        assert type(request) is GuardedRequest
        assert 1 <= request.choices <= MAX_CHOICES
        assert "guardrails" in value or request.raw is raw
        judged = {segment.address: segment.text for segment in segments(request.conversation)}
        assert all(at(value, address) == text for address, text in judged.items())
        named = {*request.conversation.unreadable}
        for address, _ in leaves(value):
            prefixes = {json_path(address[:size]) for size in range(len(address) + 1)}
            assert address in judged or prefixes & named or address[0] in SILENT, json_path(address)

    @given(bodies)
    def test_every_text_found_in_it_can_be_replaced_alone(self, value: Any):
        replaced_alone(COMPLETIONS, value)


class TestEdit:
    def test_a_request_changes_only_in_the_redacted_strings(self):
        raw = b'{"prompt": [ "a",\n "my secret: 42" ],  "top_p":1.0E0,"logprobs":5, "suffix":"42" }'
        texts = {("prompt", 1): "my secret: [R]", ("suffix",): "[R]"}
        assert COMPLETIONS.edit(raw, texts) == raw.replace(b"42", b"[R]")

    def test_what_spells_a_redacted_choice_goes_and_of_no_other(self):
        raw = (
            b'{"id":"c",  "choices":[{"index":0,"text":"a 42","logprobs": {"tokens":["a"," 42"]},'
            b'"token_ids":[1, 2],"prompt_token_ids":[0],"prompt_logprobs":[null]},\n'
            b' {"index":1,"text":"b","logprobs": {"tokens":["b"]},"token_ids":[3]},'
            b'{"index":2,"text":"c 42","logprobs":null}],"usage":{ }}'
        )
        texts = {
            segment.address: segment.text.replace("42", "[R]")
            for found in COMPLETIONS.read_response(raw)
            for segment in found.turn.segments
            if "42" in segment.text
        }
        expected = raw.replace(b'{"tokens":["a"," 42"]}', b"null")
        for part in (b"[1, 2]", b"[0]", b"[null]"):
            expected = expected.replace(part, b"null")
        for text in (b'"a 42"', b'"c 42"'):
            expected = expected.replace(text, text.replace(b"42", b"[R]"))
        assert COMPLETIONS.edit(raw, texts) == expected

    def test_dropping_what_is_asked_takes_out_all_of_it(self):
        assert COMPLETIONS.drop(b'{"prompt":["a","b"], "n":1.0, "suffix":"c"}', [0]) == b'{"n":1.0}'
        assert COMPLETIONS.drop(b'{"n": 1.0, "prompt": "a"}', [0]) == b'{"n": 1.0}'
        assert COMPLETIONS.drop(b'{"n": 1.0, "prompt": "a"}', []) == b'{"n": 1.0, "prompt": "a"}'


class TestReadResponse:
    def test_every_choice_with_all_its_texts(self):
        raw = answer(
            choice("a"),
            choice("b", 1, reasoning="hm", reasoning_content="so"),
            choice("", 2),
            choice(None, 3),
        )
        found = COMPLETIONS.read_response(raw)
        assert [one.position for one in found] == [0, 1, 2, 3]
        assert {one.turn.role for one in found} == {"assistant"}
        assert [[(s.kind, s.text, s.address) for s in one.turn.segments] for one in found] == [
            [(Kind.TEXT, "a", ("choices", 0, "text"))],
            [
                (Kind.REASONING, "hm", ("choices", 1, "reasoning")),
                (Kind.REASONING, "so", ("choices", 1, "reasoning_content")),
                (Kind.TEXT, "b", ("choices", 1, "text")),
            ],
            [],
            [],
        ]
        assert {one.unreadable for one in found} == {()}

    def test_what_may_be_text_is_named_outside_of_the_choices_too(self):
        found = COMPLETIONS.read_response(answer(choice("a", x=EVIL), choice("b", 1), prompt=[EVIL]))
        assert [one.unreadable for one in found] == [("$.prompt", "$.choices[0].x"), ("$.prompt",)]

    def test_an_answer_without_choices_is_none(self):
        assert COMPLETIONS.read_response(answer()) == []

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"not json",
            b"[]",
            b"null",
            b"{}",
            b'{"content": "\xc2\xa7", "stop": true}',
            b'{"choices": [], "content": "\xc2\xa7"}',
            b'{"choices": null}',
            b'{"choices": {}}',
            b'{"choices": "\xc2\xa7"}',
            b'{"choices": [5]}',
            b'{"choices": ["text"]}',
            b'{"choices": [["text"]]}',
            b'{"choices": [{}]}',
            b'{"choices": [{"message": {"content": "\xc2\xa7"}}]}',
            b'{"choices": [{"text": "\xc2\xa7", "text": "b"}]}',
            b'{"choices": [{"text": "a", "Text": "\xc2\xa7"}]}',
            b'{"choices": [{"text": "a"}], "Choices": [{"text": "\xc2\xa7"}]}',
            b'{"choices": [{"text": "\xff"}]}',
        ],
    )
    def test_what_is_no_completion_is_unreadable_and_not_quoted(self, raw: bytes):
        with pytest.raises(UnreadableResponse) as caught:
            COMPLETIONS.read_response(raw)
        assert MARK not in str(caught.value)

    @given(drawn_answers.map(orjson.dumps) | st.binary(max_size=20))
    def test_any_bytes_are_choices_or_unreadable_and_what_is_found_can_be_replaced(self, raw: bytes):
        try:
            found = COMPLETIONS.read_response(raw)
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        value = orjson.loads(raw)
        assert [one.position for one in found] == list(range(len(value["choices"])))
        parts = [s for one in found for s in one.turn.segments]
        assert all(at(value, part.address) == part.text for part in parts)
        texts = {part.address: f"[{place}]" for place, part in enumerate(parts)}
        after = orjson.loads(COMPLETIONS.edit(raw, texts))
        for address, text in texts.items():
            assert at(after, address) == text
            assert not after["choices"][address[1]].get("logprobs")
        untouched = [place for place in range(len(found)) if place not in {a[1] for a in texts}]
        assert all(after["choices"][place] == value["choices"][place] for place in untouched)


class TestRefuseChoices:
    RAW = (
        b'{"id":"c","created":1,"model":"m","object":"text_completion", "choices":'
        b'[{"index":5,"text":"bad","logprobs":{"tokens":["bad"]},"finish_reason":"stop"},'
        b' {"index":1, "text":"good","finish_reason":"stop"},{"text":"bad"}],"usage" : null}'
    )

    @pytest.mark.parametrize("structured", [False, True])
    def test_only_the_refused_ones_are_replaced_and_keep_their_index(self, structured: bool):
        first, last = REFUSALS
        raw = COMPLETIONS.refuse_choices(self.RAW, {0: first, 2: last}, structured=structured)
        choices = orjson.loads(raw)["choices"]
        assert [(c["index"], c["text"], c["finish_reason"]) for c in choices] == [
            (5, first.message, first.finish_reason),
            (1, "good", "stop"),
            (2, last.message, last.finish_reason),
        ]
        assert b"bad" not in raw
        start, end = self.RAW.index(b"{", 1), self.RAW.index(b' {"index":1')
        assert raw.startswith(self.RAW[:start])
        assert self.RAW[end : self.RAW.index(b',{"text":"bad"')] in raw
        assert raw.endswith(b'],"usage" : null}')


class TestRefuse:
    """Read by the SDK in ``test_completions_refusals``."""

    def test_in_the_completion_style_it_is_an_answer(self):
        reply = COMPLETIONS.refuse(asked(["a", "b"]), BLOCK, REFUSALS[0])
        assert reply.status == 200
        assert [c["text"] for c in orjson.loads(reply.body)["choices"]] == [REFUSALS[0].message] * 2

    @pytest.mark.parametrize("stream", [False, True])
    def test_in_the_error_style_it_is_an_error(self, stream: bool):
        reply = COMPLETIONS.refuse(asked(stream=stream), BLOCK, Refusal("error", "No.", status=422))
        assert (reply.status, reply.headers) == (422, (JSON,))
        error = orjson.loads(reply.body)["error"]
        assert (error["code"], error["message"]) == ("content_filter", "No.")
        assert MARK.encode() not in reply.body


def test_its_name_is_what_records_tell():
    assert COMPLETIONS.name == "completions"


def test_a_stream_is_one_of_its_own_for_each_request():
    one, other = COMPLETIONS.stream(asked()), COMPLETIONS.stream(asked())
    assert type(one) is CompletionsStream
    assert one is not other


def test_an_error_answer_is_openais():
    openais_error(COMPLETIONS)
