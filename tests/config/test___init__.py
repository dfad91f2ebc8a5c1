"""The twin of guardrail/config/__init__.py: the names that other rooms use."""

from __future__ import annotations

import guardrail.config as room


def test_every_name_is_there_and_none_twice():
    assert room.__all__ == sorted(set(room.__all__))
    assert all(getattr(room, name).__module__.startswith("guardrail.config.") for name in room.__all__)
