"""Every action at every stage, streamed and not: what the client, the upstream and the audit file get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import (
    CALLER_KEY,
    CALM,
    CHAT,
    JUDGE_KEY,
    MARK,
    REFUSAL,
    SERVER_KEY,
    Proxies,
    Proxy,
    until,
)
from tests.fakes import stream

STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
OPEN = {"on_error": {"input": "open", "output": "open"}}


@dataclass
class Got:
    """What the SDK's user sees of one answer."""

    text: str = ""
    finish: str | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    error: openai.APIError | None = None

    @property
    def id(self) -> str:
        return self.headers["x-guardrail-id"]


def talk(proxy: Proxy, prompt: str, *, streaming: bool, **options: Any) -> Got:
    """One conversation through the real SDK, errors included."""
    got = Got()
    with proxy.openai(max_retries=0) as sdk:
        try:
            raw = sdk.chat.completions.with_raw_response.create(
                model="fake-model",
                messages=[{"role": "user", "content": prompt}],
                stream=streaming,
                **options,
            )
            got.headers = raw.headers
            if not streaming:
                choice = raw.parse().choices[0]
                got.text, got.finish = choice.message.content or "", choice.finish_reason
                return got
            stream: Any = raw.parse()
            for chunk in stream:
                for choice in chunk.choices:
                    got.text += choice.delta.content or ""
                    got.finish = choice.finish_reason or got.finish
        except openai.APIStatusError as error:
            got.error, got.headers = error, error.response.headers
        except openai.APIError as error:
            got.error = error
    return got


def forwarded(proxy: Proxy) -> list[str]:
    """The prompts that reached the upstream."""
    return [s.json["messages"][-1]["content"] for s in proxy.upstream.seen]


def finding(record: dict[str, Any]) -> tuple[Any, ...]:
    """(label, action, status, error) of the record's one finding."""
    (only,) = record["findings"]
    return only["label"], only["action"], only["status"], only["error"]


@STREAMING
class TestInput:
    def test_a_pass_changes_nothing(self, proxy: Proxy, streaming: bool) -> None:
        got = talk(proxy, "hello", streaming=streaming)
        assert (got.text.strip(), got.finish) == (CALM, "stop")
        assert got.headers["x-guardrail-decision"] == "pass"
        assert "x-guardrail-policies" not in got.headers
        assert "x-guardrail-degraded" not in got.headers
        assert forwarded(proxy) == ["hello"]
        before, after = proxy.recorded(got.id, "input", "output")
        assert finding(before) == finding(after) == (None, "pass", "judged", None)
        assert (before["action"], after["action"]) == ("pass", "pass")

    def test_a_flag_lets_through_and_says_so(self, proxy: Proxy, streaming: bool) -> None:
        got = talk(proxy, "a flagword", streaming=streaming)
        assert (got.text.strip(), got.finish) == (CALM, "stop")
        assert got.headers["x-guardrail-decision"] == "flag"
        assert got.headers["x-guardrail-policies"] == "house"
        assert forwarded(proxy) == ["a flagword"]
        before, _ = proxy.recorded(got.id, "input", "output")
        assert before["action"] == "flag"
        assert finding(before) == ("FLG", "flag", "judged", None)

    def test_a_redaction_reaches_the_model_redacted(self, proxy: Proxy, streaming: bool) -> None:
        got = talk(proxy, "my redactword is here", streaming=streaming)
        assert (got.text.strip(), got.finish) == (CALM, "stop")
        assert got.headers["x-guardrail-decision"] == "redact"
        assert forwarded(proxy) == [f"my {MARK} is here"]
        before, _ = proxy.recorded(got.id, "input", "output")
        assert finding(before) == ("RED", "redact", "judged", None)

    def test_a_block_never_reaches_the_model(self, proxy: Proxy, streaming: bool) -> None:
        got = talk(proxy, "a blockword", streaming=streaming)
        assert (got.text, got.finish) == (REFUSAL, "content_filter")
        assert got.headers["x-guardrail-decision"] == "block"
        assert got.headers["x-guardrail-policies"] == "house"
        assert forwarded(proxy) == []
        (before,) = proxy.recorded(got.id, "input")
        assert finding(before) == ("BLK", "block", "judged", None)

    def test_a_closed_outage_is_503_and_the_model_is_not_asked(self, proxy: Proxy, streaming: bool) -> None:
        got = talk(proxy, "an outageword", streaming=streaming)
        assert isinstance(got.error, openai.InternalServerError)
        assert (got.error.status_code, got.error.code) == (503, "guardrail_unavailable")
        assert int(got.headers["retry-after"]) > 0
        assert got.headers["x-should-retry"] == "false"
        assert got.headers["x-guardrail-decision"] == "block"
        assert got.headers["x-guardrail-degraded"] == "house=unavailable"
        assert forwarded(proxy) == []
        (before,) = proxy.recorded(got.id, "input")
        assert before["degraded"] is True
        assert finding(before) == (None, "block", "unavailable", "unavailable")

    def test_an_open_outage_lets_through_and_says_so(self, proxies: Proxies, streaming: bool) -> None:
        proxy = proxies(**OPEN)
        got = talk(proxy, "an outageword", streaming=streaming)
        assert (got.text.strip(), got.finish) == (CALM, "stop")
        assert got.headers["x-guardrail-decision"] == "pass"
        assert got.headers["x-guardrail-degraded"] == "house=unavailable"
        assert forwarded(proxy) == ["an outageword"]
        before, after = proxy.recorded(got.id, "input", "output")
        assert (before["degraded"], after["degraded"]) == (True, False)
        assert finding(before) == (None, "pass", "unavailable", "unavailable")


@STREAMING
class TestOutput:
    def test_a_flag_lets_through_and_is_recorded(self, proxy: Proxy, streaming: bool) -> None:
        proxy.upstream.text = "An answer with a flagword inside."
        got = talk(proxy, "hello", streaming=streaming)
        assert (got.text.strip(), got.finish) == (proxy.upstream.text, "stop")
        _, after = proxy.recorded(got.id, "input", "output")
        assert after["action"] == "flag"
        assert finding(after) == ("FLG", "flag", "judged", None)
        if not streaming:  # the decision about a stream comes after its headers
            assert got.headers["x-guardrail-decision"] == "flag"
            assert got.headers["x-guardrail-policies"] == "house"

    def test_a_redaction_reaches_the_client_redacted(self, proxy: Proxy, streaming: bool) -> None:
        proxy.upstream.text = "The code is redactword and that is all there is to it."
        got = talk(proxy, "hello", streaming=streaming)
        assert got.text.strip() == f"The code is {MARK} and that is all there is to it."
        assert got.finish == "stop"
        _, after = proxy.recorded(got.id, "input", "output")
        assert after["action"] == "redact"
        assert finding(after) == ("RED", "redact", "judged", None)

    def test_a_block_reaches_the_client_as_a_refusal(self, proxy: Proxy, streaming: bool) -> None:
        proxy.upstream.text = "Take a blockword first."
        got = talk(proxy, "hello", streaming=streaming)
        assert (got.text, got.finish) == (REFUSAL, "content_filter")
        assert got.headers["x-guardrail-decision"] == "block"
        assert got.headers["x-guardrail-policies"] == "house"
        _, after = proxy.recorded(got.id, "input", "output")
        assert after["action"] == "block"
        assert finding(after) == ("BLK", "block", "judged", None)

    def test_a_closed_outage_is_503_and_the_answer_is_kept_back(
        self, proxy: Proxy, streaming: bool
    ) -> None:
        proxy.upstream.text = "An answer with an outageword inside."
        got = talk(proxy, "hello", streaming=streaming)
        assert isinstance(got.error, openai.InternalServerError)
        assert (got.error.status_code, got.error.code) == (503, "guardrail_unavailable")
        assert got.headers["x-should-retry"] == "false"
        assert int(got.headers["retry-after"]) > 0
        assert got.headers["x-guardrail-degraded"] == "house=unavailable"
        assert "outageword" not in str(got.error.body)
        _, after = proxy.recorded(got.id, "input", "output")
        assert finding(after) == (None, "block", "unavailable", "unavailable")

    def test_an_open_outage_lets_through_and_says_so(self, proxies: Proxies, streaming: bool) -> None:
        proxy = proxies(**OPEN)
        proxy.upstream.text = "An answer with an outageword inside."
        got = talk(proxy, "hello", streaming=streaming)
        assert (got.text.strip(), got.finish) == (proxy.upstream.text, "stop")
        assert got.headers["x-guardrail-degraded"] == "house=unavailable"
        _, after = proxy.recorded(got.id, "input", "output")
        assert after["degraded"] is True
        assert finding(after) == (None, "pass", "unavailable", "unavailable")


class TestMidStream:
    """The violation or the outage comes after judged text has left."""

    # Long enough to leave before the trigger word is near: window 50, overlap 30.
    BEFORE = "One two three four five six seven eight nine ten. " * 6

    def script(self, proxy: Proxy, word: str) -> None:
        proxy.upstream.text = f"{self.BEFORE}And then the {word} comes, with more behind it."
        proxy.upstream.pause_s = 0.003

    def test_a_block_halts_and_nothing_of_it_leaves(self, proxy: Proxy) -> None:
        self.script(proxy, "blockword")
        got = talk(proxy, "hello", streaming=True)
        assert got.finish == "content_filter"
        assert got.text, "judged text left before the halt"
        assert self.BEFORE.startswith(got.text)
        assert REFUSAL not in got.text
        _, after = proxy.recorded(got.id, "input", "output")
        assert after["action"] == "block"
        assert after["checks"] > 1

    def test_a_closed_outage_ends_in_an_error_that_the_sdk_raises(self, proxy: Proxy) -> None:
        self.script(proxy, "outageword")
        got = talk(proxy, "hello", streaming=True)
        assert got.error is not None
        assert got.error.code == "guardrail_unavailable"
        assert got.finish is None, "a stream that is cut never looks whole"
        assert got.text, "judged text left before the outage"
        assert self.BEFORE.startswith(got.text)
        _, after = proxy.recorded(got.id, "input", "output")
        assert finding(after) == (None, "block", "unavailable", "unavailable")

    def test_a_redaction_stands_at_its_place(self, proxy: Proxy) -> None:
        self.script(proxy, "redactword")
        got = talk(proxy, "hello", streaming=True)
        assert got.text.strip() == f"{self.BEFORE}And then the {MARK} comes, with more behind it."
        assert got.finish == "stop"

    def test_a_violation_in_the_last_chunk_is_found(self, proxy: Proxy) -> None:
        proxy.upstream.text = self.BEFORE + "blockword"
        proxy.upstream.pause_s = 0.003
        got = talk(proxy, "hello", streaming=True)
        assert got.finish == "content_filter"
        assert self.BEFORE.startswith(got.text)

    def test_release_whole_lets_nothing_leave_before_the_end_was_judged(self, proxies: Proxies) -> None:
        proxy = proxies(streaming={"release": "whole"})
        self.script(proxy, "blockword")
        got = talk(proxy, "hello", streaming=True)
        assert (got.text, got.finish) == (REFUSAL, "content_filter")
        assert len(proxy.judge.judged) == 2  # the prompt, and the answer once

    def test_a_halt_cancels_the_upstream(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(_endless(f"{self.BEFORE}blockword {self.BEFORE}"))
        got = talk(proxy, "hello", streaming=True)
        assert got.finish == "content_filter"
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")


def _endless(text: str) -> Any:
    say = stream([word + " " for word in text.split(" ")])
    assert say.chunks is not None
    say.chunks.extend(say.chunks[1:-2] * 1000)
    say.pause_s = 0.001
    return say


ERROR_STYLE = {"refusal": {"input": {"style": "error"}, "output": {"style": "error", "status": 422}}}


@STREAMING
class TestErrorStyle:
    def test_a_blocked_prompt_is_an_error_that_sdks_do_not_retry(
        self, proxies: Proxies, streaming: bool
    ) -> None:
        proxy = proxies(**ERROR_STYLE)
        got = talk(proxy, "a blockword", streaming=streaming)
        assert isinstance(got.error, openai.BadRequestError)
        assert got.error.code == "content_filter"
        body: Any = got.error.body
        assert body["message"] == REFUSAL
        assert body["innererror"]["content_filter_result"] == {
            "house": {"filtered": True, "detected": True}
        }
        assert got.headers["x-guardrail-decision"] == "block"

    def test_a_blocked_answer_is_an_error_with_the_status_asked_for(
        self, proxies: Proxies, streaming: bool
    ) -> None:
        proxy = proxies(**ERROR_STYLE)
        proxy.upstream.text = "Take a blockword first."
        got = talk(proxy, "hello", streaming=streaming)
        assert isinstance(got.error, openai.UnprocessableEntityError)
        assert got.error.code == "content_filter"


@STREAMING
def test_a_malformed_verdict_is_no_pass(proxy: Proxy, streaming: bool) -> None:
    got = talk(proxy, "a garbageword", streaming=streaming)
    assert got.error is not None
    assert got.headers["x-guardrail-degraded"] == "house=malformed"
    assert forwarded(proxy) == []


@STREAMING
def test_a_caller_may_add_a_policy_and_the_key_is_stripped(proxy: Proxy, streaming: bool) -> None:
    got = talk(proxy, "a flagword", streaming=streaming, extra_body={"guardrails": ["extra"]})
    assert got.headers["x-guardrail-policies"] == "extra, house"
    assert "guardrails" not in proxy.upstream.seen[-1].json
    before, _ = proxy.recorded(got.id, "input", "output")
    assert [f["policy"] for f in before["findings"]] == ["extra", "house"]


@STREAMING
def test_finish_reason_stop_is_selectable(proxies: Proxies, streaming: bool) -> None:
    stop = {"finish_reason": "stop"}
    proxy = proxies(refusal={"input": stop, "output": stop, "message": "No."})
    got = talk(proxy, "a blockword", streaming=streaming)
    assert (got.text, got.finish) == ("No.", "stop")


def test_a_refused_stream_has_the_usage_chunk_that_was_asked_for(proxy: Proxy) -> None:
    body = {"messages": [{"role": "user", "content": "a blockword"}], "stream": True, "model": "m"}
    asked = proxy.post(body | {"stream_options": {"include_usage": True}}).text
    events = [line for line in asked.splitlines() if line]
    assert '"usage":{' in events[-2]
    assert events[-1] == "data: [DONE]"
    assert '"usage"' not in proxy.post(body).text


@STREAMING
def test_the_rationale_and_the_match_never_reach_the_client(proxy: Proxy, streaming: bool) -> None:
    raw = proxy.post({"messages": [{"role": "user", "content": "a blockword"}], "stream": streaming})
    assert raw.status_code == 200
    seen_by_client = raw.text + str(raw.headers)
    assert "rationale" not in seen_by_client
    assert "blockword" not in seen_by_client
    assert "BLK" not in seen_by_client


def test_the_callers_credentials_reach_the_upstream_and_never_the_judge(proxy: Proxy) -> None:
    talk(proxy, "hello", streaming=False)
    assert proxy.upstream.seen[-1].headers["Authorization"] == f"Bearer {CALLER_KEY}"
    assert {s.headers["Authorization"] for s in proxy.judge.seen} == {f"Bearer {JUDGE_KEY}"}


def test_a_configured_key_replaces_the_callers(proxies: Proxies) -> None:
    proxy = proxies(upstream={"api_key": SERVER_KEY})
    raw = proxy.http.post(
        CHAT,
        json={"messages": [{"role": "user", "content": "hello"}]},
        headers={"authorization": "Bearer other"},
    )
    assert raw.status_code == 200
    assert proxy.upstream.seen[-1].headers["Authorization"] == f"Bearer {SERVER_KEY}"
