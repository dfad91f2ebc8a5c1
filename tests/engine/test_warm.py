"""The twin of guardrail/engine/warm.py."""

from __future__ import annotations

import anyio
import pytest

from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.breaker import Breaker
from guardrail.engine.endpoint import Endpoint
from guardrail.engine.limit import ConcurrencyLimit
from guardrail.engine.warm import warm
from guardrail.errors import ClassifierRejected, FailureCode
from guardrail.testing import ScriptedClassifier

pytestmark = pytest.mark.anyio

LABELS = {"OK": LabelRule("OK", False), "STOP": LabelRule("STOP", True, Action.BLOCK)}
POLICIES = [
    Policy("one", "Rules one.", LABELS),
    Policy("two", "Rules two.", LABELS, stages=frozenset({Stage.OUTPUT})),
]


def endpoint_of(name: str, judge: ScriptedClassifier) -> Endpoint:
    return Endpoint(name, judge, Breaker(), ConcurrencyLimit(8))


async def test_every_endpoint_is_asked_under_every_policy_on_a_stage_of_its_own():
    cached = Verdict(POLICIES[0], "OK", False, usage=Usage(700, 9, cached=640))
    judges = [ScriptedClassifier(), ScriptedClassifier([("", cached)])]
    done = await warm([endpoint_of(n, j) for n, j in zip("ab", judges, strict=True)], POLICIES, 60)
    found = sorted((w.endpoint, w.policy, w.error, w.cached) for w in done)
    assert found == [
        ("a", "one", None, None),
        ("a", "two", None, None),
        ("b", "one", None, 640),
        ("b", "two", None, 640),
    ]
    for judge in judges:
        assert [policy.id for policy, _ in judge.asked] == ["one", "two"]
        assert all(subject.stage in policy.stages for policy, subject in judge.asked)
        assert len({subject.text for _, subject in judge.asked}) == 1


async def test_one_endpoint_is_asked_under_one_policy_at_a_time_and_endpoints_side_by_side():
    now: dict[str, int] = {"a": 0, "b": 0}
    most = 0

    class Counting(ScriptedClassifier):
        name = ""

        async def classify(self, policy: Policy, subject: Subject) -> Verdict:
            nonlocal most
            now[self.name] += 1
            assert now[self.name] == 1
            most = max(most, sum(now.values()))
            await anyio.sleep(0.01)
            now[self.name] -= 1
            return await super().classify(policy, subject)

    endpoints = []
    for name in now:
        judge = Counting()
        judge.name = name
        endpoints.append(endpoint_of(name, judge))
    await warm(endpoints, POLICIES, 60)
    assert most == 2


async def test_failures_are_told_not_raised():
    class Broken(ScriptedClassifier):
        async def classify(self, policy: Policy, subject: Subject) -> Verdict:
            raise ZeroDivisionError

    refusing = ScriptedClassifier([("", ClassifierRejected("401"))])
    hanging = ScriptedClassifier(delay_s=3600)
    endpoints = [endpoint_of(n, j) for n, j in zip("abc", (refusing, hanging, Broken()), strict=True)]
    done = await warm(endpoints, POLICIES, 0.05)
    assert {(w.endpoint, w.policy): w.error for w in done} == {
        ("a", "one"): FailureCode.AUTH,
        ("a", "two"): FailureCode.AUTH,
        ("b", "one"): FailureCode.TIMEOUT,
        ("b", "two"): FailureCode.TIMEOUT,
        ("c", "one"): FailureCode.INTERNAL,
        ("c", "two"): FailureCode.INTERNAL,
    }
