"""OpenAI's inline moderation through the real SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.conftest import REFUSAL, Proxies, Proxy
from tests.e2e.test_responses import saying
from tests.fakes import DONE, FakeUpstream, Say, chunk, completion
from tests.wire.responses import message

ASKED = {"moderation": {"model": "omni", "policy": {"input": {"mode": "score"}}}}


def speak(upstream: FakeUpstream, api: str, words: str) -> None:
    upstream.text = words
    if api == "responses":
        upstream.default = saying(message(words))


@pytest.fixture(autouse=True)
def _default(upstream: FakeUpstream) -> Iterator[None]:
    default = upstream.default
    yield
    upstream.default = default


def ask(client: openai.OpenAI, api: str, prompt: Any, streaming: bool, **more: Any) -> tuple[Any, Any]:
    """The moderation in the answer, and the answer, or the events of it."""
    headers = more.pop("extra_headers", {})
    body = {**ASKED, **more}
    if api == "responses":
        sent: Any = {"model": "m", "input": prompt, "stream": streaming}
        made: Any = client.responses.create(**sent, extra_body=body, extra_headers=headers)
        if not streaming:
            return made.moderation, made
        events = list(made)
        assert [e.sequence_number for e in events] == list(range(len(events)))
        return events[-1].response.moderation, events
    sent = {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": streaming}
    made = client.chat.completions.create(**sent, extra_body=body, extra_headers=headers)
    if not streaming:
        return made.moderation, made
    chunks = list(made)
    [told] = [c for c in chunks if c.moderation is not None]
    assert told.choices == []
    return told.moderation, chunks


def flags(side: Any) -> Any:
    """What is flagged, or the code of the error."""
    if side.type == "error":
        return side.code
    results = side.results if side.type == "moderation_results" else [side]
    assert all(r.type == "moderation_result" and r.model == "guardrail" for r in results)
    assert all(r.category_scores["house"] == float(r.categories["house"]) for r in results)
    return [r.flagged for r in results]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
class TestTold:
    @pytest.mark.parametrize(
        ("prompt", "answer", "told"),
        [
            ("hello", "calm", ([False], [False])),
            ("a flagword", "a redactword here", ([True], [True])),
            ("a blockword", "calm", ([True], "guardrail_not_judged")),
            ("hello", "a blockword", ([False], [True])),
        ],
    )
    def test_what_was_decided(
        self,
        client: openai.OpenAI,
        proxy: Proxy,
        api: str,
        streaming: bool,
        prompt: str,
        answer: str,
        told: Any,
    ):
        speak(proxy.upstream, api, answer)
        got, whole = ask(client, api, prompt, streaming)
        assert (flags(got.input), flags(got.output)) == told
        assert (REFUSAL in str(whole)) is ("blockword" in prompt + answer)
        assert all(b"moderation" not in seen.body for seen in proxy.upstream.seen)

    def test_a_judge_that_is_down(self, proxies: Proxies, api: str, streaming: bool):
        opened = proxies(on_error={"input": "open", "output": "open"})
        speak(opened.upstream, api, "an outageword here")
        with opened.openai(max_retries=0) as client:
            got, _ = ask(client, api, "outageword", streaming)
        assert (flags(got.input), flags(got.output)) == ("guardrail_unavailable",) * 2

    def test_a_judge_that_is_down_and_closed(self, proxies: Proxies, api: str, streaming: bool):
        closed = proxies(on_error={"input": "closed", "output": "closed"})
        with closed.openai(max_retries=0) as client, pytest.raises(openai.InternalServerError) as caught:
            ask(client, api, "outageword", streaming)
        assert caught.value.status_code == 503


def two_choices() -> Say:
    """A stream of two choices, of which the second is blocked."""
    said = [chunk({"content": "calm words"}), chunk({"content": "a blockword"}, index=1)]
    last = [chunk({}, finish_reason="stop"), chunk({}, index=1, finish_reason="stop"), DONE]
    return Say(chunks=[*said, *last], headers={"content-type": "text/event-stream"})


def two_in_a_body() -> Say:
    second = b', {"index": 1, "message": {"role": "assistant", "content": "a blockword"}, '
    end = b'"finish_reason": "stop"}'
    return Say(completion("calm").replace(end, end + second + end))


class TestChoices:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_each_has_a_result(self, client: openai.OpenAI, proxy: Proxy, streaming: bool):
        proxy.upstream.script.append(two_choices() if streaming else two_in_a_body())
        got, _ = ask(client, "chat", "hello", streaming, n=2)
        assert (flags(got.input), flags(got.output)) == ([False], [False, True])

    @pytest.mark.parametrize("streaming", [False, True])
    def test_none_of_a_blocked_prompt_was_judged(
        self, client: openai.OpenAI, proxy: Proxy, streaming: bool
    ):
        got, _ = ask(client, "chat", "a blockword", streaming, n=2)
        assert (flags(got.input), flags(got.output)) == ([True], "guardrail_not_judged")
        assert proxy.upstream.seen == []


class TestBesides:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_azures_annotations_may_be_asked_for_too(self, client: openai.OpenAI, streaming: bool):
        azure = {"x-guardrail-annotations": "azure"}
        got, whole = ask(client, "chat", "a flagword", streaming, extra_headers=azure)
        assert (flags(got.input), flags(got.output)) == ([True], [False])
        told = [
            one for one in (whole if streaming else [whole]) if "prompt_filter_results" in one.model_extra
        ]
        [results] = told[0].prompt_filter_results
        assert results["content_filter_results"] == {"house": {"filtered": False, "detected": True}}

    def test_a_stream_halted_after_its_first_words(self, client: openai.OpenAI, proxy: Proxy):
        proxy.upstream.text, proxy.upstream.pause_s = "calm " * 60 + "and then a blockword at last", 0.01
        got, chunks = ask(client, "chat", "hello", True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert "calm calm" in text
        assert "blockword" not in text
        assert (flags(got.input), flags(got.output)) == ([False], [True])

    @pytest.mark.parametrize("api", ["chat", "responses"])
    @pytest.mark.parametrize("streaming", [False, True])
    def test_an_error_carries_none(self, proxies: Proxies, api: str, streaming: bool):
        strict = proxies(refusal={"input": {"style": "error"}})
        with strict.openai(max_retries=0) as client, pytest.raises(openai.BadRequestError) as caught:
            ask(client, api, "a blockword", streaming)
        assert "moderation" not in caught.value.response.json()

    @pytest.mark.parametrize("api", ["chat", "responses"])
    def test_what_nobody_can_read_is_flagged_as_that(self, proxies: Proxies, api: str):
        flagging = proxies(unreadable="flag")
        image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
        prompt: Any = [{"type": "text", "text": "hello"}, image]
        if api == "responses":
            given = {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "auto"}
            prompt = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}, given]}]
        speak(flagging.upstream, api, "calm")
        with flagging.openai() as client:
            got, _ = ask(client, api, prompt, False)
        assert flags(got.input) == [True]
        result = got.input.results[0] if api == "chat" else got.input
        assert [name for name, found in result.categories.items() if found] == ["guardrail/unreadable"]

    @pytest.mark.parametrize("api", ["chat", "responses"])
    def test_a_wrong_shape_is_refused(self, client: openai.OpenAI, proxy: Proxy, api: str):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(
                client, api, "hello", False, moderation={"model": "m", "policy": {"input": {"mode": "off"}}}
            )
        assert caught.value.param == "moderation.policy.input.mode"
        assert proxy.upstream.seen == []
