"""A verdict's action, and what it shows of itself."""

from __future__ import annotations

import pytest

from guardrail.core.policy import JUDGE_REFUSAL, Action, AnswerForm, LabelRule, Mode, Policy
from guardrail.core.verdict import Verdict

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
