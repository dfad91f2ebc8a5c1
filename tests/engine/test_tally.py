"""The twin of guardrail/engine/tally.py: many checks, one decision."""

from __future__ import annotations

from itertools import permutations

import pytest

from guardrail.core.decision import Failure, Finding
from guardrail.core.policy import Action, FailMode, LabelRule, Policy
from guardrail.core.verdict import Verdict
from guardrail.engine.tally import Tally
from guardrail.errors import FailureCode

LABELS = {
    "OK": LabelRule("OK", False),
    "FLG": LabelRule("FLG", True, Action.FLAG),
    "BLK": LabelRule("BLK", True, Action.BLOCK),
}
ONE, OTHER = Policy("one", "Judge it.", LABELS), Policy("other", "Judge it.", LABELS)


def verdict(policy: Policy, label: str) -> Verdict:
    return Verdict(policy, label, label != "OK")


def failure(policy: Policy, mode: FailMode) -> Failure:
    return Failure(policy, FailureCode.TIMEOUT, mode)


OPEN, CLOSED = failure(ONE, FailMode.OPEN), failure(ONE, FailMode.CLOSED)


@pytest.mark.parametrize(
    ("added", "kept", "action"),
    [
        ([], [], Action.PASS),
        ([verdict(ONE, "OK"), verdict(ONE, "FLG")], [verdict(ONE, "FLG")], Action.FLAG),
        (
            [verdict(ONE, "BLK"), verdict(OTHER, "OK")],
            [verdict(ONE, "BLK"), verdict(OTHER, "OK")],
            Action.BLOCK,
        ),
        ([verdict(ONE, "OK"), OPEN], [OPEN], Action.PASS),
        ([verdict(ONE, "FLG"), OPEN], [verdict(ONE, "FLG"), OPEN], Action.FLAG),
        ([verdict(ONE, "FLG"), CLOSED], [CLOSED], Action.BLOCK),
    ],
)
def test_the_strictest_of_each_policy_and_every_failure_in_any_order(
    added: list[Finding], kept: list[Finding], action: Action
):
    for order in permutations(added):
        tally = Tally(Action.FLAG, "gr-1")
        for finding in order:
            tally.add([finding])
        decision = tally.decision()
        assert (list(decision.findings), decision.action, decision.id) == (kept, action, "gr-1")


@pytest.mark.parametrize("floor", [Action.PASS, Action.FLAG, Action.BLOCK])
def test_what_nobody_could_read_is_named_once_and_acts_as_told(floor: Action):
    tally = Tally(floor, "gr-1")
    tally.unreadable(["$.a", "$.b"])
    tally.unreadable(["$.a"])
    assert tally.decision().unjudged == ("$.a", "$.b")
    assert tally.decision().action is floor


def test_a_block_for_what_nobody_could_read_is_no_outage():
    tally = Tally(Action.BLOCK, "gr-1")
    tally.add([CLOSED])
    assert tally.decision().unavailable
    tally.unreadable(["$.a"])
    assert not tally.decision().unavailable
