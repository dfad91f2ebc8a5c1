"""The twin of guardrail/backends/prices.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.backends.prices import Prices, with_cost
from guardrail.core.verdict import Usage

GROQ = Prices(prompt=0.075, cached=0.037, completion=0.30)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(0, 0), 0.0),
        (Usage(1_000_000, 0), 0.075),
        (Usage(0, 1_000_000), 0.30),
        (Usage(1_000_000, 0, cached=1_000_000), 0.037),
        # One of the recorded calls: 1,150 tokens of prompt, 1,024 of them cached, 172 of completion.
        (Usage(1150, 172, cached=1024), (126 * 0.075 + 1024 * 0.037 + 172 * 0.30) / 1e6),
        (Usage(1000, 0, cached=5000), 1000 * 0.037 / 1e6),  # nonsense costs no negative money
    ],
)
def test_the_cost_of_a_call(usage: Usage, dollars: float):
    assert GROQ.cost(usage) == pytest.approx(dollars, abs=1e-12)


COUNT = st.integers(0, 10**6)


@given(prompt=COUNT, completion=COUNT, cached=st.none() | COUNT)
def test_a_cache_never_makes_a_call_dearer_and_nothing_is_negative(
    prompt: int, completion: int, cached: int | None
):
    usage = Usage(prompt, completion, cached)
    dearest = GROQ.cost(replace(usage, cached=None))
    assert 0 <= GROQ.cost(usage) <= dearest + 1e-12
    assert replace(GROQ, cached=None).cost(usage) == pytest.approx(dearest, abs=1e-12)


def test_a_reported_cost_goes_before_the_table_and_what_nobody_knows_is_unknown():
    told, untold = Usage(10, 10, cost_usd=0.5), Usage(1_000_000, 0)
    assert with_cost(told, GROQ) == told
    assert with_cost(untold, GROQ) == replace(untold, cost_usd=0.075)
    assert with_cost(untold, None) == untold
    assert with_cost(None, GROQ) is None
