"""The twin of guardrail/doctor/probes.py: servers as they are, and what is found out about each."""

from __future__ import annotations

from typing import Any

import pytest

from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.backends.presets import PRESETS
from guardrail.core.policy import Action, LabelRule, Policy
from guardrail.doctor.probes import Grade, Probes, Seen, graded_parallel
from guardrail.simulator import JudgeSimulator, Rule, running
from tests.fakes import FakeServer, Say, completion

pytestmark = pytest.mark.anyio

READS = [Rule("zebra-attack", '{"violation": 1, "label": "T1"}')]
HOUSE = Policy(
    "house",
    "Answer with JSON.",
    {"OK": LabelRule("OK", False), "BAD": LabelRule("BAD", True, Action.BLOCK)},
)


async def examined(url: str, preset: str, **settings: Any) -> dict[str, Seen]:
    judge = JudgeClassifier(JudgeSettings(url, "m", preset=PRESETS[preset], **settings))
    found = await Probes(judge, [HOUSE], 5.0).run()
    await judge.aclose()
    assert len({seen.probe for seen in found}) == len(found)
    return {seen.probe: seen for seen in found}


async def simulated(
    simulator: JudgeSimulator, preset: str, path: str = "/v1", **settings: Any
) -> dict[str, Seen]:
    with running(simulator, path) as url:
        return await examined(url, preset, **settings)


async def test_a_healthy_server_is_safe_in_every_probe():
    seen = await simulated(
        JudgeSimulator("vllm", rules=READS, context_tokens=16_000), "vllm", context_tokens=16_000
    )
    assert {probe: one.grade for probe, one in seen.items()} == dict.fromkeys(
        [
            "reachable", "verdicts", "forms", "effort", "prefix cache", "window", "overflow", "json mode",
            "parallel", "latency", "policy house",
        ],
        Grade.OK,
    )  # fmt: skip
    assert "cached" in seen["policy house"].seen


async def test_a_server_that_cuts_silently_is_unsafe_and_told_how_to_mend():
    simulator = JudgeSimulator("ollama", rules=READS, context_tokens=4096)
    seen = await simulated(simulator, "ollama", context_tokens=16_000)
    assert seen["window"].grade is Grade.UNSAFE
    assert "context_tokens" in seen["window"].remedy


async def test_a_window_that_is_smaller_than_configured_is_a_warning_where_it_is_refused():
    simulator = JudgeSimulator("ollama", rules=READS, context_tokens=6000)
    seen = await simulated(simulator, "ollama", "", context_tokens=16_000)
    assert (seen["window"].grade, seen["overflow"].grade) == (Grade.WARN, Grade.OK)
    assert "context_tokens" in seen["window"].remedy


async def test_a_window_too_large_to_fill_is_unknown():
    seen = await simulated(JudgeSimulator("vllm", rules=READS), "vllm")
    assert (seen["window"].grade, seen["overflow"].grade) == (Grade.UNKNOWN, Grade.UNKNOWN)


async def test_an_effort_that_is_ignored_is_a_warning():
    seen = await simulated(JudgeSimulator("vllm", rules=READS, honours_effort=False), "vllm")
    assert seen["effort"].grade is Grade.WARN


async def test_what_is_not_told_of_the_cache_is_unknown_and_not_0():
    seen = await simulated(JudgeSimulator("vllm", rules=READS, tells_cached=False), "vllm")
    assert seen["prefix cache"].grade is Grade.UNKNOWN
    assert "cached unknown" in seen["policy house"].seen


async def test_a_judge_that_passes_everything_is_unsafe():
    seen = await simulated(JudgeSimulator("vllm"), "vllm")
    assert seen["verdicts"].grade is Grade.UNSAFE
    assert seen["verdicts"].seen == "bad: pass, good: pass"


async def test_odd_answers_are_counted():
    odd = [Rule("Sentence number 3", "It looks fine."), *READS]
    seen = await simulated(JudgeSimulator("vllm", rules=odd), "vllm")
    assert (seen["forms"].grade, seen["forms"].seen) == (Grade.WARN, "1 of 6 answers malformed")
    seen = await simulated(JudgeSimulator("vllm", rules=[Rule("Sentence", ""), *READS]), "vllm")
    assert (seen["forms"].grade, seen["forms"].seen) == (Grade.UNSAFE, "6 of 6 answers malformed")


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (Say(completion("")), "empty"),
        (Say(b"{}", status=401), "401"),
        (Say(b"<html>"), "no chat completion"),
    ],
)
async def test_a_server_that_gives_no_verdict_is_unsafe_and_asked_no_more(say: Say, why: str):
    def answer(seen: Any) -> Say:
        return Say(b"{}") if seen.method == "GET" else say

    with FakeServer(answer) as server:
        seen = await examined(server.url, "generic")
    assert list(seen) == ["reachable", "verdicts"]
    assert seen["verdicts"].grade is Grade.UNSAFE
    assert why in seen["verdicts"].seen


async def test_where_nobody_answers_that_is_all_that_is_said():
    with FakeServer(Say()) as server:
        url = server.url
    assert list(await examined(url, "generic")) == ["reachable"]


@pytest.mark.parametrize(
    ("alone", "together", "grade"),
    [(0.5, 0.6, Grade.OK), (0.5, 2.0, Grade.WARN), (0.5, 1.4, Grade.OK), (0.001, 0.01, Grade.OK)],
)
def test_calls_that_queue_are_a_warning(alone: float, together: float, grade: Grade):
    assert graded_parallel(alone, together).grade is grade
