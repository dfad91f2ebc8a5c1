"""Limits of the server: its context, and the tokens of an answer. Past either, nothing passes."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from guardrail.backends.judge import JudgeClassifier
from guardrail.core.policy import Policy
from guardrail.errors import ClassifierRejected, FailureCode, MalformedVerdict
from tests.fakes import FakeUpstream
from tests.real_server.asking import judging, prompt, usage_of
from tests.real_server.conftest import StartServer
from tests.real_server.processes import POLICIES, JudgeServer, guardrail_serve
from tests.real_server.script import TRIGGER

LONG = "Nothing to see on this page. " * 700  # 20,300 tokens; the server's context holds 16,384
TRANSCRIPT = 25  # tokens of the whole answer, channels and all


@pytest.mark.anyio
@pytest.mark.parametrize("text", [LONG, f"{TRIGGER} {LONG}", f"{LONG} {TRIGGER}"])
async def test_a_text_beyond_the_context_is_too_long(
    judge: JudgeClassifier, arms: Policy, text: str
) -> None:
    with pytest.raises(ClassifierRejected) as raised:
        await judge.classify(arms, prompt(text))
    assert raised.value.code is FailureCode.TOO_LONG


@pytest.mark.parametrize(
    "text", [LONG, f"{TRIGGER} {LONG}", f"{LONG} {TRIGGER}", f"{LONG} {TRIGGER} {LONG}"]
)
def test_a_text_beyond_the_context_is_judged_in_chunks(
    server: JudgeServer, tmp_path: Path, text: str
) -> None:
    with (
        FakeUpstream("Noted.") as upstream,
        guardrail_serve(tmp_path, server.url, upstream.url) as proxy,
        httpx.Client(base_url=proxy, timeout=60) as client,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        answer = client.post("/v1/chat/completions", json=body)
    assert "x-guardrail-degraded" not in answer.headers
    assert answer.headers["x-guardrail-decision"] == ("block" if TRIGGER in text else "pass")


@pytest.mark.parametrize(
    ("fail_mode", "status", "decision"), [("closed", 503, "block"), ("open", 200, "pass")]
)
def test_a_client_sees_that_its_text_could_not_be_judged(
    server: JudgeServer, tmp_path: Path, fail_mode: str, status: int, decision: str
) -> None:
    settings = {
        "on_error": {"input": fail_mode},
        "policies": {"directory": str(POLICIES), "input": ["arms"]},
        # So small a window that the text would make more chunks than are judged.
        "classifier": {
            "base_url": server.url,
            "model": "tiny-gpt-oss",
            "timeout_s": 20,
            "context_tokens": 4600,
        },
    }
    with (
        FakeUpstream("Noted.") as upstream,
        guardrail_serve(tmp_path, server.url, upstream.url, **settings) as proxy,
        httpx.Client(base_url=proxy, timeout=60) as client,
    ):
        # A short prompt passes undegraded, so what happens to the long one is due to its length.
        long = LONG * 3
        for text, expected in (("Hello", (200, "pass", None)), (long, (status, decision, "arms=too_long"))):
            body = {"model": "m", "messages": [{"role": "user", "content": text}]}
            answer = client.post("/v1/chat/completions", json=body)
            headers = answer.headers
            seen = (
                answer.status_code,
                headers["x-guardrail-decision"],
                headers.get("x-guardrail-degraded"),
            )
            assert seen == expected
    if fail_mode == "closed":
        assert answer.json()["error"]["code"] == "guardrail_unavailable"
        assert len(upstream.seen) == 1, "the text that could not be judged stayed here"


@pytest.mark.anyio
async def test_a_text_that_leaves_no_room_for_the_verdict_is_truncated(
    start_server: StartServer, arms: Policy
) -> None:
    """The text fits and the answer does not: it is the context that cuts it, not max_tokens."""
    context = 6_144
    async with judging(start_server(context).url) as judge:
        frame = (await usage_of(judge, arms, "")).prompt
        fits = "ab " * ((context - frame - TRANSCRIPT) // 3 - 1)
        assert not (await judge.classify(arms, prompt(fits))).violation
        with pytest.raises(MalformedVerdict) as raised:
            await judge.classify(arms, prompt(fits + "ab " * 6))
    assert raised.value.code is FailureCode.TRUNCATED


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["Hello", f"A {TRIGGER}"])
async def test_an_answer_cut_by_max_tokens_is_truncated_wherever_it_is_cut(
    server: JudgeServer, arms: Policy, text: str
) -> None:
    for max_tokens in range(1, TRANSCRIPT // 2 + 1):  # the second try has twice the budget
        async with judging(server.url, max_tokens=max_tokens) as judge:
            with pytest.raises(MalformedVerdict) as raised:
                await judge.classify(arms, prompt(text))
        assert raised.value.code is FailureCode.TRUNCATED


@pytest.mark.anyio
async def test_twice_the_budget_saves_an_answer_that_was_cut_once(
    server: JudgeServer, arms: Policy
) -> None:
    budget = TRANSCRIPT // 2 + 1
    async with judging(server.url, max_tokens=budget) as judge:
        verdict = await judge.classify(arms, prompt(f"A {TRIGGER}"))
    assert verdict.violation
    assert verdict.usage is not None
    assert verdict.usage.completion == budget + TRANSCRIPT  # both answers are paid for
