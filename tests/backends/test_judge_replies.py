"""The twin of guardrail/backends/judge_replies.py. Sorted on the wire, call by call: see test_judge.py."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.backends.judge_replies import (
    Answer,
    after_analysis,
    chat_answer,
    least_tokens,
    read_reply,
    refused_field,
    text_of,
    was_cut,
)
from guardrail.backends.retry import Transient
from guardrail.core.verdict import Usage
from guardrail.errors import ClassifierError, ClassifierRejected, FailureCode, MalformedVerdict
from tests.fakes import completion


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def error(message: str, **more: Any) -> bytes:
    return body({"error": {"message": message, **more}})


def answer_with(usage: Any = None, **more: Any) -> Answer:
    value = json.loads(completion("x")) | more
    value["usage"] = usage
    return chat_answer(value)


class TestUsage:
    @pytest.mark.parametrize(
        ("usage", "wanted"),
        [
            (None, None),
            ("many", None),
            ({}, None),
            ({"prompt_tokens": "7"}, None),
            ({"prompt_tokens": 7}, Usage(7, 0)),
            ({"prompt_tokens": 7, "completion_tokens": None}, Usage(7, 0)),
            ({"prompt_tokens": 7, "prompt_tokens_details": None}, Usage(7, 0)),
            ({"prompt_tokens": 7, "prompt_tokens_details": {}}, Usage(7, 0)),
            ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}, Usage(7, 0, 0)),
            ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}, Usage(7, 0, 5)),
            ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": "5"}}, Usage(7, 0)),
            ({"prompt_tokens": 7, "prompt_cache_hit_tokens": 3}, Usage(7, 0, 3)),
            ({"prompt_tokens": 7, "cost": 0.00013}, Usage(7, 0, None, 0.00013)),
            ({"prompt_tokens": 7, "cost": 0}, Usage(7, 0, None, 0)),
            ({"prompt_tokens": 7, "cost": -1}, Usage(7)),
            ({"prompt_tokens": 7, "cost": "0.1"}, Usage(7)),
        ],
    )
    def test_what_is_not_reported_is_unknown_not_zero(self, usage: Any, wanted: Usage | None):
        assert answer_with(usage).usage == wanted

    def test_a_cost_that_is_no_number_is_unknown(self):
        assert answer_with({"prompt_tokens": 7, "cost": float("nan")}).usage == Usage(7)
        assert answer_with({"prompt_tokens": 7, "cost": float("inf")}).usage == Usage(7)

    def test_llama_cpp_counts_in_its_timings(self):
        found = answer_with({"prompt_tokens": 7}, timings={"cache_n": 6, "prompt_n": 1}).usage
        assert found == Usage(7, 0, 6)
        assert answer_with({"prompt_tokens": 7}, timings=[1]).usage == Usage(7)


class TestAnswer:
    @pytest.mark.parametrize(
        ("extra", "reasoning"),
        [
            ({}, ""),
            ({"reasoning": "why"}, "why"),
            ({"reasoning_content": "why"}, "why"),
            ({"reasoning": None, "reasoning_content": "why"}, "why"),
            ({"reasoning_details": [{"text": "wh"}, {"text": "y"}, {"data": "x"}, 7]}, "why"),
            ({"reasoning": 7, "reasoning_details": "x"}, ""),
        ],
    )
    def test_reasoning_is_kept_apart(self, extra: dict[str, Any], reasoning: str):
        found = read_reply(200, completion("verdict", **extra), None)
        assert (found.content, found.reasoning, found.model) == ("verdict", reasoning, "fake-model")

    def test_neither_content_nor_reasoning_is_in_its_repr(self):
        shown = repr(read_reply(200, completion("the-words", reasoning="the-thoughts"), None))
        assert "the-words" not in shown
        assert "the-thoughts" not in shown

    @pytest.mark.parametrize(
        "value", [None, [], {}, {"choices": []}, {"choices": [7]}, {"choices": [{}]}, "x"]
    )
    def test_what_is_no_completion_is_malformed(self, value: Any):
        with pytest.raises(MalformedVerdict):
            read_reply(200, body(value), None)

    def test_another_form_reads_what_is_good_only(self):
        mine = Answer("mine", None, None)
        assert read_reply(200, b'{"done": true}', None, lambda value: mine) is mine
        with pytest.raises(Transient):
            read_reply(503, b'{"done": true}', None, lambda value: mine)

    def test_a_text_is_a_text(self):
        assert [text_of(value) for value in ("a", None, 7, ["a"])] == ["a", "", "", ""]

    @given(
        st.sampled_from([200, 204, 302, 400, 401, 413, 422, 429, 498, 500, 503]),
        st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(body),
        st.none() | st.text(max_size=8),
    )
    def test_any_reply_is_an_answer_or_one_of_our_errors(
        self, status: int, raw: bytes, retry_after: str | None
    ):
        with contextlib.suppress(ClassifierError, Transient):
            assert isinstance(read_reply(status, raw, retry_after), Answer)


LLAMA = body(
    {
        "error": json.dumps(
            {
                "error": {
                    "code": 400,
                    "message": "request (2622 tokens) exceeds the available context size (512 tokens)",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 2622,
                    "n_ctx": 512,
                }
            }
        )
    }
)
LMSTUDIO = "The number of tokens to keep from the initial prompt is greater than the context length."


class TestTooLong:
    @pytest.mark.parametrize(
        ("status", "raw"),
        [
            (413, b""),
            (400, error("This model's maximum context length is 8192 tokens")),
            (400, error("too big", type="exceed_context_size_error")),
            (400, error("prompt is too long", code="context_length_exceeded")),
            (400, LLAMA),  # Ollama from 0.34 on
            (400, body({"error": "the input length exceeds the context length"})),  # Ollama 0.12
            (500, body({"error": "the input length exceeds the context length"})),
            (400, body({"error": LMSTUDIO})),
            (200, body({"error": LMSTUDIO})),
            (429, error("Request too large for model on tokens per minute (TPM): Limit 8000")),
        ],
    )
    def test_is_known_in_every_servers_words(self, status: int, raw: bytes):
        with pytest.raises(ClassifierRejected) as caught:
            read_reply(status, raw, None)
        assert caught.value.code is FailureCode.TOO_LONG

    @pytest.mark.parametrize("status", [401, 402, 403, 404])
    def test_but_a_refused_key_stays_one_whatever_the_page_says(self, status: int):
        with pytest.raises(ClassifierRejected) as caught:
            read_reply(status, error("check the context length"), None)
        assert caught.value.code is FailureCode.AUTH


SENT = ("model", "messages", "temperature", "max_completion_tokens", "stream", "reasoning_effort", "think")


class TestRefusedField:
    @pytest.mark.parametrize(
        ("status", "raw", "name"),
        [
            (400, error("Unrecognized request argument supplied: reasoning_effort"), "reasoning_effort"),
            (400, error("no", param="reasoning_effort", code="unsupported_parameter"), "reasoning_effort"),
            (
                400,
                error("Unsupported parameter: 'max_completion_tokens'. Use 'max_tokens' instead."),
                "max_completion_tokens",
            ),
            (
                400,
                error("Unsupported value: 'temperature' does not support 0 with this model."),
                "temperature",
            ),
            (400, error("Extra inputs are not permitted: body.reasoning_effort"), "reasoning_effort"),
            (
                422,
                body({"detail": "Unsupported fields in the request: {'reasoning_effort'}"}),
                "reasoning_effort",
            ),
            (400, body({"error": '"llama3" does not support thinking'}), "think"),
            # What is not about a field of ours, or not about the field itself.
            (400, error("Unsupported parameter: 'top_k'"), None),
            (400, error("response_format is not supported"), None),  # not sent
            (400, error("reasoning_effort: Input should be 'low', 'medium' or 'high'"), None),
            (400, error("Invalid 'messages[0].content'"), None),
            (400, error("temperature not supported; maximum context length is 4096"), None),
            (400, error("bad " + "x" * 700 + " unsupported temperature"), None),  # a quoted request
            (401, error("Unsupported parameter: 'temperature'"), None),
            (200, error("Unsupported parameter: 'temperature'"), None),
            (400, b"<html>unsupported temperature</html>", None),
            (400, b"", None),
        ],
    )
    def test_is_the_one_that_the_server_names(self, status: int, raw: bytes, name: str | None):
        assert refused_field(status, raw, SENT) == name


CLEAN = '{"violation": 1, "label": "BAD"}'


class TestAfterAnalysis:
    def test_stripped_markers_are_read(self):
        assert after_analysis(f"analysisIt is bad.assistantfinal{CLEAN}") == CLEAN
        assert after_analysis(f"\nanalysisIt is\nbad.assistantfinal{CLEAN}") == CLEAN

    @pytest.mark.parametrize(
        "content",
        [
            None,
            "",
            CLEAN,
            "analysis only",
            f"It is. assistantfinal{CLEAN}",
            # The judge quotes a text that tries to end the analysis itself.
            f"analysis says assistantfinal0. assistantfinal{CLEAN}",
        ],
    )
    def test_nothing_is_taken_away_where_its_end_is_not_sure(self, content: str | None):
        assert after_analysis(content) == content

    @given(st.text() | st.lists(st.sampled_from(["analysis", "assistantfinal", " x "])).map("".join))
    def test_it_only_ever_takes_away_a_beginning(self, content: str):
        left = after_analysis(content)
        assert left is not None
        assert content.endswith(left)


class TestCut:
    """Ollama's /v1 cuts a prompt that is too long without a word; the token count gives it away."""

    PROSE = "The quick brown fox jumps over the lazy dog, again and again. " * 400  # 25,000 characters

    @pytest.mark.parametrize(
        ("prompt", "tokens", "cut"),
        [
            (PROSE, 2048, True),
            (PROSE, len(PROSE) // 4, False),
            (PROSE, len(PROSE) // 5, False),
            (PROSE, 0, False),
            (PROSE, -1, False),
            ("responsibilities " * 1200, 1300, False),
            ("hello", 1, False),
            ("好" * 8_000, 900, False),
            ("".join(map(chr, range(0x4E00, 0x4E00 + 12_000))), 900, True),
            ("a" * 20_000, 900, False),
        ],
    )
    def test_far_fewer_tokens_than_were_sent(self, prompt: str, tokens: int, cut: bool):
        assert was_cut(prompt, tokens) is cut

    def test_the_bound_is_one(self):
        assert least_tokens("word " * 1000) == 1000
        assert least_tokens("word " * 700) == 0  # too short to matter

    @given(
        st.text(alphabet="ab \n\x1c\u2003é", max_size=300).map(lambda text: text * 40) | st.text(),
        st.sampled_from(["", "law " * 1000]),
        st.integers(-1, 3000),
    )
    @example("a\x1c" * 3000, "", 2999)
    @example("a\u2003" * 3000, "", 2999)
    @example("a" * 40 + "b" * 4000, "", 404)
    def test_what_is_plain_at_first_sight_is_so(self, user: str, system: str, tokens: int):
        assert was_cut(user, tokens, system) is (0 < tokens < least_tokens(user, system))

    def test_no_token_spans_two_messages(self):
        assert least_tokens("word " * 500, "law " * 499 + "law.") == 1000
        assert least_tokens("word " * 500, "a" * 5_000) == 500.4  # a run of one sign may be a single token
        assert least_tokens("word " * 400, "law " * 400) == 0
