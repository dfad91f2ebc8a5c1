"""A verdict's action, and what it shows of itself."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from guardrail.core.policy import JUDGE_REFUSAL, Action, AnswerForm, Effort, LabelRule, Mode, Policy
from guardrail.core.redaction import Span
from guardrail.core.verdict import Step, Usage, Verdict, spent, total
from guardrail.errors import FailureCode

WORDS = Policy(
    "p",
    "Judge it.",
    {"VALID": LabelRule("VALID", False), "INVALID": LabelRule("INVALID", True, Action.BLOCK)},
    answer=AnswerForm.BINARY,
)


class TestVerdict:
    def test_a_shadow_policy_does_not_act(self):
        shadow = Policy("p", "Judge it.", WORDS.labels, mode=Mode.SHADOW)
        assert not Verdict(shadow, "INVALID", True).acts
        assert Verdict(WORDS, "INVALID", True).acts

    @pytest.mark.parametrize("label", [None, "VALID", "unknown", JUDGE_REFUSAL])
    def test_a_violation_never_passes(self, label):
        assert Verdict(WORDS, label, violation=True).action is Action.BLOCK
        assert Verdict(WORDS, label, violation=False).action is Action.PASS

    def test_a_printed_verdict_holds_no_judged_text(self):
        shown = repr(Verdict(WORDS, "INVALID", True, excerpts=("secret",), rationale="about a secret"))
        assert "secret" not in shown

    def test_after_some_time_it_is_the_same(self):
        step = Step("first", Effort.LOW, error=FailureCode.TIMEOUT)
        span = (0, Span(0, 1, "INVALID"))
        whole = Verdict(
            *(WORDS, "INVALID", True, ("a",), (span,), "why", "judge", Effort.HIGH, (step,), Usage(1, 2)),
            reduced=True,
            cached=True,
            latency_ms=1.0,
        )
        blank = Verdict(replace(WORDS, id="q"), None, violation=False)
        assert all(getattr(whole, field.name) != getattr(blank, field.name) for field in fields(Verdict))
        after = replace(whole, policy=blank.policy, latency_ms=2.0)
        assert whole.after(2.0, blank.policy) == after


def test_a_total_with_an_unknown_part_is_unknown_and_what_was_spent_is_what_is_known():
    known = [Usage(10, 2, 5, 0.25), Usage(20, 3, None, 0.5)]
    assert total(known) == spent([*known, None]) == Usage(30, 5, None, 0.75)
    assert total([*known, None]) is None
    assert spent([None]) is spent([]) is None
