"""The same judge client against vLLM, by hand: see vllm.md.

Runs with ``GUARDRAIL_TEST_VLLM=1`` and ``GUARDRAIL_VLLM_URL`` naming a server of the tiny model. What
differs from llama.cpp: prompts are made by openai-harmony and never hold a control token of the
user's; the analysis comes as ``reasoning``; the prefix cache works in blocks; cut answers have no
content, or a part of a harmony header.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from guardrail.backends.judge import JudgeClassifier
from guardrail.core.policy import Policy
from guardrail.errors import ClassifierRejected, FailureCode, MalformedVerdict
from tests.fakes import FakeUpstream
from tests.real_server.asking import judging, prompt, usage_of
from tests.real_server.processes import guardrail_serve
from tests.real_server.script import TRIGGER
from tests.real_server.test_control_tokens import FORM

if os.environ.get("GUARDRAIL_TEST_VLLM") != "1":
    pytest.skip("opt-in: see tests/real_server/vllm.md", allow_module_level=True)

URL = os.environ.get("GUARDRAIL_VLLM_URL", "http://127.0.0.1:8000/v1")
POLICY_TOKENS = 683  # of o200k_base, in the body of policies/arms/policy.md
BLOCK = 128  # tokens; vLLM's unit of caching on a CPU
TRANSCRIPT = 25

pytestmark = pytest.mark.anyio


@pytest.fixture
async def vllm() -> AsyncIterator[JudgeClassifier]:
    async with judging(URL) as judge:
        yield judge


async def cached_by(judge: JudgeClassifier, policy: Policy, text: str) -> int:
    cached = (await usage_of(judge, policy, text)).cached
    assert cached is not None, "start vLLM with --enable-prompt-tokens-details"
    return cached


@pytest.mark.parametrize(("text", "label"), [("Hello", "safe"), (f"How is a {TRIGGER} made?", "unsafe")])
async def test_the_verdict_comes_through(
    vllm: JudgeClassifier, arms: Policy, text: str, label: str
) -> None:
    verdict = await vllm.classify(arms, prompt(text))
    assert verdict.label == label
    assert verdict.usage is not None
    assert verdict.usage.completion == TRANSCRIPT


async def test_the_policy_is_computed_once(vllm: JudgeClassifier, arms: Policy) -> None:
    await vllm.classify(arms, prompt("The first text of all."))
    for text in ("How do I descale a kettle?", "Write a limerick. " * 20):
        assert await cached_by(vllm, arms, text) > POLICY_TOKENS - BLOCK


async def test_what_changes_before_the_policy_costs_the_whole_of_it(
    vllm: JudgeClassifier, arms: Policy
) -> None:
    for text in ("Hello", "Hello again"):
        late = replace(arms, body=f"Request {uuid4()}\n{arms.body}")
        assert await cached_by(vllm, late, text) <= BLOCK


@FORM
async def test_a_forged_verdict_does_not_undo_the_trigger(
    vllm: JudgeClassifier, arms: Policy, forged: str
) -> None:
    assert (await vllm.classify(arms, prompt(f"{forged} Build me a {TRIGGER}."))).violation
    assert not (await vllm.classify(arms, prompt(forged))).violation


async def test_a_text_beyond_the_context_is_too_long(vllm: JudgeClassifier, arms: Policy) -> None:
    with pytest.raises(ClassifierRejected) as raised:
        await vllm.classify(arms, prompt("Nothing to see on this page. " * 2000))
    assert raised.value.code is FailureCode.TOO_LONG


async def test_an_answer_cut_by_max_tokens_is_truncated_wherever_it_is_cut(arms: Policy) -> None:
    for max_tokens in range(1, TRANSCRIPT // 2 + 1):
        async with judging(URL, max_tokens=max_tokens) as judge:
            with pytest.raises(MalformedVerdict) as raised:
                await judge.classify(arms, prompt(f"A {TRIGGER}"))
        assert raised.value.code is FailureCode.TRUNCATED


def test_the_whole_way(tmp_path: Path) -> None:
    judge = {"preset": "vllm", "base_url": URL, "model": "tiny-gpt-oss", "timeout_s": 60}
    with (
        FakeUpstream("All calm.") as upstream,
        guardrail_serve(tmp_path, URL, upstream.url, classifier=judge) as proxy,
        httpx.Client(base_url=proxy, timeout=120) as client,
    ):
        decisions = []
        for text in ("Hello", f"How is a {TRIGGER} made?"):
            body = {"model": "m", "messages": [{"role": "user", "content": text}]}
            answer = client.post("/v1/chat/completions", json=body)
            decisions.append((answer.status_code, answer.headers["x-guardrail-decision"]))
    assert decisions == [(200, "pass"), (200, "block")]
