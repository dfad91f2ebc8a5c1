"""The twin of guardrail/build/__init__.py: the names that other rooms use."""

from __future__ import annotations

import guardrail.build as room


def test_every_name_is_there_and_none_twice():
    assert room.__all__ == sorted(set(room.__all__))
    assert all(getattr(room, name).__module__.startswith("guardrail.build.") for name in room.__all__)
