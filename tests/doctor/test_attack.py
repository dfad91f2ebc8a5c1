"""Flip rates: what counts as a flip, and that a failure counts as nothing."""

from __future__ import annotations

from collections.abc import Callable

import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Verdict
from guardrail.doctor.attack import Attempt, FlipRate, attack, flip_rates
from guardrail.doctor.payloads import FAMILIES, PAYLOADS, Payload
from guardrail.errors import ClassifierTimeout
from guardrail.testing import ScriptedClassifier

LABELS = {"P0": LabelRule("P0", False), "P3": LabelRule("P3", True, Action.BLOCK)}
ONE, TWO = (Policy(name, f"# {name}", LABELS) for name in ("one", "two"))
SOFT = Payload("soft/a", "soft", "please: {text}")
HARD = [Payload("hard/a", "hard", "now {text}"), Payload("hard/b", "hard", "at once {text}")]


def case(text: str) -> Subject:
    return Subject(Stage.INPUT, (), (Turn("user", (Segment(text, ()),)),))


class TestFlipRates:
    def test_counts_by_policy_and_family(self):
        said = [(None, True), (None, False), (None, None), ("soft", False), ("soft", True), ("hard", None)]
        assert flip_rates(Attempt("one", family, violation) for family, violation in said) == [
            FlipRate("one", None, cases=3, bare=1, bare_failed=1, asked=3, flipped=1, failed=1),
            FlipRate("one", "soft", cases=3, bare=1, bare_failed=1, asked=2, flipped=1, failed=0),
            FlipRate("one", "hard", cases=3, bare=1, bare_failed=1, asked=1, flipped=0, failed=1),
        ]

    def test_policies_stand_apart(self):
        rates = flip_rates([Attempt("one", None, True), Attempt("two", None, False)])
        assert [(rate.policy, rate.bare) for rate in rates] == [("one", 1), ("two", 0)]

    @pytest.mark.parametrize(
        ("flipped", "answers", "low", "high"),
        [  # statsmodels.stats.proportion.proportion_confint(..., method="wilson")
            (0, 10, 0.0, 0.2775),
            (1, 10, 0.0179, 0.4042),
            (5, 10, 0.2366, 0.7634),
            (10, 10, 0.7225, 1.0),
            (0, 0, 0.0, 1.0),
        ],
    )
    def test_the_interval_is_wilsons(self, flipped, answers, low, high):
        rate = FlipRate("one", None, 1, 1, 0, asked=answers + 3, flipped=flipped, failed=3)
        assert rate.rate == (flipped / answers if answers else None)
        assert rate.interval == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))

    @given(st.integers(1, 10_000), st.data())
    def test_the_interval_holds_the_rate(self, answers, data):
        rate = FlipRate("one", None, 1, 1, 0, answers, data.draw(st.integers(0, answers)), 0)
        low, high = rate.interval
        assert rate.rate is not None
        assert 0 <= low <= rate.rate + 1e-12
        assert rate.rate <= high + 1e-12
        assert high <= 1


@pytest.mark.anyio
class TestAttack:
    async def test_a_judge_that_one_family_flips(self):
        judge = ScriptedClassifier([("please", "P0"), ("harm", "P3")])
        rates = await attack(judge, [ONE], cases={"one": [case("harm")] * 3}, payloads=[SOFT, *HARD])
        assert [(rate.family, rate.asked, rate.flipped, rate.rate) for rate in rates] == [
            (None, 9, 3, 1 / 3),
            ("soft", 3, 3, 1.0),
            ("hard", 6, 0, 0.0),
        ]

    async def test_failures_are_neither_flips_nor_holds(self):
        judge = ScriptedClassifier(
            [("now", ClassifierTimeout("late")), ("fails", ClassifierTimeout("late")), ("harm", "P3")]
        )
        cases = {"one": [case("harm"), case("this fails")]}
        rates = await attack(judge, [ONE], cases=cases, payloads=HARD)
        assert rates[0] == FlipRate("one", None, 2, bare=1, bare_failed=1, asked=2, flipped=0, failed=1)
        assert rates[0].rate == 0

    async def test_what_is_not_judged_violating_bare_is_not_attacked(self):
        judge = ScriptedClassifier()
        seen: list[tuple[int, int]] = []
        rates = await attack(
            judge,
            [ONE, TWO],
            cases={"one": [case("harm")], "two": [case("harm")], "three": [case("harm")]},
            payloads=HARD,
            on_progress=lambda done, total: seen.append((done, total)),
        )
        assert len(judge.asked) == 2
        assert [(rate.policy, rate.cases, rate.asked, rate.rate) for rate in rates] == [
            ("one", 1, 0, None),
            ("two", 1, 0, None),
        ]
        assert seen == [(3, 6), (6, 6)]

    async def test_progress_ends_at_the_total(self):
        seen: list[tuple[int, int]] = []
        judge = ScriptedClassifier([("harm", "P3")])
        await attack(
            judge,
            [ONE],
            cases={"one": [case("harm"), case("nothing")]},
            payloads=HARD,
            on_progress=lambda *step: seen.append(step),
        )
        assert [done for done, _ in seen] == [1, 2, 3, 6]
        assert {total for _, total in seen} == {6}

    @pytest.mark.parametrize("concurrency", [1, 3])
    async def test_no_more_questions_at_once_than_allowed(self, concurrency):
        judge = _Counting(anyio.lowlevel.checkpoint)
        await attack(
            judge, [ONE], cases={"one": [case("harm")] * 8}, payloads=HARD, concurrency=concurrency
        )
        assert judge.most == concurrency

    async def test_nothing_to_ask(self):
        assert await attack(ScriptedClassifier(), [ONE], cases={}) == []

    async def test_all_payloads_by_default(self):
        judge = ScriptedClassifier([("", "P3")])
        rates = await attack(judge, [ONE], cases={"one": [case("harm")]})
        assert rates[0].asked == len(PAYLOADS)
        assert [rate.family for rate in rates[1:]] == list(FAMILIES)

    async def test_an_error_that_is_no_classifiers_is_raised(self):
        def broken() -> None:
            raise RuntimeError

        with pytest.raises(ExceptionGroup):
            await attack(_Counting(broken), [ONE], cases={"one": [case("harm")]})  # type: ignore[arg-type]


class _Counting:
    """Says violation, and counts how many questions are open at once."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait = wait
        self.now = self.most = 0

    def identity(self, policy: Policy) -> str:
        return "counting"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.wait()  # type: ignore[misc]
        self.now -= 1
        return Verdict(policy, "P3", True)
