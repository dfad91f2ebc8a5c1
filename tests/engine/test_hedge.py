"""The twin of guardrail/engine/hedge.py."""

from __future__ import annotations

import random

import anyio
import pytest

from guardrail.core.policy import Action, LabelRule, Policy
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.hedge import Call, Hedge, Pace, graver, race
from guardrail.errors import (
    ClassifierError,
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    MalformedVerdict,
)

LABELS = {"OK": LabelRule("OK", False), "STOP": LabelRule("STOP", True, Action.BLOCK)}
POLICY = Policy("house", "Judge by the house rules.", LABELS)
NEVER = 60.0


class TestPace:
    def test_fewer_than_twenty_samples_say_nothing(self):
        pace = Pace(Hedge(floor_s=0.0))
        for _ in range(19):
            pace.add("p", 1.0)
        assert pace.delay_s("p") is None
        pace.add("p", 1.0)
        assert pace.delay_s("p") == 1.0
        assert pace.delay_s("q") is None

    @pytest.mark.parametrize(("quantile", "delay_s"), [(0.0, 1), (0.5, 101), (0.95, 191), (1.0, 200)])
    def test_the_delay_is_the_quantile_of_recent_calls(self, quantile: float, delay_s: float):
        pace = Pace(Hedge(quantile, floor_s=0.0))
        for _ in range(500):  # long ago
            pace.add("p", 9_999.0)
        recent = [float(n) for n in range(1, 201)]
        random.Random(1).shuffle(recent)
        for seconds in recent:
            pace.add("p", seconds)
        assert pace.delay_s("p") == delay_s

    def test_it_is_never_below_the_floor(self):
        pace = Pace(Hedge(floor_s=0.3))
        for _ in range(20):
            pace.add("p", 0.001)
        assert pace.delay_s("p") == 0.3

    def test_rivals_stay_a_share_of_the_calls(self):
        pace = Pace(Hedge(budget=0.1))
        sent = 0
        for _ in range(1_000):
            pace.add("p", 1.0)
            sent += pace.spend()
        assert sent == 100

    def test_a_quiet_time_saves_up_for_few(self):
        pace = Pace(Hedge(budget=0.1))
        assert not pace.spend()
        for _ in range(1_000):
            pace.add("p", 1.0)
        assert [pace.spend() for _ in range(7)] == [True] * 5 + [False] * 2

    def test_policies_that_nobody_asks_any_more_are_forgotten(self):
        pace = Pace(Hedge(floor_s=0.0))
        for _ in range(20):
            pace.add("old", 1.0)
        for number in range(1_000):
            pace.add(f"new {number}", 1.0)
        assert pace.delay_s("old") is None


class Runner:
    """A call that takes its time, then answers; ``cancelled`` when it was not let."""

    def __init__(self, end: str | ClassifierError, takes_s: float = 0.0) -> None:
        self.end = end
        self.takes_s = takes_s
        self.asked = self.cancelled = False

    async def __call__(self) -> Verdict:
        self.asked = True
        try:
            await anyio.sleep(self.takes_s)
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        if isinstance(self.end, ClassifierError):
            raise self.end
        return Verdict(POLICY, self.end, LABELS[self.end].violation)


@pytest.mark.anyio
class TestRace:
    async def test_a_quick_call_has_no_rival(self):
        def rival() -> Call:
            raise AssertionError("asked")

        outcome = await race(Runner("OK"), rival, NEVER)
        assert (outcome.verdict.label, outcome.winner, outcome.hedged) == ("OK", 0, False)

    async def test_a_slow_call_loses_and_is_cancelled(self):
        slow, quick = Runner("OK", NEVER), Runner("STOP")
        outcome = await race(slow, lambda: quick, 0.0)
        assert (outcome.verdict.label, outcome.winner, outcome.hedged) == ("STOP", 1, True)
        assert slow.cancelled

    async def test_it_wins_when_its_rival_is_slower_still(self):
        first, second = Runner("OK", 0.02), Runner("STOP", NEVER)
        outcome = await race(first, lambda: second, 0.0)
        assert (outcome.verdict.label, outcome.winner, outcome.hedged) == ("OK", 0, True)
        assert second.cancelled

    async def test_where_no_rival_may_be_sent_it_is_waited_for(self):
        outcome = await race(Runner("OK", 0.02), lambda: None, 0.0)
        assert (outcome.verdict.label, outcome.hedged) == ("OK", False)

    @pytest.mark.parametrize("failing", [0, 1])
    async def test_an_error_waits_for_the_other_call(self, failing: int):
        runners = [Runner("OK", 0.03), Runner("OK", 0.03)]
        runners[failing] = Runner(ClassifierUnavailable("gone"), 0.01)
        outcome = await race(runners[0], lambda: runners[1], 0.0)
        assert (outcome.verdict.label, outcome.winner) == ("OK", 1 - failing)

    async def test_two_errors_are_one(self):
        first, second = Runner(ClassifierRejected("401"), 0.01), Runner(ClassifierTimeout("late"), 0.02)
        with pytest.raises(ClassifierRejected):
            await race(first, lambda: second, 0.0)

    async def test_an_early_error_is_raised_without_a_rival(self):
        second = Runner("OK")
        with pytest.raises(ClassifierUnavailable):
            await race(Runner(ClassifierUnavailable("gone")), lambda: second, NEVER)
        assert not second.asked


def test_auth_stands_for_all_then_a_half_read_violation_then_the_last():
    auth, down, late = ClassifierRejected("401"), ClassifierUnavailable("gone"), ClassifierTimeout("late")
    half, garbage = MalformedVerdict("label?", violation=True), MalformedVerdict("?")
    for errors, chosen in [
        ((down, late), late),
        ((late, down), down),
        ((auth, down), auth),
        ((half, auth, down), auth),
        ((half, down), half),
        ((down, half, garbage), half),
        ((garbage, down), down),
    ]:
        assert graver(errors) is chosen


def test_the_graver_one_tells_what_all_of_them_cost():
    late, half = ClassifierTimeout("late"), MalformedVerdict("label?", violation=True)
    late.usage, half.usage = Usage(10, 1), Usage(20, 2)
    assert graver([half, ClassifierUnavailable("gone"), late]).usage == Usage(30, 3)
