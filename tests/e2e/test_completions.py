"""Text completions through the proxy, between the real OpenAI SDK and fakes: every action, both ways."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import CALM, MARK, REFUSAL, Proxies, Proxy, until
from tests.fakes import DONE, Say, Seen

STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
OPEN = {"on_error": {"input": "open", "output": "open"}}
EVENTS = {"content-type": "text/event-stream"}
CALM_WORDS = ["The ", "weather ", "is ", "fine ", "today."]
PATH = "/v1/completions"


def body(*choices: dict[str, Any], **more: Any) -> bytes:
    head = {"id": "cmpl-fake", "object": "text_completion", "created": 1760000000, "model": "fake-model"}
    return json.dumps({**head, "choices": list(choices), **more}).encode()


def choice(text: str, index: int = 0, finish_reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason, **more}


def said(*texts: str) -> Say:
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
    return Say(body(*[choice(text, index) for index, text in enumerate(texts)], usage=usage))


def event(*choices: dict[str, Any], **more: Any) -> bytes:
    return b"data: " + body(*choices, **more) + b"\n\n"


def streamed(*answers: list[str], **say: Any) -> Say:
    """Each answer word by word, one choice after the other in turns."""
    chunks = []
    for turn in range(max(len(words) for words in answers)):
        for index, words in enumerate(answers):
            if turn < len(words):
                chunks.append(event(choice(words[turn], index, None)))
            if turn == len(words) - 1:
                chunks.append(event(choice("", index)))
    return Say(headers=EVENTS, chunks=[*chunks, DONE], **say)


class Got:
    """What the SDK's user sees of one answer."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.ends: dict[int, str] = {}
        self.headers = httpx.Headers()
        self.error: openai.APIError | None = None

    def add(self, choices: list[Any]) -> None:
        for one in choices:
            self.texts[one.index] = self.texts.get(one.index, "") + one.text
            if one.finish_reason:
                self.ends[one.index] = one.finish_reason


def complete(proxy: Proxy, prompt: Any = "Once upon a time", *, streaming: bool, **options: Any) -> Got:
    """One completion through the real SDK, errors included."""
    got = Got()
    with proxy.openai(max_retries=0) as sdk:
        try:
            raw = sdk.completions.with_raw_response.create(
                model="fake-model", prompt=prompt, stream=streaming, **options
            )
            got.headers = raw.headers
            if streaming:
                parts: Any = raw.parse()
                for part in parts:
                    got.add(part.choices)
            else:
                got.add(raw.parse().choices)
        except openai.APIStatusError as error:
            got.error, got.headers = error, error.response.headers
        except openai.APIError as error:
            got.error = error
    return got


def answers(proxy: Proxy, *texts: str, streaming: bool) -> None:
    """What the upstream says next."""
    words = [[word + " " for word in text.split(" ")] for text in texts]
    proxy.upstream.script.append(streamed(*words) if streaming else said(*texts))


@STREAMING
class TestInput:
    def test_a_prompt_that_passes_arrives_byte_for_byte(self, proxy: Proxy, streaming: bool) -> None:
        answers(proxy, CALM, streaming=streaming)
        raw = json.dumps({"prompt": "Once é", "model": "m", "stream": streaming, "top_k": 5}).encode()
        got = proxy.http.post(PATH, content=raw, headers={"content-type": "application/json"})
        assert got.headers["x-guardrail-decision"] == "pass"
        assert proxy.upstream.seen[0].body == raw
        assert proxy.upstream.seen[0].path == PATH
        proxy.recorded(got.headers["x-guardrail-id"], "input", "output")
        assert {one["dialect"] for one in proxy.records(got.headers["x-guardrail-id"])} == {"completions"}

    def test_a_redacted_prompt_goes_on_without_it(self, proxy: Proxy, streaming: bool) -> None:
        answers(proxy, CALM, streaming=streaming)
        got = complete(proxy, ["all well", "a redactword here"], streaming=streaming, suffix="redactword")
        assert got.headers["x-guardrail-decision"] == "redact"
        sent = proxy.upstream.seen[0].json
        assert (sent["prompt"], sent["suffix"]) == (["all well", f"a {MARK} here"], MARK)

    @pytest.mark.parametrize(
        ("options", "count"),
        [({}, 1), ({"n": 2}, 2), ({"prompt": ["fine", "a blockword"], "n": 2}, 4)],
        ids=["one", "several", "prompts"],
    )
    def test_a_blocked_prompt_gets_as_many_refusals_as_choices(
        self, proxy: Proxy, streaming: bool, options: dict[str, Any], count: int
    ) -> None:
        got = complete(proxy, **{"prompt": "a blockword", **options}, streaming=streaming)
        assert got.headers["x-guardrail-decision"] == "block"
        assert got.texts == dict.fromkeys(range(count), REFUSAL)
        assert got.ends == dict.fromkeys(range(count), "content_filter")
        assert proxy.upstream.seen == []
        assert "house" in got.headers["x-guardrail-policies"]

    def test_a_blocked_suffix_blocks(self, proxy: Proxy, streaming: bool) -> None:
        assert complete(proxy, streaming=streaming, suffix="a blockword").texts == {0: REFUSAL}
        assert proxy.upstream.seen == []

    def test_a_block_in_the_error_style_is_a_bad_request(self, proxies: Proxies, streaming: bool) -> None:
        got = complete(
            proxies(refusal={"input": {"style": "error"}}), "a blockword", streaming=streaming, n=2
        )
        assert isinstance(got.error, openai.BadRequestError)
        assert got.error.code == "content_filter"

    def test_a_judge_that_is_down_closes(self, proxy: Proxy, streaming: bool) -> None:
        got = complete(proxy, "an outageword", streaming=streaming)
        assert isinstance(got.error, openai.InternalServerError)
        assert got.error.status_code == 503
        assert got.error.code == "guardrail_unavailable"
        assert proxy.upstream.seen == []

    def test_a_judge_that_is_down_opens_where_that_is_configured(
        self, proxies: Proxies, streaming: bool
    ) -> None:
        proxy = proxies(**OPEN)
        answers(proxy, CALM, streaming=streaming)
        got = complete(proxy, "an outageword", streaming=streaming)
        assert got.texts[0].strip() == CALM
        assert got.headers["x-guardrail-degraded"] == "house=unavailable"

    @pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]]], ids=["tokens", "lists"])
    def test_token_ids_follow_the_rule_for_what_cannot_be_read(
        self, proxies: Proxies, streaming: bool, prompt: Any
    ) -> None:
        flagging = proxies()
        answers(flagging, CALM, streaming=streaming)
        got = complete(flagging, prompt, streaming=streaming)
        assert got.headers["x-guardrail-unjudged"] == "$.prompt"
        assert flagging.upstream.seen[0].json["prompt"] == prompt
        blocked = complete(proxies(unreadable="block"), prompt, streaming=streaming)
        assert set(blocked.texts.values()) == {REFUSAL}
        assert len(flagging.upstream.seen) == 1

    def test_a_policy_can_be_added(self, proxies: Proxies, streaming: bool) -> None:
        proxy = proxies()
        answers(proxy, CALM, streaming=streaming)
        got = complete(proxy, "fine", streaming=streaming, extra_body={"guardrails": ["extra"]})
        [before, _] = proxy.recorded(got.headers["x-guardrail-id"], "input", "output")
        assert {finding["policy"] for finding in before["findings"]} == {"house", "extra"}
        assert "guardrails" not in proxy.upstream.seen[0].json


@STREAMING
class TestOutput:
    def test_an_answer_that_passes_comes_byte_for_byte(self, proxy: Proxy, streaming: bool) -> None:
        say = streamed(CALM_WORDS, ["Not ", "bad."]) if streaming else said(CALM, "Not bad.")
        proxy.upstream.script.append(say)
        got = proxy.http.post(PATH, json={"model": "m", "prompt": "a", "n": 2, "stream": streaming})
        assert got.content == (b"".join(say.chunks or []) if streaming else say.body)
        assert got.headers["x-guardrail-decision"] == "pass"

    def test_a_redacted_answer_comes_without_it(self, proxy: Proxy, streaming: bool) -> None:
        answers(proxy, "The code is redactword as before.", streaming=streaming)
        got = complete(proxy, streaming=streaming)
        assert got.texts[0].strip() == f"The code is {MARK} as before."
        assert got.ends == {0: "stop"}

    def test_a_blocked_answer_is_refused(self, proxy: Proxy, streaming: bool) -> None:
        answers(proxy, "A blockword.", streaming=streaming)
        got = complete(proxy, streaming=streaming)
        assert (got.texts, got.ends) == ({0: REFUSAL}, {0: "content_filter"})
        assert got.headers["x-guardrail-decision"] == "block"

    def test_each_choice_is_judged_on_its_own(self, proxy: Proxy, streaming: bool) -> None:
        answers(proxy, "All is well.", "A blockword.", "A redactword.", CALM, streaming=streaming)
        got = complete(proxy, ["one", "two"], n=2, streaming=streaming)
        texts = {index: text.strip() for index, text in got.texts.items()}
        assert texts == {0: "All is well.", 1: REFUSAL, 2: f"A {MARK}.", 3: CALM}
        assert got.ends == {0: "stop", 1: "content_filter", 2: "stop", 3: "stop"}

    def test_a_judge_that_is_down_closes(self, proxy: Proxy, streaming: bool) -> None:
        answers(proxy, "An outageword.", streaming=streaming)
        got = complete(proxy, streaming=streaming)
        assert isinstance(got.error, openai.InternalServerError)
        assert got.error.status_code == 503
        assert got.texts == {}

    def test_a_judge_that_is_down_opens_where_that_is_configured(
        self, proxies: Proxies, streaming: bool
    ) -> None:
        proxy = proxies(**OPEN)
        answers(proxy, "An outageword.", streaming=streaming)
        got = complete(proxy, streaming=streaming)
        assert got.texts[0].strip() == "An outageword."
        records = proxy.recorded(got.headers["x-guardrail-id"], "input", "output")
        assert records[1]["findings"][0]["status"] == "unavailable"

    def test_an_echoed_prompt_is_judged_with_the_answer(self, proxy: Proxy, streaming: bool) -> None:
        """It is the model's answer by then, whatever became of it as a prompt."""
        answers(proxy, "Once upon a blockword.", streaming=streaming)
        assert complete(proxy, "Once upon", echo=True, streaming=streaming).texts == {0: REFUSAL}

    def test_thinking_is_judged_too(self, proxy: Proxy, streaming: bool) -> None:
        thought = choice("All is well.", reasoning="A blockword.")
        ended = choice("All is well.", finish_reason=None, reasoning="A blockword.")
        chunks = [event(ended), event(choice("")), DONE]
        proxy.upstream.script.append(
            Say(headers=EVENTS, chunks=chunks) if streaming else Say(body(thought))
        )
        assert complete(proxy, streaming=streaming).texts == {0: REFUSAL}

    def test_another_protocol_is_not_let_through(self, proxy: Proxy, streaming: bool) -> None:
        """llama.cpp speaks its own on ``/completions`` without ``/v1``."""
        raw = b'{"content": "A blockword.", "stop": true}'
        chunks = [b"data: " + raw + b"\n\n"]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=chunks) if streaming else Say(raw))
        got = complete(proxy, streaming=streaming)
        assert isinstance(got.error, openai.InternalServerError)
        assert got.error.code == "upstream_unreadable"
        assert got.texts == {}


SPELLED = {"tokens": ["a", " redactword"], "token_logprobs": [-0.5, -0.5], "text_offset": [0, 1]}


class TestLogprobs:
    def test_they_pass_with_an_answer_that_passes(self, proxy: Proxy, client: openai.OpenAI) -> None:
        spelled = {**SPELLED, "tokens": ["all", " well"]}
        proxy.upstream.script.append(Say(body(choice("all well", logprobs=spelled))))
        answer = client.completions.create(model="m", prompt="a", logprobs=1)
        assert answer.choices[0].logprobs is not None
        assert answer.choices[0].logprobs.tokens == ["all", " well"]

    def test_they_go_with_a_redacted_answer(self, proxy: Proxy, client: openai.OpenAI) -> None:
        one = choice("a redactword", logprobs=SPELLED, token_ids=[64, 4242])
        proxy.upstream.script.append(Say(body(one)))
        raw = client.completions.with_raw_response.create(model="m", prompt="a", logprobs=1)
        answer = raw.parse()
        assert (answer.choices[0].text, answer.choices[0].logprobs) == (f"a {MARK}", None)
        assert "redactword" not in raw.text
        assert "4242" not in raw.text

    def test_they_go_with_a_redacted_chunk(self, proxy: Proxy) -> None:
        words = ["The ", "code ", "is ", "redact", "word", " and ", "no ", "more."]
        chunks = [event(choice(word, 0, None, logprobs={"tokens": [word]})) for word in words]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=[*chunks, event(choice("")), DONE]))
        raw = proxy.http.post(PATH, json={"model": "m", "prompt": "a", "logprobs": 1, "stream": True}).text
        assert MARK in raw
        assert '["code "]' in raw, "those of untouched chunks stay"
        for part in ("redactword", '"redact"', '"word"'):
            assert part not in raw


class TestStreams:
    def test_a_halt_in_mid_stream_ends_the_choice_with_content_filter(self, proxy: Proxy) -> None:
        calm = ["Some ", "words ", "that ", "pass ", "without ", "any ", "doubt. "] * 8
        proxy.upstream.script.append(streamed([*calm, "Then a blockword."], pause_s=0.003))
        got = complete(proxy, streaming=True)
        assert got.ends == {0: "content_filter"}
        assert got.texts[0]
        assert "".join(calm).startswith(got.texts[0])

    def test_a_halt_in_mid_stream_in_the_error_style_is_an_error(self, proxies: Proxies) -> None:
        calm = ["Some ", "words ", "that ", "pass ", "without ", "any ", "doubt. "] * 8
        proxy = proxies(refusal={"output": {"style": "error"}})
        proxy.upstream.script.append(streamed([*calm, "Then a blockword."], pause_s=0.003))
        got = complete(proxy, streaming=True)
        assert got.error is not None
        assert got.error.code == "content_filter"
        assert got.ends == {}

    def test_an_outage_in_mid_stream_is_an_error_and_no_end(self, proxy: Proxy) -> None:
        calm = ["Some ", "words ", "that ", "pass ", "without ", "any ", "doubt. "] * 8
        proxy.upstream.script.append(streamed([*calm, "Then an outageword."], pause_s=0.003))
        got = complete(proxy, streaming=True)
        assert got.error is not None
        assert got.error.code == "guardrail_unavailable"
        assert got.ends == {}
        assert "outageword" not in got.texts.get(0, "")

    def test_the_usage_chunk_comes_through(self, proxy: Proxy, client: openai.OpenAI) -> None:
        usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
        say = streamed(CALM_WORDS)
        chunks = [*(say.chunks or [])[:-1], event(usage=usage), DONE]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=chunks))
        options: Any = {"include_usage": True}
        parts = list(client.completions.create(model="m", prompt="a", stream=True, stream_options=options))
        assert [part.usage.total_tokens for part in parts if part.usage] == [16]

    def test_a_refused_stream_tells_its_usage_where_it_was_asked_for(self, client: openai.OpenAI) -> None:
        options: Any = {"include_usage": True}
        parts = list(
            client.completions.create(model="m", prompt="a blockword", stream=True, stream_options=options)
        )
        assert [part.usage.total_tokens for part in parts if part.usage] == [0]

    def test_redacted_json_stays_json(self, proxy: Proxy) -> None:
        text = '{"city": "redactword", "degrees": 3}'
        proxy.upstream.script.append(streamed([text[at : at + 3] for at in range(0, len(text), 3)]))
        form = {"response_format": {"type": "json_object"}}
        got = complete(proxy, streaming=True, extra_body=form)
        assert json.loads(got.texts[0]) == {"city": MARK, "degrees": 3}

    def test_leaving_the_stream_early_cancels_the_upstream(
        self, proxy: Proxy, client: openai.OpenAI
    ) -> None:
        proxy.upstream.script.append(streamed(["word "] * 5000, pause_s=0.002))
        with client.completions.create(model="m", prompt="a", stream=True) as parts:
            assert next(iter(parts)).choices[0].text == "word "
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")


@STREAMING
def test_placeholders_are_restored_in_every_choice(proxies: Proxies, streaming: bool) -> None:
    secret = "a secret of sixteen characters or more"
    proxy = proxies(redaction={"strategy": "placeholder", "secret": secret})
    placeholders: list[str] = []

    def repeat(seen: Seen) -> Say:
        placeholders.extend(re.findall(r"\[RED_[A-Z0-9]{8}\]", seen.body.decode()))
        text = f"It was {placeholders[0]}."
        pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
        return streamed(pieces, pieces) if streaming else said(text, text)

    chatting, proxy.upstream.default = proxy.upstream.default, repeat
    try:
        got = complete(proxy, ["a redactword", "b"], streaming=streaming)
    finally:
        proxy.upstream.default = chatting
    assert b"redactword" not in proxy.upstream.seen[0].body
    assert len(placeholders) == 1
    assert got.texts == {0: "It was redactword.", 1: "It was redactword."}


@pytest.mark.parametrize("options", [{"n": 200}, {"prompt": ["a"] * 100, "n": 128}], ids=["n", "product"])
def test_more_choices_than_may_be_are_refused(proxy: Proxy, options: dict[str, Any]) -> None:
    got = complete(proxy, **options, streaming=False)
    assert isinstance(got.error, openai.BadRequestError)
    assert got.error.code == "invalid_request_error"
    assert proxy.upstream.seen == []


def test_a_chat_is_not_let_through_as_a_completion(proxy: Proxy) -> None:
    chat = {"model": "m", "prompt": "a", "messages": [{"role": "user", "content": "a blockword"}]}
    got = proxy.http.post(PATH, json=chat)
    assert (got.status_code, got.json()["error"]["param"]) == (400, "messages")
    assert proxy.upstream.seen == []


@pytest.mark.anyio
async def test_the_asynchronous_sdk(proxy: Proxy) -> None:
    proxy.upstream.script.extend([said("All redactword."), streamed(["All ", "redactword ", "well."])])
    async with proxy.async_openai(max_retries=0) as sdk:
        answer = await sdk.completions.create(model="m", prompt="a")
        assert answer.choices[0].text == f"All {MARK}."
        text = ""
        async for part in await sdk.completions.create(model="m", prompt="a", stream=True):
            text += part.choices[0].text
        assert text == f"All {MARK} well."


def test_an_answer_of_the_chats_stays_a_chat(proxy: Proxy, client: openai.OpenAI) -> None:
    """The chat's path ends in this one's."""
    asked: Any = [{"role": "user", "content": "a blockword"}]
    raw = client.chat.completions.with_raw_response.create(model="m", messages=asked)
    assert raw.parse().choices[0].message.content == REFUSAL
    [record] = proxy.recorded(raw.headers["x-guardrail-id"], "input")
    assert record["dialect"] == "chat.completions"
