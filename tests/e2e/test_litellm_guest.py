"""Guardrail as a guest of LiteLLM: a real LiteLLM proxy process asks a real guardrail process.

LiteLLM's own ``generic_guardrail_api`` speaks to ``/beta/litellm_basic_guardrail_api``; a fake upstream
stands behind LiteLLM, and the judge answers by trigger words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.e2e.conftest import MARK, REFUSAL, Process, Proxies, Proxy, until
from tests.e2e.litellm_proxy import KEY, litellm_proxy, skip_without_litellm_proxy
from tests.fakes import Say

ANSWER = (
    "Here is a long answer in which the redactword stands, and then it goes on for a while, to its end."
)
PROMPT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tell me something."}]


@dataclass
class Guest:
    """LiteLLM's proxy with two names for one model, and guardrail beside it."""

    litellm: Process
    guardrail: Proxy

    def client(self) -> openai.OpenAI:
        url = f"http://127.0.0.1:{self.litellm.port}/v1"
        return openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)

    @property
    def forwarded(self) -> list[Any]:
        """The messages of every request that came through to the model."""
        return [seen.json["messages"] for seen in self.guardrail.upstream.seen if seen.method == "POST"]


@pytest.fixture(scope="module")
def guest(proxies: Proxies) -> Iterator[Guest]:
    skip_without_litellm_proxy()
    guardrail = proxies()
    guarded = {
        "guardrail": "generic_guardrail_api",
        "mode": ["pre_call", "post_call"],
        "api_base": guardrail.root,
        "default_on": True,
        "streaming_transform_mode": "incremental_diff",
        "streaming_sampling_rate": 1,
    }
    model = {
        "model": "openai/fake-model",
        "api_base": guardrail.upstream.url,
        "api_key": "sk-" + "upstream-0123456789",
    }
    config = {
        "model_list": [{"model_name": "chat", "litellm_params": model}],
        "guardrails": [{"guardrail_name": "written-policies", "litellm_params": guarded}],
    }
    with litellm_proxy(guardrail.folder / "litellm", config) as process:
        yield Guest(process, guardrail)


@pytest.fixture
def client(guest: Guest) -> Iterator[openai.OpenAI]:
    with guest.client() as sdk:
        yield sdk


def asked(text: str) -> list[Any]:
    return [PROMPT[0], {"role": "user", "content": text}]


def streamed(client: openai.OpenAI) -> Iterator[str]:
    """The pieces of text of a streamed answer, as they come."""
    stream = client.chat.completions.create(model="chat", messages=PROMPT, stream=True)
    for chunk in stream:
        yield from (choice.delta.content or "" for choice in chunk.choices)


class TestRequests:
    def test_a_calm_one_comes_through_unchanged(self, guest: Guest, client: openai.OpenAI):
        answer = client.chat.completions.create(model="chat", messages=PROMPT)
        assert answer.choices[0].message.content == guest.guardrail.upstream.text
        assert guest.forwarded == [PROMPT]

    def test_a_blocked_one_is_refused_and_not_forwarded(self, guest: Guest, client: openai.OpenAI):
        with pytest.raises(openai.BadRequestError, match=REFUSAL):
            client.chat.completions.create(model="chat", messages=asked("a blockword"))
        assert guest.forwarded == []

    def test_a_redacted_one(self, guest: Guest, client: openai.OpenAI):
        client.chat.completions.create(model="chat", messages=asked("my redactword is this"))
        assert guest.forwarded == [asked(f"my {MARK} is this")]

    def test_the_system_turn_is_the_applications_own(self, guest: Guest, client: openai.OpenAI):
        messages = [{"role": "system", "content": "Never say blockword."}, PROMPT[1]]
        client.chat.completions.create(model="chat", messages=messages)
        assert guest.forwarded == [messages]

    def test_a_redaction_inside_a_tool_call(self, guest: Guest, client: openai.OpenAI):
        call = {"name": "look_up", "arguments": '{"q": "my redactword"}'}
        messages: list[Any] = [
            {"role": "user", "content": [{"type": "text", "text": "see redactword"}]},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": "c1", "content": "nothing"},
        ]
        client.chat.completions.create(model="chat", messages=messages)
        [seen] = guest.forwarded
        assert seen[0]["content"] == [{"type": "text", "text": f"see {MARK}"}]
        assert seen[1]["tool_calls"][0]["function"]["arguments"] == f'{{"q": "my {MARK}"}}'
        assert [message["role"] for message in seen] == ["user", "assistant", "tool"]

    def test_an_image_is_recorded_as_unjudged(self, guest: Guest, client: openai.OpenAI):
        image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
        text = {"type": "text", "text": "what is this"}
        client.chat.completions.create(model="chat", messages=[{"role": "user", "content": [text, image]}])
        [record] = until(
            lambda: [r for r in guest.guardrail.records() if "$.images[0]" in r["unjudged"]], "a record"
        )
        assert (record["dialect"], record["stage"], record["action"]) == ("litellm", "input", "flag")

    def test_a_judge_that_is_down_is_left_to_litellms_rule(self, guest: Guest, client: openai.OpenAI):
        """A 503 counts as unreachable, which blocks unless ``unreachable_fallback`` says otherwise."""
        with pytest.raises(openai.InternalServerError, match="503"):
            client.chat.completions.create(model="chat", messages=asked("an outageword"))
        assert guest.forwarded == []


class TestAnswers:
    def test_a_redacted_one(self, guest: Guest, client: openai.OpenAI):
        guest.guardrail.upstream.text = ANSWER
        answer = client.chat.completions.create(model="chat", messages=PROMPT)
        assert answer.choices[0].message.content == ANSWER.replace("redactword", MARK)

    def test_a_blocked_one(self, guest: Guest, client: openai.OpenAI):
        guest.guardrail.upstream.text = "a blockword"
        with pytest.raises(openai.BadRequestError, match=REFUSAL):
            client.chat.completions.create(model="chat", messages=PROMPT)

    def test_a_redacted_stream(self, guest: Guest, client: openai.OpenAI):
        """The text comes in pieces and, put together, is the redacted answer."""
        guest.guardrail.upstream.text = ANSWER
        pieces = [*streamed(client)]
        assert "".join(pieces).rstrip() == ANSWER.replace("redactword", MARK)
        assert len([piece for piece in pieces if piece]) > 5

    def test_a_stream_that_is_blocked_near_its_end(self, guest: Guest, client: openai.OpenAI):
        """What was withheld when the violation came has not left, and there is no proper end."""
        guest.guardrail.upstream.text = "One calm word after another, " * 6 + "then the blockword comes."
        pieces: list[str] = []
        with pytest.raises(openai.APIError, match=REFUSAL):
            pieces.extend(streamed(client))
        text = "".join(pieces)
        assert guest.guardrail.upstream.text.startswith(text)
        assert 0 < len(text) <= guest.guardrail.upstream.text.index("then the blockword")

    def test_tool_calls_of_an_answer_are_judged(self, guest: Guest, client: openai.OpenAI):
        """What is to be redacted in them LiteLLM cannot be told, so the answer is blocked."""
        call = {"name": "f", "arguments": '{"q": "redactword"}'}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": call}],
        }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        guest.guardrail.upstream.script.append(Say(json.dumps(body).encode()))
        with pytest.raises(openai.BadRequestError, match=REFUSAL):
            client.chat.completions.create(model="chat", messages=PROMPT)
