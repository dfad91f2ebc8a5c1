"""The OpenAI SDK guarded in-process, over real sockets: a judge and an upstream on loopback, no proxy."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from guardrail.frontends.openai_client import openai_async_http_client, openai_http_client
from tests.e2e.conftest import (
    CALLER_KEY,
    CALM,
    JUDGE_KEY,
    MARK,
    REFUSAL,
    WordJudge,
    free_port,
    until,
    write_policies,
)
from tests.fakes import FakeUpstream, Say, completion

ASK: dict[str, Any] = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def config(tmp_path: Path, judge: WordJudge) -> Path:
    return written(tmp_path, judge)


def written(folder: Path, judge: WordJudge) -> Path:
    """A configuration without an upstream, for what guards in-process."""
    write_policies(folder / "policies", {"house": "enforce"})
    file = folder / "guardrail.yaml"
    classifier = {
        "base_url": judge.url,
        "model": "fake-judge",
        "api_key": JUDGE_KEY,
        "breaker": {"failures": 10_000},
    }
    keys = {
        "version": 1,
        "classifier": classifier,
        "policies": {"directory": "policies", "input": ["house"], "output": ["house"]},
        "streaming": {"window_chars": 50, "overlap_chars": 30},
        "audit": {"sinks": [{"kind": "jsonl", "path": "audit.jsonl"}]},
    }
    file.write_text(yaml.safe_dump(keys), encoding="utf-8")
    return file


@pytest.fixture
def client(config: Path, upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
    http = openai_http_client(config)
    with openai.OpenAI(base_url=upstream.url, api_key=CALLER_KEY, http_client=http, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def aclient(config: Path, upstream: FakeUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    http = openai_async_http_client(config)
    async with openai.AsyncOpenAI(
        base_url=upstream.url, api_key=CALLER_KEY, http_client=http, max_retries=0
    ) as sdk:
        yield sdk


def records(config: Path, number: int) -> list[tuple[str, str]]:
    """Stage and action of so many records, once they are written."""
    file = config.parent / "audit.jsonl"

    def written() -> list[str]:
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [line for line in lines if line.endswith("\n")]

    until(lambda: len(written()) >= number, f"{number} records")
    return [(record["stage"], record["action"]) for record in map(json.loads, written())]


def prompt(text: str) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": text}]}


class TestSynchronous:
    def test_a_pass_a_block_a_redaction(self, client: openai.OpenAI, upstream: FakeUpstream) -> None:
        create = client.chat.completions.create
        assert create(**ASK).choices[0].message.content == CALM
        assert create(**prompt("a blockword")).choices[0].message.content == REFUSAL
        upstream.text = "You said redactword."
        assert create(**prompt("my redactword")).choices[0].message.content == f"You said {MARK}."
        assert [seen.json["messages"][0]["content"] for seen in upstream.seen] == ["hello", f"my {MARK}"]

    def test_each_side_has_its_own_key(
        self, client: openai.OpenAI, upstream: FakeUpstream, judge: WordJudge
    ) -> None:
        client.chat.completions.create(**ASK)
        assert {seen.headers["Authorization"] for seen in upstream.seen} == {f"Bearer {CALLER_KEY}"}
        assert {seen.headers["Authorization"] for seen in judge.seen} == {f"Bearer {JUDGE_KEY}"}

    def test_connections_are_kept_behind_streams_too(
        self, client: openai.OpenAI, upstream: FakeUpstream, config: Path
    ) -> None:
        for _ in range(3):
            text = "".join(
                part.choices[0].delta.content or ""
                for part in client.chat.completions.create(**ASK, stream=True)
            )
            assert text.strip() == CALM
        assert [seen.cancelled for seen in upstream.seen] == [False] * 3
        assert records(config, 6) == [("input", "pass"), ("output", "pass")] * 3

    def test_a_stream_that_is_left_early_is_cancelled_upstream(
        self, client: openai.OpenAI, upstream: FakeUpstream, config: Path
    ) -> None:
        upstream.text = "One calm word after another. " * 400
        upstream.pause_s = 0.005
        with client.chat.completions.create(**ASK, stream=True) as parts:
            assert next(iter(parts)).choices[0].delta is not None
        until(lambda: upstream.seen[-1].cancelled, "the upstream sees its client go")
        assert records(config, 2) == [("input", "pass"), ("output", "cancelled")]

    def test_a_closed_outage(self, client: openai.OpenAI, upstream: FakeUpstream) -> None:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**prompt("an outageword"))
        assert caught.value.code == "guardrail_unavailable"
        assert upstream.seen == []

    def test_an_upstream_that_is_not_there(self, client: openai.OpenAI) -> None:
        nowhere = client.with_options(base_url=f"http://127.0.0.1:{free_port()}/v1")
        with pytest.raises(openai.APIConnectionError):
            nowhere.chat.completions.create(**ASK)

    def test_a_retry_after_an_error(self, client: openai.OpenAI, upstream: FakeUpstream) -> None:
        busy = Say(b'{"error": {"message": "busy"}}', status=503, headers={"retry-after-ms": "1"})
        upstream.script += [busy, Say(drop=True), Say(completion("At last."))]
        retrying = client.with_options(max_retries=2)
        assert retrying.chat.completions.create(**ASK).choices[0].message.content == "At last."
        assert len(upstream.seen) == 3

    def test_threads(self, client: openai.OpenAI) -> None:
        answers: list[str | None] = []

        def one(text: str) -> None:
            for _ in range(5):
                answers.append(client.chat.completions.create(**prompt(text)).choices[0].message.content)

        threads = [threading.Thread(target=one, args=[text]) for text in ["hello", "a blockword"] * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, answers)) == sorted([CALM, REFUSAL] * 20)


@pytest.mark.anyio
class TestAsynchronous:
    async def test_answers_and_streams(self, aclient: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
        create: Any = aclient.chat.completions.create
        assert (await create(**ASK)).choices[0].message.content == CALM
        upstream.text = "Words that pass without any doubt. " * 8 + "Then a blockword. " + "And more. " * 9
        upstream.pause_s = 0.005
        text, reasons = "", []
        async for part in await create(**ASK, stream=True):
            text += part.choices[0].delta.content or ""
            reasons.append(part.choices[0].finish_reason)
        assert "blockword" not in text
        assert text.startswith("Words that pass")
        assert [reason for reason in reasons if reason] == ["content_filter"]

    async def test_a_stream_that_is_left_early(
        self, aclient: openai.AsyncOpenAI, upstream: FakeUpstream, config: Path
    ) -> None:
        upstream.text = "One calm word after another. " * 400
        upstream.pause_s = 0.005
        create: Any = aclient.chat.completions.create
        async with await create(**ASK, stream=True) as parts:
            await anext(aiter(parts))
        assert records(config, 2) == [("input", "pass"), ("output", "cancelled")]
        until(lambda: upstream.seen[-1].cancelled, "the upstream sees its client go")
