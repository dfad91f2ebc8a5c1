"""Endless runs of characters, which kill llama.cpp: its pre-tokenizer recurses once a character.

About 24,000 characters that one alternative of gpt-oss's pre-tokenizer expression matches without a
break overflow an 8 MB stack, and the whole server dies of SIGSEGV (ggml-org/llama.cpp#27783). So one
message could end the judge for everybody. Each test here has a server of its own to lose.
"""

from __future__ import annotations

import signal
from itertools import combinations

import httpx
import pytest

from guardrail.core.policy import Policy
from guardrail.core.prompt import neutralise
from guardrail.errors import ClassifierError, FailureCode
from tests.real_server.asking import judging, prompt
from tests.real_server.conftest import StartServer
from tests.real_server.script import TRIGGER

LENGTH = 30_000
RUNS = {
    "letters": "x",
    "spaces": " ",
    "exclamation marks": "!",
    "newlines": "\n",
    "CJK": "漢",
    "emoji": "😀",
    "zero-width": "\u200b",
    "combining marks": "\u0301",
    "slashes": "/",
    "separators": "\x1c",
}
# No token of the tiny model spans two kinds of characters, so these do not fit into its context.
MIXED_RUNS = {"newlines and tabs": "\n\t", "slashes and newlines": "/\n", "separators and marks": "\x1c!"}


def each(runs: dict[str, str]) -> pytest.MarkDecorator:
    """One test for each run."""
    params = [pytest.param(unit * (LENGTH // len(unit)), id=name) for name, unit in runs.items()]
    return pytest.mark.parametrize("run", params)


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


def test_no_mixture_of_two_kinds_of_characters_kills_the_server(start_server: StartServer) -> None:
    """Every pair of the kinds that pre-tokenizers tell apart, as the judge would be sent it."""
    kinds = "aB1'/\n \x1c\x85\u0301漢😀\u200d·<"
    server = start_server()
    with httpx.Client(base_url=server.root, timeout=60) as client:
        for pair in combinations(kinds, 2):
            text = neutralise("".join(pair) * (LENGTH // 2))
            try:
                client.post("/tokenize", json={"content": text}).raise_for_status()
            except httpx.TransportError:
                pytest.fail(f"the server dies of {pair!r} with {server.wait_for_death(20)}")
