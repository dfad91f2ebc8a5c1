"""The twin of guardrail/engine/fail_rules.py."""

from __future__ import annotations

import pytest

from guardrail.core.policy import FailMode
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import FailureCode


@pytest.mark.parametrize("code", list(FailureCode))
@pytest.mark.parametrize("default", list(FailMode))
@pytest.mark.parametrize("own", [None, *FailMode])
def test_a_named_class_goes_before_the_default_and_auth_is_always_closed(
    code: FailureCode, default: FailMode, own: FailMode | None
):
    rules = FailRules(default, {code: own} if own else {})
    wanted = FailMode.CLOSED if code is FailureCode.AUTH else own or default
    assert rules.mode(code, "p") is wanted


def test_the_default_is_closed():
    assert {FailRules().mode(code, "p") for code in FailureCode} == {FailMode.CLOSED}


@pytest.mark.parametrize("code", list(FailureCode))
def test_the_rules_of_a_policy_stand_in_the_place_of_all_others(code: FailureCode):
    own = FailRules(FailMode.OPEN, {FailureCode.TIMEOUT: FailMode.CLOSED})
    rules = FailRules(FailMode.CLOSED, {FailureCode.MALFORMED: FailMode.CLOSED}, {"own": own})
    closed = code in (FailureCode.TIMEOUT, FailureCode.AUTH)
    assert rules.mode(code, "own") is (FailMode.CLOSED if closed else FailMode.OPEN)
    assert rules.mode(code, "other") is FailMode.CLOSED
