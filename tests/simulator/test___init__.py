"""The twin of guardrail/simulator/__init__.py."""

from guardrail import simulator


def test_the_public_names_are_sorted_and_exist() -> None:
    assert simulator.__all__ == sorted(simulator.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(simulator, name) for name in simulator.__all__)
