"""Short ways to say what these tests ask of the judge, and of its server about its own tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Policy, Stage
from guardrail.core.verdict import Usage

__all__ = ["judging", "prompt", "rendered", "tokens", "usage_of"]


def prompt(text: str) -> Subject:
    """One user message to be judged."""
    return Subject(Stage.INPUT, (), (Turn("user", (Segment(text, ("messages", 0, "content")),)),))


@asynccontextmanager
async def judging(url: str, *, max_tokens: int = 256) -> AsyncIterator[JudgeClassifier]:
    """guardrail's client of the judge, for the server at ``url``."""
    judge = JudgeClassifier(JudgeSettings(url, "tiny-gpt-oss", max_tokens=max_tokens))
    try:
        yield judge
    finally:
        await judge.aclose()


async def usage_of(judge: JudgeClassifier, policy: Policy, text: str) -> Usage:
    """What the server counted when it judged ``text``."""
    verdict = await judge.classify(policy, prompt(text))
    assert verdict.usage is not None
    return verdict.usage


def tokens(http: httpx.Client, text: str, *, special: bool = True) -> list[int]:
    """The server's tokens of ``text``; control tokens are those of harmony unless ``special`` is off."""
    answer = http.post("/tokenize", json={"content": text, "parse_special": special})
    found: list[int] = answer.raise_for_status().json()["tokens"]
    return found


def rendered(http: httpx.Client, messages: Sequence[dict[str, str]], **fields: Any) -> str:
    """The whole prompt that the server makes of ``messages`` with its chat template."""
    answer = http.post("/apply-template", json={"messages": list(messages)} | fields)
    text: str = answer.raise_for_status().json()["prompt"]
    return text
