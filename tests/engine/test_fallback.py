"""The twin of guardrail/engine/fallback.py."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.fallback import Fallback
from guardrail.errors import (
    ClassifierError,
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
)
from guardrail.testing import ScriptedClassifier

pytestmark = pytest.mark.anyio

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy("p", "Body.", LABELS)
SUBJECT = Subject(Stage.INPUT, (), (Turn("user", (Segment("hi", ()),)),))
AUTH = ClassifierRejected("401")
DOWN = ClassifierUnavailable("503")
CONDEMNED = MalformedVerdict("unknown label", violation=True)
UNREADABLE = MalformedVerdict("no JSON")


def says(answer: Any, delay_s: float = 0.0) -> ScriptedClassifier:
    return ScriptedClassifier([("", answer)], delay_s=delay_s)


async def ask(primary: ScriptedClassifier, other: ScriptedClassifier) -> Verdict:
    return await Fallback(primary, other).classify(POLICY, SUBJECT)


async def test_while_the_primary_answers_nobody_else_is_asked():
    other = says("BAD")
    verdict = await ask(says("OK"), other)
    assert (verdict.label, verdict.steps, other.asked) == ("OK", (), [])


@pytest.mark.parametrize("error", [AUTH, DOWN, UNREADABLE])
async def test_any_failure_asks_the_other_and_shows(error: ClassifierError):
    verdict = await ask(says(error), says("OK"))
    assert (verdict.label, [s.error for s in verdict.steps]) == ("OK", [error.code])


@pytest.mark.parametrize(
    ("first", "second", "raised"),
    [
        (DOWN, UNREADABLE, DOWN),
        (AUTH, ClassifierRejected("401 there too"), AUTH),
        (DOWN, AUTH, AUTH),
        (AUTH, CONDEMNED, AUTH),
        (CONDEMNED, AUTH, AUTH),
        (DOWN, CONDEMNED, CONDEMNED),
        (CONDEMNED, DOWN, CONDEMNED),
        (CONDEMNED, "OK", CONDEMNED),
    ],
)
async def test_the_graver_error_is_raised(first: Any, second: Any, raised: ClassifierError):
    with pytest.raises(ClassifierError) as caught:
        await ask(says(first), says(second))
    assert caught.value is raised


async def test_a_violation_by_the_other_counts_against_a_condemning_primary():
    assert (await ask(says(CONDEMNED), says("BAD"))).label == "BAD"


async def test_a_slow_primary_leaves_time_for_the_other():
    with anyio.fail_after(0.5):
        verdict = await ask(says("OK", delay_s=60), says("BAD"))
    assert (verdict.label, [s.error for s in verdict.steps]) == ("BAD", [FailureCode.TIMEOUT])


@pytest.mark.parametrize("error", [AUTH, CONDEMNED])
async def test_a_slow_other_does_not_hide_what_no_fail_mode_may_open(error: ClassifierError):
    with anyio.fail_after(0.5), pytest.raises(ClassifierError) as caught:
        await ask(says(error), says("OK", delay_s=60))
    assert caught.value is error


async def test_two_slow_judges_are_a_timeout():
    with anyio.fail_after(0.5), pytest.raises(ClassifierTimeout):
        await ask(says("OK", delay_s=60), says("OK", delay_s=60))


async def test_a_cancelled_check_asks_nobody_else():
    primary, other = says("OK", delay_s=60), says("OK")
    async with anyio.create_task_group() as group:
        group.start_soon(ask, primary, other)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert (len(primary.asked), other.asked) == (1, [])


async def test_it_is_known_by_its_primary():
    assert Fallback(says("OK"), says("BAD")).identity(POLICY) == "scripted"


async def test_what_a_failed_judge_cost_is_told_with_the_verdict_or_the_error():
    cut, half = MalformedVerdict("cut"), MalformedVerdict("label?", violation=True)
    cut.usage, half.usage = Usage(20, 4), Usage(10, 2)
    verdict = await ask(says(cut), says("OK"))
    assert [step.usage for step in verdict.steps] == [Usage(20, 4)]
    with pytest.raises(MalformedVerdict) as caught:
        await ask(says(half), says(Verdict(POLICY, "OK", False, usage=Usage(5, 1))))
    assert caught.value.usage == Usage(15, 3)
    with pytest.raises(MalformedVerdict) as caught:
        await ask(says(cut), says(half))
    assert caught.value.usage == Usage(35, 7)
