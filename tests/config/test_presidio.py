"""The twin of guardrail/config/presidio.py."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from guardrail.config import PresidioConfig


def test_it_names_a_pipeline():
    assert PresidioConfig.model_validate({"model": "en_core_web_lg"}).model == "en_core_web_lg"


@pytest.mark.parametrize("section", [{}, {"model": ""}, {"model": None}, {"model": "a", "language": "en"}])
def test_it_needs_one_and_knows_nothing_else(section: dict[str, Any]):
    with pytest.raises(ValidationError):
        PresidioConfig.model_validate(section)
