"""Azure's annotations on request, through the real SDK: what was decided stands in the answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from openai.types.chat import ChatCompletionChunk

from guardrail.backends.policy_files import starter_policies
from tests.e2e.conftest import CALLER_KEY, CALM, REFUSAL, Proxies, Proxy, ruling
from tests.fakes import DONE, Say, chunk, completion, stream

AZURE = {"x-guardrail-annotations": "azure"}
CLEAN = {"filtered": False, "detected": False}
FOUND = {"filtered": False, "detected": True}
FILTERED = {"filtered": True, "detected": True}


def sent(prompt: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "m", "messages": messages, "extra_headers": AZURE, **more}


def prompt_results(answer: Any) -> Any:
    [told] = answer.prompt_filter_results
    assert told["prompt_index"] == 0
    return told["content_filter_results"]


def streamed(client: openai.OpenAI, prompt: str, **more: Any) -> list[ChatCompletionChunk]:
    return list(client.chat.completions.create(**sent(prompt, stream=True, **more)))


def ends(chunks: list[ChatCompletionChunk]) -> dict[int, Any]:
    """What each choice tells of itself; no chunk but its last one may tell anything."""
    told = {}
    for one in chunks:
        for choice in one.choices:
            results = (choice.model_extra or {}).get("content_filter_results")
            assert (results is not None) is (choice.finish_reason is not None)
            if results is not None:
                told[choice.index] = (choice.finish_reason, results)
    return told


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


class TestBodies:
    def test_a_pass(self, client: openai.OpenAI):
        answer = client.chat.completions.create(**sent("hello"))
        assert answer.choices[0].message.content == CALM
        assert prompt_results(answer) == {"house": CLEAN}
        assert answer.choices[0].content_filter_results == {"house": CLEAN}

    def test_a_flag_and_a_redaction(self, client: openai.OpenAI, proxy: Proxy):
        proxy.upstream.text = "Here is the redactword."
        answer = client.chat.completions.create(**sent("a flagword"))
        assert answer.choices[0].message.content == "Here is the [REDACTED:RED]."
        assert prompt_results(answer) == {"house": FOUND}
        assert answer.choices[0].content_filter_results == {"house": FOUND}

    def test_a_blocked_prompt(self, client: openai.OpenAI, proxy: Proxy):
        answer = client.chat.completions.create(**sent("a blockword", n=2))
        assert [c.message.content for c in answer.choices] == [REFUSAL, REFUSAL]
        assert prompt_results(answer) == {"house": FILTERED}
        assert [c.content_filter_results for c in answer.choices] == [{}, {}]
        assert proxy.upstream.seen == []

    def test_one_blocked_choice_of_two(self, client: openai.OpenAI, proxy: Proxy):
        body = completion("calm")
        two = body.replace(b'"finish_reason": "stop"}', b'"finish_reason": "stop"}, ' + SECOND)
        proxy.upstream.script.append(Say(two))
        answer = client.chat.completions.create(**sent("hello", n=2))
        told = [(c.finish_reason, c.content_filter_results) for c in answer.choices]
        assert told == [("stop", {"house": CLEAN}), ("content_filter", {"house": FILTERED})]

    def test_a_check_that_could_not_be_made(self, proxies: Proxies):
        opened = proxies(on_error={"input": "open", "output": "open"})
        opened.upstream.text = "An outageword."
        with opened.openai(max_retries=0) as client:
            asked = sent("outageword", extra_body={"guardrails": ["extra"]})
            answer = client.chat.completions.create(**asked)
        message = "not checked: extra=unavailable, house=unavailable"
        error = {"error": {"code": "content_filter_error", "message": message}}
        assert answer.choices[0].message.content == "An outageword."
        assert prompt_results(answer) == error
        assert answer.choices[0].content_filter_results == error

    def test_what_azure_itself_says_stays(self, client: openai.OpenAI, proxy: Proxy):
        body = completion("calm").replace(
            b'"finish_reason": "stop"', b'"finish_reason": "stop", "content_filter_results": {"hate": {}}'
        )
        proxy.upstream.script.append(
            Say(
                b'{"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}], '
                + body[1:]
            )
        )
        answer = client.chat.completions.create(**sent("hello"))
        assert answer.choices[0].content_filter_results == {"hate": {}, "house": CLEAN}
        assert prompt_results(answer) == {"house": CLEAN}

    def test_an_error_tells_it_as_azure_does(self, proxies: Proxies):
        strict = proxies(refusal={"input": {"style": "error"}})
        with strict.openai(max_retries=0) as client, pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**sent("a blockword"))
        body: Any = caught.value.body
        assert body["innererror"]["content_filter_result"] == {"house": FILTERED}


SECOND = (
    b'{"index": 1, "message": {"role": "assistant", "content": "a blockword"}, "finish_reason": "stop"}'
)


class TestStreams:
    def test_a_pass(self, client: openai.OpenAI):
        chunks = streamed(client, "hello", stream_options={"include_usage": True})
        first = chunks[0]
        assert (first.choices, prompt_results(first)) == ([], {"house": CLEAN})
        assert {(c.id, c.model, c.object) for c in chunks} == {
            ("chatcmpl-fake", "fake-model", "chat.completion.chunk")
        }
        assert text(chunks).strip() == CALM
        assert ends(chunks) == {0: ("stop", {"house": CLEAN})}
        assert [c for c in chunks[1:] if "prompt_filter_results" in (c.model_extra or {})] == []

    def test_the_sdks_own_reader_takes_the_chunk_without_choices(self, client: openai.OpenAI):
        with client.chat.completions.stream(**sent("hello")) as events:
            chunks = [event.chunk for event in events if event.type == "chunk"]
            answer: Any = events.get_final_completion()
        assert (answer.choices[0].message.content or "").strip() == CALM
        assert prompt_results(answer) == {"house": CLEAN}
        assert ends(chunks) == {0: ("stop", {"house": CLEAN})}

    def test_a_choice_halted_in_mid_stream(self, client: openai.OpenAI, proxy: Proxy):
        proxy.upstream.text, proxy.upstream.pause_s = "calm " * 60 + "and then a blockword at last", 0.01
        chunks = streamed(client, "a flagword")
        assert prompt_results(chunks[0]) == {"house": FOUND}
        assert "calm calm" in text(chunks)
        assert "blockword" not in text(chunks)
        assert ends(chunks) == {0: ("content_filter", {"house": FILTERED})}

    def test_each_choice_tells_of_itself(self, client: openai.OpenAI, proxy: Proxy):
        spoken = [chunk({"content": "calm words"}), chunk({"content": "a blockword"}, index=1)]
        last = [chunk({}, finish_reason="stop"), chunk({}, index=1, finish_reason="stop"), DONE]
        events = {"content-type": "text/event-stream"}
        proxy.upstream.script.append(Say(chunks=[*spoken, *last], headers=events))
        chunks = streamed(client, "hello", n=2)
        assert ends(chunks) == {
            0: ("stop", {"house": CLEAN}),
            1: ("content_filter", {"house": FILTERED}),
        }

    @pytest.mark.parametrize("prompt", ["a blockword", "hello"])
    def test_a_refusal_instead_of_a_stream(self, client: openai.OpenAI, proxy: Proxy, prompt: str):
        proxy.upstream.script.append(stream(["a blockword"]))
        chunks = streamed(client, prompt)
        assert text(chunks) == REFUSAL
        at_prompt = prompt != "hello"
        assert prompt_results(chunks[0]) == {"house": FILTERED if at_prompt else CLEAN}
        assert ends(chunks) == {0: ("content_filter", {} if at_prompt else {"house": FILTERED})}

    def test_a_check_that_could_not_be_made(self, proxies: Proxies):
        opened = proxies(on_error={"input": "open", "output": "open"})
        opened.upstream.text = "an outageword here"
        with opened.openai(max_retries=0) as client:
            chunks = streamed(client, "outageword")
        error = {"code": "content_filter_error", "message": "not checked: house=unavailable"}
        assert prompt_results(chunks[0]) == {"error": error}
        assert ends(chunks) == {0: ("stop", {"error": error})}

    def test_behind_azure_there_is_one_chunk_about_the_prompt(self, client: openai.OpenAI, proxy: Proxy):
        of_azures = chunk({}).replace(
            b'"choices": [{"index": 0, "delta": {}, "finish_reason": null}]',
            b'"choices": [], "prompt_filter_results": '
            b'[{"prompt_index": 0, "content_filter_results": {"hate": {}}}]',
        )
        said = stream(["calm"])
        said.chunks = [of_azures, *(said.chunks or [])]
        proxy.upstream.script.append(said)
        chunks = streamed(client, "hello")
        told = [c for c in chunks if "prompt_filter_results" in (c.model_extra or {})]
        assert [prompt_results(c) for c in told] == [{"hate": {}, "house": CLEAN}]


class TestAsking:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_without_the_header_nothing_is_told(self, proxy: Proxy, streaming: bool):
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": streaming}
        assert b"filter_results" not in proxy.post(body).content

    def test_the_header_stays_here(self, client: openai.OpenAI, proxy: Proxy):
        client.chat.completions.create(**sent("hello"))
        [seen] = proxy.upstream.seen
        assert [name for name in seen.headers if name.lower().startswith("x-guardrail")] == []

    def test_another_value_is_refused(self, proxy: Proxy):
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        answer = proxy.post(body, headers={"x-guardrail-annotations": "bedrock"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-guardrail-annotations")
        assert proxy.upstream.seen == []


PAGE = (Path(__file__).parents[2] / "docs" / "refusals.md").read_text(encoding="utf-8")
BATCH_KEY = "sk-batch-0123456789abcdef"


def marked(name: str) -> str:
    between = re.search(rf"<!-- {name}:[^\n]*-->\n(.*?)<!-- end of {name} -->", PAGE, re.DOTALL)
    assert between is not None
    return between[1]


def code(name: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", marked(name), re.DOTALL)
    assert found is not None
    return found[1]


ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in marked("rules").splitlines()
    if line.startswith("| ") and "/v1/" in line
]


class TestPage:
    def test_it_has_rows(self):
        assert len(ROWS) == 4

    @pytest.mark.parametrize(("asked_by", "language", "got"), ROWS)
    def test_its_rules_give_what_it_says(
        self, proxies: Proxies, monkeypatch: pytest.MonkeyPatch, asked_by: str, language: str, got: str
    ):
        monkeypatch.setenv("BATCH_KEY", BATCH_KEY)
        shown = proxies(**yaml.safe_load(code("rules", "yaml")))
        [path] = re.findall(r"/v1/[a-z/]+", asked_by)
        key = BATCH_KEY if "BATCH_KEY" in asked_by else CALLER_KEY
        prompt = {"messages": [{"role": "user", "content": "a blockword"}]}
        if path == "/v1/completions":
            prompt = {"prompt": "a blockword"}
        headers = {"authorization": f"Bearer {key}", "accept-language": language}
        answer = shown.http.post(path, json={"model": "m", **prompt}, headers=headers)
        status, ended, words = got.split(", ", 2)
        assert (answer.status_code, ended.strip("`")) == (int(status), outcome(answer.json()))
        assert words in answer.text

    def test_its_annotated_answer_is_a_real_one(self, proxies: Proxies, monkeypatch: pytest.MonkeyPatch):
        policies = {"directory": str(starter_policies()), "input": ["pii"], "output": ["pii"]}
        opened = proxies(policies=policies, on_error={"input": "open", "output": "open"})
        found = Say(ruling(1, "PII2", excerpts=["kim.doe@example.com"]))
        monkeypatch.setitem(opened.judge.words, "kim.doe", found)
        opened.upstream.text = "Write to kim.doe@example.com"
        with opened.openai(max_retries=0) as client:
            answer = client.chat.completions.create(**sent("outageword"))
        told: Any = answer.model_dump()
        shown: Any = json.loads(code("annotated", "json"))
        assert told["prompt_filter_results"] == shown["prompt_filter_results"]
        [choice] = shown["choices"]
        assert told["choices"][0]["content_filter_results"] == choice["content_filter_results"]


def outcome(body: dict[str, Any]) -> str:
    if "error" in body:
        return str(body["error"]["code"])
    return str(body["choices"][0]["finish_reason"])
