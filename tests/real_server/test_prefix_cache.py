"""The policy is computed once: what the server itself says about its prefix cache."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from guardrail.backends.judge import JudgeClassifier
from guardrail.core.policy import Effort, Policy
from tests.real_server.asking import prompt, rendered, tokens, usage_of

pytestmark = pytest.mark.anyio

TEXTS = (
    "How do I descale a kettle?",
    "Translate 'good evening' into Portuguese.",
    "Write a limerick about a lighthouse keeper and his bicycle. " * 12,
    "¿Qué tiempo hace hoy en Montevideo?",
)


@pytest.fixture
def policy_tokens(http: httpx.Client, arms: Policy) -> int:
    return len(tokens(http, arms.body))


@pytest.fixture
def preamble_tokens(http: httpx.Client) -> int:
    """Tokens of harmony's own system message, which stands before the policy."""
    text = rendered(http, [{"role": "system", "content": "HERE"}, {"role": "user", "content": ""}])
    return len(tokens(http, text[: text.index("HERE")]))


@pytest.fixture
async def warm(judge: JudgeClassifier, arms: Policy) -> None:
    """The policy was judged by once."""
    await judge.classify(arms, prompt("The first text of all."))


async def cached_by(judge: JudgeClassifier, policy: Policy, text: str) -> int:
    cached = (await usage_of(judge, policy, text)).cached
    assert cached is not None, "this server reports cached tokens"
    return cached


def titled(policy: Policy, title: str) -> Policy:
    """The same policy under a title that no server has seen."""
    return replace(policy, body=policy.body.replace("# Arms", f"# {title} {uuid4()}", 1))


@pytest.mark.usefixtures("warm")
async def test_every_text_after_the_first_finds_the_policy_computed(
    judge: JudgeClassifier, arms: Policy, policy_tokens: int
) -> None:
    for text in TEXTS:
        assert await cached_by(judge, arms, text) >= 0.9 * policy_tokens


@pytest.mark.usefixtures("warm")
async def test_what_changes_before_the_policy_costs_the_whole_of_it(
    judge: JudgeClassifier, arms: Policy, policy_tokens: int, preamble_tokens: int
) -> None:
    """The layout that guardrail does not use, to show that the figures above are no accident."""
    for text in TEXTS:
        late = replace(arms, body=f"Request {uuid4()}\n{arms.body}")
        cached = await cached_by(judge, late, text)
        assert cached <= preamble_tokens + len("Request ") + 8, "a random id shares a digit or two"
        assert cached < 0.1 * policy_tokens


async def test_another_effort_is_another_prefix(
    judge: JudgeClassifier, arms: Policy, policy_tokens: int, preamble_tokens: int
) -> None:
    """The effort stands before the policy in harmony, so each effort has a cache entry of its own."""
    quick = titled(arms, "once more")
    await judge.classify(quick, prompt("The first text of all."))
    assert await cached_by(judge, quick, "The second text.") >= 0.9 * policy_tokens
    thorough = replace(quick, reasoning_effort=Effort.HIGH)
    assert await cached_by(judge, thorough, "The first text at this effort.") < preamble_tokens
    assert await cached_by(judge, thorough, "The second text at this effort.") >= 0.9 * policy_tokens


async def test_policies_that_take_turns_all_stay_computed(
    judge: JudgeClassifier, arms: Policy, policy_tokens: int
) -> None:
    """Three policies on two slots: the server moves what it has no slot for to main memory."""
    policies = [titled(arms, name) for name in ("first", "second", "third")]
    for policy in policies:
        await judge.classify(policy, prompt("The first text under this policy."))
    for text in TEXTS:
        for policy in policies:
            assert await cached_by(judge, policy, text) >= 0.9 * policy_tokens
