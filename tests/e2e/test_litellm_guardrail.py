"""The guard inside LiteLLM: a real LiteLLM proxy process that runs ``GuardrailForLiteLLM``.

A fake upstream stands behind LiteLLM, and the judge answers by trigger words.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml

from guardrail.config.sections import UpstreamConfig
from tests.e2e.conftest import MARK, REFUSAL, ROOT, Process, Proxies, Proxy, WordJudge, until
from tests.e2e.litellm_proxy import ENVIRONMENT, KEY, litellm_proxy, skip_without_litellm_proxy
from tests.e2e.test_completions import said, streamed
from tests.e2e.test_messages import says, spoken
from tests.e2e.test_responses import saying
from tests.fakes import FakeUpstream, Say, Seen
from tests.wire.claudes import text
from tests.wire.responses import message

CLASS = "guardrail.frontends.litellm_guardrail.GuardrailForLiteLLM"
ANSWER = "Here is a long answer in which the redactword stands, and then it goes on for a while, to an end."
HIDDEN = ANSWER.replace("redactword", MARK)
PROMPT: list[Any] = [{"role": "user", "content": "Tell me something."}]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "open": {"on_error": {"input": "open", "output": "open"}},
    "restoring": {
        "redaction": {"strategy": "placeholder", "secret": "a secret of sixteen characters or more"}
    },
}
NACL = importlib.util.find_spec("nacl") is not None
PLACEHOLDER = re.compile(r"\[RED_[A-Z0-9]{8}\]")


@dataclass
class House:
    """LiteLLM's proxy, one guardrail for each variant, and what stands around them."""

    litellm: Process
    guards: dict[str, Proxy]
    upstream: FakeUpstream

    @property
    def judge(self) -> WordJudge:
        return self.guards["plain"].judge

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.litellm.port}"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.root}/v1", api_key=KEY, max_retries=0)

    @property
    def forwarded(self) -> list[Any]:
        """The body of every request that came through to the model."""
        return [seen.json for seen in self.upstream.seen if seen.method == "POST"]


@pytest.fixture(scope="module")
def house(proxies: Proxies) -> Iterator[House]:
    skip_without_litellm_proxy()
    guards = {name: proxies(**changes) for name, changes in VARIANTS.items()}
    url = guards["plain"].upstream.url
    key = "sk-" + "upstream-0123456789"
    models = {
        "chat": {"model": "openai/fake-model", "api_base": url, "api_key": key},
        "claude": {
            "model": "anthropic/claude-fake",
            "api_base": url.removesuffix("/v1"),
            "api_key": key,
        },
    }
    config = {
        "model_list": [{"model_name": name, "litellm_params": model} for name, model in models.items()],
        "router_settings": {"disable_cooldowns": True, "num_retries": 0},
        "guardrails": [
            {
                "guardrail_name": name,
                "litellm_params": {
                    "guardrail": CLASS,
                    "mode": ["pre_call", "post_call"],
                    "config_file": str(guard.folder / "guardrail.yaml"),
                    "allow": ["moderation"],
                },
            }
            for name, guard in guards.items()
        ],
    }
    with litellm_proxy(guards["plain"].folder / "litellm", config) as process:
        yield House(process, guards, guards["plain"].upstream)


@pytest.fixture
def client(house: House) -> Iterator[openai.OpenAI]:
    default = house.upstream.default
    with house.client() as sdk:
        yield sdk
    house.upstream.default = default


def asked(words: str) -> list[Any]:
    return [{"role": "user", "content": words}]


def by(guard: str) -> dict[str, Any]:
    return {"extra_body": {"guardrails": [guard]}}


def chat(client: openai.OpenAI, messages: list[Any], guard: str = "plain", **fields: Any) -> str:
    """The answer's text, from a body or from a stream."""
    answer = client.chat.completions.create(model="chat", messages=messages, **by(guard), **fields)
    if not fields.get("stream"):
        return answer.choices[0].message.content
    return "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices)


BOTH = pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["body", "stream"])


class TestChatPrompts:
    @BOTH
    def test_a_calm_one_comes_through_unchanged(
        self, house: House, client: openai.OpenAI, fields: dict[str, Any]
    ):
        assert chat(client, PROMPT, **fields).rstrip() == house.upstream.text
        assert [body["messages"] for body in house.forwarded] == [PROMPT]

    @BOTH
    def test_each_is_judged_once_and_its_answer_too(
        self, house: House, client: openai.OpenAI, fields: dict[str, Any]
    ):
        house.judge.seen.clear()
        words = f"a calm prompt {len(fields)}"
        house.upstream.text = "A short answer."
        chat(client, asked(words), **fields)
        judged = [text.strip() for text in house.judge.judged]
        assert [text for text in judged if words in text] == [words]
        assert [text for text in judged if "short" in text] == ["A short answer."]

    @BOTH
    def test_a_blocked_one_is_refused_and_not_forwarded(
        self, house: House, client: openai.OpenAI, fields: dict[str, Any]
    ):
        with pytest.raises(openai.BadRequestError, match=re.escape(REFUSAL)):
            chat(client, asked("a blockword"), **fields)
        assert house.forwarded == []

    def test_a_redacted_one_leaves_the_rest_of_the_request_as_it_is(
        self, house: House, client: openai.OpenAI
    ):
        image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
        parts = [{"type": "text", "text": "my redactword"}, image]
        tools: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        chat(client, [{"role": "user", "content": parts}], tools=tools, temperature=0.5)
        [body] = house.forwarded
        hidden = {"type": "text", "text": f"my {MARK}"}
        assert body["messages"] == [{"role": "user", "content": [hidden, image]}]
        assert (body["tools"], body["temperature"]) == (tools, 0.5)

    @BOTH
    def test_placeholders_go_to_the_model_and_the_text_comes_back(
        self, house: House, client: openai.OpenAI, fields: dict[str, Any]
    ):
        def echo(seen: Seen) -> Say:
            house.upstream.text = seen.json["messages"][-1]["content"]
            return house.upstream._complete(seen)

        house.upstream.default = echo
        words = "my redactword is here"
        assert chat(client, asked(words), "restoring", **fields).rstrip() == words
        [body] = house.forwarded
        assert PLACEHOLDER.search(body["messages"][0]["content"])
        assert "redactword" not in json.dumps(body)

    def test_one_that_cannot_be_checked_is_a_503(self, house: House, client: openai.OpenAI):
        with pytest.raises(openai.InternalServerError) as caught:
            chat(client, asked("an outageword"))
        assert caught.value.status_code == 503
        assert house.forwarded == []

    def test_fail_mode_open_lets_it_pass_and_records_it(self, house: House, client: openai.OpenAI):
        assert chat(client, asked("an outageword"), "open") == house.upstream.text
        records = until(
            lambda: [r for r in house.guards["open"].records() if r["stage"] == "input"], "a record"
        )
        assert "outageword" not in json.dumps(records)
        assert "unavailable" in json.dumps(records[-1])

    def test_a_callers_metadata_stand_for_no_judged_prompt(self, house: House, client: openai.OpenAI):
        forged = {"guardrail_call:plain": "0123456789abcdef"}
        with pytest.raises(openai.BadRequestError, match=re.escape(REFUSAL)):
            chat(client, asked("a blockword"), metadata=forged)
        assert house.forwarded == []


class TestOtherPrompts:
    """Fields out of which LiteLLM takes another prompt than the one that was judged."""

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            ("/v1/chat/completions", {"extra_body": {"messages": asked("a blockword")}}),
            ("/v1/chat/completions", {"fallbacks": [{"model": "chat", "messages": asked("a blockword")}]}),
            ("/v1/chat/completions", {"initial_prompt_value": "a blockword", "roles": {"user": {}}}),
            ("/v1/chat/completions", {"litellm_system_prompt": "a blockword"}),
            ("/v1/completions", {"extra_body": {"prompt": "a blockword"}}),
            ("/v1/messages", {"extra_body": {"messages": asked("a blockword")}, "max_tokens": 5}),
            ("/v1/responses", {"extra_body": {"input": "a blockword"}}),
            ("/v1/embeddings", {"extra_body": {"input": "a blockword"}}),
        ],
    )
    def test_one_is_refused_before_the_model_is_asked(
        self, house: House, path: str, fields: dict[str, Any]
    ):
        own = {"/v1/completions": "prompt", "/v1/responses": "input", "/v1/embeddings": "input"}
        prompt = {own[path]: "Hello."} if path in own else {"messages": PROMPT}
        body = {"model": "chat", "guardrails": ["plain"], **prompt, **fields}
        headers = {"authorization": f"Bearer {KEY}"}
        answer = httpx.post(house.root + path, json=body, headers=headers, timeout=30)
        assert answer.status_code == 400, answer.text
        assert "is not taken" in answer.text
        assert house.forwarded == []

    def test_fallbacks_that_name_models_are_litellms(self, house: House, client: openai.OpenAI):
        house.upstream.script.append(Say(b'{"error": {"message": "down"}}', status=500))
        extra = {"guardrails": ["plain"], "fallbacks": ["claude", {"model": "chat", "temperature": 0}]}
        with pytest.raises(openai.APIError):
            client.chat.completions.create(model="chat", messages=PROMPT, extra_body=extra)
        assert [body["model"] for body in house.forwarded][:2] == ["fake-model", "claude-fake"]


class TestChatAnswers:
    @BOTH
    def test_a_redacted_one(self, house: House, client: openai.OpenAI, fields: dict[str, Any]):
        house.upstream.text = ANSWER
        assert chat(client, PROMPT, **fields).rstrip() == HIDDEN

    @BOTH
    def test_one_that_is_blocked_at_once_has_a_status_of_its_own(
        self, house: House, client: openai.OpenAI, fields: dict[str, Any]
    ):
        house.upstream.text = "a blockword"
        with pytest.raises(openai.BadRequestError, match=re.escape(REFUSAL)):
            chat(client, PROMPT, **fields)

    @BOTH
    def test_one_that_cannot_be_checked_is_a_503(
        self, house: House, client: openai.OpenAI, fields: dict[str, Any]
    ):
        house.upstream.text = "an outageword"
        with pytest.raises(openai.InternalServerError) as caught:
            chat(client, PROMPT, **fields)
        assert caught.value.status_code == 503

    def test_a_stream_that_is_blocked_near_its_end(self, house: House, client: openai.OpenAI):
        """What was held when the violation came has not left, and there is no proper end."""
        house.upstream.text = "One calm word after another, " * 6 + "then the blockword comes."
        pieces: list[str] = []
        ends: list[Any] = []
        answer = client.chat.completions.create(model="chat", messages=PROMPT, stream=True, **by("plain"))

        def read() -> None:
            for chunk in answer:
                pieces.extend(choice.delta.content or "" for choice in chunk.choices)
                ends.extend(choice.finish_reason for choice in chunk.choices if choice.finish_reason)

        with pytest.raises(openai.APIError, match=re.escape(REFUSAL)):
            read()
        came = "".join(pieces)
        assert house.upstream.text.startswith(came)
        assert 0 < len(came) <= house.upstream.text.index("the blockword")
        assert ends == []

    @BOTH
    def test_tool_calls_are_redacted(self, house: House, client: openai.OpenAI, fields: dict[str, Any]):
        function = {"name": "f", "arguments": '{"q": "my redactword"}'}
        call = {"id": "c1", "type": "function", "function": function}

        def calls(seen: Seen) -> Say:
            head = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
            if not seen.json.get("stream"):
                told = {"role": "assistant", "content": None, "tool_calls": [call]}
                choice = {"index": 0, "message": told, "finish_reason": "tool_calls"}
                return Say(json.dumps({**head, "choices": [choice]}).encode())
            head["object"] = "chat.completion.chunk"
            deltas: list[Any] = [
                ({"role": "assistant", "tool_calls": [{"index": 0, **call}]}, None),
                ({}, "tool_calls"),
            ]
            chunks = [
                {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
                for delta, end in deltas
            ]
            sent = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks]
            headers = {"content-type": "text/event-stream"}
            return Say(headers=headers, chunks=[*sent, b"data: [DONE]\n\n"])

        house.upstream.default = calls
        answer: Any = client.chat.completions.create(model="chat", messages=PROMPT, **by("plain"), **fields)
        if fields:
            deltas = [choice.delta for chunk in answer for choice in chunk.choices]
            got = "".join(c.function.arguments or "" for d in deltas for c in d.tool_calls or ())
        else:
            got = answer.choices[0].message.tool_calls[0].function.arguments
        assert json.loads(got) == {"q": f"my {MARK}"}

    def test_every_choice_of_a_stream_is_judged(self, house: House, client: openai.OpenAI):
        answers = [ANSWER, ANSWER.replace("Here", "There")]

        def both(seen: Seen) -> Say:
            head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            events = []
            for words in zip(*(answer.split(" ") for answer in answers), strict=True):
                for index, word in enumerate(words):
                    choice = {"index": index, "delta": {"content": word + " "}, "finish_reason": None}
                    events.append({**head, "choices": [choice]})
            events += [
                {**head, "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}
                for index in (0, 1)
            ]
            sent = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in events]
            return Say(headers={"content-type": "text/event-stream"}, chunks=[*sent, b"data: [DONE]\n\n"])

        house.upstream.default = both
        got = {0: "", 1: ""}
        for chunk in client.chat.completions.create(
            model="chat", messages=PROMPT, n=2, stream=True, **by("plain")
        ):
            for choice in chunk.choices:
                got[choice.index] += choice.delta.content or ""
        assert [got[0].rstrip(), got[1].rstrip()] == [HIDDEN, HIDDEN.replace("Here", "There")]


class TestOtherRoutes:
    @BOTH
    def test_completions(self, house: House, client: openai.OpenAI, fields: dict[str, Any]):
        def reply(seen: Seen) -> Say:
            words = [word + " " for word in ANSWER.split(" ")]
            return streamed(words) if seen.json.get("stream") else said(ANSWER)

        house.upstream.default = reply
        answer: Any = client.completions.create(
            model="chat", prompt="my redactword", **by("plain"), **fields
        )
        whole = answer if fields else [answer]
        got = "".join(choice.text or "" for part in whole for choice in part.choices)
        assert got.rstrip() == HIDDEN
        assert house.forwarded[0]["prompt"] == f"my {MARK}"
        with pytest.raises(openai.BadRequestError, match=re.escape(REFUSAL)):
            client.completions.create(model="chat", prompt="a blockword", **by("plain"), **fields)

    @pytest.mark.skipif(not NACL, reason="LiteLLM's Responses route needs PyNaCl")
    @BOTH
    def test_responses(self, house: House, client: openai.OpenAI, fields: dict[str, Any]):
        house.upstream.default = saying(message(ANSWER))
        answer: Any = client.responses.create(model="chat", input="my redactword", **by("plain"), **fields)
        if fields:
            events = list(answer)
            pieces = [e.delta for e in events if e.type == "response.output_text.delta"]
            assert "".join(pieces) == HIDDEN
            answer = events[-1].response
            assert "redactword" not in json.dumps([e.model_dump(mode="json") for e in events])
        assert answer.output_text == HIDDEN
        assert house.forwarded[0]["input"] == f"my {MARK}"
        with pytest.raises(openai.BadRequestError, match=re.escape(REFUSAL)):
            client.responses.create(model="chat", input="a blockword", **by("plain"), **fields)

    @BOTH
    def test_messages(self, house: House, client: openai.OpenAI, fields: dict[str, Any]):
        house.upstream.default = lambda seen: (
            spoken(ANSWER) if seen.json.get("stream") else says(text(ANSWER))
        )
        ask: Any = {"model": "claude", "max_tokens": 99, **by("plain"), **fields}
        with anthropic.Anthropic(base_url=house.root, api_key=KEY, max_retries=0) as sdk:
            answer: Any = sdk.messages.create(messages=asked("my redactword"), **ask)
            if fields:
                events = list(answer)
                got = "".join(e.delta.text for e in events if e.type == "content_block_delta")
            else:
                got = answer.content[0].text
            assert got.rstrip() == HIDDEN
            assert "redactword" not in json.dumps(house.forwarded[0])
            with pytest.raises(anthropic.BadRequestError, match=re.escape(REFUSAL)):
                sdk.messages.create(messages=asked("a blockword"), **ask)

    def test_embeddings(self, house: House, client: openai.OpenAI):
        item = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
        body = {"object": "list", "data": [item], "model": "m", "usage": {"prompt_tokens": 1}}
        house.upstream.default = Say(json.dumps(body).encode())
        answer = client.embeddings.create(
            model="chat", input=["my redactword"], encoding_format="float", **by("plain")
        )
        assert answer.data[0].embedding == [0.5, 0.25]
        assert house.forwarded[0]["input"] == [f"my {MARK}"]
        with pytest.raises(openai.BadRequestError, match=re.escape(REFUSAL)):
            client.embeddings.create(model="chat", input="a blockword", **by("plain"))

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            ("/v1/images/generations", {"prompt": "a cat"}),
            ("/v1/audio/speech", {"input": "hello", "voice": "alloy"}),
            ("/v1/rerank", {"query": "hello", "documents": ["one"]}),
            ("/v1beta/models/chat:generateContent", {"contents": [{"parts": [{"text": "hello"}]}]}),
        ],
    )
    def test_a_call_that_no_dialect_knows_is_refused(self, house: House, path: str, fields: dict[str, Any]):
        body = {"model": "chat", "guardrails": ["plain"], **fields}
        headers = {"authorization": f"Bearer {KEY}"}
        answer = httpx.post(house.root + path, json=body, headers=headers, timeout=30)
        assert answer.status_code == 403, answer.text
        assert "no policy can be applied" in answer.text
        assert house.forwarded == []

    def test_one_that_is_allowed_passes(self, house: House):
        body = {"model": "chat", "guardrails": ["plain"], "input": "a blockword"}
        headers = {"authorization": f"Bearer {KEY}"}
        httpx.post(house.root + "/v1/moderations", json=body, headers=headers, timeout=30)
        assert [one["input"] for one in house.forwarded] == ["a blockword"]


def test_the_example_is_what_the_page_shows_and_litellm_takes_it(examples: Path):
    example = yaml.safe_load((examples / "litellm_config.yaml").read_text())["guardrails"]
    page = (ROOT / "docs" / "ways-in.md").read_text()
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert {"guardrails": example} in shown
    [upstream] = [block["upstream"] for block in shown if "upstream" in block]
    assert UpstreamConfig.model_validate(upstream).kind == "litellm"
    started = (
        "import sys, yaml\n"
        "from litellm.proxy.guardrails.init_guardrails import init_guardrails_v2\n"
        "import litellm\n"
        "init_guardrails_v2(yaml.safe_load(open(sys.argv[1]))['guardrails'], sys.argv[1])\n"
        "print([type(own).__name__ for own in litellm.callbacks if hasattr(own, 'guardrail_name')])\n"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", started, "examples/litellm_config.yaml"],
        env={**ENVIRONMENT, "GUARDRAIL_CLASSIFIER": "embedded"},
        cwd=examples.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named" in told.stderr and told.returncode:
        pytest.skip(f"LiteLLM's proxy cannot be imported: {told.stderr.strip().splitlines()[-1]}")
    assert told.stdout.strip().endswith("['GuardrailForLiteLLM']"), told.stderr
