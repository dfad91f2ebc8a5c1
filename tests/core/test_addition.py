"""Additions: a policy may get stricter for one request, never milder."""

from __future__ import annotations

import pytest

from guardrail.core.addition import Addition, tightened
from guardrail.core.policy import Action, LabelRule, Mode, Policy

LABELS = {"OK": LabelRule("OK", False), "BAD": LabelRule("BAD", True, Action.BLOCK)}


def policy(mode: Mode) -> Policy:
    return Policy("p", "Judge.", LABELS, mode=mode)


@pytest.mark.parametrize("own", Mode)
def test_it_stays_as_it_is_where_nothing_else_is_asked(own: Mode):
    known = policy(own)
    assert tightened(known, None) is known
    assert tightened(known, own) is known


@pytest.mark.parametrize(
    ("own", "asked"),
    [(Mode.OFF, Mode.SHADOW), (Mode.OFF, Mode.ENFORCE), (Mode.SHADOW, Mode.ENFORCE)],
)
def test_up_but_never_down(own: Mode, asked: Mode):
    stricter = tightened(policy(own), asked)
    assert stricter == policy(asked)
    assert stricter.revision == policy(own).revision
    assert tightened(policy(asked), own) is None


def test_a_name_alone_asks_for_nothing_more():
    assert Addition("p") == Addition("p", mode=None, fail_mode=None)
