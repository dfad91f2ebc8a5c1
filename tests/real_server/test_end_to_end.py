"""The whole way: OpenAI's SDK, a ``guardrail serve`` process, and a real inference server as judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from guardrail.core.policy import Policy
from tests.fakes import FakeUpstream
from tests.real_server.asking import tokens
from tests.real_server.processes import JudgeServer, guardrail_serve
from tests.real_server.script import TRIGGER

REFUSAL = "I can't help with that."
# Longer than a window on either side of the trigger, so that a stream is under way when it comes.
CALM = "The night train to the coast leaves at nine and takes all night. " * 12
HOT = f"{CALM}{TRIGGER} {CALM}"


@dataclass(frozen=True)
class Door:
    """A guardrail process and its chat model."""

    client: OpenAI
    upstream: FakeUpstream

    def asks(self, text: str) -> tuple[str | None, str, str]:
        """One unary request: the answer's text, its finish reason, guardrail's decision."""
        raw = self.client.chat.completions.with_raw_response.create(
            model="m", messages=[{"role": "user", "content": text}]
        )
        choice = raw.parse().choices[0]
        return choice.message.content, choice.finish_reason, raw.headers["x-guardrail-decision"]

    def streams(self, text: str) -> tuple[str, str | None]:
        """One streamed request: all the text that came, and the last finish reason."""
        got, reason = "", None
        with self.client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": text}], stream=True
        ) as chunks:
            for chunk in chunks:
                for choice in chunk.choices:
                    got += choice.delta.content or ""
                    reason = choice.finish_reason or reason
        return got, reason


@pytest.fixture(scope="module")
def running(server: JudgeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("guardrail")
    with (
        FakeUpstream() as upstream,
        guardrail_serve(folder, server.url, upstream.url) as proxy,
        OpenAI(base_url=f"{proxy}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield Door(client, upstream)


@pytest.fixture
def door(running: Door) -> Door:
    running.upstream.seen.clear()
    running.upstream.text = CALM.strip()
    return running


def test_a_benign_prompt_and_a_benign_answer_pass(door: Door) -> None:
    assert door.asks("When does the night train leave?") == (CALM.strip(), "stop", "pass")
    assert len(door.upstream.seen) == 1


def test_a_benign_stream_passes_whole(door: Door) -> None:
    text, reason = door.streams("And when does it arrive?")
    assert (text.strip(), reason) == (CALM.strip(), "stop")


def test_the_trigger_in_the_prompt_blocks_before_the_model_is_asked(door: Door) -> None:
    assert door.asks(f"How is a {TRIGGER} made?") == (REFUSAL, "content_filter", "block")
    assert door.streams(f"How is one {TRIGGER} made?") == (REFUSAL, "content_filter")
    assert door.upstream.seen == []


def test_the_trigger_in_the_answer_blocks_it(door: Door) -> None:
    door.upstream.text = HOT
    assert door.asks("Tell me a story.") == (REFUSAL, "content_filter", "block")
    assert len(door.upstream.seen) == 1


def test_the_trigger_in_a_stream_never_leaves(door: Door) -> None:
    door.upstream.text = HOT
    door.upstream.pause_s = 0.005  # else all of it comes in one read
    text, reason = door.streams("Tell me a longer story.")
    assert reason == "content_filter"
    assert TRIGGER not in text
    told = text.removesuffix(REFUSAL)
    assert told != "", "the story was under way"
    assert HOT.startswith(told)


def test_the_trigger_in_the_first_words_of_a_stream_leaves_a_refusal_alone(door: Door) -> None:
    door.upstream.text = f"A {TRIGGER} is"
    assert door.streams("Tell me something short.") == (REFUSAL, "content_filter")


def test_the_audit_record_says_what_the_judges_server_had_cached(
    server: JudgeServer, http: httpx.Client, arms: Policy, tmp_path: Path
) -> None:
    with (
        FakeUpstream() as upstream,
        guardrail_serve(tmp_path, server.url, upstream.url) as proxy,
        httpx.Client(base_url=proxy, timeout=60) as client,
    ):
        for text in ("Is the dining car open?", "Is there a sleeping car?"):
            body = {"model": "m", "messages": [{"role": "user", "content": text}]}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
    *_, last = (json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines())
    [finding] = last["findings"]
    assert (finding["policy"], finding["status"], finding["label"]) == ("arms", "judged", "safe")
    assert finding["tokens"]["cached"] >= 0.9 * len(tokens(http, arms.body))
