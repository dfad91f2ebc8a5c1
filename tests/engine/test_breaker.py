"""The twin of guardrail/engine/breaker.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.engine.breaker import Breaker, BreakerState
from guardrail.errors import FailureCode

FAILS = (FailureCode.UNAVAILABLE, FailureCode.TIMEOUT, FailureCode.AUTH)
NO_WORD = tuple(code for code in FailureCode if code not in FAILS)
CLOSED, OPEN, HALF_OPEN = BreakerState


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker_of(failures: int = 3, open_s: float = 5.0) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(failures, open_s, clock), clock


def calls(breaker: Breaker, *ends: FailureCode | None) -> None:
    for end in ends:
        breaker.settle(breaker.enter(), end)


def opened(cause: FailureCode = FailureCode.UNAVAILABLE) -> tuple[Breaker, Clock]:
    breaker, clock = breaker_of()
    calls(breaker, cause, cause, cause)
    return breaker, clock


@pytest.mark.parametrize("code", FAILS)
def test_failures_in_a_row_open_it(code: FailureCode):
    breaker, _ = breaker_of()
    calls(breaker, code, code)
    assert (breaker.state, breaker.allows) == (CLOSED, True)
    calls(breaker, code)
    assert (breaker.state, breaker.allows, breaker.cause) == (OPEN, False, code)


def test_a_verdict_between_begins_the_row_anew():
    breaker, _ = breaker_of()
    calls(breaker, *FAILS[:2], None, *FAILS[:2])
    assert breaker.state is CLOSED


@pytest.mark.parametrize("code", NO_WORD)
def test_other_ends_neither_count_nor_begin_the_row_anew(code: FailureCode):
    breaker, _ = breaker_of()
    calls(breaker, *[code] * 10)
    assert breaker.state is CLOSED
    calls(breaker, FAILS[0], code, FAILS[0], code, FAILS[0])
    assert breaker.state is OPEN


def test_after_the_pause_one_call_is_tried():
    breaker, clock = opened()
    clock.now = 4.999
    assert (breaker.state, breaker.allows) == (OPEN, False)
    clock.now = 5.0
    assert (breaker.state, breaker.allows) == (HALF_OPEN, True)
    era = breaker.enter()
    assert (breaker.state, breaker.allows) == (HALF_OPEN, False)
    breaker.settle(era, None)
    assert (breaker.state, breaker.allows, breaker.cause) == (CLOSED, True, None)


@pytest.mark.parametrize("code", FAILS)
def test_a_trial_that_fails_opens_it_for_a_whole_pause(code: FailureCode):
    breaker, clock = opened()
    clock.now = 7.0
    calls(breaker, code)
    assert (breaker.state, breaker.cause) == (OPEN, code)
    clock.now = 11.999
    assert not breaker.allows
    clock.now = 12.0
    assert breaker.allows


@pytest.mark.parametrize("code", NO_WORD)
def test_a_trial_without_a_word_is_given_back(code: FailureCode):
    breaker, clock = opened()
    clock.now = 5.0
    calls(breaker, code)
    assert (breaker.state, breaker.allows) == (HALF_OPEN, True)


@pytest.mark.parametrize("late", [None, FailureCode.TIMEOUT])
def test_a_call_from_before_it_opened_neither_ends_nor_prolongs_the_pause(late: FailureCode | None):
    breaker, clock = breaker_of()
    old = breaker.enter()
    calls(breaker, *FAILS)
    clock.now = 4.0
    breaker.settle(old, late)
    assert breaker.state is OPEN
    clock.now = 5.0
    trial = breaker.enter()
    breaker.settle(old, late)
    assert not breaker.allows  # the trial is still out
    breaker.settle(trial, None)
    assert breaker.state is CLOSED


def test_a_server_that_asks_for_it_is_spared_which_is_no_pause():
    breaker, clock = breaker_of()
    assert not breaker.spared
    breaker.spare(3.0)
    breaker.spare(2.0)
    clock.now = 2.999
    assert breaker.spared
    assert breaker.allows
    clock.now = 3.0
    assert not breaker.spared
    breaker.spare(1e9)
    clock.now = 63.0
    assert not breaker.spared


def test_a_call_that_fails_while_others_get_verdicts_does_not_count():
    """Ten slow calls time out; each saw somebody answered, so the endpoint is busy, not gone."""
    breaker, _ = breaker_of()
    slow = [breaker.enter() for _ in range(10)]
    calls(breaker, None)
    for entered in slow:
        breaker.settle(entered, FailureCode.TIMEOUT)
    assert breaker.state is CLOSED
    calls(breaker, *[FailureCode.TIMEOUT] * 3)
    assert breaker.state is OPEN


ACTIONS = st.lists(
    st.one_of(
        st.just("enter"),
        st.tuples(st.integers(0, 5), st.sampled_from([None, *FailureCode])),
        st.floats(0.1, 6.0),
    ),
    min_size=20,
    max_size=60,
)


@given(ACTIONS)
def test_whatever_happens_a_pause_is_kept_and_one_trial_at_most_is_out(actions: list[object]):
    breaker, clock = breaker_of(failures=2)
    out: list[tuple[int, int]] = []
    trials: set[tuple[int, int]] = set()
    opened_at: float | None = None
    for action in actions:
        if isinstance(action, float):
            clock.now += action
        elif action == "enter":
            if breaker.allows:
                trial = breaker.state is HALF_OPEN
                if trial:
                    assert opened_at is not None
                    assert clock.now >= opened_at + 5.0
                era = breaker.enter()
                out.append(era)
                if trial:
                    assert era not in trials.intersection(out[:-1])
                    trials.add(era)
        elif out:
            index, end = action  # type: ignore[misc]
            before = breaker.state
            breaker.settle(out.pop(index % len(out)), end)
            if breaker.state is OPEN and before is not OPEN:
                opened_at = clock.now
                assert end in FAILS
            if breaker.state is CLOSED and before is not CLOSED:
                assert end is None
    clock.now += 5.0
    while out:
        breaker.settle(out.pop(), None)
    assert breaker.allows
