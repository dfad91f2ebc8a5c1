"""Refusals of the completions dialect, read by the real SDK."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion

from guardrail.wire.completions_refusals import halted_choice, refused_choice
from guardrail.wire.replies import EVENT_STREAM, JSON, Refusal
from guardrail.wire.sse import Event
from tests.wire.chats import BLOCK, MARK, REFUSALS, extras, sdk
from tests.wire.texts import COMPLETIONS, asked, choice, chunk, completions


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
@pytest.mark.parametrize(
    ("fields", "count"),
    [({}, 1), ({"n": 3}, 3), ({"prompt": ["a", "b"], "n": 2}, 4)],
    ids=["one", "several", "prompts"],
)
class TestRefuse:
    def test_a_body_is_a_whole_completion_with_as_many_choices_as_asked(
        self, refusal: Refusal, fields: dict[str, Any], count: int
    ):
        reply = COMPLETIONS.refuse(asked(**fields), BLOCK, refusal)
        assert (reply.status, reply.headers) == (200, (JSON,))
        assert MARK.encode() not in reply.body
        completion = Completion.model_validate_json(reply.body, strict=True)
        assert extras(completion) == []
        assert (completion.id, completion.model, completion.object) == ("cmpl-d-1", "m", "text_completion")
        assert completion.created > 1_700_000_000
        assert completion.usage
        assert set(completion.usage.model_dump(exclude_none=True).values()) == {0}
        assert [(c.index, c.text, c.finish_reason) for c in completion.choices] == [
            (index, refusal.message, refusal.finish_reason) for index in range(count)
        ]

    @pytest.mark.parametrize("usage", [False, True])
    def test_a_stream_has_one_chunk_of_each_choice_then_usage_if_asked(
        self, refusal: Refusal, fields: dict[str, Any], count: int, usage: bool
    ):
        request = asked(**fields, stream=True, stream_options={"include_usage": usage})
        reply = COMPLETIONS.refuse(request, BLOCK, refusal)
        assert (reply.status, reply.headers) == (200, (EVENT_STREAM,))
        assert reply.body.endswith(b"\n\ndata: [DONE]\n\n")
        assert reply.body.count(b"[DONE]") == 1
        assert MARK.encode() not in reply.body
        found = completions(reply.body)
        assert {(c.id, c.model, c.object) for c in found} == {("cmpl-d-1", "m", "text_completion")}
        assert len({c.created for c in found}) == 1
        choices = [c for one in found for c in one.choices]
        assert [(c.index, c.text, c.finish_reason) for c in choices] == [
            (index, refusal.message, refusal.finish_reason) for index in range(count)
        ]
        assert [c.usage.total_tokens for c in found if c.usage] == ([0] if usage else [])
        assert [len(c.choices) for c in found] == [1] * count + [0] * usage

    def test_the_sdk_itself_reads_both(self, refusal: Refusal, fields: dict[str, Any], count: int):
        reply = COMPLETIONS.refuse(asked(**fields), BLOCK, refusal)
        with sdk(reply.body, "application/json") as client:
            completion = client.completions.create(model="m", prompt="a")
        assert [c.text for c in completion.choices] == [refusal.message] * count
        streamed = COMPLETIONS.refuse(asked(**fields, stream=True), BLOCK, refusal)
        texts = [""] * count
        with sdk(streamed.body, streamed.headers[0][1].decode()) as client:
            for part in client.completions.create(model="m", prompt="a", stream=True):
                for one in part.choices:
                    texts[one.index] += one.text
        assert texts == [refusal.message] * count


@pytest.mark.parametrize("spoke", [False, True])
def test_a_choice_says_the_refusal_unless_it_spoke(spoke: bool):
    assert refused_choice(4, REFUSALS[0], spoke=spoke) == {
        "index": 4,
        "text": "" if spoke else REFUSALS[0].message,
        "logprobs": None,
        "finish_reason": "content_filter",
    }


LIKE = chunk(choice(f"{MARK}text"), x="y")


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
@pytest.mark.parametrize("spoke", [False, True])
@pytest.mark.parametrize(
    ("like", "head"),
    [
        (LIKE, ("cmpl-1", 1_700_000_001, "theirs")),
        (None, ("cmpl-d-1", None, "asked-for")),
        (Event(b": ping\n\n", None), ("cmpl-d-1", None, "asked-for")),
    ],
    ids=["chunk", "none", "comment"],
)
def test_the_end_of_a_choice_is_one_sound_chunk_that_looks_like_the_others(
    refusal: Refusal, spoke: bool, like: Event | None, head: tuple[str, int | None, str]
):
    stream = halted_choice(like, "asked-for", 2, BLOCK, refusal, spoke=spoke)
    assert MARK.encode() not in stream
    assert b"[DONE]" not in stream
    [found] = completions(stream)
    assert (found.id, found.model) == (head[0], head[2])
    assert head[1] in (None, found.created)
    [only] = found.choices
    assert (only.index, only.finish_reason) == (2, refusal.finish_reason)
    assert only.text == ("" if spoke else refusal.message)
