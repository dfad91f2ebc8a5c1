"""The twin of guardrail/simulator/judge.py: our own client finds each server as its preset says it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.backends.presets import PRESETS
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action, Effort, LabelRule, Policy, Stage
from guardrail.errors import ClassifierError, FailureCode, MalformedVerdict
from guardrail.simulator import MEASURED_ODD_SHARE, JudgeSimulator, Rule, running

pytestmark = pytest.mark.anyio

POLICY = Policy(
    "p",
    "Answer with one JSON object. " + "A rule of the house. " * 60,
    {"OK": LabelRule("OK", False), "BAD": LabelRule("BAD", True, Action.BLOCK)},
)
BAD = Rule("forbidden", '{"violation": 1, "label": "BAD"}')


def subject(text: str) -> Subject:
    return Subject(Stage.INPUT, (), (Turn("user", (Segment(text, ()),)),))


@asynccontextmanager
async def judge(
    simulator: JudgeSimulator, preset: str, path: str, **more: Any
) -> AsyncIterator[JudgeClassifier]:
    with running(simulator, path) as url:
        classifier = JudgeClassifier(JudgeSettings(url, "m", preset=PRESETS[preset], **more))
        yield classifier
        await classifier.aclose()


WAYS = [(name, "" if preset.native else "/v1") for name, preset in PRESETS.items()] + [("ollama", "/v1")]


@pytest.mark.parametrize(("preset", "path"), WAYS)
async def test_every_preset_reads_verdicts_and_what_is_told_of_the_cache(preset: str, path: str):
    simulator = JudgeSimulator(preset, rules=[BAD])
    async with judge(simulator, preset, path) as classifier:
        assert await classifier.reachable()
        found = [await classifier.classify(POLICY, subject(t)) for t in ("Hello", "a forbidden thing")]
    assert [verdict.violation for verdict in found] == [False, True]
    usage = found[1].usage
    assert usage is not None
    assert usage.completion > 0
    if PRESETS[preset].at("/v1" if path else "").cached_tokens in ("always", "flag"):
        assert simulator.calls[0].cached_tokens == 0
        assert usage.cached == simulator.calls[1].cached_tokens > 100
        assert usage.cached % {"groq": 256, "openrouter": 256, "vllm": 16}.get(preset, 1) == 0
    else:
        assert usage.cached is None


@pytest.mark.parametrize(
    ("preset", "path"), [("vllm", "/v1"), ("llamacpp", "/v1"), ("groq", "/v1"), ("ollama", "")]
)
async def test_a_prompt_that_is_too_long_is_refused(preset: str, path: str):
    simulator = JudgeSimulator(preset, rules=[BAD], context_tokens=2000)
    async with judge(simulator, preset, path, context_tokens=100_000) as classifier:
        with pytest.raises(ClassifierError) as caught:
            await classifier.classify(POLICY, subject("a forbidden thing " + "word " * 3000))
    assert caught.value.code is FailureCode.TOO_LONG


async def test_ollama_v1_cuts_it_and_our_client_notices():
    simulator = JudgeSimulator("ollama", rules=[BAD], context_tokens=2000)
    async with judge(simulator, "ollama", "/v1", context_tokens=100_000) as classifier:
        with pytest.raises(ClassifierError) as caught:
            await classifier.classify(POLICY, subject("a forbidden thing " + "word " * 3000))
    assert caught.value.code is FailureCode.TRUNCATED
    assert simulator.calls[0].prompt_tokens == 1000


async def test_effort_is_honoured_or_not():
    for honours in (True, False):
        simulator = JudgeSimulator(honours_effort=honours)
        async with judge(simulator, "vllm", "/v1") as classifier:
            for effort in Effort:
                await classifier.classify(replace(POLICY, reasoning_effort=effort), subject("Hello"))
        efforts = [call.effort for call in simulator.calls]
        assert efforts == (list(Effort) if honours else ["low"] * 3)


async def test_at_the_measured_share_of_odd_answers_nothing_is_read_as_its_opposite():
    simulator = JudgeSimulator(rules=[BAD], odd_share=10 * MEASURED_ODD_SHARE, seed=4)
    outcomes: list[bool | None] = []
    async with judge(simulator, "vllm", "/v1", max_tokens=4096) as classifier:
        for number in range(150):
            try:
                verdict = await classifier.classify(POLICY, subject(f"forbidden {number}"))
                outcomes.append(verdict.violation)
            except MalformedVerdict:
                outcomes.append(None)
    assert False not in outcomes
    assert outcomes.count(True) > 120
    assert len(simulator.calls) > 150  # some were asked for again


async def test_calls_wait_for_a_slot_and_are_counted():
    simulator = JudgeSimulator(slots=1, speed=0.01)
    async with judge(simulator, "vllm", "/v1") as classifier, anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(classifier.classify, POLICY, subject(f"text {number}"))
    assert [call.status for call in simulator.calls] == [200] * 4
    assert simulator.most_at_once == 1
