"""The twin of guardrail/simulator/profile.py: the draws follow the figures."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from statistics import quantiles

import pytest

from guardrail.core.answer import read_answer
from guardrail.core.policy import Action, LabelRule, Policy
from guardrail.errors import MalformedVerdict
from guardrail.simulator.profile import completion_tokens, latency_s, odd_answer

PROFILE = Path(__file__).parents[2] / "../shared/data/recorded/profile.json"
POLICY = Policy("p", "Body.", {"OK": LabelRule("OK", False), "BAD": LabelRule("BAD", True, Action.BLOCK)})


def middle(values: list[float]) -> dict[int, float]:
    cuts = quantiles(values, n=100)
    return {percent: cuts[percent - 1] for percent in (10, 25, 50, 75, 90, 95, 99)}


@pytest.mark.skipif(not PROFILE.is_file(), reason=f"the records' profile is not here: no {PROFILE}")
def test_tokens_and_latencies_are_those_of_the_records():
    recorded = json.loads(PROFILE.read_text())["hosted_api"]
    random = Random(1)
    tokens = [completion_tokens(random, "medium") for _ in range(20_000)]
    for percent, value in middle([float(t) for t in tokens]).items():
        assert value == pytest.approx(recorded["tokens"]["completion"][f"p{percent}"], rel=0.06), percent
    late = [latency_s(random, count, cached=True) * 1e3 for count in tokens]
    for percent, value in middle(late).items():
        assert value == pytest.approx(recorded["latency_ms"][f"p{percent}"], rel=0.2), percent


def test_more_effort_means_more_tokens_and_a_miss_takes_longer():
    drawn = [completion_tokens(Random(7), effort) for effort in ("low", "medium", "high")]
    assert drawn == sorted(drawn)
    assert drawn[0] < drawn[2]
    assert latency_s(Random(7), 100, cached=False) > latency_s(Random(7), 100, cached=True)


def test_the_same_seed_draws_the_same():
    one, other = ([completion_tokens(Random(3), "low") for _ in range(9)] for _ in range(2))
    assert one == other


def test_no_odd_answer_is_read_as_the_opposite():
    random = Random(5)
    outcomes = set()
    for violation, label in ((0, "OK"), (1, "BAD")):
        for _ in range(400):
            text = odd_answer(random, json.dumps({"violation": violation, "label": label}))
            try:
                found = read_answer(POLICY, text)
            except MalformedVerdict:
                outcomes.add("malformed")
                continue
            outcomes.add(found.label or "")
            assert found.violation or not violation  # a refusal may condemn what passes, never acquit
    assert outcomes == {"malformed", "OK", "BAD", "judge-refusal"}
