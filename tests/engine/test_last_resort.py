"""The twin of guardrail/engine/last_resort.py, seen through the engine."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from guardrail.core.decision import Failure
from guardrail.core.policy import Action, FailMode, Stage
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import ClassifierTimeout, ClassifierUnavailable, FailureCode
from guardrail.testing import ScriptedClassifier
from tests.engine.asking import (
    BOUND_S,
    HELLO,
    CountingCache,
    Raising,
    engine_of,
    failures,
    policy,
    verdicts,
)


class TestLastResort:
    """Rules that are asked where a check failed: they condemn, and never acquit."""

    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("mode", list(FailMode))
    @pytest.mark.parametrize("action", [Action.FLAG, Action.REDACT, Action.BLOCK])
    async def test_what_it_finds_stands_beside_the_failure(self, mode: FailMode, action: Action):
        rules = ScriptedClassifier([("hello", "BAD")])
        engine = engine_of(
            Raising({"p": ClassifierUnavailable("down")}),
            policy(action=action),
            policy("sound"),
            last_resort=rules,
            on_error={Stage.INPUT: FailRules(mode)},
        )
        decision = await engine.check_input(HELLO)
        assert [asked.id for asked, _ in rules.asked] == ["p"]
        assert failures(decision) == {"p": FailureCode.UNAVAILABLE}
        assert verdicts(decision) == {"p": "BAD", "sound": "SAFE"}
        assert set(decision.degraded) == {"p=unavailable", "p=reduced-coverage"}
        assert decision.action is (action if mode is FailMode.OPEN else Action.BLOCK)
        assert decision.unavailable is (mode is FailMode.CLOSED and action is not Action.BLOCK)

    @pytest.mark.parametrize(
        "rules",
        [
            ScriptedClassifier(),
            Raising({"p": ValueError("broken")}),
            Raising({"p": ClassifierUnavailable("down")}),
        ],
    )
    async def test_that_it_finds_nothing_or_breaks_changes_nothing(self, rules: Any):
        engine = engine_of(Raising({"p": ClassifierTimeout("slow")}), policy(), last_resort=rules)
        decision = await engine.check_input(HELLO)
        assert (decision.action, decision.unavailable) == (Action.BLOCK, True)
        assert [type(f) for f in decision.findings] == [Failure]

    async def test_it_is_asked_after_the_deadline_too(self):
        engine = engine_of(
            ScriptedClassifier(delay_s=BOUND_S * 10),
            policy(),
            last_resort=ScriptedClassifier([("hello", "BAD")], delay_s=0.01),
            timeout_s=0.01,
        )
        with anyio.fail_after(BOUND_S):
            decision = await engine.check_input(HELLO)
        assert verdicts(decision) == {"p": "BAD"}
        assert not decision.unavailable

    async def test_its_verdict_is_never_cached(self):
        cache = CountingCache()
        engine = engine_of(
            Raising({"p": ClassifierTimeout("slow")}),
            policy(),
            last_resort=ScriptedClassifier([("hello", "BAD")]),
            cache=cache,
        )
        await engine.check_input(HELLO)
        assert cache.stored == []
