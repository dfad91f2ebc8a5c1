"""The twin of guardrail/config/streaming.py."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from guardrail.config.streaming import StreamingConfig
from guardrail.core.release import ReleaseMode, StreamRules


def test_the_defaults_are_those_of_the_rules():
    config, rules = StreamingConfig(), StreamRules()
    assert (config.release, config.window_chars, config.first_window_chars) == (
        rules.release,
        rules.window,
        rules.first,
    )
    assert (config.overlap_chars, config.max_held_chars, config.final_check) == (
        rules.overlap,
        rules.max_held,
        rules.final_check,
    )


@pytest.mark.parametrize("mode", list(ReleaseMode))
def test_every_mode_is_named_by_its_word(mode: ReleaseMode):
    assert StreamingConfig.model_validate({"release": mode.value}).release is mode


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"release": "never"}, "release"),
        ({"window_chars": 49}, "window_chars"),
        ({"first_window_chars": 0}, "first_window_chars"),
        ({"overlap_chars": -1}, "overlap_chars"),
        ({"max_held_chars": 999}, "max_held_chars"),
        ({"keep_alive_s": 0}, "keep_alive_s"),
        ({"window_chars": 900, "overlap_chars": 200, "max_held_chars": 1000}, "one window and one overlap"),
    ],
)
def test_what_is_refused(values: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        StreamingConfig.model_validate(values)
