"""The preset ``llamacpp`` against the server it is for: what it sends is understood, and honoured."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.backends.judge_requests import CHAT, Question
from guardrail.backends.presets import PRESETS
from guardrail.core.policy import Effort, Policy
from tests.real_server.asking import prompt, rendered, tokens
from tests.real_server.processes import JudgeServer
from tests.real_server.script import TRIGGER

LLAMACPP = PRESETS["llamacpp"]


@pytest.mark.parametrize("effort", list(Effort))
def test_its_effort_is_in_the_prompt_that_the_server_makes(
    http: httpx.Client, arms: Policy, effort: Effort
) -> None:
    policy = replace(arms, reasoning_effort=effort)
    body = CHAT.write(Question(LLAMACPP, "m", policy, "U", 300, 8192))
    text = rendered(http, body["messages"], chat_template_kwargs=body["chat_template_kwargs"])
    assert f"\nReasoning: {effort.value}\n" in text


@pytest.mark.anyio
@pytest.mark.parametrize("json_mode", [False, True])
async def test_verdicts_and_the_prefix_cache_with_json_enforced_or_not(
    server: JudgeServer, http: httpx.Client, arms: Policy, json_mode: bool
) -> None:
    settings = JudgeSettings(
        server.url, "tiny-gpt-oss", preset=LLAMACPP, max_tokens=256, json_mode=json_mode
    )
    judge = JudgeClassifier(settings)
    try:
        clean = await judge.classify(arms, prompt("Hello"))
        found = await judge.classify(arms, prompt(f"A {TRIGGER}"))
    finally:
        await judge.aclose()
    assert (clean.violation, found.violation) == (False, True)
    assert found.usage is not None
    assert found.usage.cached is not None
    assert found.usage.cached >= 0.9 * len(tokens(http, arms.body))
