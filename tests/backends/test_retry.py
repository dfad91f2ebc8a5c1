"""The twin of guardrail/backends/retry.py. With a real server: see test_judge.py."""

from __future__ import annotations

import anyio
import pytest

from guardrail.backends import retry
from guardrail.backends.retry import AGAIN, MAX_TRIES, Transient, until_sound
from guardrail.core.policy import Action, AnswerForm, LabelRule, Policy
from guardrail.core.verdict import Verdict
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
)

pytestmark = pytest.mark.anyio

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
OK = Verdict(Policy("p", "body", LABELS), "OK", violation=False)
MALFORMED, CUT = MalformedVerdict("odd"), MalformedVerdict("cut", code=FailureCode.TRUNCATED)
GONE = ClassifierUnavailable("gone")
BUSY = ClassifierRateLimited("busy")
LOST = Transient(GONE, lost=True)
DOWN = Transient(GONE)
FULL = Transient(BUSY)
Outcome = Verdict | Exception


class Script:
    """Answers by a script; remembers what it was asked with, and how long the pauses were."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[tuple[int, FailureCode | None]] = []
        self.pauses: list[float] = []

    async def __call__(self, budget: int, wrong: FailureCode | None) -> Verdict:
        self.asked.append((budget, wrong))
        outcome = self.outcomes[min(len(self.asked), len(self.outcomes)) - 1]
        if isinstance(outcome, Verdict):
            return outcome
        raise outcome

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(self, monkeypatch: pytest.MonkeyPatch, **most: int) -> Outcome:
        monkeypatch.setattr(retry.anyio, "sleep", self.sleep)
        try:
            return await until_sound(self, 100, **most)
        except ClassifierError as error:
            return error


ONCE, AGAIN_ODD, AGAIN_CUT = (
    (100, None),
    (100, FailureCode.MALFORMED),
    (200, FailureCode.TRUNCATED),
)


@pytest.mark.parametrize(
    ("outcomes", "wanted", "asked", "pauses"),
    [
        ([OK], OK, [ONCE], []),
        ([MALFORMED, OK], OK, [ONCE, AGAIN_ODD], []),
        ([MALFORMED], MALFORMED, [ONCE, AGAIN_ODD], []),
        ([CUT, OK], OK, [ONCE, AGAIN_CUT], []),
        ([CUT], CUT, [ONCE, AGAIN_CUT], []),
        ([MALFORMED, CUT], CUT, [ONCE, AGAIN_ODD], []),
        ([DOWN, OK], OK, [ONCE] * 2, [0.1]),
        ([DOWN], GONE, [ONCE] * 4, [0.1, 0.2, 0.4]),
        ([DOWN, FULL], BUSY, [ONCE] * 4, [0.1, 0.2, 0.4]),
        ([Transient(BUSY, 7.0), FULL, OK], OK, [ONCE] * 3, [7.0, 0.2]),
        ([DOWN, MALFORMED, OK], OK, [ONCE, ONCE, AGAIN_ODD], [0.1]),
        ([MALFORMED, DOWN, OK], OK, [ONCE, AGAIN_ODD, AGAIN_ODD], [0.1]),
        ([CUT, DOWN, OK], OK, [ONCE, AGAIN_CUT, AGAIN_CUT], [0.1]),
        ([DOWN, DOWN, DOWN, MALFORMED], MALFORMED, [ONCE] * 4, [0.1, 0.2, 0.4]),
        # A text that may have killed the server is sent once more and not a third time.
        ([LOST], GONE, [ONCE] * 2, [0.0]),
        ([LOST, OK], OK, [ONCE] * 2, [0.0]),
        ([LOST, DOWN, LOST, OK], GONE, [ONCE] * 3, [0.0, 0.1]),
        ([LOST, DOWN, OK], OK, [ONCE] * 3, [0.0, 0.1]),
        ([LOST, MALFORMED, LOST, OK], GONE, [ONCE, ONCE, AGAIN_ODD], [0.0]),
        ([ClassifierRejected("no")], None, [ONCE], []),
    ],
)
async def test_how_often_it_is_asked(
    outcomes: list[Outcome],
    wanted: Outcome | None,
    asked: list[tuple[int, FailureCode | None]],
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
):
    script = Script(*outcomes)
    found = await script.run(monkeypatch)
    assert found is (wanted or outcomes[0])
    assert script.asked == asked
    assert script.pauses == pytest.approx(pauses)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
async def test_never_more_often_than_allowed(most: int, monkeypatch: pytest.MonkeyPatch):
    script = Script(DOWN)
    assert await script.run(monkeypatch, most=most) is GONE
    assert len(script.asked) == most
    assert MAX_TRIES == 4


@pytest.mark.parametrize("outcome", [MALFORMED, CUT])
async def test_with_one_try_nothing_is_read_twice(outcome: Outcome, monkeypatch: pytest.MonkeyPatch):
    script = Script(outcome, OK)
    assert await script.run(monkeypatch, most=1) is outcome


@pytest.mark.parametrize("wait", [None, 3600.0, float("inf")])
async def test_a_pause_that_outlasts_the_deadline_is_not_begun(wait: float | None):
    script = Script(Transient(BUSY, wait))
    with anyio.fail_after(0.05 if wait is None else 60), pytest.raises(ClassifierRateLimited) as caught:
        await until_sound(script, 100)
    assert len(script.asked) == 1
    assert caught.value.retry_after_s == wait


async def test_the_error_told_is_the_failures_own_and_hides_nothing_behind_it():
    with pytest.raises(ClassifierRateLimited) as caught:
        await until_sound(Script(FULL), 100, 1)
    assert caught.value is BUSY
    assert caught.value.__suppress_context__


def test_what_ends_a_second_asking_is_constant_and_there_for_each_form_of_answer():
    assert set(AGAIN) == set(AnswerForm)
    assert all(words.startswith(" The final answer must be that ") for words in AGAIN.values())
