"""The twin of guardrail/config/model.py."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from guardrail.config.model import Count, Model, Seconds


class _Example(Model):
    seconds: Seconds = 1.0
    count: Count = 1


def test_unknown_keys_and_values_out_of_range_are_refused_without_quoting_them():
    for bad in ({"second": 1}, {"seconds": 0}, {"seconds": 3601}, {"count": 0}, {"count": "sk-zebra"}):
        with pytest.raises(ValidationError) as caught:
            _Example.model_validate(bad)
        assert "zebra" not in str(caught.value)


def test_values_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        _Example().count = 2  # type: ignore[misc]
