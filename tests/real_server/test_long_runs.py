"""Endless runs of characters, which kill llama.cpp: its pre-tokenizer recurses once a character.

About 24,000 characters that one alternative of gpt-oss's pre-tokenizer expression matches without a
break overflow an 8 MB stack, and the whole server dies of SIGSEGV (ggml-org/llama.cpp#27783). So one
message could end the judge for everybody. Each test here has a server of its own to lose.
"""

from __future__ import annotations

import signal

import httpx
import pytest

from guardrail.core.policy import Policy
from guardrail.errors import ClassifierError, FailureCode
from tests.real_server.asking import judging, prompt
from tests.real_server.conftest import StartServer
from tests.real_server.script import TRIGGER

LENGTH = 30_000
RUNS = {
    "letters": "x" * LENGTH,
    "spaces": " " * LENGTH,
    "exclamation marks": "!" * LENGTH,
    "newlines": "\n" * LENGTH,
    "CJK": "漢" * LENGTH,
    "emoji": "😀" * LENGTH,
    "zero-width": "\u200b" * LENGTH,
    "slashes": "/" * LENGTH,
    "separators": "\x1c" * LENGTH,
    "combining marks": "\u0301" * LENGTH,
}
# No token of the tiny model spans two kinds of characters, so these do not fit into its context.
MIXED_RUNS = {
    "slashes and newlines": "/\n" * (LENGTH // 2),
    "separators and marks": "\x1c!" * (LENGTH // 2),
    "newlines and tabs": "\n\t" * (LENGTH // 2),
}


def each(runs: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", runs.values(), ids=runs.keys())


@each(RUNS | MIXED_RUNS)
def test_an_undefended_server_dies_of_it(start_server: StartServer, run: str) -> None:
    """Why there is something to defend against; a build that survives makes this moot."""
    server = start_server()
    body = {"messages": [{"role": "user", "content": run}], "max_tokens": 1}
    try:
        answer = httpx.post(f"{server.url}/chat/completions", json=body, timeout=60)
    except httpx.TransportError:
        assert server.wait_for_death(20) == -signal.SIGSEGV
    else:
        pytest.skip(f"this build survives the run and says {answer.status_code}")


@pytest.mark.anyio
@each(RUNS)
async def test_through_the_judge_client_it_is_judged(
    start_server: StartServer, arms: Policy, run: str
) -> None:
    server = start_server()
    async with judging(server.url) as judge:
        for text, label in ((run, "safe"), (f"{run} {TRIGGER}", "unsafe"), (f"{TRIGGER} {run}", "unsafe")):
            assert (await judge.classify(arms, prompt(text))).label == label
    assert server.wait_for_death(0) is None


@pytest.mark.anyio
@each(MIXED_RUNS)
async def test_through_the_judge_client_the_server_survives_it(
    start_server: StartServer, arms: Policy, run: str
) -> None:
    server = start_server()
    async with judging(server.url) as judge:
        with pytest.raises(ClassifierError) as raised:
            await judge.classify(arms, prompt(f"{run} {TRIGGER}"))
        assert raised.value.code is FailureCode.TOO_LONG
        assert (await judge.classify(arms, prompt(TRIGGER))).violation
    assert server.wait_for_death(0) is None
