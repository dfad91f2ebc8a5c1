"""A real ``guardrail serve`` process with LiteLLM as its upstream, asked by the real SDKs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.conftest import CALLER_KEY, MARK, REFUSAL, SERVER_KEY, Proxies, Proxy
from tests.e2e.test_responses import saying
from tests.fakes import FakeUpstream, Say, Seen
from tests.wire.responses import message

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None, reason="the extra guardrail[litellm] is not installed"
)
ANSWER = "Here is a long answer in which the redactword stands, and then it goes on for a while, to an end."
HIDDEN = ANSWER.replace("redactword", MARK)
BOTH = pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["body", "stream"])


@pytest.fixture
def through(proxies: Proxies, upstream: FakeUpstream) -> Iterator[Proxy]:
    """The proxy, whose LiteLLM speaks to the fake as to OpenAI."""
    default = upstream.default

    def reply(seen: Seen) -> Say:
        said: Any = saying(message(ANSWER)) if seen.path == "/v1/responses" else default
        return said(seen)  # type: ignore[no-any-return]

    upstream.text, upstream.default = ANSWER, reply
    yield proxies(upstream={"kind": "litellm", "api_key": SERVER_KEY})
    upstream.default = default


def sent(through: Proxy) -> str:
    """What the provider was sent, and with whose key."""
    [seen] = [seen for seen in through.upstream.seen if seen.method == "POST"]
    assert seen.headers["Authorization"] == f"Bearer {SERVER_KEY}"
    return json.dumps(seen.json)


@BOTH
def test_a_chat(through: Proxy, fields: dict[str, Any]):
    asked: Any = [{"role": "user", "content": "my redactword"}]
    with through.openai(max_retries=0) as sdk:
        answer: Any = sdk.chat.completions.create(model="openai/fake-model", messages=asked, **fields)
        if fields:
            got = "".join(c.delta.content or "" for chunk in answer for c in chunk.choices)
        else:
            got = answer.choices[0].message.content
    assert got.rstrip() == HIDDEN
    assert f"my {MARK}" in sent(through)


@BOTH
def test_a_response(through: Proxy, fields: dict[str, Any]):
    with through.openai(max_retries=0) as sdk:
        answer: Any = sdk.responses.create(model="openai/fake-model", input="my redactword", **fields)
        if fields:
            events = list(answer)
            assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == HIDDEN
            assert [e.sequence_number for e in events] == list(range(len(events)))
            answer = events[-1].response
    assert answer.output_text == HIDDEN
    assert f"my {MARK}" in sent(through)


@BOTH
def test_a_message_to_a_model_of_another_provider(through: Proxy, fields: dict[str, Any]):
    ask: Any = {"model": "openai/fake-model", "max_tokens": 99, **fields}
    with anthropic.Anthropic(base_url=through.root, api_key=CALLER_KEY, max_retries=0) as sdk:
        answer: Any = sdk.messages.create(messages=[{"role": "user", "content": "my redactword"}], **ask)
        if fields:
            got = "".join(e.delta.text for e in answer if e.type == "content_block_delta")
        else:
            got = answer.content[0].text
    assert got == HIDDEN
    assert f"my {MARK}" in sent(through)


def test_a_blocked_prompt_does_not_reach_litellm(through: Proxy):
    with through.openai(max_retries=0) as sdk:
        answer = sdk.responses.create(model="openai/fake-model", input="a blockword")
    assert REFUSAL in answer.model_dump_json()
    assert through.upstream.seen == []


def test_a_route_that_litellm_has_not_is_not_found(through: Proxy):
    body: Any = {"model": "openai/fake-model", "messages": [{"role": "user", "content": "hello"}]}
    claude = anthropic.Anthropic(base_url=through.root, api_key=CALLER_KEY, max_retries=0)
    with claude, pytest.raises(anthropic.NotFoundError, match="through LiteLLM there are"):
        claude.messages.count_tokens(**body)
    with through.openai(max_retries=0) as client, pytest.raises(openai.NotFoundError):
        client.models.list()
    assert through.upstream.seen == []
