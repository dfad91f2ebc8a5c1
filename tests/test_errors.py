"""The error tree: what each class stands for, and that no message quotes a text."""

from __future__ import annotations

import inspect

import pytest

from guardrail import errors
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.decision import Decision, decide
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Verdict
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    FailureCode,
    GuardrailError,
    MalformedVerdict,
    PolicyViolation,
    UnreadableRequest,
)

SECRET = "the text that was judged"
POLICY = Policy(
    "pii",
    "Judge it.",
    {"P0": LabelRule("P0", False), "P1": LabelRule("P1", True, Action.BLOCK)},
)


def exception_classes():
    return [
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)
    ]


def blocked() -> Decision:
    subject = Subject(Stage.INPUT, (), (Turn("user", (Segment(SECRET, ()),)),))
    verdict = Verdict(POLICY, "P1", True, excerpts=(SECRET,), rationale=SECRET)
    return decide(subject, [verdict], decision_id="gr-1")


def test_every_exception_is_below_the_root():
    assert len(exception_classes()) == 13
    assert all(issubclass(cls, GuardrailError) for cls in exception_classes())


def test_the_public_names_are_sorted_and_complete():
    own = {cls.__name__ for cls in exception_classes()} | {"FailureCode"}
    assert set(errors.__all__) == own
    assert list(errors.__all__) == sorted(errors.__all__)


def test_the_tree_in_the_docstring_names_every_class():
    for cls in exception_classes():
        assert cls.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (ClassifierError, FailureCode.INTERNAL),
        (ClassifierTimeout, FailureCode.TIMEOUT),
        (ClassifierUnavailable, FailureCode.UNAVAILABLE),
        (ClassifierRejected, FailureCode.AUTH),
        (ClassifierRateLimited, FailureCode.RATE_LIMITED),
        (MalformedVerdict, FailureCode.MALFORMED),
    ],
)
def test_a_classifier_error_has_the_code_of_its_class(cls, code):
    assert cls("no").code is code
    assert issubclass(cls, ClassifierError)


def test_a_code_given_to_one_error_changes_no_other():
    assert ClassifierRejected("no", code=FailureCode.TOO_LONG).code is FailureCode.TOO_LONG
    assert MalformedVerdict("no", code=FailureCode.TRUNCATED).code is FailureCode.TRUNCATED
    assert ClassifierRejected("no").code is FailureCode.AUTH
    assert MalformedVerdict("no").code is FailureCode.MALFORMED


def test_the_failure_codes_are_those_of_the_contract():
    assert {code.value for code in FailureCode} == {
        "timeout", "rate_limited", "unavailable", "auth", "malformed", "truncated", "too_long",
        "overloaded", "internal",
    }  # fmt: skip


def test_a_malformed_verdict_remembers_that_it_said_violation():
    assert MalformedVerdict("no label", violation=True).violation
    assert not MalformedVerdict("no label").violation


def test_an_unreadable_request_is_a_400_unless_it_says_otherwise():
    plain = UnreadableRequest("no messages")
    assert (plain.status, plain.param) == (400, None)
    large = UnreadableRequest("too large", status=413, param="messages")
    assert (large.status, large.param, str(large)) == (413, "messages", "too large")


def test_a_violation_names_policy_and_decision():
    decision = blocked()
    with pytest.raises(PolicyViolation) as caught:
        decision.raise_for_block()
    assert str(caught.value) == "input blocked by pii (decision gr-1)"
    assert caught.value.decision is decision


def test_a_violation_does_not_quote_what_was_judged():
    violation = PolicyViolation(blocked())
    for shown in (str(violation), repr(violation), repr(violation.decision)):
        assert SECRET not in shown


def test_a_block_without_a_policy_says_so():
    decision = Decision(Stage.OUTPUT, Action.BLOCK, unjudged=("$.messages[0].content[1]",), id="gr-2")
    assert str(PolicyViolation(decision)) == "output blocked by unreadable content (decision gr-2)"
